"""Runs diffusers' StableDiffusionPipeline and records it as Latentrace records a run, so that the two can be compared:

    latentrace generate PROMPT --model CHECKPOINT --capture "unet.**.out" --output ours
    python tools/dump_diffusers.py CHECKPOINT PROMPT --select "unet.**.out" --output theirs.trace
    latentrace compare ours/* theirs.trace

Needs torch, diffusers, transformers and safetensors (tools/python-env installs them); downloads nothing. Runs in f32. The
pipeline is unchanged, with its fused attention; it is only hooked. docs/trace.md describes the folder that is written.

It records the sampler's values, and of the networks what --select selects: patterns as for --capture, without windows and
reductions. A layer's tap has the name of its module, a larger module's tap that name and `.out`. What has another name (RENAMED)
or another shape (`shaped`) in Latentrace is converted. The taps `scores` and `probs` do not exist here, because the fused
attention does not compute them. For w <= 1 diffusers runs without guidance, and there is no unconditional branch.
"""

import argparse
import functools
import json
import os
import re
import sys
import zlib
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import diffusers
import torch
import transformers
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

    def land(sample, at, to, output):
        trace.landed = int(to)  # PNDM's steps have a fixed length, so they may not end at the next call's timestep
        return original["land"](sample, at, to, output)

    original = {"step": scheduler.step, "draw": diffusers.utils.torch_utils.randn_tensor}
    scheduler.step = functools.wraps(scheduler.step)(step)  # the pipeline looks at the signature
    for user in (pipeline, scheduler):
        vars(sys.modules[type(user).__module__])["randn_tensor"] = draw
    if isinstance(scheduler, diffusers.PNDMScheduler):
        original["land"], scheduler._get_prev_sample = scheduler._get_prev_sample, land
    pipeline.unet.register_forward_pre_hook(before_call)
    pipeline.unet.register_forward_hook(after_call)


def watch_networks(pipeline, trace, chosen):
    """Hooks the modules of the chosen taps, so that every row of their tensors goes to `trace`."""
    texts = ["cond", "uncond"]  # the last is the current one; the pipeline encodes the prompt first
    pipeline.text_encoder.register_forward_pre_hook(lambda *_: texts.reverse())

    def passed(name, value, _, inputs, named, output):
        tensor = value(inputs, named, output)
        branches = [texts[-1]] if name.startswith("text_encoder.") else [None]
        if name.startswith("unet.") and ".time_" not in name:  # the time's rows are the same
            branches = ["uncond", "cond"][-len(tensor):]
        for branch, row in zip(branches, tensor.split(1)):
            trace.keep(name, row, branch)

    for name, module, value in chosen:
        module.register_forward_hook(functools.partial(passed, name, value), with_kwargs=True)


# A layer's tap is its module's name; every other module's has `.out` after it.
LAYERS = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.GroupNorm, torch.nn.LayerNorm, torch.nn.Embedding)

# Taps with other names: the name by this rule, and the name of the tap.
RENAMED = [
    (r"\.time_proj\.out$", ".time_embedding.waves"),
    (r"\.to_([qkv])$", r".\1"),
    (r"\.([qkv])_proj$", r".\1"),
    (r"^(vae\..*\.attentions\.0)\.out$", r"\1.sum"),  # there the module adds the residual itself
    (r"^(vae\..*\.attentions\.0)\.to_out\.0$", r"\1.out"),
]


def taps(pipeline):
    """(name, module, function from the module's inputs and output to the value) of every tap."""
    below = "" if hasattr(pipeline.text_encoder, "text_model") else ".text_model"  # transformers 5 leaves the name out
    networks = {"text_encoder" + below: pipeline.text_encoder, "unet": pipeline.unet, "vae.decoder": pipeline.vae.decoder}
    for root, network in networks.items():
        for path, module in network.named_modules():
            if isinstance(module, torch.nn.ModuleList) or path != "time_proj" and next(module.parameters(), None) is None:
                continue  # never called, or an activation or a dropout
            layer = isinstance(module, LAYERS)
            name = ".".join(filter(None, [root, path, "" if layer else "out"]))
            for there, here in RENAMED:
                name = re.sub(there, here, name)
            owner = network.get_submodule(path.rpartition(".")[0])
            yield name, module, functools.partial(shaped, name, owner)
    yield "unet.sample", pipeline.unet, first_input
    entrance = getattr(pipeline.vae, "post_quant_conv", None) or pipeline.vae.decoder
    yield "vae.decoder.latents", entrance, first_input
    for number, block in enumerate(pipeline.unet.up_blocks):
        for layer in range(len(block.resnets)):
            yield f"unet.up_blocks.{number}.resnets.{layer}.skip", block, functools.partial(skip, layer)


