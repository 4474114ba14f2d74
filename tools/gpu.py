"""Checks and times Latentrace on a GPU; `tools/gpu run` calls it.

    python3 tools/gpu.py FOLDER [--rehearse] [--seconds N] [--only PART ..] [--formats F ..] [--recipe FILE]

FOLDER holds the programs `latentrace`, `turns` and `cuda-tests`. The parts, in this order:

doctor   the program sees a CUDA device; without one nothing else is done
tests    tests/cuda.rs: networks and runs on the device against the CPU's
program  recorded runs of the bundled model: every reduction and edit on both devices; verify, resume after a kill, fork,
         causal, a sweep, and the halves
parity   one UNet call of the size of Stable Diffusion 1.4: ours and diffusers', in three formats, against diffusers in f64
times    the same checkpoint, in turn with diffusers: A B A B .., the median of the rounds' ratios
train    only if asked for (`--only train`): the beginning of a training twice, for equal bytes, then the whole of it, by
         data/recipes/shapes.toml or --recipe, into FOLDER/trained; the same command goes on where it was stopped

A check that fails is a row that says so, and the exit status is 1. The table goes to stdout and to FOLDER/table.md.
"""

import argparse
import gc
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch

ROOT = Path(__file__).resolve().parent.parent
PROMPT = "a large red circle on the left, white background"
SPEC = "experiments/specs/sweep-guidance.toml"
SCALES = [0.25, 0.5, 1, 2, 4, 6, 8, 10, 20]
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}

# What is kept of both runs: every reduction and storage, on tensors that it fits.
CAPTURES = [
    "unet.** @step[0:20:10] | stats",
    "unet.mid_block.out",
    "unet.conv_in | down(4)",
    "unet.**.attn2.probs @branch{cond} @step[0:20:5] | head_mean",
    "unet.**.attn2.probs @branch{cond} @step[5] | tokens(red, circle)",
    "unet.mid_block.out | topk(16)",
    "unet.conv_in @step[3] | histogram(32)",
    "unet.conv_in @step[4] | f16",
    "unet.conv_in @step[5] | q8",
    "vae.decoder.**.out",
    "text_encoder.**",
]

# One of each kind. TRACE is another run, made on the CPU.
EDITS = [
    "unet.mid_block.out @step[5:10] => zero",
    "unet.mid_block.out @step[5:10] => mean",
    "unet.mid_block.out @step[5:10] @branch{cond} => scale(0.5)",
    "unet.mid_block.out @step[5:10] => add(0.1)",
    "unet.mid_block.out @step[5:10] => noise(0.1)",
    "unet.mid_block.attentions.0.out @step[5:10] => skip",
    "unet.**.attn2.scores @branch{cond} => mask(red)",
    "unet.**.attn2.probs @branch{cond} => reweight(red, 2)",
    "unet.mid_block.out @step[5:10] => replace(TRACE)",
    "unet.mid_block.out @step[5:10] => add(TRACE, 0.5)",
]


class Table:
    """The rows of the table, and whether a check failed."""

    def __init__(self):
        self.parts, self.failed = {}, 0

    def add(self, part, what, value):
        self.parts.setdefault(part, []).append((what, value))
        print(f"[{part}] {what}: {value}", flush=True)

    def check(self, part, what, good, value):
        self.failed += not good
        self.add(part, what, value if good else f"**FAILED** {value}")

    def markdown(self):
        lines = []
        for part, rows in self.parts.items():
            lines += ["", f"**{part}**", "", "| | |", "|---|---|"]
            lines += [f"| {what} | {str(value).replace('|', '/')} |" for what, value in rows]
        return "\n".join(lines) + "\n"


