"""Runs a pipeline of diffusers and records it as Latentrace records a run, so that the two can be compared:

    latentrace generate PROMPT --model CHECKPOINT --capture "unet.**.out" --output ours
    python tools/dump_diffusers.py CHECKPOINT PROMPT --select "unet.**.out" --output theirs.trace
    latentrace compare ours/* theirs.trace

The options that say what is run are named as those of `latentrace generate`; --like RUN takes them all, checkpoint and prompt
included, from a run of Latentrace. The pipeline is that of Stable Diffusion or of SDXL, as the checkpoint's model_index.json has it,
from noise or, with --image, from a picture. The refiner of SDXL always starts from a picture.

Needs torch, diffusers, transformers and safetensors (tools/python-env installs them); downloads nothing. Runs in f32. The
pipeline is unchanged, with its fused attention; it is only hooked. docs/trace.md describes the folder that is written.

It records the sampler's values, and of the networks what --select selects: patterns as for --capture, without windows and
reductions. A layer's tap has the name of its module, a larger module's tap that name and `.out`. What has another name (RENAMED)
or another shape (`shaped`) in Latentrace is converted. The taps `scores` and `probs` do not exist here, because the fused
attention does not compute them. For w <= 1 diffusers runs without guidance, and there is no unconditional branch.
tools/dump_check.py runs both on a checkpoint and holds that nothing else is missing.
"""

import argparse
import collections
import functools
import json
import math
import os
import re
import sys
import zlib
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import diffusers
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file

SAMPLERS = {"ddpm": "DDPMScheduler", "pndm": "PNDMScheduler", "lms": "LMSDiscreteScheduler"}


def watch(pipeline, trace):
    """Hooks the UNet and the scheduler, so that the sampler's values go to `trace`. Samples are in x = x0 + sigma * noise: the
    input of the UNet is x / sqrt(1 + sigma^2) with every scheduler, whatever the scale of its latents."""
    scheduler = pipeline.scheduler

    def before_call(_, inputs):
        rows, t = inputs[:2]  # rows: [1 or 2, 4, height, width]
        trace.begin(moment(scheduler, trace.call + 1, float(t), trace.landed))
        trace.x = rows[-1:] * (1 + trace.moment["sigma"] ** 2) ** 0.5
        trace.keep("sampler.sample", trace.x)

    def after_call(_, inputs, output):
        for branch, row in zip(["conditional", "unconditional"], reversed(output[0].split(1))):
            keep_output(branch, row)

    def step(output, t, sample, *rest, **named):
        keep_output("guided", output)
        result = original["step"](output, t, sample, *rest, **named)
        p, q = denoising(scheduler, trace.moment["sigma"])
        trace.keep("sampler.denoised", result[1] if len(result) > 1 else p * trace.x + q * output)
        return result

    def keep_output(which, output):
        a, b = epsilon(scheduler, trace.moment["sigma"])
        trace.keep(f"sampler.epsilon.{which}", a * trace.x + b * output)
        trace.keep(f"sampler.output.{which}", output)

    def draw(*shape, **named):
        noise = original["draw"](*shape, **named)
        trace.keep("sampler.noise" if trace.moment else "sampler.start", noise)
        return noise

    def add_noise(latents, noise, timesteps):
        trace.keep("sampler.image", latents)
        return original["add_noise"](latents, noise, timesteps)

    def land(sample, at, to, output):
        trace.landed = int(to)  # PNDM's steps have a fixed length, so they may not end at the next call's timestep
        return original["land"](sample, at, to, output)

    original = {"step": scheduler.step, "add_noise": scheduler.add_noise, "draw": diffusers.utils.torch_utils.randn_tensor}
    scheduler.step = functools.wraps(scheduler.step)(step)  # the pipeline looks at the signature
    scheduler.add_noise = add_noise  # of a run from a picture, once
    for user in (pipeline, scheduler):
        vars(sys.modules[type(user).__module__])["randn_tensor"] = draw
    if isinstance(scheduler, diffusers.PNDMScheduler):
        original["land"], scheduler._get_prev_sample = scheduler._get_prev_sample, land
    pipeline.unet.register_forward_pre_hook(before_call)
    pipeline.unet.register_forward_hook(after_call)


