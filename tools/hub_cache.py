"""One cache of the hub for Python's huggingface_hub and for Latentrace: each must find what the other has downloaded.

    python tools/hub_cache.py PROGRAM CHECKPOINT

PROGRAM is `latentrace`, CHECKPOINT a folder in the diffusers layout. A server on the loopback speaks the hub's HTTP and serves the
folder as the model `owner/model`. Then

1. huggingface_hub downloads it into a cache, and `latentrace run`, offline, sweeps guidance with the model from that cache;
2. latentrace downloads it into another cache, and huggingface_hub, offline, finds every file that diffusers needs, with the same bytes;
3. latentrace downloads into the first cache again, where nothing is missing: it asks the server for no file.

Exits 1 if one of them fails.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ID = "owner/model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SPEC = """\
name = "cached"
[fixed]
prompt = "a red circle"
steps = 2
model = "owner/model"
[vary]
guidance = [1, 4]
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("checkpoint", type=Path)
    given = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(Served(given.checkpoint)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        check(given.program.resolve(), given.checkpoint, Path(folder), server.RequestHandlerClass.served)
    print("one cache for both: every check passed")


def check(program, checkpoint, folder, served):
    from huggingface_hub import snapshot_download

    of_python, of_rust = folder / "python", folder / "rust"
    snapshot_download(ID, cache_dir=of_python)
    asked = served.take()
    print(f"huggingface_hub downloaded {len(asked)} files")

    (folder / "spec.toml").write_text(SPEC)
    run(program, ["--offline", "run", folder / "spec.toml", "--output", folder / "store"], of_python)
    cells = list((folder / "store" / "cells").iterdir())
    assert len(cells) == 2 and served.take() == [], cells
    print("a sweep of two cells ran offline on the cache of huggingface_hub")

    picture = ["generate", "a red circle", "--model", ID, "--steps", "2", "--output"]
    run(program, [*picture, folder / "one"], of_rust)
    downloaded = served.take()
    found = Path(snapshot_download(ID, cache_dir=of_rust, local_files_only=True))
    for name in downloaded:
        assert (found / name).read_bytes() == (checkpoint / name).read_bytes(), name
    needed = {name for name in asked if name.endswith((".json", ".txt", ".safetensors"))}
    assert set(downloaded) <= needed and any(name.startswith("unet/") for name in downloaded), downloaded
    print(f"huggingface_hub found, offline, all {len(downloaded)} files that latentrace downloaded")

    run(program, [*picture, folder / "two"], of_python)
    assert served.take() == [], "files were downloaded again"
    print("latentrace downloaded nothing again")


def run(program, arguments, cache):
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")


class Served:
    """The files of a model, and which of them were asked for."""

    def __init__(self, folder):
        self.files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
                      if path.is_file()}
        self.asked = []

    def take(self):
        asked, self.asked = self.asked, []
        return sorted(set(asked))

    def etag(self, name):
        """The hash in git of a small file, and of a large one that of its content."""
        content = self.files[name]
        if name.endswith(".safetensors"):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def listing(self):
        def file(name):
            about = {"rfilename": name, "size": len(self.files[name]), "blobId": self.etag(name)}
            if name.endswith(".safetensors"):
                about["lfs"] = {"sha256": self.etag(name), "size": len(self.files[name]), "pointerSize": 134}
                about["blobId"] = hashlib.sha1(name.encode()).hexdigest()
            return about

        return {"id": ID, "modelId": ID, "sha": COMMIT, "private": False, "gated": False, "disabled": False, "tags": [],
                "siblings": [file(name) for name in self.files]}


    def tree(self):
        """The same files as the hub lists a folder."""
        def file(name):
            about = {"type": "file", "path": name, "size": len(self.files[name]), "oid": self.etag(name)}
            if name.endswith(".safetensors"):
                about["lfs"] = {"oid": self.etag(name), "size": len(self.files[name]), "pointerSize": 134}
            return about

        return [file(name) for name in self.files]


def handler(the_files):
    class Handler(BaseHTTPRequestHandler):
        served = the_files
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.answer(False)

        def do_GET(self):
            self.answer(True)

        def answer(self, is_get):
            path = self.path.split("?")[0].lstrip("/")
            prefixes = [f"{ID}/resolve/{revision}/" for revision in ("main", COMMIT)]
            name = next((path[len(prefix):] for prefix in prefixes if path.startswith(prefix)), None)
            if path.startswith(f"api/models/{ID}"):
                answer = self.served.tree() if path.startswith(f"api/models/{ID}/tree/") else self.served.listing()
                self.send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"}, is_get)
            elif name in self.served.files:
                if is_get:
                    self.served.asked.append(name)
                etag = f'"{self.served.etag(name)}"'
                self.send(200, self.served.files[name], {"ETag": etag, "X-Repo-Commit": COMMIT}, is_get)
            else:
                self.send(404, b"", {"X-Error-Code": "EntryNotFound"}, is_get)

        def send(self, status, content, headers, is_get):
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if is_get:
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    return Handler


if __name__ == "__main__":
    main()
