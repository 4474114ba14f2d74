"""Compares pictures of Latentrace and of diffusers: the same settings, the same checkpoint, one table.

    python tools/parity_pictures.py PROGRAM FOLDER [--only ROW...] [--width 1] [--threads 2]

PROGRAM is the built latentrace. FOLDER gets checkpoints with random weights, made by `latentrace model synth`: SD 1.4 (4.3 GB),
SD 2.1 (5.2 GB), SDXL and its Turbo (13.9 GB each) and the refiner (12.2 GB). They stay for the next time; other large files (as
large as the checkpoint at most) are deleted after the row that needs them. Rows of SDXL need 16 GB of memory, and run only if they
are named: `--only sdxl`.
Needs torch, diffusers, transformers, peft and safetensors (tools/python-env); downloads nothing.

Both programs compute in f32 on the CPU. Each picture is made in a process of its own, so memory is that of one pipeline. For every
row the table has

    latents     the largest difference of the final latents, divided by the largest magnitude
    picture     the largest difference of a byte of the picture
    seconds     Latentrace and diffusers: the picture without loading. Latentrace also records each step; diffusers also encodes
                the text
    GB          Latentrace and diffusers: the most memory resident, mapped files included

The exit status is 1 if a row is beyond LATENTS or LEVELS, or failed. The sizes are small because pictures of random weights show
nothing, and the networks are of full width at any size. `--width 0.1` makes narrow checkpoints, to try a change of this file.

The rows, where `--only lora` is every row that begins with lora:

    sd14               SD 1.4, PNDM
    image              SD 1.4, from a picture, strength 0.6
    fp16               SD 1.4, weight files in f16, with the name of a variant
    wide               SD 1.4, not square
    two                SD 1.4, two pictures: here two seeds, in diffusers a batch with a generator for each
    single-sd14        SD 1.4, a single file; Latentrace must make the same record of it as of the folder, up to rounding
    lora-kohya         SD 1.4, a LoRA of both networks, rank 4, alpha 2, weight 0.8, names of kohya's scripts
    lora-kohya-fused   the same, added to the weights in advance
    lora-peft          as lora-kohya, with the names of PEFT, where alpha is the rank
    lora-peft-fused    the same, added to the weights in advance
    lora-peft-alpha    the same with alpha 2 in the metadata, and no text_model in the names, as diffusers 0.42 saves an adapter
    sd21               SD 2.1, DDIM, v-prediction
    single-sd21        as single-sd14
    lora-sd21          as lora-kohya
    sdxl-base          SDXL, Euler, another text, size, crop and target for each text encoder and branch
    sdxl-zeros         SDXL without a negative prompt: zeros in place of its text
    sdxl-image         SDXL, from a picture, strength 0.6
    sdxl-single        as single-sd14
    sdxl-turbo         SDXL-Turbo, ancestral Euler, two steps without guidance
    sdxl-refiner       the refiner, from a picture, strength 0.4, with aesthetic scores

Latentrace adds a LoRA to the weights if its scale is a number, and computes it beside them if the scale depends on the noise level.
So the rows that are not fused give it a window that holds at every level. diffusers does one with fuse_lora, the other without.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

# Tolerances. f32 rounds by 6e-8; sums over thousands of products, and guidance, which multiplies the difference of two outputs by
# 7.5, make 1e-6 to 4e-6 of it. The smallest mistake that was tried, one layer without its LoRA, changes the latents by 3e-4 or more.
LATENTS = 2e-5
LEVELS = 1  # a byte whose value is near one half may be rounded either way

PROMPT = "a large red circle on the left, white background"
NEGATIVE = "blue square, bad drawing"
GUIDANCE = 7.5
SEED = 193
RANK, ALPHA, WEIGHT = 4, 2.0, 0.8
LORA_CHANGES = 1000 * LATENTS  # at least, or the row would say nothing about the LoRA


@dataclass(frozen=True)
class Row:
    name: str
    family: str = "sd14"
    files: str = "folder"  # or fp16, single
    size: tuple = (256, 256)  # height, width
    steps: int = 3
    strength: float | None = None
    pictures: int = 1
    lora: str | None = None  # kohya, peft, alpha
    fused: bool = False
    guidance: float = GUIDANCE
    negative: str | None = NEGATIVE
    told: tuple = ()  # of SDXL: diffusers' arguments and their values; the options of Latentrace are called almost alike


# Two text encoders are 3 GB of the 14, so a model of SDXL is more than most machines of tests have.
LARGE = ("sdxl",)

TOLD = (
    ("prompt_2", "a blue square"),
    ("negative_prompt_2", "red"),
    ("original_size", (768, 1024)),
    ("crops_coords_top_left", (64, 128)),
    ("target_size", (512, 640)),
    ("negative_original_size", (320, 256)),
    ("negative_crops_coords_top_left", (0, 32)),
    ("negative_target_size", (1024, 1024)),
)

ROWS = [
    Row("sd14"),
    Row("image", steps=5, strength=0.6),
    Row("fp16", files="fp16"),
    Row("wide", size=(192, 320)),
    Row("two", steps=2, pictures=2),
    Row("single-sd14", files="single"),
    Row("lora-kohya", lora="kohya"),
    Row("lora-kohya-fused", lora="kohya", fused=True),
    Row("lora-peft", lora="peft"),
    Row("lora-peft-fused", lora="peft", fused=True),
    Row("lora-peft-alpha", lora="alpha"),
    Row("sd21", family="sd21"),
    Row("single-sd21", family="sd21", files="single"),
    Row("lora-sd21", family="sd21", lora="kohya"),
    Row("sdxl-base", family="sdxl", guidance=5.0, told=TOLD),
    Row("sdxl-zeros", family="sdxl", guidance=5.0, negative=None, steps=2),
    Row("sdxl-image", family="sdxl", guidance=5.0, steps=5, strength=0.6),
    Row("sdxl-single", family="sdxl", files="single", guidance=5.0, negative=None, steps=2),
    Row("sdxl-turbo", family="sdxl-turbo", guidance=1.0, negative=None, steps=2),
    Row("sdxl-refiner", family="sdxl-refiner", guidance=5.0, steps=5, strength=0.4,
        told=(("aesthetic_score", 7.0), ("negative_aesthetic_score", 2.0), ("negative_crops_coords_top_left", (0, 32)))),
]


class Failed(Exception):
    pass


@dataclass
class Made:
    """What one program made of a row."""
    latents: numpy.ndarray  # [pictures, 4, height / 8, width / 8]
    pictures: numpy.ndarray  # u8 [pictures, height, width, 3]
    seconds: float
    memory: int
    records: list  # of Latentrace: for each picture what read_record returns


def say(text):
    print(text, flush=True)


# Files

class Bench:
    """The program and the folder that the comparison works in."""

    def __init__(self, program, folder, width):
        self.program, self.folder, self.width = program, folder, width
        self.made = {}  # by row, what Latentrace made

    def path(self, name):
        stem, dot, ending = name.partition(".")
        return self.folder / (stem + ("" if self.width == 1 else f"-width-{self.width:g}") + dot + ending)

    def call(self, *arguments):
        return measured([self.program, "--offline", *arguments], self.path("program") / "log.txt")

    def checkpoint(self, family):
        """The folder of a checkpoint with random weights, made once."""
        folder = self.path(family)
        if not folder.exists():
            say(f"writing {folder}")
            self.call("model", "synth", family, folder, "--width", self.width)
        return folder

    @contextlib.contextmanager
    def model(self, row):
        """The checkpoint as the row wants it. What was converted for it is deleted afterwards."""
        folder = self.checkpoint(row.family)
        if row.files == "folder":
            yield folder
            return
        converted = self.path(f"{row.family}-{row.files}" + (".safetensors" if row.files == "single" else ""))
        remove(converted)
        try:
            if row.files == "single":
                self.call("model", "convert", folder, converted)
            else:
                self.call("model", "convert", folder, converted, "--to-dtype", "f16")
                name_variant(converted, "fp16")
            yield converted
        finally:
            remove(converted)

    def picture(self, row):
        path = self.folder / f"picture-{row.size[1]}x{row.size[0]}.png"
        draw_picture(path, row.size)
        return path

    def lora(self, row):
        path = self.path(f"lora-{row.family}-{row.lora}.safetensors")
        write_lora(path, self.checkpoint(row.family), row.lora)
        return path


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def name_variant(folder, variant):
    """model.safetensors becomes model.fp16.safetensors, as in published checkpoints."""
    for path in list(folder.glob("*/*.safetensors")):
        path.rename(path.with_suffix(f".{variant}.safetensors"))


def draw_picture(path, size):
    """A smooth picture with a disc, of exactly the row's size, so that nothing is scaled."""
    height, width = size
    y, x = numpy.mgrid[0:height, 0:width]
    red = 255 * x / width
    green = 255 * y / height
    blue = numpy.where((x - width / 3) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2, 230, 30)
    Image.fromarray(numpy.stack([red, green, blue], axis=2).astype(numpy.uint8)).save(path)