def watch_networks(pipeline, trace, chosen):
    """Hooks the modules of the chosen taps, so that every row of their tensors goes to `trace`."""
    texts = collections.Counter()  # how many texts each encoder has begun to encode; the pipeline encodes the prompt first
    for part, network in text_encoders(pipeline).items():
        network.register_forward_pre_hook(lambda *_, part=part: texts.update([part]))
    def passed(name, value, _, inputs, named, output):
        tensor = value(inputs, named, output)
        part = name.partition(".")[0]
        branches = [None]
        if part in texts:
            branches = [["cond", "uncond"][texts[part] - 1]]
        elif part == "unet" and not is_shared(name, len(tensor)):
            branches = ["uncond", "cond"][-len(tensor):]
        for branch, row in zip(branches, tensor.split(1)):
            trace.keep(name, row, branch)

    def is_shared(name, rows):
        """Whether the rows are the same: of the time, and of what is made of it alone. A run of SDXL without guidance has only one."""
        if added(pipeline):
            return name.startswith("unet.time_embedding.") and rows > 1
        return ".time_" in name

    for name, module, value in chosen:
        module.register_forward_hook(functools.partial(passed, name, value), with_kwargs=True)


# A layer's tap is its module's name; every other module's has `.out` after it.
LAYERS = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.GroupNorm, torch.nn.LayerNorm, torch.nn.Embedding)

# Taps with other names: the name by this rule, and the name of the tap.
RENAMED = [
    (r"\.time_proj\.out$", ".time_embedding.waves"),
    (r"\.text_projection$", ".text_projection.out"),
    (r"\.to_([qkv])$", r".\1"),
    (r"\.([qkv])_proj$", r".\1"),
    (r"^(vae\..*\.attentions\.0)\.out$", r"\1.sum"),  # there the module adds the residual itself
    (r"^(vae\..*\.attentions\.0)\.to_out\.0$", r"\1.out"),
]


def text_encoders(pipeline):
    """The text encoders by their names. Stable Diffusion and the refiner of SDXL have one, which is the first or the second."""
    named = {part: getattr(pipeline, part, None) for part in ("text_encoder", "text_encoder_2")}
    return {part: network for part, network in named.items() if network is not None}


def added(pipeline):
    """Whether the UNet adds a pooled text and numbers to the time, as that of SDXL does."""
    return pipeline.unet.config.addition_embed_type == "text_time"


def taps(pipeline, height_by_width):
    """(name, module, function from the module's inputs and output to the value) of every tap."""
    networks = {}
    for part, network in text_encoders(pipeline).items():
        whole = hasattr(network, "text_model")  # transformers 5 leaves the name out, where there is no projection
        networks[part if whole else f"{part}.text_model"] = network
    networks |= {"unet": pipeline.unet, "vae.decoder": pipeline.vae.decoder, "vae.encoder": pipeline.vae.encoder}
    for root, network in networks.items():
        for path, module in network.named_modules():
            if isinstance(module, torch.nn.ModuleList) or path != "time_proj" and next(module.parameters(), None) is None:
                continue  # never called, or an activation or a dropout
            layer = isinstance(module, LAYERS)
            name = ".".join(filter(None, [root, path, "" if layer else "out"]))
            for there, here in RENAMED:
                name = re.sub(there, here, name)
            owner = network.get_submodule(path.rpartition(".")[0])
            yield name, module, functools.partial(shaped, name, owner, height_by_width)
    yield "unet.sample", pipeline.unet, first_input
    entrance = getattr(pipeline.vae, "post_quant_conv", None) or pipeline.vae.decoder
    yield "vae.decoder.latents", entrance, first_input
    exit = getattr(pipeline.vae, "quant_conv", None) or pipeline.vae.encoder
    yield "vae.encoder.moments", exit, only_output
    for number, block in enumerate(pipeline.unet.up_blocks):
        for layer in range(len(block.resnets)):
            yield f"unet.up_blocks.{number}.resnets.{layer}.skip", block, functools.partial(skip, layer)
    if added(pipeline):
        yield "unet.time_ids", pipeline.unet, functools.partial(condition, "time_ids")
        yield "unet.add_embedding.text", pipeline.unet, functools.partial(condition, "text_embeds")
        width = pipeline.unet.config.projection_class_embeddings_input_dim - pipeline.text_encoder_2.config.projection_dim
        yield "unet.add_embedding.waves", pipeline.unet.add_time_proj, functools.partial(in_rows, width)


