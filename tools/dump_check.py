"""Runs Latentrace and tools/dump_diffusers.py on the same settings, and compares every tensor of the two records:

    python tools/dump_check.py PROGRAM [NAME ...]

PROGRAM is `latentrace`; NAME is a checkpoint of data/golden/networks, by default each of them. Both record everything they have.
Then

1. no tensor that both have differs by more than LIMIT of its checkpoint, and roles and shapes are the same;
2. what only Latentrace has are attention scores and probabilities, which diffusers does not compute;
3. what only diffusers has are modules that are no taps of Latentrace, or layers of a text encoder that clip_skip leaves out;
4. every tap that `latentrace taps` lists is in the record of Latentrace, but for those that a run of this kind has none of.

So every tap that has a module in diffusers is compared.

Prints a line for each run and exits 1 if one of these does not hold. Needs what dump_diffusers.py needs; downloads nothing.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import dump_diffusers

GOLDEN = Path(__file__).resolve().parent.parent / "data" / "golden"
PROMPT = "a large red circle on the left, white background"
NEGATIVE = ["--negative", "blue square, bad drawing"]
SECOND = ["--prompt-2", "three yellow stars above a green line", "--negative-2", "a small photo"]
SIZES = ["--original-size", "96,40", "--crop", "12,20", "--target-size", "48,80"]
NEGATIVE_SIZES = ["--negative-original-size", "24,16", "--negative-crop", "4,6", "--negative-target-size", "40,72"]
SCORES = ["--aesthetic-score", "7.5", "--negative-aesthetic-score", "1.25"]
WIDE = ["--height", "32", "--width", "48"]
GUIDED = ["--guidance", "5"]
PICTURE = GOLDEN / "pictures/sd2.png"
OF_PICTURE = ["--height", "32", "--width", "64", "--strength", "0.6"]

# (name, picture or none, options)
SD = [
    ("guided", None, [*NEGATIVE]),
    ("euler", None, [*NEGATIVE, "--sampler", "euler"]),
    ("picture", PICTURE, [*OF_PICTURE, *NEGATIVE]),
]
RUNS = {
    "sd1": SD,
    "sd2": SD,
    "sdxl": [
        ("all", None, [*GUIDED, *WIDE, *NEGATIVE, *SECOND, *SIZES, *NEGATIVE_SIZES]),
        ("no-negative", None, [*GUIDED, *WIDE]),
        ("empty-negative", None, [*GUIDED, *WIDE, "--empty-negative", "text"]),
        ("clip-skip", None, [*GUIDED, *WIDE, *NEGATIVE, "--clip-skip", "1"]),
        ("unguided", None, [*WIDE, "--guidance", "1"]),
        ("picture", PICTURE, [*GUIDED, *OF_PICTURE, *NEGATIVE, *SIZES]),
        ("sampler", None, [*GUIDED, *WIDE, *NEGATIVE, "--sampler", "dpm++2m", "--set", "scheduler.use_karras_sigmas=true"]),
    ],
    "sdxl-turbo": [
        ("unguided", None, [*WIDE]),
        ("guided", None, [*WIDE, *NEGATIVE, "--guidance", "2"]),
        ("picture", PICTURE, [*OF_PICTURE]),
    ],
    "sdxl-refiner": [
        ("scores", PICTURE, [*GUIDED, *OF_PICTURE, *NEGATIVE, *SCORES, *SIZES[:4]]),
        ("no-negative", PICTURE, [*GUIDED, *OF_PICTURE]),
        ("unguided", PICTURE, [*OF_PICTURE, "--guidance", "1"]),
    ],
}
STEPS = 4

# The largest difference, relative to a tensor's largest magnitude. The tiny networks of SD enlarge rounding (docs/parity.md).
LIMIT = {"sd1": 1e-2, "sd2": 5e-4, "sdxl": 1e-4, "sdxl-turbo": 1e-4, "sdxl-refiner": 1e-4}

UNFUSED = r".*\.(scores|probs)"
LAYER = r"text_encoder(_2)?\.text_model\.encoder\.layers\..*"
NOTHING = r"(?!)"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RUNS))
    given = parser.parse_args()
    failed = []
    for checkpoint in given.names or RUNS:
        listed = taps(given.program, checkpoint)
        for run, picture, options in RUNS[checkpoint]:
            with tempfile.TemporaryDirectory() as folder:
                problems = check(given.program, checkpoint, picture, options, listed, Path(folder), f"{checkpoint} {run}")
            failed += [f"{checkpoint} {run}: {problem}" for problem in problems]
    print(*failed, sep="\n")
    sys.exit(1 if failed else 0)


def check(program, checkpoint, picture, options, listed, folder, title):
    """What does not hold, of one run."""
    ours = generate(program, checkpoint, picture, options, folder / "ours")
    dump_diffusers.main(["--like", str(ours), "--select", "**", "--output", str(folder / "theirs")])
    told = json.loads(call(program, ["compare", ours, folder / "theirs", "--json"]))
    first, second = entries(ours / "trace"), entries(folder / "theirs")
    both = first.keys() & second.keys()
    worst = told["worst"]
    print(f"{title}: {told['tensors']} tensors of {len({key[0] for key in both})} taps in both, worst {worst['relative']:.1e} in {worst['tensor']}; "
          f"{told['only_first']} only in the first, {told['only_second']} only in the second", flush=True)

    problems = [f"{told['tensors']} compared, not {len(both)}"] if told["tensors"] != len(both) else []
    if worst["relative"] > LIMIT[checkpoint]:
        problems.append(f"{worst['tensor']} differs by {worst['relative']:.1e}")
    differing = [key for key in both if first[key] != second[key]]
    problems += [f"{key}: {first[key]} and {second[key]}" for key in differing[:3]]
    missing = {key for key in first.keys() - second.keys() if not re.fullmatch(UNFUSED, key[0])}
    problems += [f"{key} is only in the first" for key in sorted(missing, key=str)[:3]]
    # Latentrace stops after the last layer that is used.
    unused = LAYER if "--clip-skip" in options else NOTHING
    left_out = {key for key in second.keys() - first.keys() if key[0] in listed and not re.fullmatch(unused, key[0])}
    problems += [f"{key} is only in the second" for key in sorted(left_out, key=str)[:3]]
    absent = {name for name in listed - {key[0] for key in first} if not re.fullmatch(none_of(picture, first), name)}
    problems += [f"{name} is in neither" for name in sorted(absent)[:3]]
    return problems


def entries(trace):
    """{(tap, call, branch): (role, shape)} of every tensor."""
    lines = map(json.loads, (trace / "index.jsonl").read_text().splitlines())
    return {(line["tap"], line["call"], line.get("branch")): (line["role"], line["shape"]) for line in lines if "tap" in line}


def none_of(picture, entries):
    """The taps, as a regular expression, of which such a run has no tensors."""
    calls = {(tap, branch) for tap, _, branch in entries}
    none = [r"sampler\.mask"]
    none += [] if picture else [r"sampler\.image", r"vae\.encoder\..*"]
    none += [] if ("unet.out", "uncond") in calls else [r"sampler\.(output|epsilon)\.unconditional"]
    none += [] if ("sampler.noise", None) in calls else [r"sampler\.noise"]
    return "|".join(none)


def generate(program, checkpoint, picture, options, output):
    command = ["vary", picture, PROMPT, "--images", "1"] if picture else ["generate", PROMPT]
    model = ["--model", GOLDEN / "networks" / checkpoint, "--steps", STEPS, "--seed", 193]
    call(program, [*command, *model, *options, "--capture", "**", "--output", output])
    found = [path for path in output.iterdir() if path.is_dir()]
    assert len(found) == 1, found
    return found[0]


def taps(program, checkpoint):
    """The names that the program lists."""
    lines = call(program, ["taps", "--model", GOLDEN / "networks" / checkpoint]).splitlines()
    found = {line.split()[0] for line in lines if re.match(r"(sampler|text_encoder|unet|vae)\S*\.", line)}
    assert f"{len(found)} taps" in lines[-1], lines[-1]
    return found


def call(program, words):
    done = subprocess.run([program, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"latentrace {' '.join(map(str, words))}:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
