"""Measures Latentrace and its peers in turn, on one machine, and prints one table. `./just bench-peers` calls it:

    python tools/bench_peers.py [--only PEER ..] [--formats f32 bf16] [--rounds 5] [--device cpu|cuda] [--minutes 45] [--quick]

The peers are

    diffusers       StableDiffusionPipeline as from_pretrained gives it
    channels-last   the same with its weights channels-last
    compile         that, its UNet and its decoder compiled by torch.compile (inductor, static shapes)
    openvino        OpenVINO, converted from the modules of diffusers, static shapes, one stream, precision stated
    sdcpp           stable-diffusion.cpp, from a single file, its fastest settings (llamafile, direct convolutions). It has no bf16: beside ours in bf16 it has weights in f16
    candle          candle-transformers, built for this processor. It multiplies no bf16 on a CPU: beside ours in bf16 it has f16

All have the same random weights of the size of Stable Diffusion 1.4, as many threads as there are cores, and 512x512. What is
missing is installed or built first, into .bench/: 10 GB of disk with the converted weights. A peer that cannot be had, or fails, is
a row that says so.

Method. Each peer is a process of its own that answers requests a line at a time. They take turns (ours, A, B, C, ours, A, ..), and
a ratio is the median over the rounds of ours / theirs, with the lowest and the highest. One call of each goes before the first
round. stable-diffusion.cpp and candle, which take many times as long, have a group of their own with ours, two rounds and no call
before them. Where memory does not hold the other processes at once, they too run in groups, each with ours. Before each round the other processes of the machine must use less than 10 % of it for
half a second; after a minute the round goes on and counts as disturbed (after five minutes of waiting in all, at once).

On a CPU a picture of 50 steps takes minutes, so it is put together: one picture of one step (text, one network call, decoding)
is measured, of the slow two its parts, and 50 more network calls are added, as PNDM makes 51. Nine scales are nine such pictures for the peers; for ours, the
texts, the rows that the batch computes at the price of a row in a call of 17, and nine decoded pictures. On CUDA both are
measured whole.

start-up is the time from the start of the process to the first network call, the files being in memory; OpenVINO's and
inductor's conversions were made by an earlier process, and `first step` shows what of it comes later. Memory is the most that was resident, mapped files included.

Results go to docs/bench (peers.md, peers.csv, peers.svg), or to .bench/last if only a part was asked for or the run was
interrupted. --minutes limits the measurements; rounds that do not fit are left out, and the table says how many there were.
"""

import argparse
import contextlib
import csv
import datetime
import functools
import json
import os
import platform
import select
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent / "bench_peers"
CACHE = ROOT / ".bench"
VENV = CACHE / "venv"
sys.path.insert(0, str(HERE))

import chart

OURS = "latentrace"
STEPS, CALLS, SCALES, WIDE = 50, 51, 9, 17
FLAGS = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16"]
ROUNDS = {"start": 3, "decode": 3, "image-1": 1, "rows": 1, "sweep": 3}  # at most
SLOW_ROUNDS = 2
IDLE, WAIT, WAIT_ALL = 0.10, 60, 300  # the share that others may use; seconds to wait for it before a round, and in all
TIMEOUT = 900


@dataclass(frozen=True)
class Peer:
    name: str
    title: str
    memory: dict  # GB by format: what is set aside for it
    devices: tuple = ("cpu",)
    slow: bool = False  # by some multiples: no call before the rounds, and few rounds

    def label(self, format):
        instead = {"sdcpp": ", f16 weights", "candle": ", f16"}
        return self.title + (instead.get(self.name, "") if format == "bf16" else "")