def first_input(inputs, named, output):
    return inputs[0]


def only_output(inputs, named, output):
    return output


def skip(layer, inputs, named, output):
    """The skip connection of an up block's layer: the last tensor goes to the first layer."""
    return named["res_hidden_states_tuple"][-1 - layer]


def condition(key, inputs, named, output):
    return named["added_cond_kwargs"][key]


def in_rows(width, inputs, named, output):
    """The waves of all numbers of a row, one after the other; the module has a row for each number."""
    return output.reshape(-1, width)


def shaped(name, owner, height_by_width, inputs, named, output):
    """A module's output in the shape of its tap: heads apart, pixels in a row."""
    tensor = output if torch.is_tensor(output) else output[0]
    if re.search(r"\.[qkv]$", name):
        return tensor.unflatten(-1, (getattr(owner, "heads", None) or owner.num_heads, -1)).transpose(1, 2)
    if re.search(r"\.proj_(in|out)$", name) and tensor.dim() == 4:
        return tensor.flatten(2).transpose(1, 2)
    if name.endswith(".group_norm") and tensor.dim() == 3:
        return tensor.unflatten(2, (round((tensor.shape[2] * height_by_width) ** 0.5), -1))
    return tensor


def role(tap):
    """The role of a tap, see docs/trace.md: the part of the model, and what the value is in its module."""
    part, _, path = tap.partition(".")
    if part == "sampler":
        return tap
    part = part.removesuffix("_2")  # both text encoders are one part
    found = re.search(r"\.([qkv])$", tap)
    if found:
        return part + {"q": ".query", "k": ".key", "v": ".value"}[found[1]]
    return part + (".residual" if re.search(RESIDUAL, path) else ".other")


# The modules whose outputs add to a stream: by their names; the UNet's middle block; the VAE's attention with its residual
# connection.
RESIDUAL = (
    r"(^|\.)((resnets|attentions|transformer_blocks|layers)\.\d+|attn[12]|ff|self_attn|mlp)\.out$"
    r"|^mid_block\.out$|\.attentions\.\d+\.sum$"
)


def pattern(selector):
    """A selector as a regular expression: * is any letters of one part of a name, ** any parts, {a,b} either."""
    words = {"**.": r"(?:.*\.)?", ".**": r"(?:\..*)?", "**": ".*", "*": r"[^.]*", "{": "(?:", "}": ")", ",": "|"}
    parts = re.split(r"(\*\*\.|\.\*\*$|\*\*|\*|[{},])", selector.strip())
    return "".join(words.get(part, re.escape(part)) for part in parts)


# ---- Noise levels, and how the network's output is converted

def moment(scheduler, call, t, landed):
    """Call, step, timestep and noise level of a network call; `landed` is the timestep after the last step, if the scheduler
    reports one."""
    if hasattr(scheduler, "sigmas"):
        # From a picture, the first steps are left out.
        sigma = float(scheduler.sigmas[call + (scheduler.begin_index or 0)])
    else:
        at = int(t) if landed is None else landed
        alpha = float(scheduler.alphas_cumprod[at] if at >= 0 else scheduler.final_alpha_cumprod)
        sigma = min(((1 - alpha) / max(alpha, 1e-30)) ** 0.5, 2.0**24)  # 2^24 stands for no signal at all
    step, evaluation = divmod(call, scheduler.order)
    if isinstance(scheduler, diffusers.PNDMScheduler):
        warm_up = len(scheduler.prk_timesteps)
        if call < warm_up:
            step, evaluation = divmod(call, 4)
        elif warm_up:
            step = call - warm_up + warm_up // 4
        elif call > 0:
            step, evaluation = call - 1, int(call == 1)
    return {"call": call, "step": step, "evaluation": evaluation, "t": t, "sigma": sigma}


def denoising(scheduler, sigma):
    """(p, q) such that the clean estimate is p x + q output."""
    return {
        "epsilon": (1, -sigma),
        "v_prediction": (1 / (1 + sigma**2), -sigma / (1 + sigma**2) ** 0.5),
        "sample": (0, 1),
    }[scheduler.config.prediction_type]


def epsilon(scheduler, sigma):
    """(a, b) such that the noise is a x + b output."""
    return {
        "epsilon": (0, 1),
        "v_prediction": (sigma / (1 + sigma**2), 1 / (1 + sigma**2) ** 0.5),
        "sample": (1 / sigma, -1 / sigma),
    }[scheduler.config.prediction_type]