class Bench:
    def __init__(self, folder, rehearse, seconds, formats, recipe):
        self.folder, self.rehearse, self.formats = folder, rehearse, formats
        self.recipe = recipe or ROOT / ("crates/train/tests/tiny.toml" if rehearse else "data/recipes/shapes.toml")
        self.device = "cpu" if rehearse else "cuda"
        self.end = time.monotonic() + seconds
        self.table = Table()
        self.work = folder / "work"
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()

    def left(self):
        return self.end - time.monotonic()

    def program(self, *arguments, check=True, **options):
        done = subprocess.run([self.folder / "latentrace", *map(str, arguments)], cwd=ROOT, text=True, capture_output=True,
                              timeout=max(self.left(), 20), **options)
        if check and done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
            raise RuntimeError(f"latentrace {arguments[0]} ended with {done.returncode}: {'; '.join(said)}")
        return done

    # ---- doctor, tests ---------------------------------------------------------------------------------------------

    def doctor(self):
        if not self.rehearse:
            about = "name,driver_version,memory.total"
            card = subprocess.run(["nvidia-smi", f"--query-gpu={about}", "--format=csv,noheader"], text=True, capture_output=True)
            self.table.add("machine", "GPU, driver, memory", card.stdout.strip())
        self.table.add("machine", "torch", torch.__version__)
        began = time.monotonic()
        said = self.program("doctor").stdout
        line = next((line for line in said.splitlines() if line.startswith("cuda")), "no line")
        sees = "device," in line or "devices," in line
        self.table.check("machine", "doctor", sees or self.rehearse, line.removeprefix("cuda").strip().split(", /")[0])
        self.table.add("machine", "doctor, from start to end", f"{time.monotonic() - began:.1f} s")
        if not sees and not self.rehearse:
            print(said)
            sys.exit("latentrace doctor sees no CUDA device: nothing else is done")

    def tests(self):
        done = subprocess.run([self.folder / "cuda-tests", "--test-threads", "1"], cwd=ROOT, text=True, capture_output=True)
        for line in done.stderr.splitlines():
            if line.startswith("row: "):
                what, _, error = line.removeprefix("row: ").partition("   ")
                self.table.add("tests/cuda.rs: largest difference / largest magnitude", what.strip(), error.strip())
        ran = [line for line in done.stdout.splitlines() if line.startswith("test result")]
        skipped = done.stderr.count("skipped:")
        good = done.returncode == 0 and (self.rehearse or skipped == 0)
        self.table.check("tests/cuda.rs", "result", good, f"{'; '.join(ran)} skipped {skipped}")
        if done.returncode != 0:
            print(done.stdout[-4000:], done.stderr[-4000:])

    # ---- program ---------------------------------------------------------------------------------------------------

    def generate(self, name, *arguments, device=None):
        """Makes a run of the bundled model and returns its folder."""
        folder = self.work / name
        self.program("generate", PROMPT, "--guidance", 4, "--seed", 193, "--device", device or self.device, "--output", folder,
                     *arguments)
        return next(folder.glob("*/trace")).parent

    def worst(self, first, second):
        found = json.loads(self.program("compare", first, second, "--json").stdout)
        worst = found["worst"]
        return worst["relative"], f"{worst['relative']:.1e} at {worst['tensor']}, {found['tensors']} tensors, " \
                                  f"{found['only_first']} + {found['only_second']} in one alone"

    def same(self, what, first, second, tolerance):
        relative, text = self.worst(first, second)
        self.table.check("program, bundled model", what, relative <= tolerance, text)

    def attempt(self, what, work):
        try:
            work()
        except Exception as error:  # a row says so, and the others are still seen
            self.table.check("program, bundled model", what, False, f"{type(error).__name__}: {error}")

    def programs(self):
        steps = ["--steps", 20]
        captures = [word for rule in CAPTURES for word in ("--capture", rule)]
        cpu = self.generate("cpu", *steps, *captures, device="cpu")
        other = ["--negative", "red", "--capture", "unet.mid_block.out"]
        source = self.generate("source", *steps, *other, device="cpu")
        made = {}

        def captured():
            made["cuda"] = self.generate("cuda", *steps, *captures)
            # q8 rounds to 1/255 of a range: a number at a border may fall to either side.
            self.same("every reduction, device beside CPU, f32", cpu, made["cuda"], 6e-3)

        def verified():
            said = json.loads(self.program("verify", made["cuda"], "--json").stdout)
            self.table.add("program, bundled model", "verify of the device's record", f"{said['worst']:.1e} of {said['tensors']} tensors")

        def edited(number, edit):
            rule = edit.replace("TRACE", str(source))
            both = [self.generate(f"edit-{number}-{device}", *steps, "--edit", rule, device=device) for device in ("cpu", self.device)]
            self.same(f"edit `{edit.split('=>')[1].strip()}`, device beside CPU, f32", *both, 2e-3)
            plain, _ = self.worst(cpu, both[1])
            assert plain > 1e-3, f"the edit changes nothing: {plain:.1e} from the run without"

        def forked():
            forks = []
            for name, trace in [("cpu", cpu), ("cuda", made["cuda"])]:
                forks.append(self.work / f"fork-{name}")
                self.program("fork", trace, "--at", 10, "--guidance", 2, "--output", forks[-1])
            self.same("fork at step 10, device beside CPU", *forks, 2e-3)

        def resumed():
            long = ["--steps", 60 if self.rehearse else 900, "--sampler", "ddpm"]
            whole = self.generate("whole", *long)
            folder = self.work / "killed"
            running = subprocess.Popen([self.folder / "latentrace", "generate", PROMPT, "--guidance", "4", "--seed", "193", "--device",
                                        self.device, "--output", folder, *map(str, long)], cwd=ROOT, stdout=subprocess.DEVNULL)
            until = time.monotonic() + 60
            complete = lambda: sum(file.read_text().count('"complete"') for file in folder.glob("*/trace/index.jsonl"))
            while complete() < 2 and running.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            running.send_signal(signal.SIGKILL)
            killed = running.wait() == -signal.SIGKILL
            run = next(folder.glob("*/trace")).parent
            said = self.program("resume", run).stdout.splitlines()[0]
            relative, text = self.worst(whole, run)
            self.table.check("program, bundled model", "killed, resumed: beside the unbroken run", killed and relative == 0, f"{text}; {said}")

        def caused():
            self.program("causal", made["cuda"], "--from", source, "--sites", "unet.mid_block.out", "--blocks", 2, "--output", self.work / "causal")
            self.table.add("program, bundled model", "causal", "done")

        def varied():
            both = []
            for device in ("cpu", self.device):
                folder = self.work / f"vary-{device}"
                self.program("vary", "data/pictures/init.png", PROMPT, "--images", 1, "--seed", 1, "--device", device, "--output", folder)
                both.append(next(folder.glob("*/trace")).parent)
            self.same("vary, device beside CPU, f32", *both, 2e-3)

        def halved(dtype):
            half = self.generate(f"half-{dtype}", *steps, "--dtype", dtype)
            relative, text = self.worst(made["cuda"], half)
            said = json.loads(self.program("verify", half, "--json").stdout)
            self.table.check("program, bundled model", f"{dtype} beside f32, both on the device", relative < 1, f"{text}; verify {said['worst']:.1e}")

        def swept():
            for mode in ([], ["--batched"]):
                began = time.monotonic()
                folder = self.work / f"sweep{''.join(mode)}"
                self.program("run", SPEC, "--set", f"device={self.device}", "--output", folder, *mode)
                seconds = time.monotonic() - began
                self.table.check("program, bundled model", f"nine-scale sweep {' '.join(mode) or '(alone)'}", (folder / "grid.png").is_file(), f"{seconds:.1f} s")

        self.attempt("every reduction", captured)
        self.attempt("verify", verified)
        for number, edit in enumerate(EDITS):
            self.attempt(f"edit {edit}", lambda number=number, edit=edit: edited(number, edit))
        self.attempt("fork", forked)
        self.attempt("resume", resumed)
        self.attempt("causal", caused)
        self.attempt("vary", varied)
        for dtype in ["bf16"] if self.rehearse else ["f16", "bf16"]:
            self.attempt(dtype, lambda dtype=dtype: halved(dtype))
        self.attempt("sweep", swept)

    # ---- training --------------------------------------------------------------------------------------------------

    def training(self, recipe, output):
        """Trains by a recipe, tells how it goes, and returns the hash of the model."""
        # cuBLAS adds in a fixed order only with a workspace of fixed size.
        process = subprocess.Popen([self.folder / "latentrace", "train", "shapes", "--recipe", recipe, "--output", output,
                                    "--check-every", "8000", "--save-every", "30"], cwd=ROOT, text=True,
                                   stdout=subprocess.PIPE, env={**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"})
        for line in process.stdout:
            step = re.match(r"\w+: step (\d+) of", line)
            if not step or int(step[1]) % 1000 == 0:
                print(line, end="", flush=True)
        if process.wait() != 0:
            raise RuntimeError(f"latentrace train ended with {process.returncode}")
        return json.loads((output / "made.json").read_text())["hash"]

    def train(self):
        part = "training"
        text = self.recipe.read_text()
        short = self.work / "short.toml"
        short.write_text(re.sub(r"(?m)^(steps|decay) = \d+", lambda found: f"{found[1]} = {200 if found[1] == 'steps' else 50}",
                                re.sub(r"(?m)^pictures = \d+", "pictures = 2000", re.sub(r"steps = \d+ }", "steps = 100 }", text))))
        began = time.monotonic()
        hashes = [self.training(short, self.work / f"short-{turn}") for turn in range(2)]
        self.table.check(part, "200 steps of each network, twice: the same bytes", hashes[0] == hashes[1],
                         f"{' and '.join(value[:12] for value in hashes)}, {time.monotonic() - began:.0f} s")
        began, output = time.monotonic(), self.folder / "trained"
        found = self.training(self.recipe, output)
        self.table.add(part, "the whole recipe", f"{time.monotonic() - began:.0f} s, hash {found}")
        checks = [line.split(",") for line in (output / "checks.csv").read_text().splitlines()] if (output / "checks.csv").exists() else []
        for step, what, rate in checks:
            if what == "whole":
                self.table.add(part, f"24 held-out captions at step {step}, whole caption right", f"{float(rate):.0%}")

    # ---- parity and times at full size -----------------------------------------------------------------------------

    def checkpoint(self):
        if self.rehearse:
            return ROOT / "data/golden/networks/sd1"
        import parity

        folder = self.work / "full"
        if not (folder / "complete").exists():
            began = time.monotonic()
            parity.write_small_files(folder)
            parity.write_large_files(folder)
            (folder / "complete").touch()
            print(f"weights drawn in {time.monotonic() - began:.0f} s", flush=True)
        return folder

    def turns(self, dtype):
        return Turns(self.folder / "turns", self.checkpoint(), dtype, self.device)

    def synchronize(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def parity(self):
        from diffusers import UNet2DConditionModel
        from safetensors.torch import load_file, save_file

        part = "one UNet call, batch 2: largest difference from diffusers in f64 / largest magnitude"
        # As ours: f32 is f32, not TF32.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        config = UNet2DConditionModel.load_config(self.checkpoint() / "unet")
        generator = torch.Generator("cpu").manual_seed(5)
        side, width = config["sample_size"], config["cross_attention_dim"]
        given = {"sample": torch.randn([2, 4, side, side], generator=generator), "context": torch.randn([2, 77, width], generator=generator)}
        save_file(given, self.work / "given.safetensors")

        def theirs(dtype):
            at = {"device": self.device, "dtype": dtype}
            unet = UNet2DConditionModel.from_pretrained(self.checkpoint() / "unet", torch_dtype=dtype).eval().to(self.device)
            with torch.no_grad():
                found = unet(given["sample"].to(**at), 500, encoder_hidden_states=given["context"].to(**at), return_dict=False)[0]
            return found.double().cpu()

        halves = ["bf16"] if self.rehearse else ["f16", "bf16"]
        found = {dtype: theirs(DTYPES[dtype]) for dtype in ["f32", *halves]}
        if not self.rehearse:  # convolutions as torch runs them unless told otherwise
            torch.backends.cudnn.allow_tf32 = True
            found["TF32"] = theirs(torch.float32)
            torch.backends.cudnn.allow_tf32 = False
        right = theirs(torch.float64)
        error = lambda tensor: f"{((tensor - right).abs().max() / right.abs().max()).item():.1e}"
        gc.collect()
        for dtype in ["f32", *halves]:
            with self.turns(dtype) as turns:
                turns.ask(f"output {self.work / 'given.safetensors'} {self.work / 'output.safetensors'}")
            ours = load_file(self.work / "output.safetensors")["output"].double()
            self.table.check(part, dtype, bool(torch.isfinite(ours).all()), f"ours {error(ours)}, diffusers {error(found[dtype])}")
        if "TF32" in found:
            self.table.add(part, "diffusers, TF32 convolutions (torch's default)", error(found["TF32"]))

    def times(self):
        dtypes = ["f32"] if self.rehearse else self.formats
        for dtype in dtypes:
            self.times_in(dtype, more=False)
        self.times_in(dtypes[0], more=True)
        self.ceiling()

    def ceiling(self):
        """The rate of a large matrix product, which no network exceeds."""
        if self.rehearse:
            return
        for dtype in self.formats:
            left, right = (torch.randn(8192, 8192, device=self.device, dtype=DTYPES[dtype]) for _ in range(2))
            seconds = []
            for _ in range(8):
                self.synchronize()
                began = time.perf_counter()
                left @ right
                self.synchronize()
                seconds.append(time.perf_counter() - began)
            self.table.add("ceiling", f"matrix product of 8192 x 8192, {dtype}", f"{2 * 8192**3 / statistics.median(seconds[2:]) / 1e12:.0f} TFLOP/s")

    def times_in(self, dtype, more):
        """A call, a decoded picture and a whole picture; or, as `more`, the sweep and the recorder."""
        from diffusers import StableDiffusionPipeline

        part = f"seconds, {dtype}: medians, and the median of the rounds' ratios ours / diffusers eager"
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        began = time.monotonic()
        pipe = StableDiffusionPipeline.from_pretrained(self.checkpoint(), torch_dtype=DTYPES[dtype], safety_checker=None).to(self.device)
        opened = time.monotonic() - began
        pipe.set_progress_bar_config(disable=True)
        at = {"device": self.device, "dtype": DTYPES[dtype]}
        side, width = pipe.unet.config.sample_size, pipe.unet.config.cross_attention_dim
        sample, context = torch.randn([2, 4, side, side], **at), torch.randn([2, 77, width], **at)
        latents = torch.randn([1, 4, side, side], **at)
        calls, steps = (2, 3) if self.rehearse else (20, 50)

        def unet():
            for _ in range(calls):
                pipe.unet(sample, 500, encoder_hidden_states=context)

        def image(guidance=7.5):
            pipe(PROMPT, num_inference_steps=steps, guidance_scale=guidance, generator=torch.Generator("cpu").manual_seed(193))

        def decode():
            pipe.image_processor.postprocess(pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample)

        def theirs(work, per=1):
            self.synchronize()
            began = time.perf_counter()
            with torch.no_grad():
                work()
            self.synchronize()
            return (time.perf_counter() - began) / per

        with self.turns(dtype) as turns:
            rounds = 2 if self.rehearse else 7
            if not more:
                self.table.add(part, "opening the checkpoint", f"ours {turns.opened:.2f}, diffusers {opened:.2f}")
                self.in_turn(part, "one UNet call of two rows", rounds, lambda: turns.ask(f"unet {calls}"), lambda: theirs(unet, calls))
                self.in_turn(part, "decoding one picture", rounds, lambda: turns.ask("decode"), lambda: theirs(decode))
                host = statistics.median(turns.ask(f"host {calls}") for _ in range(3))
                self.table.add(part, "the host's part of a call that is not replayed", f"{host:.5f}")
                self.table.add(part, "the features of a prompt", f"{statistics.median(turns.ask('text') for _ in range(3)):.5f}")
                self.in_turn(part, f"a picture of {steps} steps", 2 if self.rehearse else 5, lambda: turns.ask(f"image {steps}"), lambda: theirs(image))
                return
            plain = lambda: turns.ask(f"image {steps}")
            for rule in ["-", "unet.**.attn2.probs @branch{cond} | head_mean", "unet.** @step[0:50:10] | stats"]:
                name = "the flight recorder" if rule == "-" else f"recording `{rule}`"
                self.in_turn(part, f"{name}, ratio to nobody watching", 2 if self.rehearse else 5, lambda rule=rule: turns.ask(f"record {steps} {rule}"), plain)
            sweep = lambda: [image(scale) for scale in SCALES]
            self.in_turn(part, f"nine guidance scales, {steps} steps", 2 if self.rehearse else 3, lambda: turns.ask(f"sweep {steps}"), lambda: theirs(sweep))
            if not self.rehearse:
                pipe.unet.to(memory_format=torch.channels_last)
                self.in_turn(part, "one UNet call, diffusers channels-last", rounds, lambda: turns.ask(f"unet {calls}"), lambda: theirs(unet, calls))
                began = time.monotonic()
                pipe.unet = torch.compile(pipe.unet, mode="reduce-overhead", fullgraph=True)
                theirs(image)
                self.table.add(part, "diffusers, torch.compile with CUDA graphs, channels-last: compilation and the first picture", f"{time.monotonic() - began:.0f} s")
                self.in_turn(part, "one UNet call, diffusers compiled", rounds, lambda: turns.ask(f"unet {calls}"), lambda: theirs(unet, calls))
                self.in_turn(part, f"a picture of {steps} steps, diffusers compiled", rounds, lambda: turns.ask(f"image {steps}"), lambda: theirs(image))

    def in_turn(self, part, what, rounds, first, second):
        """Both once to warm up, then A B A B; stops early where the time is up, with what there is."""
        try:
            first(), second()
            pairs = []
            for _ in range(rounds):
                if self.left() < 15 and pairs:
                    break
                pairs.append((first(), second()))
            ratios = sorted(a / b for a, b in pairs)
            a, b = (statistics.median(side) for side in zip(*pairs))
            self.table.add(part, what, f"{a:.4f} and {b:.4f}: {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}, {len(pairs)} rounds)")
        except Exception as error:
            self.table.check(part, what, False, f"{type(error).__name__}: {error}")


class Turns:
    """examples/turns, asked a line at a time."""

    def __init__(self, program, folder, dtype, device):
        self.process = subprocess.Popen([program, folder, dtype, device], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.opened = self.answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def answer(self):
        line = self.process.stdout.readline().strip()
        if not line or line.startswith("error"):
            raise RuntimeError(line or f"turns ended with {self.process.wait()}")
        return float(line)

    def ask(self, request):
        self.process.stdin.write(request + "\n")
        return self.answer()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--rehearse", action="store_true", help="on the CPU, with a tiny checkpoint")
    arguments.add_argument("--seconds", type=float, default=420, help="no new round of timing begins after so many")
    arguments.add_argument("--only", nargs="+", choices=["tests", "program", "parity", "times", "train"], default=["tests", "program", "parity", "times"])
    arguments.add_argument("--formats", nargs="+", choices=list(DTYPES), default=["f16", "bf16", "f32"], help="the number formats of the times")
    arguments.add_argument("--recipe", type=Path, help="what to train by")
    given = arguments.parse_args()
    bench = Bench(given.folder.resolve(), given.rehearse, given.seconds, given.formats, given.recipe and given.recipe.resolve())
    bench.doctor()
    parts = {"tests": bench.tests, "program": bench.programs, "parity": bench.parity, "times": bench.times, "train": bench.train}
    for name in given.only:
        began = time.monotonic()
        try:
            parts[name]()
        except Exception as error:  # the other parts are still seen
            import traceback

            traceback.print_exc()
            bench.table.check(name, "whole part", False, f"{type(error).__name__}: {error}")
        print(f"-- {name}: {time.monotonic() - began:.0f} s", flush=True)
    table = bench.table.markdown()
    (bench.folder / "table.md").write_text(table)
    print(table)
    shutil.rmtree(bench.work, ignore_errors=True)
    sys.exit(1 if bench.table.failed else 0)


if __name__ == "__main__":
    main()