PEERS = [
    Peer(OURS, "Latentrace", {"f32": 6, "bf16": 5}, ("cpu", "cuda")),
    Peer("diffusers", "diffusers", {"f32": 5, "bf16": 3}, ("cpu", "cuda")),
    Peer("channels-last", "diffusers, channels-last", {"f32": 5.5, "bf16": 3}, ("cpu", "cuda")),
    Peer("compile", "diffusers, torch.compile", {"f32": 6, "bf16": 4}, ("cpu", "cuda")),
    Peer("openvino", "OpenVINO", {"f32": 7.5, "bf16": 5.5}),
    Peer("sdcpp", "stable-diffusion.cpp", {"f32": 7, "bf16": 4.5}, slow=True),
    Peer("candle", "candle", {"f32": 6, "bf16": 4.5}, slow=True),
]
COLUMNS = {
    "unet": "UNet step",
    "decode": "VAE decode",
    "text": "text encoder",
    "image": "50-step image",
    "sweep": "nine scales",
    "start": "start-up",
    "first": "first step",
    "memory": "GB",
}


class Failed(Exception):
    """Why a peer has no number."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(*command, log=None, **options):
    """Runs a command; what it prints goes to a file, whose last lines are the reason if it fails."""
    log = log or CACHE / "logs" / "prepare.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as out:
        done = subprocess.run([str(word) for word in command], stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **options)
    if done.returncode != 0:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise Failed(f"{Path(str(command[0])).name} ended with {done.returncode}: {'; '.join(lines[-2:])[:200]}")


# ---- what is installed and made before ---------------------------------------------------------------------------------

def environment():
    """The environment of the peers: what runs this file, and the packages of requirements.txt on top of it."""
    python = VENV / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", VENV)
        import sysconfig

        (site,) = VENV.glob("lib/python*/site-packages")
        (site / "base.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def install(package, *before, options=""):
    """Installs a package with the version of requirements.txt; `before` is what builds it, with options for CMake."""
    wanted = "".join(line for line in (HERE / "requirements.txt").read_text().splitlines() if line.startswith(package + "=="))
    mark = VENV / f"installed-{package}"
    wanted_so = f"{wanted} {options}".strip()
    if mark.exists() and mark.read_text() == wanted_so:
        return
    say(f"installing {wanted}")
    python = environment()
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "-c", HERE / "requirements.txt"]
    with_tools = {**os.environ, "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}", "CMAKE_ARGS": options}
    if before:
        run(*pip, *before, log=CACHE / "logs" / f"install-{package}.txt")
    isolation = ["--no-build-isolation"] if before else []
    run(*pip, *isolation, package, log=CACHE / "logs" / f"install-{package}.txt", env=with_tools)
    mark.write_text(wanted_so)


def full_size():
    """The checkpoint of random weights; that of `./just parity` if it is there."""
    for folder in (ROOT / ".parity" / "full", CACHE / "sd14"):
        if (folder / "vae" / "diffusion_pytorch_model.safetensors").exists():
            return folder
    say(f"writing {folder}: 4.3 GB of random weights")
    make = f"import parity, pathlib; f = pathlib.Path({str(folder)!r}); parity.write_small_files(f); parity.write_large_files(f)"
    run(sys.executable, "-c", make, cwd=ROOT / "tools")
    return folder


class Prepared:
    """Where everything is. Each peer is made ready when it is first asked for, and only then can it fail."""

    def __init__(self, given):
        self.given = given
        self.threads = given.threads
        self.checkpoint = self.narrow() if given.quick else given.checkpoint or full_size()

    def narrow(self):
        folder = CACHE / "narrow"
        if not folder.exists():
            run(self.program("latentrace"), "model", "synth", "sd14", folder, "--width", "0.1", env=self.environ(OURS))
        return folder

    def program(self, name):
        for folder in (self.given.programs, self.given.programs / "examples"):
            if (folder / name).is_file():
                return folder / name
        raise Failed(f"{name} is not built")

    def command(self, peer, format):
        """How the peer's process is started."""
        if peer == OURS:
            return [self.program("turns"), self.checkpoint, format, self.given.device]
        if peer == "candle":
            return [self.candle(), self.checkpoint, {"bf16": "f16"}.get(format, format)]
        python = sys.executable
        if peer == "openvino":
            python = self.openvino()
        if peer == "sdcpp":
            python = self.sdcpp()
        return self.worker(peer, format, python)

    def worker(self, peer, format, python=sys.executable):
        return [python, HERE / "workers.py", peer, format, self.given.device, self.checkpoint, self.threads, CACHE]

    def environ(self, peer):
        found = {
            **os.environ,
            "OMP_NUM_THREADS": str(self.threads),
            "MKL_NUM_THREADS": str(self.threads),
            "RAYON_NUM_THREADS": str(self.threads),
            "TORCHINDUCTOR_CACHE_DIR": str(CACHE / "inductor"),
            "BENCH_QUICK": str(int(self.given.quick)),
        }
        library = found.pop("LD_LIBRARY_PATH", "")
        if peer == OURS:
            found["LD_LIBRARY_PATH"] = f"{ROOT / '.libtorch' / 'lib'}:{library}"
        return found

    @functools.cache
    def openvino(self):
        install("openvino")
        python = environment()
        run(*self.worker("openvino-files", "f32", python), env=self.environ("openvino"), log=CACHE / "logs" / "openvino-files.txt")
        return python

    @functools.cache
    def sdcpp(self):
        file = CACHE / f"{self.checkpoint.name}.safetensors"
        if not file.exists():
            say(f"writing {file.name}")
            run(self.program("latentrace"), "model", "convert", self.checkpoint, file, env=self.environ(OURS))
        # Its fastest build: for this processor, with the matrix products of llamafile.
        options = "-DGGML_NATIVE=ON -DGGML_LLAMAFILE=ON"
        install("stable-diffusion-cpp-python", "scikit-build-core", "cmake", "ninja", options=options)
        return environment()

    @functools.cache
    def candle(self):
        folder = HERE / "candle"
        built = CACHE / "candle"
        say("building candle, if it is not built")
        native = {**os.environ, "RUSTFLAGS": "-C target-cpu=native"}
        run("cargo", "build", "--release", "--locked", "--manifest-path", folder / "Cargo.toml", "--target-dir", built,
            env=native, log=CACHE / "logs" / "candle-build.txt")
        return built / "release" / "bench-peers-candle"

    def warm_compiler(self, format):
        """Compiles once in a process of its own, so that the measured one finds everything in inductor's cache."""
        mark = CACHE / "inductor" / f"{self.checkpoint.name}-{format}-{self.given.device}"
        if mark.exists():
            return
        say(f"compiling with inductor, {format}: once, some minutes")
        with Process(self, "compile", format) as process:
            for request in ("unet 1", "decode", "image 1"):
                process.ask(request)
        mark.touch()