# ---- The folder

class Trace:
    """Writes a trace: shards with the tensors of a network call, each before the lines that refer to it. See docs/trace.md."""

    LARGEST = 64 << 20  # bytes of a shard, about

    def __init__(self, folder, run):
        self.folder, self.call, self.moment, self.landed, self.x, self.latents = folder, -1, None, None, None, None
        self.held, self.known, self.bytes, self.shard = [], set(), 0, 0  # held: (name in the shard, its line's fields, tensor)
        (folder / "shards").mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"format": 1, **run}, indent=2) + "\n")
        self.index = open(folder / "index.jsonl", "w")

    def begin(self, moment):
        """Begins a network call. Tensors from before the first call belong to the first."""
        if self.moment is not None:
            self.close()
        self.call, self.moment = moment["call"], moment

    def keep(self, tap, tensor, branch=None):
        fields = {"tap": tap, "role": role(tap)} | ({"branch": branch} if branch else {})
        name = "/".join([tap, f"{max(self.call, 0):03}", *filter(None, [branch])])
        if name not in self.known:  # of tensors with the same name in a call the first is kept
            self.known.add(name)
            self.held.append((name, fields, tensor.detach().cpu().clone(memory_format=torch.contiguous_format)))
            self.bytes += tensor.nbytes
        if self.moment and self.bytes >= self.LARGEST:
            self.write()

    def close(self):
        """Ends a call."""
        self.write()
        self.line({"complete": self.call})
        self.index.flush()
        self.known.clear()

    def write(self):
        if not self.held:
            return
        shard = f"{self.shard:06}.safetensors"
        place = self.folder / "shards" / shard
        unfinished = place.with_name(shard + ".unfinished")
        save_file({name: tensor for name, _, tensor in self.held}, unfinished)
        with open(unfinished) as file:
            os.fsync(file.fileno())
        unfinished.rename(place)
        for name, fields, tensor in self.held:
            dtype = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}[tensor.dtype]
            crc32 = zlib.crc32(tensor.flatten().view(torch.uint8).numpy())
            self.line({
                **self.moment, **fields, "shape": list(tensor.shape), "dtype": dtype, "statistics": statistics(tensor),
                "stored": {"shard": shard, "name": name, "dtype": dtype, "crc32": crc32},
            })
        self.held, self.bytes, self.shard = [], 0, self.shard + 1

    def end(self):
        self.close()
        self.line({"end": {"beyond_budget": 0}})
        self.index.close()

    def line(self, fields):
        body = json.dumps(fields, separators=(",", ":"))[:-1]
        self.index.write(f'{body},"check":"{zlib.crc32(body.encode()):08x}"}}\n')


def statistics(tensor):
    """Of the finite numbers."""
    numbers = tensor.double()
    finite = numbers[numbers.isfinite()]
    finite = finite if len(finite) else torch.zeros(1, dtype=torch.float64)
    found = {
        "mean": finite.mean().item(),
        "rms": finite.square().mean().sqrt().item(),
        "min": finite.min().item(),
        "max": finite.max().item(),
    }
    for name, count in [("nan", numbers.isnan().sum()), ("inf", numbers.isinf().sum())]:
        if count:
            found[name] = count.item()
    return found


# ---- What is run

# What an option is in the arguments of diffusers.
TOLD = {
    "prompt_2": "prompt_2",
    "negative_2": "negative_prompt_2",
    "original_size": "original_size",
    "crop": "crops_coords_top_left",
    "target_size": "target_size",
    "negative_original_size": "negative_original_size",
    "negative_crop": "negative_crops_coords_top_left",
    "negative_target_size": "negative_target_size",
    "aesthetic_score": "aesthetic_score",
    "negative_aesthetic_score": "negative_aesthetic_score",
    "clip_skip": "clip_skip",
}

# Settings of a run that are also options here, and those that say how Latentrace computes it, which are not.
ALSO_HERE = {"prompt", "negative", "empty_negative", "seed", "steps", "guidance", "image", "strength", "height", "width", *TOLD}
NOT_HERE = {"model", "sampler", "scheduler", "spacing", "device", "dtype", "vae_dtype", "kernels", "fit", "reading", "family"}