def write_lora(path, checkpoint, names):
    """A random LoRA of every attention projection and feed-forward of both networks."""
    random = numpy.random.default_rng(5)
    tensors = {}
    for network, module, shape in layers(checkpoint):
        down, up = random_pair(random, shape)
        if names == "kohya":
            key = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[network] + module.replace(".", "_")
            tensors.update({f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up,
                            f"{key}.alpha": numpy.array(ALPHA, numpy.float32)})
        else:
            if names == "alpha":
                module = module.removeprefix("text_model.")
            tensors.update({f"{network}.{module}.lora_A.weight": down, f"{network}.{module}.lora_B.weight": up})
    save_file(tensors, path, metadata=adapter_metadata(tensors) if names == "alpha" else {"format": "pt"})


def layers(checkpoint):
    """Every layer that the LoRA changes: (network, module, shape of its weight)."""
    ends = {
        "unet": ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
        "text_encoder": ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
    }
    for network, ends in ends.items():
        (file,) = (checkpoint / network).glob("*.safetensors")
        with safe_open(file, "numpy") as weights:
            for key in sorted(weights.keys()):
                module = key.removesuffix(".weight")
                if module != key and module.endswith(tuple("." + end for end in ends)):
                    yield network, module, weights.get_slice(key).get_shape()