# ---- processes -----------------------------------------------------------------------------------------------------------

class Process:
    """A peer's process, asked a line at a time."""

    def __init__(self, prepared, peer, format):
        command = [str(word) for word in prepared.command(peer, format)]
        logs = CACHE / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.name = peer
        self.log = open(logs / f"{peer}-{format}.txt", "w")
        self.began = time.monotonic()
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=prepared.environ(peer))
        self.rest = b""
        try:
            self.opened = self.answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self.child.stdin.close()
        self.child.stdout.close()
        self.log.close()

    def line(self):
        until = time.monotonic() + TIMEOUT
        while b"\n" not in self.rest:
            ready, _, _ = select.select([self.child.stdout], [], [], max(0, until - time.monotonic()))
            if not ready:
                raise Failed(f"no answer in {TIMEOUT} s")
            got = os.read(self.child.stdout.fileno(), 65536)
            if not got:
                raise Failed(f"ended with {self.child.wait()}: {self.last_words()}")
            self.rest += got
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode(errors="replace").strip()

    def last_words(self):
        self.log.flush()
        lines = [line.strip() for line in Path(self.log.name).read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:160] if lines else "without a word"

    def answer(self):
        line = self.line()
        if line.startswith("error"):
            raise Failed(line.removeprefix("error: ")[:200])
        try:
            return float(line)
        except ValueError:
            return line

    def ask(self, request):
        if self.child.poll() is not None:
            raise Failed(f"ended with {self.child.returncode}")
        self.child.stdin.write(f"{request}\n".encode())
        self.child.stdin.flush()
        return self.answer()

    def memory(self):
        """The most that was resident, in GB."""
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e9
        raise Failed("it has ended")