def settings_of(run):
    """The options of a run of Latentrace, and its scheduler where that is not the checkpoint's own."""
    folder = run / "trace" if (run / "trace").is_dir() else run
    record = json.loads((folder / "run.json").read_text())
    if "cell" not in record:
        raise ValueError(f"{run} is no run of Latentrace: its run.json has no settings")
    cell = record["cell"]
    unknown = cell.keys() - ALSO_HERE - NOT_HERE
    unknown |= {"spacing"} if cell.get("spacing") == "ays" else set()
    unknown |= set() if isinstance(cell["guidance"], (int, float)) else {"guidance"}
    if unknown:
        raise ValueError(f"{run} cannot be repeated in diffusers by this script, because of its {', '.join(sorted(unknown))}")
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in cell.items() if name in ALSO_HERE}
    settings["checkpoint"] = Path(record["model"]["folder"])
    settings["height"], settings["width"] = record["size"]
    if "image" in record:
        settings["image"] = Path(record["image"]["path"])
        settings.setdefault("strength", 0.8)
    is_own = not cell.keys() & {"sampler", "scheduler", "spacing"}
    # What is null there has its default, see `written`.
    scheduler = {option: value for option, value in record["scheduler"].items() if value is not None}
    return settings, None if is_own else scheduler


def load(given):
    """The checkpoint's pipeline, from noise or from a picture."""
    index = json.loads((given.checkpoint / "model_index.json").read_text())
    is_xl = index["_class_name"].startswith("StableDiffusionXL")
    # clip_skip is among them: with transformers 5 the pipeline of Stable Diffusion ends with an error.
    foreign = [] if is_xl else [flag(option) for option in TOLD if getattr(given, option) is not None]
    if foreign:
        raise ValueError(f"{given.checkpoint} is none of SDXL, and {', '.join(foreign)} is for SDXL here")
    if index.get("requires_aesthetics_score") and not given.image:
        raise ValueError(f"{given.checkpoint} is a refiner, which starts from a picture here: give --image")
    name = f"StableDiffusion{'XL' if is_xl else ''}{'Img2Img' if given.image else ''}Pipeline"
    own = {"add_watermarker": False} if is_xl else {"safety_checker": None, "requires_safety_checker": False}
    return getattr(diffusers, name).from_pretrained(given.checkpoint, dtype=torch.float32, **own).to(given.device)


def arguments_of(given, pipeline):
    """What the pipeline is called with. No negative prompt is "" here and in Latentrace; the pipelines of SDXL tell it from none."""
    negative = given.negative
    if added(pipeline):
        if given.empty_negative == "zeros":
            pipeline.register_to_config(force_zeros_for_empty_prompt=True)
        if negative == "" and given.empty_negative != "text":
            negative = None
    named = {there: getattr(given, here) for here, there in TOLD.items() if getattr(given, here) is not None}
    if given.image:
        picture = Image.open(given.image).convert("RGB")
        if (given.height or picture.height, given.width or picture.width) != (picture.height, picture.width):
            raise ValueError(f"{given.image} has {picture.height} by {picture.width} pixels: scale it to the run's size before")
        named |= {"image": picture, "strength": given.strength}
    else:
        named |= {"height": given.height, "width": given.width}
    return {
        "prompt": given.prompt,
        "negative_prompt": negative,
        "num_inference_steps": given.steps,
        "guidance_scale": given.guidance,
        "generator": torch.Generator("cpu").manual_seed(given.seed),
        **named,
    }


def flag(name):
    return f"--{name.replace('_', '-')}"


def pair(text):
    first, second = map(int, text.split(","))
    return first, second


