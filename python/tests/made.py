"""What the tests read: a run, a run in bf16 and a sweep, made by the program in a folder that is removed at the end."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEED = 9_007_199_254_740_993  # not a float
CAPTURES = (
    "unet.mid_block.out",
    "unet.**.attn2.probs @branch{cond} | head_mean | q8",
    "unet.conv_norm_out | f16",
    "unet.conv_norm_out | topk(4)",
    "unet.conv_norm_out | histogram(8)",
    "unet.conv_in | stats",
)
SPEC = f"""
name = "read"
measure = ["colours", "contrast"]
figures = ["curves"]
capture = ["unet.mid_block.out"]
[fixed]
prompt = "a large {{colour}} circle, {{tag}}"
steps = 4
sampler = "pndm"
[vary]
guidance = [1, 7.5]
seed = [{SEED}, {SEED + 1}]
[[zip]]
colour = ["red", "blue"]
negative = ["", "blurry, \\"soft\\""]
tag = ["007", "NA"]
"""


@cache
def program() -> Path:
    """The program: the one that LATENTRACE names, or on the PATH, or built here. Without one, the tests are skipped."""
    named = os.environ.get("LATENTRACE")
    if named is not None:
        if not Path(named).is_file():
            raise FileNotFoundError(f"LATENTRACE={named}: no such file")
        return Path(named).resolve()
    built = ROOT / "target/release/latentrace"
    found = shutil.which("latentrace") or (str(built) if built.is_file() else None)
    if found is None:
        why = "no program: set LATENTRACE to it, or build it with ./just build"
        print(f"python/tests: skipped: {why}", file=sys.stderr)
        raise unittest.SkipTest(why)
    return Path(found)


@cache
def folder() -> Path:
    """The folder of everything that is made."""
    made = tempfile.TemporaryDirectory(prefix="latentrace-python-")
    atexit.register(made.cleanup)
    return Path(made.name)


def call(*arguments: str | Path, cwd: Path = ROOT) -> None:
    """Calls the program, on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([program(), *arguments], env=environment, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"latentrace {' '.join(map(str, arguments))}: {done.stderr}")


def generate(name: str, *options: str) -> Path:
    """Makes a run of four steps, which are five calls of PNDM."""
    captures = [part for rule in CAPTURES for part in ("--capture", rule)]
    prompt = "a large red circle on the left, white background"
    call("generate", prompt, "--sampler", "pndm", "--steps", "4", *captures, *options, "--output", folder() / name)
    (run,) = (folder() / name).iterdir()
    return run


@cache
def run() -> Path:
    """The folder of a run in f32."""
    return generate("f32")


@cache
def run_in_bf16() -> Path:
    """The folder of a run in bf16."""
    return generate("bf16", "--dtype", "bf16")


@cache
def sweep() -> Path:
    """The folder of a sweep of eight cells."""
    spec = folder() / "read.toml"
    spec.write_text(SPEC)
    call("run", spec, "--output", folder() / "sweep")
    return folder() / "sweep"


def copy(of: Path) -> Path:
    """A copy of a run or a sweep, to be damaged."""
    to = Path(tempfile.mkdtemp(dir=folder())) / of.name
    shutil.copytree(of, to)
    return to
