"""Whole inpainting runs of diffusers' StableDiffusionInpaintPipeline on the tiny checkpoint data/golden/networks/sd1.

    python data/golden/networks/make.py     first, if its checkpoints are not there
    python data/golden/pictures/make.py     and its picture sd1.png, which all runs start from
    python data/golden/masks/make.py

writes beside this file the mask mask.png, sd1.json (versions and cases) and sd1.safetensors with

    conv_in.weight     f32 [c, 9, 3, 3]      the first convolution of the inpainting UNet, which is otherwise that of sd1
    mask               f32 [1, 1, h, w]      the mask at the size of the latents, as the pipeline brings it there
    <case>/masked      f32 [1, 4, h, w]      the latents of the masked picture, which the inpainting UNet takes
    <case>/initial     f32 [1, 4, h, w]      what enters the sampler
    <case>/steps       f32 [s, 1, 4, h, w]   the latents after each network call and its blend, only where the case names it
    <case>/final       f32 [1, 4, h, w]      what output_type="latent" returns (not divided by scaling_factor)
    <case>/image       u8  [1, H, W, 3]      output_type="np", times 255, rounded half to even, only where the case names it

A case is <channels>-<sampler>-<steps>-<strength>: the UNet takes 4 channels or 9. `rounding` and `rounding_image` in the JSON are the
largest differences of any latents, and of the image, from the same run in f64 with the same draws.
"""

import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

HERE = Path(__file__).parent
NETWORKS = HERE.parent / "networks"
sys.path.insert(0, str(NETWORKS))

import numpy
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2DiscreteScheduler,
    StableDiffusionInpaintPipeline,
    UniPCMultistepScheduler,
)
from diffusers.models.autoencoders import vae
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_inpaint
from diffusers.schedulers import scheduling_euler_ancestral_discrete
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from safetensors.torch import load_file, save_file

import checkpoint as files
import record

TEXT = {"prompt": "a large red circle on the left, white background", "negative_prompt": "blue square, bad drawing"}
GUIDANCE = 7.5
STEPS = 12
LATENT = (8, 16)
SEED = 193
CHANNELS = 9

# channels, sampler, strength, whether to keep the latents after each step, and the image. 12 steps times 0.7 are 8.4, cut to 8.
CASES = [
    (4, "pndm", 1.0, False, False),
    (4, "pndm", 0.7, True, True),
    (4, "euler", 1.0, False, False),
    (4, "euler", 0.7, False, False),
    (4, "dpmpp", 1.0, False, False),
    (4, "dpmpp", 0.7, False, False),
    (4, "heun", 1.0, False, False),
    (4, "heun", 0.7, True, False),
    (4, "dpm2", 0.7, True, False),
    (4, "ddim", 0.7, False, False),
    (4, "unipc", 0.7, False, False),
    (4, "euler_a", 0.7, False, False),
    (9, "pndm", 1.0, True, True),
    (9, "ddim", 0.7, False, False),
    (9, "heun", 1.0, False, False),
    (9, "euler_a", 0.7, False, False),
]


def schedulers(shipped):
    kinds = {
        "euler": EulerDiscreteScheduler,
        "dpmpp": DPMSolverMultistepScheduler,
        "heun": HeunDiscreteScheduler,
        "dpm2": KDPM2DiscreteScheduler,
        "ddim": DDIMScheduler,
        "unipc": UniPCMultistepScheduler,
        "euler_a": EulerAncestralDiscreteScheduler,
    }
    return {"pndm": shipped, **{name: kind.from_config(shipped.config) for name, kind in kinds.items()}}


def draw_mask(height, width):
    """A soft disc that takes every byte and lies on no boundary of the latents, and a bar of colour."""
    y, x = numpy.mgrid[0:height, 0:width]
    distance = numpy.hypot(x - width * 0.6, (y - height * 0.45) * 1.3)
    disc = numpy.clip(255 * (1.4 - distance / (height * 0.42)) * 1.2, 0, 255)
    rgb = numpy.stack([disc] * 3, axis=-1)
    rgb[-14:, :41] = (40, 220, 60)
    return Image.fromarray(rgb.astype(numpy.uint8))


def inpainting(folder, weight):
    """A copy of a checkpoint whose UNet takes nine channels."""
    shutil.copytree(NETWORKS / "sd1", folder)
    path = folder / files.UNET_FILE
    save_file({**load_file(path), "conv_in.weight": weight}, path, metadata={"format": "pt"})
    config = folder / "unet/config.json"
    config.write_text(config.read_text().replace('"in_channels": 4', f'"in_channels": {CHANNELS}'))


