"""What the tests of both engines share: a sweep of the tiny checkpoint, and a comparison of two stores."""

import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/release/latentrace"
CELLS = 24
LIMIT_S = 300


def spec(folder: pathlib.Path) -> pathlib.Path:
    """A spec of CELLS cells, each of which takes some tenths of a second."""
    path = folder / "engines.toml"
    model = ROOT / "data/golden/networks/sd1"
    path.write_text(
        'name = "engines"\nfigures = ["grid"]\n[fixed]\nprompt = "a cat"\nsteps = 30\n'
        f'model = "{model}"\nheight = 128\nwidth = 128\n[vary]\nguidance = [1, 4]\nseed = {{ range = [1, {CELLS // 2}] }}\n'
    )
    return path


def latentrace(*arguments: object) -> str:
    """What the program prints; it must succeed."""
    done = subprocess.run([str(PROGRAM), *map(str, arguments)], capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"latentrace {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
    return done.stdout


def status(store: pathlib.Path) -> dict:
    return json.loads(latentrace("status", store, "--json"))


def until(store: pathlib.Path, is_so: Callable[[dict], bool], what: str) -> None:
    """Waits until this is so of the status, and fails after LIMIT_S seconds."""
    began = time.monotonic()
    while not is_so(found := status(store)):
        if time.monotonic() - began > LIMIT_S:
            sys.exit(f"{what}: not after {LIMIT_S} s, {found['done']} cells are done: see {store}/jobs/1")
        time.sleep(0.2)


def until_done(store: pathlib.Path, cells: int) -> None:
    until(store, lambda found: found["done"] >= cells, f"{cells} cells are done")


def until_running(store: pathlib.Path) -> None:
    until(store, lambda found: found["running"] != [], "a process has a cell in hand")


def hasty(store: pathlib.Path) -> None:
    """A store whose claims are over soon after their machine is lost."""
    store.mkdir(parents=True)
    (store / "store.json").write_text(json.dumps({"format": 1, "claims": {"renewed_s": 0.2, "term_s": 2.0}}))


def contents(store: pathlib.Path) -> dict[str, bytes]:
    """All files of all cells, but for what differs each time."""
    found = {}
    for path in sorted((store / "cells").rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        if path.name == "cell.json":
            settings = json.loads(data)
            for changing in ("seconds", "evaluations", "taken_over"):
                settings.pop(changing, None)
            data = json.dumps(settings, sort_keys=True).encode()
        if path.name == "manifest.json":
            hashes = json.loads(data)
            hashes["blake3"].pop("cell.json")
            data = json.dumps(hashes, sort_keys=True).encode()
        found[str(path.relative_to(store))] = data
    return found


def same(one: pathlib.Path, other: pathlib.Path) -> None:
    a, b = contents(one), contents(other)
    differing = [name for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]
    if differing:
        sys.exit(f"{one} and {other} differ in {len(differing)} files: {differing[:5]}")
    print(f"{len(list((one / 'cells').iterdir()))} cells, {len(a)} files: equal in every byte to one process's store")