def random_pair(random, shape):
    """Down and up of rank RANK. Their product is about a third of a weight that keeps the size of its input."""
    outputs, inputs, *kernel = shape
    down = random.standard_normal((RANK, inputs, *kernel)) / inputs ** 0.5
    up = random.standard_normal((outputs, RANK, *kernel)) * 0.3
    return down.astype(numpy.float32), up.astype(numpy.float32)


def adapter_metadata(tensors):
    """What diffusers' save_lora_weights writes beside the tensors if it is given the adapters' configurations, in short."""
    facts = {}
    for network in ("unet", "text_encoder"):
        modules = {key.removeprefix(network + ".").split(".lora_")[0] for key in tensors if key.startswith(network + ".")}
        facts.update({f"{network}.r": RANK, f"{network}.lora_alpha": ALPHA, f"{network}.target_modules": sorted(modules)})
    return {"format": "pt", "lora_adapter_metadata": json.dumps(facts, indent=2, sort_keys=True)}


# Latentrace

def ours(bench, row, model):
    """Runs a row with Latentrace, or takes what an earlier row with the same settings made."""
    key = replace(row, name="")
    if key not in bench.made:
        output = bench.path("program") / row.name
        remove(output)
        memory = bench.call(*program_arguments(bench, row, model), "--output", output)
        bench.made[key] = read_runs(output, row.pictures, memory)
        remove(output)
    return bench.made[key]


def program_arguments(bench, row, model):
    height, width = row.size
    if row.strength is None:
        arguments = ["generate", PROMPT]
    else:
        arguments = ["vary", bench.picture(row), PROMPT, "--strength", row.strength]
    arguments += ["--model", model, "--device", "cpu", "--guidance", row.guidance, "--seed", SEED]
    if row.negative is not None:
        arguments += ["--negative", row.negative]
    for name, value in row.told:
        arguments += [option(name), ",".join(map(str, value)) if isinstance(value, tuple) else value]
    arguments += ["--images", row.pictures, "--steps", row.steps, "--height", height, "--width", width]
    if row.files == "fp16":
        arguments += ["--variant", "fp16"]
    if row.files == "single":
        arguments += ["--config", bench.checkpoint(row.family)]
    if row.lora is not None:
        scale = WEIGHT if row.fused else f"{{ weight = {WEIGHT}, sigma = [0, 1000] }}"
        arguments += ["--lora", f"{bench.lora(row)}:{scale}"]
    return arguments


def option(name):
    """The option of Latentrace that has the meaning of an argument of diffusers."""
    return "--" + name.replace("negative_prompt", "negative").replace("crops_coords_top_left", "crop").replace("_", "-")