class Quiet:
    """Waits until the machine is idle but for this process and its waiting children."""

    def __init__(self):
        self.left, self.rounds, self.disturbed = WAIT_ALL, 0, 0

    def wait(self):
        """Whether the round that follows is disturbed."""
        until = time.monotonic() + min(WAIT, self.left)
        began = time.monotonic()
        while (load := busy()) > IDLE and time.monotonic() < until:
            time.sleep(1)
        if load > IDLE:
            self.left -= time.monotonic() - began
        self.rounds += 1
        self.disturbed += load > IDLE
        return load > IDLE


def busy():
    """The share of the processors that was used in half a second."""
    def read():
        numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(numbers), numbers[3] + numbers[4]

    total, idle = read()
    time.sleep(0.5)
    later_total, later_idle = read()
    return 1 - (later_idle - idle) / max(later_total - total, 1)


# ---- measuring -----------------------------------------------------------------------------------------------------------

@dataclass
class Found:
    """What is known of a peer in a format about one thing."""
    seconds: list = field(default_factory=list)
    ratios: list = field(default_factory=list)  # ours / theirs, of the same rounds
    disturbed: int = 0

    @property
    def median(self):
        return statistics.median(self.seconds)


class Results:
    def __init__(self):
        self.found = {}  # (format, peer, what)
        self.failed = {}  # (format, peer, what or None) to a reason
        self.rates = {}  # (format, name) to operations a second
        self.versions = {}
        self.rows = {}  # format to how many rows the UNet computes for the nine scales
        self.operations = {}

    def add(self, format, what, seconds, disturbed):
        """A round: seconds by peer."""
        for peer, value in seconds.items():
            found = self.found.setdefault((format, peer, what), Found())
            found.seconds.append(value)
            found.disturbed += disturbed
            if peer != OURS and OURS in seconds:
                found.ratios.append(seconds[OURS] / value)

    def median(self, format, peer, what):
        found = self.found.get((format, peer, what))
        return found.median if found else None

    def fail(self, format, peer, reason, what=None):
        self.failed.setdefault((format, peer, what), str(reason))
        say(f"{format} {peer} {what or ''}: {reason}")


