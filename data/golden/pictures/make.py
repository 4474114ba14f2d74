"""Whole image-to-image runs of diffusers' StableDiffusionImg2ImgPipeline on the two tiny checkpoints of data/golden/networks.

    python data/golden/networks/make.py     first, if its checkpoints are not there
    python data/golden/pictures/make.py

writes beside this file, for NAME = sd1 and sd2, the picture NAME.png that all runs start from, twice as wide as high, NAME.json
(versions and cases) and NAME.safetensors with

    draws/<seed>       f32 [2, 1, 4, h, w]   the first two torch.randn of that seed: the encoder's, then the noise that is added
    encoded/<seed>     f32 [1, 4, h, w]      the picture's latents times scaling_factor, a sample of the encoder's distribution
    <case>/initial     f32 [n, 4, h, w]      what enters the sampler: `encoded` and the noise, mixed by add_noise
    <case>/steps       f32 [s, n, 4, h, w]   the latents after each network call, only where the case names it
    <case>/final       f32 [n, 4, h, w]      what output_type="latent" returns (not divided by scaling_factor)
    <case>/image       u8  [n, H, W, 3]      output_type="np", times 255, rounded half to even, only where the case names it

A case is <sampler>-<steps>-<strength>, with one more word where it has two images. The samplers are those of
data/golden/runs/make.py. `timesteps` of a case are those that the pipeline really went through, and those of its `scheduler` are the
whole list that they are the end of.

In the JSON of a case, two numbers say what tolerance makes sense: `rounding` is the largest difference of any latents, and
`rounding_image` that of the image, from the same run in f64 with the same draws.

`nothing_left` in the JSON says what the pipeline does with a strength that leaves no step: how many times it calls the network, or
the error it fails with.
"""

import sys
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

HERE = Path(__file__).parent
NETWORKS = HERE.parent / "networks"
sys.path.insert(0, str(NETWORKS))

import numpy
import torch
from diffusers import DDPMScheduler, LMSDiscreteScheduler, StableDiffusionImg2ImgPipeline
from diffusers.models.autoencoders import vae
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img
from diffusers.schedulers import scheduling_ddpm
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from safetensors.torch import save_file

import checkpoint as files
import record

TEXT = {"prompt": "a large red circle on the left, white background", "negative_prompt": "blue square, bad drawing"}
GUIDANCE = 7.5
STEPS = 12
LATENT = (8, 16)
SEEDS = [193, 194]
TOO_SMALL = 0.08

# name, sampler, strength, seeds, whether to keep the latents after each step, and the image. 12 steps times 0.3 are 3.6, cut to 3.
CASES = [(f"{sampler}-{STEPS}-{strength}", sampler, strength, SEEDS[:1], True, strength == 0.75)
         for sampler in ("pndm", "lms", "ddpm") for strength in (0.3, 0.75, 1.0)]
CASES += [(f"{sampler}-{STEPS}-0.75-pair", sampler, 0.75, SEEDS, False, False) for sampler in ("pndm", "ddpm")]