def read_runs(output, pictures, memory):
    runs = sorted(output.glob("*/trace"), key=lambda trace: json.loads((trace / "run.json").read_text())["cell"]["seed"])
    if len(runs) != pictures:
        raise Failed(f"{output} has {len(runs)} runs and should have {pictures}")
    records = [read_record(trace) for trace in runs]
    seconds = sum(json.loads((trace.parent / "cell.json").read_text())["seconds"] for trace in runs)
    images = numpy.stack([numpy.asarray(Image.open(trace.parent / "image.png").convert("RGB")) for trace in runs])
    latents = numpy.concatenate([record[max(key for key in record if key[1] == "sampler.latents")] for record in records])
    return Made(latents, images, seconds, memory, records)


def read_record(trace):
    """Every tensor of a record: {(call, tap, branch): numbers}."""
    shards, record = {}, {}
    for line in (trace / "index.jsonl").read_text().splitlines():
        line = json.loads(line)
        if "stored" in line:
            shard, name = line["stored"]["shard"], line["stored"]["name"]
            if shard not in shards:
                shards[shard] = load_file(trace / "shards" / shard)
            record[line["call"], line["tap"], line.get("branch", "")] = shards[shard][name]
    return record


def measured(command, log):
    """Runs a command, and returns the most memory it had resident, in bytes."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failed("\n".join(line[:400] for line in log.read_text().splitlines()[-8:]))
    return usage.ru_maxrss * 1024


# diffusers

def theirs(bench, row, model):
    """Runs a row with diffusers, in another process of this file."""
    output = bench.path("diffusers") / f"{row.name}.safetensors"
    output.parent.mkdir(parents=True, exist_ok=True)
    job = {
        **asdict(row),
        "model": str(model),
        "config": str(bench.checkpoint(row.family)),
        "picture": None if row.strength is None else str(bench.picture(row)),
        "lora": None if row.lora is None else str(bench.lora(row)),
        "output": str(output),
    }
    memory = measured([sys.executable, __file__, "--job", json.dumps(job)], output.with_suffix(".txt"))
    found = load_file(output)
    return Made(found["latents"], found["pictures"], float(found["seconds"][0]), memory, [])


def run_diffusers(job):
    import torch

    pipeline = load_pipeline(job)
    if job["lora"] is not None:
        pipeline.load_lora_weights(job["lora"], adapter_name="it")
        if job["fused"]:
            pipeline.fuse_lora(lora_scale=WEIGHT)
            pipeline.unload_lora_weights()
        else:
            pipeline.set_adapters(["it"], [WEIGHT])
    began = time.monotonic()
    with torch.no_grad():
        latents = pipeline(**pipeline_arguments(job)).images
        pictures = [decode(pipeline, latent) for latent in latents.split(1)]
    seconds = time.monotonic() - began
    # Latents from a picture are channels-last in memory, and save_file writes the memory as it is.
    latents = numpy.ascontiguousarray(latents.numpy())
    save_file({"latents": latents, "pictures": numpy.stack(pictures), "seconds": numpy.array([seconds])}, job["output"])


def load_pipeline(job):
    import torch
    import diffusers

    family = "StableDiffusionXL" if job["family"].startswith("sdxl") else "StableDiffusion"
    kind = getattr(diffusers, family + ("Pipeline" if job["strength"] is None else "Img2ImgPipeline"))
    if job["files"] == "single":
        return kind.from_single_file(job["model"], config=job["config"], local_files_only=True)
    return kind.from_pretrained(job["model"], variant="fp16" if job["files"] == "fp16" else None, dtype=torch.float32)


def pipeline_arguments(job):
    import torch

    generators = [torch.Generator("cpu").manual_seed(SEED + number) for number in range(job["pictures"])]
    arguments = {
        "prompt": PROMPT,
        "negative_prompt": job["negative"],
        "guidance_scale": job["guidance"],
        **{name: tuple(value) if isinstance(value, list) else value for name, value in job["told"]},
        "num_inference_steps": job["steps"],
        "num_images_per_prompt": job["pictures"],
        "generator": generators,
        "output_type": "latent",
    }
    if job["strength"] is None:
        height, width = job["size"]
        return {**arguments, "height": height, "width": width}
    return {**arguments, "image": Image.open(job["picture"]), "strength": job["strength"]}


def decode(pipeline, latent):
    image = pipeline.vae.decode(latent / pipeline.vae.config.scaling_factor).sample
    return numpy.asarray(pipeline.image_processor.postprocess(image, output_type="pil")[0])


# The table

COLUMNS = ["row", "size", "steps", "latents", "picture", "seconds", "GB", ""]


def compare(bench, row):
    """A line of the table, and whether the row is within the tolerances."""
    with bench.model(row) as model:
        mine = ours(bench, row, model)
        other = theirs(bench, row, model)
    if mine.latents.shape != other.latents.shape or mine.pictures.shape != other.pictures.shape:
        raise Failed(f"latents {mine.latents.shape} against {other.latents.shape}")
    latents = apart(mine.latents, other.latents)
    levels = int(numpy.abs(mine.pictures.astype(int) - other.pictures.astype(int)).max())
    note, noted = notes(bench, row, mine)
    good = latents <= LATENTS and levels <= LEVELS and noted
    height, width = row.size
    steps = str(row.steps) if row.strength is None else f"{int(row.steps * row.strength)} of {row.steps}"
    return [row.name, f"{width}x{height}", steps, f"{latents:.1e}", str(levels), f"{mine.seconds:.0f}, {other.seconds:.0f}",
            f"{mine.memory / 1e9:.1f}, {other.memory / 1e9:.1f}", note if good else f"{note} BEYOND".strip()], good


def notes(bench, row, mine):
    """What else the row must show: (in words, whether it does)."""
    if row.files != "single" and row.lora is None:
        return "", True
    plain = ours(bench, replace(row, files="folder", lora=None, fused=False), bench.checkpoint(row.family))
    if row.files == "single":
        # The weights are the same bits, but they begin at other addresses, and products of matrices may round by where they begin.
        difference = apart(mine.latents, plain.latents)
        said = "every bit as" if same_bits(mine, plain) else f"{difference:.1e}"
        return f"{said} from the folder", difference <= LATENTS
    change = apart(mine.latents, plain.latents)
    return f"{change:.2f} from the picture without the LoRA", change >= LORA_CHANGES


def apart(mine, other):
    if not (numpy.isfinite(mine).all() and numpy.isfinite(other).all()):
        raise Failed("latents that are not finite")
    return float(numpy.abs(mine - other).max() / numpy.abs(other).max())


def same_bits(mine, other):
    """Whether two runs have the same pictures and the same numbers in their records."""
    return numpy.array_equal(mine.pictures, other.pictures) and len(mine.records) == len(other.records) and all(
        one.keys() == two.keys() and all(one[key].tobytes() == two[key].tobytes() for key in one)
        for one, two in zip(mine.records, other.records))


def table(bench, rows):
    """The lines of the table, and the names of the rows that are not as they should be."""
    lines, wrong = [], []
    for row in rows:
        began = time.monotonic()
        try:
            line, good = compare(bench, row)
        except Failed as failure:
            say(f"{row.name}: {failure}")
            line, good = [row.name, *[""] * (len(COLUMNS) - 2), "FAILED"], False
        say(f"{markdown(line)} after {time.monotonic() - began:.0f} s")
        lines.append(line)
        if not good:
            wrong.append(row.name)
    return lines, wrong


def markdown(line):
    return "| " + " | ".join(line) + " |"


def chosen(only):
    for word in only:
        if not any(is_named(row, word) for row in ROWS):
            sys.exit(f"no row {word!r}; there are {', '.join(row.name for row in ROWS)}")
    return [row for row in ROWS if any(is_named(row, word) for word in only) or not only and not row.family.startswith(LARGE)]


def is_named(row, word):
    return row.name == word or row.name.startswith(word + "-")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program", type=Path, nargs="?")
    arguments.add_argument("folder", type=Path, nargs="?")
    arguments.add_argument("--only", nargs="+", default=[], metavar="ROW")
    arguments.add_argument("--width", type=float, default=1)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--job", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.job is not None:
        run_diffusers(json.loads(given.job))
        return
    if given.folder is None:
        arguments.error("PROGRAM and FOLDER are needed")
    rows = chosen(given.only)
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    bench = Bench(given.program.resolve(), given.folder.resolve(), given.width)
    lines, wrong = table(bench, rows)
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "transformers", "peft"))
    say(f"\nwidth {given.width:g}, threads {given.threads}, {packages}; tolerance {LATENTS:g} of latents, {LEVELS} of a byte\n")
    for line in [COLUMNS, ["---"] * len(COLUMNS), *lines]:
        say(markdown(line))
    if wrong:
        sys.exit(f"beyond the tolerance or failed: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