def load_pipeline(folder):
    components = record.load_pipeline(folder).components
    pipeline = StableDiffusionInpaintPipeline(**components, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def call(pipeline, pictures, strength, **named):
    """The pipeline's own answer. The sampler has a state, so the pipeline gets a fresh copy of it."""
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    height, width = (side * pipeline.vae_scale_factor for side in LATENT)
    return pipeline(
        image=pictures[0],
        mask_image=pictures[1],
        height=height,
        width=width,
        strength=strength,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=record.generators([SEED])[0],
        **TEXT,
        **named,
    ).images


def run_latents(pipeline, pictures, strength):
    """One whole run up to the last latents."""
    seen = {"timesteps": [], "after": []}
    kind = StableDiffusionInpaintPipeline
    prepare_latents, prepare_mask_latents = kind.prepare_latents, kind.prepare_mask_latents

    def latents(*arguments, **named):
        found = prepare_latents(*arguments, **named)
        seen["initial"] = found[0].clone()
        return found

    def mask_latents(*arguments, **named):
        found = prepare_mask_latents(*arguments, **named)
        seen.update(mask=found[0][:1].clone(), masked=found[1][:1].clone())
        return found

    def step_end(_pipeline, _step, timestep, values):
        seen["timesteps"].append(timestep.item())
        seen["after"].append(values["latents"].clone())
        return {}

    with patch.object(kind, "prepare_latents", latents), patch.object(kind, "prepare_mask_latents", mask_latents):
        seen["final"] = call(pipeline, pictures, strength, output_type="latent", callback_on_step_end=step_end)
    seen["after"] = torch.stack(seen["after"])
    return seen


def rounding(double, scheduler, pictures, strength, seen, image):
    def draw(shape, dtype=None, **named):
        return randn_tensor(shape, dtype=torch.float32, **named).to(dtype)

    double.scheduler = scheduler
    with ExitStack() as patches:
        for module in (vae, pipeline_stable_diffusion_inpaint, scheduling_euler_ancestral_discrete):
            patches.enter_context(patch.object(module, "randn_tensor", draw))
        exact = run_latents(double, pictures, strength)
    latents = (exact["after"] - seen["after"]).abs().max().item()
    pixels = record.decode_images(double.vae, exact["final"].to(torch.float64)).int() - image.int()
    return {"rounding": float(f"{latents:.2g}"), "rounding_image": pixels.abs().max().item()}


def record_runs(folders):
    pipelines = {channels: (load_pipeline(folder), load_pipeline(folder).to(torch.float64)) for channels, folder in folders.items()}
    height, width = (side * 8 for side in LATENT)
    draw_mask(height, width).save(HERE / "mask.png")
    pictures = [Image.open(path).convert("RGB") for path in (HERE.parent / "pictures/sd1.png", HERE / "mask.png")]
    kept, cases = {}, []
    for channels, sampler, strength, every_step, pixels in CASES:
        name = f"{channels}-{sampler}-{STEPS}-{strength}"
        pipeline, double = pipelines[channels]
        pipeline.scheduler = schedulers(load_pipeline(folders[channels]).scheduler)[sampler]
        seen = run_latents(pipeline, pictures, strength)
        final = seen["final"]
        assert torch.equal(seen["after"][-1], final) and torch.isfinite(seen["after"]).all(), name
        assert torch.equal(kept.setdefault("mask", seen["mask"]), seen["mask"])
        image = record.decode_images(pipeline.vae, final)
        kept.update({f"{name}/initial": seen["initial"], f"{name}/final": final})
        if channels == CHANNELS:
            kept[f"{name}/masked"] = seen["masked"]
        if every_step:
            kept[f"{name}/steps"] = seen["after"]
        if pixels:
            kept[f"{name}/image"] = image
        cases.append({
            "name": name,
            **TEXT,
            "channels": channels,
            "guidance": GUIDANCE,
            "seeds": [SEED],
            "steps": STEPS,
            "strength": strength,
            "height": height,
            "width": width,
            "timesteps": seen["timesteps"],
            **rounding(double, pipeline.scheduler, pictures, strength, seen, image),
            "initial": f"{name}/initial",
            "after_each_step": f"{name}/steps" if every_step else None,
            "final": f"{name}/final",
            "image": f"{name}/image" if pixels else None,
            "scheduler": finite(record.scheduler_facts(pipeline.scheduler, STEPS)),
        })
        print(f"{name}: {len(seen['timesteps'])} calls, rounding {cases[-1]['rounding']} {cases[-1]['rounding_image']}, "
              f"rms {final.square().mean().sqrt():.2f}, {seen['mask'].mean():.0%} made anew")
    return kept, cases


def finite(facts):
    """Without options that JSON has no number for: `lambda_min_clipped` is minus infinity."""
    config = {key: value for key, value in facts["config"].items() if value not in (float("inf"), -float("inf"))}
    return {**facts, "config": config}


def main():
    torch.set_num_threads(1)
    record.quiet()
    with tempfile.TemporaryDirectory() as temporary:
        other = Path(temporary) / "inpainting"
        own = load_file(NETWORKS / "sd1" / files.UNET_FILE)["conv_in.weight"]
        more = 0.5 * own.std() * record.randn((own.shape[0], CHANNELS - own.shape[1], *own.shape[2:]), 61)
        weight = torch.cat([own.float(), more], dim=1).contiguous()
        inpainting(other, weight)
        kept, cases = record_runs({4: NETWORKS / "sd1", CHANNELS: other})
    kept["conv_in.weight"] = weight
    save_file({key: value.contiguous() for key, value in kept.items()}, HERE / "sd1.safetensors")
    files.write_json(HERE / "sd1.json", {"made_with": record.made_with(), "cases": cases})


if __name__ == "__main__":
    main()