def load_pipeline(folder):
    components = record.load_pipeline(folder).components
    pipeline = StableDiffusionImg2ImgPipeline(**components, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def schedulers(shipped):
    return {
        "pndm": shipped,
        "lms": LMSDiscreteScheduler.from_config(shipped.config),
        "ddpm": DDPMScheduler.from_config(shipped.config),
    }


def draw_picture(height, width):
    """A disc on two ramps that between them take every byte: no two rows, columns or colours are alike."""
    y, x = numpy.mgrid[0:height, 0:width]
    disc = (x - width / 4) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2
    red = x * 255 // (width - 1)
    green = 255 - y * 255 // (height - 1)
    blue = numpy.where(disc, 30, (x * y) % 256)
    return Image.fromarray(numpy.stack([red, green, blue], axis=-1).astype(numpy.uint8))


def call(pipeline, picture, strength, seeds, **named):
    """The pipeline's own answer. The sampler has a state, so the pipeline gets a fresh copy of it."""
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    return pipeline(
        image=picture,
        strength=strength,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        # With several images each has its own generator, which needs as many pictures.
        generator=record.generators(seeds) if len(seeds) > 1 else record.generators(seeds)[0],
        num_images_per_prompt=len(seeds),
        **TEXT,
        **named,
    ).images


def run_latents(pipeline, picture, strength, seeds):
    """One whole run up to the last latents."""
    seen = {"timesteps": [], "after": []}
    kind = type(pipeline.scheduler)
    add_noise = kind.add_noise

    def adding(scheduler, encoded, noise, timesteps):
        assert "initial" not in seen
        initial = add_noise(scheduler, encoded, noise, timesteps)
        seen.update(encoded=encoded.clone(), noise=noise.clone(), initial=initial.clone())
        return initial

    def step_end(_pipeline, _step, timestep, values):
        seen["timesteps"].append(timestep.item())
        seen["after"].append(values["latents"].clone())
        return {}

    with patch.object(kind, "add_noise", adding):
        seen["final"] = call(pipeline, picture, strength, seeds, output_type="latent", callback_on_step_end=step_end)
    seen["after"] = torch.stack(seen["after"])
    return seen


def two_draws(pipeline, picture, seed):
    """The first two draws of a seed, and the latents that the first gives the picture."""
    generator = torch.Generator("cpu").manual_seed(seed)
    draws = torch.stack([torch.randn((1, 4, *LATENT), generator=generator) for _ in range(2)])
    with torch.no_grad():
        posterior = pipeline.vae.encode(pipeline.image_processor.preprocess(picture)).latent_dist
    return draws, pipeline.vae.config.scaling_factor * (posterior.mean + posterior.std * draws[0])


def record_runs(folder):
    pipeline, double = load_pipeline(folder), load_pipeline(folder).to(torch.float64)
    samplers = schedulers(pipeline.scheduler)
    height, width = (side * pipeline.vae_scale_factor for side in LATENT)
    path = HERE / f"{folder.name}.png"
    draw_picture(height, width).save(path)
    picture = Image.open(path).convert("RGB")
    kept = {}
    for seed in SEEDS:
        kept[f"draws/{seed}"], kept[f"encoded/{seed}"] = two_draws(pipeline, picture, seed)
    cases = []
    for name, sampler, strength, seeds, every_step, pixels in CASES:
        pipeline.scheduler = samplers[sampler]
        seen = run_latents(pipeline, picture, strength, seeds)
        check_start(seen, kept, seeds)
        final = seen["final"]
        assert torch.equal(seen["after"][-1], final) and torch.isfinite(seen["after"]).all(), name
        image = record.decode_images(pipeline.vae, final)
        check_image(pipeline, picture, strength, seeds, image)
        kept.update({f"{name}/initial": seen["initial"], f"{name}/final": final})
        if every_step:
            kept[f"{name}/steps"] = seen["after"]
        if pixels:
            kept[f"{name}/image"] = image
        scheduler = record.scheduler_facts(pipeline.scheduler, STEPS)
        assert seen["timesteps"] == scheduler["timesteps"][-len(seen["timesteps"]):], name
        cases.append({
            "name": name,
            **TEXT,
            "guidance": GUIDANCE,
            "seeds": seeds,
            "steps": STEPS,
            "strength": strength,
            "height": height,
            "width": width,
            "timesteps": seen["timesteps"],
            **rounding(double, pipeline.scheduler, picture, strength, seeds, seen, image),
            "initial": f"{name}/initial",
            "after_each_step": f"{name}/steps" if every_step else None,
            "final": f"{name}/final",
            "image": f"{name}/image" if pixels else None,
            "scheduler": scheduler,
        })
        print(f"{folder.name} {name}: {len(seen['timesteps'])} calls, rounding {cases[-1]['rounding']} {cases[-1]['rounding_image']}, "
              f"rms {final.square().mean().sqrt():.2f}, {(image % 255 == 0).float().mean():.0%} of the image black or white")
    nothing = {sampler: nothing_left(pipeline, scheduler, picture) for sampler, scheduler in samplers.items()}
    return kept, cases, nothing


def check_start(seen, kept, seeds):
    """The pipeline draws for the encoder first, then the noise."""
    noise = torch.cat([kept[f"draws/{seed}"][1] for seed in seeds])
    encoded = torch.cat([kept[f"encoded/{seed}"] for seed in seeds])
    assert torch.equal(seen["noise"], noise) and torch.equal(seen["encoded"], encoded)


def check_image(pipeline, picture, strength, seeds, image):
    """The pipeline's own image is the one decoded here from its latents, up to a rare half-way rounding."""
    whole = call(pipeline, picture, strength, seeds, output_type="np")
    whole = torch.from_numpy((whole * 255).round()).to(torch.int16)
    assert (whole - image).abs().max() <= 1


def rounding(double, scheduler, picture, strength, seeds, seen, image):
    def draw(shape, dtype=None, **named):
        return randn_tensor(shape, dtype=torch.float32, **named).to(dtype)

    double.scheduler = scheduler
    with ExitStack() as patches:
        for module in (vae, pipeline_stable_diffusion_img2img, scheduling_ddpm):
            patches.enter_context(patch.object(module, "randn_tensor", draw))
        exact = run_latents(double, picture, strength, seeds)
    assert exact["final"].dtype == torch.float64
    latents = (exact["after"] - seen["after"]).abs().max().item()
    pixels = record.decode_images(double.vae, exact["final"]).int() - image.int()
    return {"rounding": float(f"{latents:.2g}"), "rounding_image": pixels.abs().max().item()}


def nothing_left(pipeline, scheduler, picture):
    assert int(STEPS * TOO_SMALL) == 0
    pipeline.scheduler = scheduler
    try:
        return {"strength": TOO_SMALL, "calls": len(run_latents(pipeline, picture, TOO_SMALL, SEEDS[:1])["timesteps"])}
    except (IndexError, RuntimeError) as error:
        return {"strength": TOO_SMALL, "error": f"{type(error).__name__}: {error}"}


def main():
    torch.set_num_threads(1)
    record.quiet()
    for name in ("sd1", "sd2"):
        kept, cases, nothing = record_runs(NETWORKS / name)
        save_file({key: value.contiguous() for key, value in kept.items()}, HERE / f"{name}.safetensors")
        files.write_json(HERE / f"{name}.json", {"made_with": record.made_with(), "cases": cases, "nothing_left": nothing})


if __name__ == "__main__":
    main()
