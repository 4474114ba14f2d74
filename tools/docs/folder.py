"""A temporary copy of the checkout in which the commands of a page are run, so that the checkout stays as it is."""

import hashlib
import os
import shlex
import shutil
from pathlib import Path

# What a checkout has besides its files: what was built, downloaded or made.
LEFT_OUT = shutil.ignore_patterns(
    ".git", "target", "runs", ".libtorch*", ".tools*", ".parity", ".bench", ".gpu", "__pycache__"
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
# A command must not see the models, the settings or the libtorch of whoever runs it.
REMOVED = (
    "HF_HOME", "HF_TOKEN", "HF_ENDPOINT", "HUGGINGFACE_HUB_CACHE",
    "LIBTORCH", "LIBTORCH_INCLUDE", "LIBTORCH_LIB", "LIBTORCH_USE_PYTORCH",
)


class Folder:
    """A copy of the checkout, with the built program and its own caches. It lies in `parent`, beside its caches."""

    def __init__(self, root, program, just, parent):
        self.path = Path(parent) / "latentrace"
        self.cache = Path(parent) / "cache"
        self.bin = Path(parent) / "bin"
        shutil.copytree(root, self.path, symlinks=True, ignore=LEFT_OUT)
        (self.path / ".libtorch").symlink_to(root / ".libtorch")
        built = self.path / "target/release/latentrace"
        built.parent.mkdir(parents=True)
        shutil.copy2(program, built)  # a copy, because the program looks for the bundled model around itself
        self.bin.mkdir()
        (self.bin / "latentrace").symlink_to(built)
        hint = "list the command in tools/docs_standins.py"
        script(self.bin / "cargo", f"echo 'cargo is not run here\nhint: {hint}' >&2\nexit 1")
        # The recipes are those of the justfile, with the program that is built already in the place of `cargo run`.
        settings = ["--set", "latentrace", shlex.quote(str(built)), "--justfile", self.path / "justfile"]
        call = shlex.join(map(str, [just, *settings, "--working-directory", self.path]))
        script(self.path / "just", f'exec {call} "$@"')
        self.environment = self.variables(root)

    def variables(self, root):
        """The environment of the commands."""
        kept = {name: value for name, value in os.environ.items() if name not in REMOVED}
        libraries = [str(root / ".libtorch/lib"), *filter(None, [kept.get("LD_LIBRARY_PATH")])]
        return kept | {
            "PATH": f"{self.bin}:{kept.get('PATH', os.defpath)}",
            "LD_LIBRARY_PATH": ":".join(libraries),
            "XDG_CACHE_HOME": str(self.cache),
            "HF_HUB_CACHE": str(self.cache / "hub"),
            "HF_HUB_OFFLINE": "1",
        }

    def publish(self, model, folder):
        """Moves a folder into the cache of the hub as a model, in the layout of Python's huggingface_hub."""
        below = self.cache / "hub" / f"models--{model.replace('/', '--')}"
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            blob = below / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
            link = below / "snapshots" / COMMIT / path.relative_to(folder)
            for made in (blob, link):
                made.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, blob)
            link.symlink_to(os.path.relpath(blob, link.parent))
        (below / "refs").mkdir()
        (below / "refs/main").write_text(COMMIT)
        shutil.rmtree(folder)


def script(path, text):
    """Writes a program for the shell."""
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
