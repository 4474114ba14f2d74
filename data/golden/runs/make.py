"""Whole text-to-image runs of diffusers' StableDiffusionPipeline on the two tiny checkpoints of data/golden/networks.

    python data/golden/networks/make.py     first, if its checkpoints are not there
    python data/golden/runs/make.py

writes beside this file, for NAME = sd1 and sd2, NAME.json (versions and cases) and NAME.safetensors with

    noise/<seed>       f32 [1, 4, h, w]      torch.randn of that seed, before init_noise_sigma
    <case>/initial     f32 [n, 4, h, w]      what enters the sampler: the draw times init_noise_sigma
    <case>/steps       f32 [s, n, 4, h, w]   the latents after each network call, only where the case's `steps` names it
    <case>/final       f32 [n, 4, h, w]      what output_type="latent" returns (not divided by scaling_factor)
    <case>/image       u8  [n, H, W, 3]      output_type="np", times 255, rounded half to even

A case is <sampler>-<steps>, with more words where it differs in more. The samplers are PNDM as the checkpoint ships it, and
LMSDiscreteScheduler, DDPMScheduler and DDIMScheduler.from_config of it. No timestep_spacing stands in that file, so each class falls
back to its own default: PNDM, DDPM and DDIM to leading, LMS to linspace. `scheduler.config` in the JSON is what was really used.

In the JSON of a case, two numbers say what tolerance makes sense. `rounding` is the largest difference of the final latents, and
`rounding_image` that of the image, when the same run is done with attention summed in another order (diffusers' plain AttnProcessor
in place of the fused one). `amplification` is how many times larger a small random change of the initial latents was at the end.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
NETWORKS = HERE.parent / "networks"
sys.path.insert(0, str(NETWORKS))

import torch
from diffusers import DDIMScheduler, DDPMScheduler, LMSDiscreteScheduler
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import save_file

import checkpoint as files
import record

PROMPT = "a large red circle on the left, white background"
NEGATIVE = "blue square, bad drawing"
LATENT = 8

# name, sampler, steps, guidance, seeds, negative prompt, whether to keep the latents after each step
CASES = [
    ("pndm-20", "pndm", 20, 7.5, [193], NEGATIVE, True),
    ("pndm-50", "pndm", 50, 7.5, [193], NEGATIVE, False),
    ("lms-20", "lms", 20, 7.5, [193], NEGATIVE, True),
    ("lms-50", "lms", 50, 7.5, [193], NEGATIVE, False),
    ("ddpm-20", "ddpm", 20, 7.5, [193], NEGATIVE, True),
    ("ddpm-50", "ddpm", 50, 7.5, [193], NEGATIVE, False),
    ("ddim-20", "ddim", 20, 7.5, [193], NEGATIVE, False),
    ("pndm-20-pair", "pndm", 20, 7.5, [193, 194], NEGATIVE, False),
    ("ddpm-20-pair", "ddpm", 20, 7.5, [193, 194], NEGATIVE, False),
    ("pndm-20-empty-negative", "pndm", 20, 7.5, [193], None, False),
    ("pndm-20-guidance-1", "pndm", 20, 1.0, [193], NEGATIVE, False),
]


def schedulers(shipped):
    return {
        "pndm": shipped,
        "lms": LMSDiscreteScheduler.from_config(shipped.config),
        "ddpm": DDPMScheduler.from_config(shipped.config),
        "ddim": DDIMScheduler.from_config(shipped.config),
    }


def record_runs(folder):
    pipeline = record.load_pipeline(folder)
    samplers = schedulers(pipeline.scheduler)
    side = LATENT * pipeline.vae_scale_factor
    kept = {f"noise/{seed}": record.randn((1, 4, LATENT, LATENT), seed) for seed in (193, 194)}
    cases = []
    for name, sampler, steps, guidance, seeds, negative, every_step in CASES:
        pipeline.scheduler = samplers[sampler]
        text = {"prompt": PROMPT, "negative_prompt": negative}
        initial, after, final = record.run_latents(pipeline, steps, guidance, seeds, text, (side, side))
        assert torch.equal(after[-1], final) and torch.isfinite(after).all(), name
        image = record.decode_images(pipeline.vae, final)
        check_image(pipeline, image, steps, guidance, seeds, text, side)
        kept.update({f"{name}/initial": initial, f"{name}/final": final, f"{name}/image": image})
        if every_step:
            kept[f"{name}/steps"] = after
        cases.append({
            "name": name,
            **text,
            "guidance": guidance,
            "seeds": seeds,
            "steps": steps,
            "height": side,
            "width": side,
            **rounding(pipeline, steps, guidance, seeds, text, side, final, image),
            "amplification": amplification(pipeline, steps, guidance, seeds, text, side, final),
            "initial": f"{name}/initial",
            "after_each_step": f"{name}/steps" if every_step else None,
            "final": f"{name}/final",
            "image": f"{name}/image",
            "scheduler": record.scheduler_facts(pipeline.scheduler, steps),
        })
        print(f"{folder.name} {name}: rounding {cases[-1]['rounding']} {cases[-1]['rounding_image']}, rms {final.square().mean().sqrt():.2f}, "
              f"{(image % 255 == 0).float().mean():.0%} of the image black or white, "
              f"amplification {cases[-1]['amplification']}")
    return kept, cases


def check_image(pipeline, image, steps, guidance, seeds, text, side):
    """The pipeline's own image is the one decoded here from its latents, up to a rare half-way rounding."""
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    whole = pipeline(num_inference_steps=steps, guidance_scale=guidance, num_images_per_prompt=len(seeds),
                     generator=record.generators(seeds), output_type="np", height=side, width=side, **text).images
    whole = torch.from_numpy((whole * 255).round()).to(torch.int16)
    assert (whole - image).abs().max() <= 1


def rounding(pipeline, steps, guidance, seeds, text, side, final, image):
    fused = pipeline.unet.attn_processors
    pipeline.unet.set_attn_processor(AttnProcessor())
    _, _, other = record.run_latents(pipeline, steps, guidance, seeds, text, (side, side))
    pipeline.unet.set_attn_processor(fused)
    pixels = record.decode_images(pipeline.vae, other).int() - image.int()
    return {"rounding": float(f"{(other - final).abs().max().item():.2g}"), "rounding_image": pixels.abs().max().item()}


def amplification(pipeline, steps, guidance, seeds, text, side, final):
    nudge = 1e-3
    _, _, moved = record.run_latents(pipeline, steps, guidance, seeds, text, (side, side), nudge)
    return float(f"{(moved - final).square().mean().sqrt().item() / nudge:.2g}")


def main():
    torch.set_num_threads(1)
    record.quiet()
    for name in ("sd1", "sd2"):
        kept, cases = record_runs(NETWORKS / name)
        save_file({key: value.contiguous() for key, value in kept.items()}, HERE / f"{name}.safetensors")
        files.write_json(HERE / f"{name}.json", {"made_with": record.made_with(), "cases": cases})


if __name__ == "__main__":
    main()