def parser():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("checkpoint", type=Path, nargs="?", help="folder in the diffusers layout")
    arguments.add_argument("prompt", nargs="?")
    arguments.add_argument("--like", type=Path, metavar="RUN", help="take checkpoint, prompt and options of a run of Latentrace; "
                           "options given beside it replace its own")
    arguments.add_argument("--negative", default="")
    arguments.add_argument("--seed", type=int, default=193)
    arguments.add_argument("--steps", type=int, default=50)
    arguments.add_argument("--guidance", type=float, default=7.5)
    arguments.add_argument("--scheduler", help="pndm, lms, ddpm or a class of diffusers; without it, the checkpoint's own")
    arguments.add_argument("--image", type=Path, help="the picture to start from, in the run's size")
    arguments.add_argument("--strength", type=float, default=0.8)
    arguments.add_argument("--height", type=int)
    arguments.add_argument("--width", type=int)
    of_xl = arguments.add_argument_group("SDXL, see latentrace generate --help-all")
    of_xl.add_argument("--prompt-2")
    of_xl.add_argument("--negative-2")
    of_xl.add_argument("--empty-negative", choices=["model", "zeros", "text"], default="model")
    of_xl.add_argument("--clip-skip", type=int)
    for name in TOLD:
        if name.endswith(("size", "crop")):
            of_xl.add_argument(flag(name), type=pair, metavar="TOP,LEFT" if name.endswith("crop") else "H,W")
        elif name.endswith("score"):
            of_xl.add_argument(flag(name), type=float)
    arguments.add_argument("--select", action="append", default=[], metavar="PATTERN", help='"unet.**.out"; may be repeated')
    arguments.add_argument("--device", default="cpu", help="where the networks run; noise is drawn on the CPU")
    arguments.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="a new folder")
    return arguments


def parse(words):
    """The options, and the scheduler of the run that they are taken from, where it is not the checkpoint's own."""
    arguments = parser()
    given, scheduler = arguments.parse_args(words), None
    if given.like:
        settings, scheduler = settings_of(given.like)
        arguments.set_defaults(**settings)
        given = arguments.parse_args(words)
    if given.checkpoint is None or given.prompt is None:
        raise ValueError("give CHECKPOINT and PROMPT, or --like RUN")
    if given.output.exists():
        raise ValueError(f"{given.output} is there already: name another folder")
    if not (given.checkpoint / "model_index.json").is_file():
        raise ValueError(f"{given.checkpoint}: no model_index.json there, so no checkpoint in the diffusers layout")
    if given.scheduler:
        name = SAMPLERS.get(given.scheduler, given.scheduler)
        if not hasattr(diffusers, name):
            raise ValueError(f"--scheduler {name}: diffusers has no such class")
        scheduler = {"_class_name": name}
    return given, scheduler


def chosen_taps(given, pipeline):
    chosen = []
    for selector in given.select:
        found = [tap for tap in taps(pipeline, height_by_width(given)) if re.fullmatch(pattern(selector), tap[0])]
        if not found:
            raise ValueError(f"--select {selector}: fits no tap here (windows and reductions are not known here)")
        chosen += found
    return chosen


def height_by_width(given):
    """Of the picture, which is square where no size is given."""
    return given.height / given.width if given.height and given.width else 1


def written(scheduler):
    """A scheduler's options as a record has them: JSON has no infinity, so it is null there."""
    infinite = [key for key, value in scheduler.config.items() if isinstance(value, float) and math.isinf(value)]
    return {**scheduler.config, **dict.fromkeys(infinite), "_class_name": type(scheduler).__name__}


def main(words=None):
    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    try:
        given, scheduler = parse(words)
        pipeline = load(given)
        named = arguments_of(given, pipeline)
        if scheduler:
            config = pipeline.scheduler.config if given.scheduler else scheduler
            pipeline.scheduler = getattr(diffusers, scheduler["_class_name"]).from_config(config)
        chosen = chosen_taps(given, pipeline)
    except (OSError, ValueError) as error:
        sys.exit(f"dump_diffusers.py: error: {error}")
    pipeline.set_progress_bar_config(disable=not sys.stderr.isatty())
    trace = Trace(given.output, {
        "program": {"diffusers": diffusers.__version__, "transformers": transformers.__version__, "torch": torch.__version__},
        "asked": {key: str(value) if isinstance(value, Path) else value for key, value in vars(given).items()},
        "scheduler": written(pipeline.scheduler),
    })
    watch(pipeline, trace)
    watch_networks(pipeline, trace, chosen)

    def step_end(_, step, timestep, values):
        trace.latents = values["latents"]
        return {}

    # The pipeline decodes only what is looked at.
    decodes = any(name.startswith("vae.decoder.") for name, _, _ in chosen)
    pipeline(**named, output_type="pt" if decodes else "latent", callback_on_step_end=step_end)
    trace.keep("sampler.latents", trace.latents)
    trace.end()
    print(f"{given.output}: {trace.call + 1} network calls")


if __name__ == "__main__":
    main()