def first_input(inputs, named, output):
    return inputs[0]


def skip(layer, inputs, named, output):
    """The skip connection of an up block's layer: the last tensor goes to the first layer."""
    return named["res_hidden_states_tuple"][-1 - layer]


def shaped(name, owner, inputs, named, output):
    """A module's output in the shape of its tap: heads apart, pixels in a row."""
    tensor = output if torch.is_tensor(output) else output[0]
    if re.search(r"\.[qkv]$", name):
        return tensor.unflatten(-1, (getattr(owner, "heads", None) or owner.num_heads, -1)).transpose(1, 2)
    if re.search(r"\.proj_(in|out)$", name) and tensor.dim() == 4:
        return tensor.flatten(2).transpose(1, 2)
    if name.endswith(".group_norm") and tensor.dim() == 3:
        return tensor.unflatten(2, (round(tensor.shape[2] ** 0.5), -1))  # without a size, pictures are square
    return tensor


def role(tap):
    """The role of a tap, see docs/trace.md: the part of the model, and what the value is in its module."""
    part, _, path = tap.partition(".")
    if part == "sampler":
        return tap
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
        sigma = float(scheduler.sigmas[call])
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
        self.folder, self.call, self.moment, self.landed, self.x = folder, -1, None, None, None
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


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("checkpoint", type=Path, help="folder in the diffusers layout")
    arguments.add_argument("prompt")
    arguments.add_argument("--negative", default="")
    arguments.add_argument("--seed", type=int, default=193)
    arguments.add_argument("--steps", type=int, default=50)
    arguments.add_argument("--guidance", type=float, default=7.5)
    arguments.add_argument("--scheduler", help="pndm, lms, ddpm or a class of diffusers; without it, the checkpoint's own")
    arguments.add_argument("--select", action="append", default=[], metavar="PATTERN", help='"unet.**.out"; may be repeated')
    arguments.add_argument("--device", default="cpu", help="where the networks run; noise is drawn on the CPU")
    arguments.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="a new folder")
    given = arguments.parse_args()
    if given.output.exists():
        arguments.error(f"{given.output} is there already: name another folder")
    if not (given.checkpoint / "model_index.json").is_file():
        arguments.error(f"{given.checkpoint}: no model_index.json there, so no checkpoint in the diffusers layout")
    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        given.checkpoint, dtype=torch.float32, safety_checker=None, requires_safety_checker=False).to(given.device)
    pipeline.set_progress_bar_config(disable=not sys.stderr.isatty())
    if given.scheduler:
        name = SAMPLERS.get(given.scheduler, given.scheduler)
        if not hasattr(diffusers, name):
            arguments.error(f"--scheduler {name}: diffusers has no such class")
        pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config)
    scheduler = {**pipeline.scheduler.config, "_class_name": type(pipeline.scheduler).__name__}
    program = {"diffusers": diffusers.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
    asked = {key: str(value) if isinstance(value, Path) else value for key, value in vars(given).items()}

    chosen = []
    for selector in given.select:
        found = [tap for tap in taps(pipeline) if re.fullmatch(pattern(selector), tap[0])]
        if not found:
            arguments.error(f"--select {selector}: fits no tap here (windows and reductions are not known here)")
        chosen += found

    trace = Trace(given.output, {"program": program, "asked": asked, "scheduler": scheduler})
    watch(pipeline, trace)
    watch_networks(pipeline, trace, chosen)
    latents = pipeline(
        given.prompt,
        negative_prompt=given.negative,
        num_inference_steps=given.steps,
        guidance_scale=given.guidance,
        generator=torch.Generator("cpu").manual_seed(given.seed),
        output_type="latent",
    ).images
    trace.keep("sampler.latents", latents)
    if any(name.startswith("vae.") for name, _, _ in chosen):
        with torch.no_grad():
            pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor)
    trace.end()
    print(f"{given.output}: {trace.call + 1} network calls")


if __name__ == "__main__":
    main()