class Bench:
    def __init__(self, given):
        self.given = given
        self.prepared = Prepared(given)
        self.results = Results()
        self.quiet = Quiet()
        self.peers = [peer for peer in PEERS if given.device in peer.devices and (peer.name == OURS or not given.only or peer.name in given.only)]
        self.ended = "whole"

    def run(self):
        usable = {format: self.usable(format) for format in self.given.formats}
        self.began = time.monotonic()
        parts = [(format, group) for format in self.given.formats for group in self.groups(format, usable[format])]
        parts.sort(key=lambda part: any(peer.slow for peer in part[1]))  # the slow ones last, whatever the format: they can wait
        shares = [(1 + len(group)) * (1.6 if format == "f32" else 1) for format, group in parts]
        done = 0
        for (format, group), share in zip(parts, shares):
            span = (time.monotonic(), self.at((done + share) / sum(shares)))
            done += share
            if self.over():
                break
            self.group(format, group, span)
            self.report(CACHE / "last")

    def at(self, share):
        return self.began + 60 * self.given.minutes * share

    def over(self):
        return time.monotonic() > self.at(1)

    def usable(self, format):
        """The peers that can be started, after everything that is made only once."""
        found = []
        for peer in self.peers:
            try:
                self.prepared.command(peer.name, format)
                if peer.name == "compile":
                    self.prepared.warm_compiler(format)
                found.append(peer)
            except (Failed, OSError, StopIteration) as reason:
                self.results.fail(format, peer.name, reason)
        return found

    def groups(self, format, peers):
        """Peers that fit into memory at once, beside ours."""
        ours, others = peers[0], peers[1:]
        if ours.name != OURS:
            raise Failed(f"Latentrace itself cannot be started: {self.results.failed}")
        room = available() - 1.5 - ours.memory.get(format, 5)
        if self.given.device == "cuda":
            return [[ours, *others]]
        groups = []
        for peer in others:
            need = peer.memory[format]
            fits = lambda group: group[0].slow == peer.slow and sum(other.memory[format] for other in group) + need <= room
            group = next(filter(fits, groups), None)
            if group is None:
                groups.append([peer])
            else:
                group.append(peer)
        return [[ours, *group] for group in groups] or [[ours]]

    # -- one group --

    def group(self, format, peers, span):
        say(f"-- {format}: {', '.join(peer.name for peer in peers)}")
        first, last = span
        at = lambda share: first + (last - first) * share
        self.start_up(format, peers, at(0.15))
        alive = {}
        try:
            for peer in peers:
                try:
                    alive[peer.name] = Process(self.prepared, peer.name, format)
                except Failed as reason:
                    self.results.fail(format, peer.name, reason)
            if OURS not in alive:
                return
            self.ask_versions(format, alive)
            self.turns(format, "text", "text", alive, at(0.18))
            calls = 20 if self.given.device == "cuda" else 1
            self.turns(format, "unet", f"unet {calls}", alive, at(0.6), first="first")
            self.ceiling(format)
            self.turns(format, "decode", "decode", alive, at(0.8))
            self.pictures(format, alive, last)
        finally:
            self.remember(format, alive)
            for process in alive.values():
                process.close()

    def remember(self, format, alive):
        """What is known at the end of a group, also of one that was interrupted."""
        for name, process in alive.items():
            if self.given.device == "cpu":
                self.put_together(format, name)
            with contextlib.suppress(Failed):
                self.results.found[format, name, "memory"] = self.memory_found(format, name, process, alive)

    def start_up(self, format, peers, until):
        rounds = min(self.given.rounds, ROUNDS["start"])
        for number in range(rounds):
            disturbed, began, seconds = self.quiet.wait(), time.monotonic(), {}
            for peer in peers:
                try:
                    with Process(self.prepared, peer.name, format) as process:
                        process.ask("ready" if peer.name not in (OURS, "candle") else "text")
                        seconds[peer.name] = time.monotonic() - process.began
                except Failed as reason:
                    self.results.fail(format, peer.name, reason, "start")
            if number > 0 or rounds == 1:  # the first brings the files into memory
                self.results.add(format, "start", seconds, disturbed)
            if number > 0 and no_time(began, until):
                break

    def ask_versions(self, format, alive):
        for name, process in alive.items():
            if name not in (OURS, "candle"):
                self.results.versions[name, format] = process.ask("version")
        self.results.versions["candle", format] = candle_version()
        if format not in self.results.rows:
            self.results.rows[format] = alive[OURS].ask(f"evaluations {STEPS}")

    def turns(self, format, what, request, alive, until, first=None, warm=True):
        """Ours, A, B, C, ours, A, ..: one request, as many rounds as fit."""
        if self.over():
            return
        taking = dict(alive)
        slow = {peer.name for peer in PEERS if peer.slow} & set(alive)
        if warm:
            seconds = self.round(format, what, request, {name: process for name, process in taking.items() if name not in slow})
            if first:
                self.results.add(format, first, seconds, False)
        rounds = min(self.given.rounds, ROUNDS.get(what, 99), SLOW_ROUNDS if slow else 99)
        for number in range(rounds):
            disturbed, began = self.quiet.wait(), time.monotonic()
            seconds = self.round(format, what, request, taking)
            self.results.add(format, what, seconds, disturbed)
            told = ", ".join(f"{name} {value:.3f}" for name, value in seconds.items())
            say(f"{format} {what} {number + 1}: {told}{' (disturbed)' if disturbed else ''}")
            if OURS not in seconds or no_time(began, until):
                break
        self.report(CACHE / "last")

    def round(self, format, what, request, taking):
        seconds = {}
        for name, process in list(taking.items()):
            try:
                seconds[name] = process.ask(request)
            except Failed as reason:
                self.results.fail(format, name, reason, what)
                del taking[name]
        return seconds

    def pictures(self, format, alive, until):
        if self.given.device == "cuda":
            steps = 2 if self.given.quick else STEPS
            self.turns(format, "image", f"image {steps}", alive, until, warm=False)
            self.turns(format, "sweep", f"sweep {steps}", alive, until, warm=False)
            return
        if any(peer.slow for peer in PEERS if peer.name in alive):
            return
        if "compile" in alive:  # what its pipeline hands over may be compiled once more
            self.round(format, "image-1", "image 1", {"compile": alive["compile"]})
        self.turns(format, "image-1", "image 1", alive, until, warm=False)
        step = self.results.median(format, OURS, "unet")
        if step and (format, OURS, "rows") not in self.results.found and time.monotonic() + step * WIDE / 2 < self.at(1):
            self.turns(format, "rows", f"rows {WIDE}", {OURS: alive[OURS]}, until, warm=False)

    def put_together(self, format, name):
        """A picture and nine scales on the CPU, from what was measured."""
        median = functools.partial(self.results.median, format, name)
        one, step, row, decode, text = map(median, ("image-1", "unet", "rows", "decode", "text"))
        if one is None and None not in (step, decode, text):
            one = 2 * text + step + decode
        if one is None or step is None:
            return
        image = one + (CALLS - 1) * step
        sweep = SCALES * image
        if name == OURS and None not in (decode, text) and format in self.results.rows:
            sweep = 2 * text + self.results.rows[format] * (row / WIDE if row else step / 2) + SCALES * decode
        for what, seconds in (("image", image), ("sweep", sweep)):
            ours = self.results.median(format, OURS, what)
            ratios = [] if name == OURS or ours is None else [ours / seconds]
            self.results.found[format, name, what] = Found([seconds], ratios)

    def memory_found(self, format, name, process, alive):
        memory = process.memory()
        kept = self.results.found.get((format, name, "memory"))
        if kept:  # ours is in every group
            memory = max(memory, kept.median)
        ours = alive[OURS].memory()
        return Found([memory], [] if name == OURS else [ours / memory])

    def ceiling(self, format):
        """What the machine reaches with torch in this format, at the time of the steps."""
        if (format, "matmul") in self.results.rates:
            return
        try:
            with Process(self.prepared, "ceiling", format) as process:
                for name in ("convolution", "matmul"):
                    process.ask(name)
                    self.results.rates[format, name] = max(process.ask(name) for _ in range(2))
                for what in ("unet", "decode"):
                    if what not in self.results.operations:
                        self.results.operations[what] = process.ask(f"operations_{what}")
        except Failed as reason:
            self.results.fail(format, "ceiling", reason)

    # -- what is written --

    def report(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        report = Report(self)
        (folder / "peers.md").write_text(report.page())
        with open(folder / "peers.csv", "w", newline="") as file:
            report.table(csv.writer(file, lineterminator="\n"))
        panels = report.panels()
        if panels:
            title = "Seconds, 512x512, one network call of two rows and one decoded picture"
            (folder / "peers.svg").write_text(chart.draw(title, f"{report.machine['processor']}, {report.machine['date']}. "
                                                         "In brackets: Latentrace / this peer; a cut bar is longer", panels, "Latentrace"))
        return report


def no_time(began, until):
    """Whether another round as long as the one that began then would end too late."""
    return 2 * time.monotonic() - began > until


def available():
    """GB of memory that can be used."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) * 1024 / 1e9
    return 16


def candle_version():
    lines = (HERE / "candle" / "Cargo.toml").read_text().splitlines()
    return "candle " + next(line for line in lines if line.startswith("candle-core")).split("=", 1)[1].strip(' "=')


# ---- the report ----------------------------------------------------------------------------------------------------------

def machine(device):
    text = Path("/proc/cpuinfo").read_text()
    entry = lambda key: next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith(key)), "")
    flags = set(entry("flags").split())
    memory = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    found = {
        "processor": entry("model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "flags": " ".join(flag for flag in FLAGS if flag in flags),
        "memory": f"{memory * 1024 / 1e9:.0f} GB",
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
    }
    if device == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        found["processor"] = subprocess.run(query, capture_output=True, text=True).stdout.strip().replace(", ", ", driver ")
    return found


def commit():
    git = lambda *words: subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True).stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no")
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + (" with changes" if changed else "")


class Report:
    def __init__(self, bench):
        self.bench, self.results, self.given = bench, bench.results, bench.given
        self.machine = machine(self.given.device)

    def cell(self, format, peer, what):
        found = self.results.found.get((format, peer.name, what))
        if found is None:
            return "failed ¹" if (format, peer.name, what) in self.results.failed else "–"
        if not found.ratios:
            return number(found.median)
        ratio = f"{number(found.median)} · {statistics.median(found.ratios):.2f}"
        if len(found.ratios) > 1:
            ratio += f" ({min(found.ratios):.2f} to {max(found.ratios):.2f})"
        return ratio

    def lines(self):
        """The cells of the table."""
        columns = [what for what in COLUMNS if any(key[2] == what for key in self.results.found)]
        yield ["", "format", "rounds", *(COLUMNS[what] for what in columns)]
        for format in self.given.formats:
            for peer in self.bench.peers:
                whole = self.results.failed.get((format, peer.name, None))
                if whole:
                    yield [peer.label(format), format, "", "failed ¹", *[""] * (len(columns) - 1)]
                    continue
                rounds = self.results.found.get((format, peer.name, "unet"))
                if not any((format, peer.name, what) in found for found in (self.results.found, self.results.failed) for what in COLUMNS):
                    continue  # an interrupted run did not come to it
                cells = [self.cell(format, peer, what) for what in columns]
                yield [peer.label(format), format, str(len(rounds.seconds)) if rounds else "", *cells]

    def markdown(self):
        lines = list(self.lines())
        widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
        padded = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
        return "\n".join([padded[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *padded[1:]])

    def notes(self):
        yield "Seconds; then ours divided by the peer's: below 1, Latentrace is faster. It is the median of the rounds, with the " \
              "lowest and the highest."
        if self.given.device == "cpu":
            yield f"On the CPU the 50-step image is one measured picture of one step and {CALLS - 1} more network calls. Nine scales are " \
                  f"nine such pictures; ours are a batch, of " \
                  f"{' and '.join(sorted({f'{rows:.0f}' for rows in self.results.rows.values()}))} rows in all at the price of a row in a call of " \
                  f"{WIDE} (of two where that was not measured), two texts and nine decoded pictures."
        yield "Start-up is from the start of the process to its first network call, the first step is the first call after that " \
              "(for torch.compile with inductor's cache filled). GB is the most memory resident, mapped files included."
        quiet = self.bench.quiet
        yield f"{quiet.disturbed} of {quiet.rounds} rounds were disturbed by other processes."
        for format in self.given.formats:
            if (format, "matmul") in self.results.rates:
                yield self.share(format)
        if self.bench.ended != "whole":
            yield f"**This run was interrupted ({self.bench.ended}); what is missing was not measured.**"
        failed = [f"{name}, {format}{'' if what is None else ', ' + COLUMNS.get(what, what)}: {reason}" for (format, name, what), reason in self.results.failed.items()]
        if failed:
            yield "¹ " + "; ".join(failed) + "."

    def share(self, format):
        """Ours as a share of what torch reaches in one large operation."""
        rates = {name: self.results.rates[format, name] for name in ("convolution", "matmul")}
        best = max(rates.values())
        parts = []
        for what, operations in self.results.operations.items():
            seconds = self.results.median(format, OURS, what)
            if seconds:
                parts.append(f"{COLUMNS[what]} {operations / 1e9:,.1f} GFLOP, {operations / seconds / 1e9:,.0f} a second, {operations / seconds / best:.0%}")
        return f"Ceiling in {format}: convolution {rates['convolution'] / 1e9:,.0f}, matmul {rates['matmul'] / 1e9:,.0f} GFLOP a second. " \
               f"Ours: {'; '.join(parts)} of the better."

    def page(self):
        facts = self.machine
        versions = "; ".join(sorted(set(self.results.versions.values())))
        return "\n".join([
            "# Beside its peers",
            "",
            "`./just bench-peers` wrote this page. The method is in the first lines of [tools/bench_peers.py](../../tools/bench_peers.py); "
            "[peers.csv](peers.csv) has the numbers.",
            "",
            f"{facts['processor']}, {facts['cores']} cores ({facts['flags']}), {facts['memory']}; {self.bench.prepared.threads} threads. "
            f"{facts['date']}, Latentrace {facts['commit']}. {versions}. Random weights "
            f"{'of narrow networks' if self.given.quick else 'of the size of Stable Diffusion 1.4, 512x512'}.",
            "",
            "![Bars: seconds of each peer](peers.svg)",
            "",
            self.markdown(),
            "",
            *(f"- {note}" for note in self.notes()),
            "",
        ])

    def table(self, writer):
        facts = self.machine
        writer.writerow(["machine", "cores", "flags", "memory", "device", "date", "commit", "threads", "peer", "version", "format", "what", "unit",
                         "median", "ratio", "lowest", "highest", "rounds", "disturbed", "note"])
        start = [facts["processor"], facts["cores"], facts["flags"], facts["memory"], self.given.device, facts["date"], facts["commit"], self.bench.prepared.threads]
        titles = {peer.name: peer for peer in self.bench.peers}
        for (format, name, what), found in self.results.found.items():
            ratios = [f"{statistics.median(found.ratios):.4f}", f"{min(found.ratios):.4f}", f"{max(found.ratios):.4f}"] if found.ratios else ["", "", ""]
            derived = self.given.device == "cpu" and what in ("image", "sweep")
            writer.writerow([*start, titles[name].label(format), self.results.versions.get((name, format), ""), format, what, "GB" if what == "memory" else "s",
                             f"{found.median:.6g}", *ratios, len(found.seconds), found.disturbed, "put together" if derived else ""])
        for (format, name), rate in self.results.rates.items():
            writer.writerow([*start, "torch", self.results.versions.get(("diffusers", format), ""), format, f"ceiling: {name}", "FLOP/s", f"{rate:.6g}", "", "", "", "", "", ""])
        for (format, name, what), reason in self.results.failed.items():
            writer.writerow([*start, name, "", format, what or "", "", "", "", "", "", "", "", f"failed: {reason}"])

    def panels(self):
        found = []
        for what in ("unet", "decode"):
            for format in self.given.formats:
                bars = []
                for peer in self.bench.peers:
                    entry = self.results.found.get((format, peer.name, what))
                    if entry:
                        bars.append((peer.label(format), entry.median, statistics.median(entry.ratios) if entry.ratios else None))
                if bars:
                    found.append((f"{COLUMNS[what]}, {format}", bars))
        return found


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def read_arguments():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [peer.name for peer in PEERS if peer.name != OURS]
    arguments.add_argument("--only", nargs="+", choices=names, default=[], metavar="PEER", help="these peers beside ours")
    arguments.add_argument("--formats", nargs="+", choices=["f32", "f16", "bf16"])
    arguments.add_argument("--rounds", type=int)
    arguments.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments.add_argument("--minutes", type=float, default=45, help="for the measurements; what is made only once is not counted")
    arguments.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments.add_argument("--quick", action="store_true", help="narrow networks and one round, to see that everything works")
    arguments.add_argument("--checkpoint", type=Path, help="a Stable Diffusion 1 in the diffusers layout, instead of random weights")
    arguments.add_argument("--programs", type=Path, default=ROOT / "target" / "release", help="where turns and latentrace are")
    arguments.add_argument("--output", type=Path)
    given = arguments.parse_args()
    given.rounds = given.rounds or (1 if given.quick else 5)
    given.formats = given.formats or (["f32", "bf16"] if given.device == "cpu" else ["f16", "bf16"])
    given.output = given.output or (CACHE / "last" if given.quick or given.only else ROOT / "docs" / "bench")
    return given


def interrupt(*_):
    raise KeyboardInterrupt


def main():
    given = read_arguments()
    signal.signal(signal.SIGTERM, interrupt)
    CACHE.mkdir(exist_ok=True)
    bench = Bench(given)
    try:
        bench.run()
    except KeyboardInterrupt:
        bench.ended = f"after {(time.monotonic() - getattr(bench, 'began', time.monotonic())) / 60:.0f} minutes"
        given.output = CACHE / "last"
    report = bench.report(given.output)
    print(report.markdown())
    for note in report.notes():
        print(f"\n{note}")
    say(f"written to {given.output}")
    sys.exit(130 if bench.ended != "whole" else 0)


if __name__ == "__main__":
    main()
