"""Times Latentrace on an idle machine and beside other work; `./just bench-busy` calls it.

    python3 tools/busy.py PROGRAM [--full CHECKPOINT] [--rounds N] [--env NAME=VALUE ..]

PROGRAM is the built latentrace. Other work is a process that counts without end on a core, or a second sweep at the same time. The
rows, each the median of the rounds:

    sweep        the nine guidance scales of the bundled model: alone, beside one and two busy cores, and two sweeps at once
    step         with --full: a step of a checkpoint of the size of Stable Diffusion 1.4: alone, and beside one and two busy cores

A step is the difference of a picture of three steps and one of one step, divided by two. The exit status is 1 if a ratio to the
time alone is beyond LIMITS, which hold for two cores. Every round makes all rows, so that a change of the machine's speed meets
all. What else runs makes the numbers worthless: the script says how busy the machine is before each round. `--env` sets a variable
for all, to compare: `--env GOMP_SPINCOUNT=300000` waits as libgomp does by itself.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "experiments/specs/sweep-guidance.toml"
LIMITS = {"sweep, two at once": 1.15, "step, one busy core": 2.2}
COUNTING = "while True: pass"
# What says how threads are used. A shell's own settings would be measured in place of the program's.
OPENMP = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"]


@contextmanager
def busy(cores):
    """Keeps so many cores busy."""
    processes = [subprocess.Popen([sys.executable, "-c", COUNTING]) for _ in range(cores)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def busy_now():
    """The part of the machine's time that other programs take, within a second."""

    def times():
        return [int(number) for number in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]

    before = times()
    time.sleep(1)
    spent = [after - before for before, after in zip(before, times())]
    return 1 - (spent[3] + spent[4]) / max(sum(spent), 1)  # idle, and waiting for a disk


class Bench:
    def __init__(self, program, environment):
        self.program = program
        self.environment = environment
        self.folder = Path(tempfile.mkdtemp(prefix="latentrace-busy-"))
        self.count = 0

    def new(self):
        self.count += 1
        return self.folder / str(self.count)

    def start(self, *arguments):
        command = [self.program, *map(str, arguments)]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    @staticmethod
    def end(process):
        said, _ = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(process.args)}: {said}")
        return said

    def sweeps(self, count):
        """The time until all of so many sweeps, started at once, are made."""
        began = time.monotonic()
        processes = [self.start("run", SPEC, "--output", self.new()) for _ in range(count)]
        for process in processes:
            self.end(process)
        return time.monotonic() - began

    def step(self, checkpoint):
        """The time of a step, without loading and decoding."""

        def picture(steps):
            output = self.new()
            arguments = ["generate", "a red circle", "--model", checkpoint, "--steps", steps, "--sampler", "euler"]
            said = self.end(self.start(*arguments, "--output", output))
            shutil.rmtree(output)
            return float(re.search(r"\((\d+\.\d) s\)", said)[1])

        return (picture(3) - picture(1)) / 2


def rows(bench, full):
    """Names of the rows, with what measures each."""
    yield "sweep, alone", 0, lambda: bench.sweeps(1)
    yield "sweep, one busy core", 1, lambda: bench.sweeps(1)
    yield "sweep, two busy cores", 2, lambda: bench.sweeps(1)
    yield "sweep, two at once", 0, lambda: bench.sweeps(2)
    if full:
        yield "step, alone", 0, lambda: bench.step(full)
        yield "step, one busy core", 1, lambda: bench.step(full)
        yield "step, two busy cores", 2, lambda: bench.step(full)


def measured(bench, full, rounds):
    """The seconds of each row, by rounds."""
    found = {}
    for number in range(rounds):
        print(f"round {number + 1}: other programs take {busy_now():.0%} of the machine", file=sys.stderr)
        for name, cores, measure in rows(bench, full):
            with busy(cores):
                found.setdefault(name, []).append(measure())
            print(f"  {name}: {found[name][-1]:.2f} s", file=sys.stderr)
    return found


def table(found):
    """Prints the table, and returns the rows beyond LIMITS."""
    beyond = []
    print(f"{'':24} {'seconds':>8} {'ratio':>6} {'limit':>6}")
    for name, seconds in found.items():
        alone = found[name.split(",")[0] + ", alone"]
        ratio = statistics.median(one / other for one, other in zip(seconds, alone))
        limit = LIMITS.get(name)
        print(f"{name:24} {statistics.median(seconds):8.2f} {ratio:6.2f} {limit or '':>6}")
        if limit and ratio > limit:
            beyond.append(name)
    return beyond


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--full", metavar="CHECKPOINT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    environment = {name: value for name, value in os.environ.items() if name not in OPENMP}
    environment |= dict(pair.split("=", 1) for pair in given.env)
    bench = Bench(given.program, environment)
    try:
        beyond = table(measured(bench, given.full, max(given.rounds, 1)))
    finally:
        shutil.rmtree(bench.folder, ignore_errors=True)
    for name in beyond:
        print(f"{name}: beyond its limit", file=sys.stderr)
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
