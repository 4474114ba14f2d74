"""The experiments of the source article by Python's diffusers, on the tiny checkpoint data/golden/networks/sd1.

    python data/golden/article/make.py

writes beside this file image.png, a picture of the model's size, and expected.json and expected.safetensors with the final latents

    loop/as written, loop/own   f32 [1, 4, 8, 8]   the loop by hand, with PNDMScheduler() and with the checkpoint's scheduler
    guidance                    f32 [7, 4, 8, 8]   the guidance scales 1, 2, 4, 6, 8, 10, 20; below 1 diffusers does without guidance
    negative                    f32 [9, 4, 8, 8]   nine seeds with a negative prompt
    variations                  f32 [9, 4, 8, 8]   nine variations of image.png

`rounding` in the JSON is the largest difference of the same latents with attention summed in another order.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
SD1 = HERE.parent / "networks" / "sd1"
sys.path.insert(0, str(HERE.parent / "networks"))

import numpy
import torch
from diffusers import PNDMScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from safetensors.torch import save_file

import record

PROMPT = "a photograph of an astronaut riding a horse"
NEGATIVE = ("a lighthouse on a rocky coast at sunset, oil painting", "people, boats")
VARIATIONS = ("an ocean world like Earth seen from its orbit, concept art in the style of a space agency",
              "cartoon, sketch, moon")
SEED = 193


def main():
    torch.set_num_threads(1)
    record.quiet()
    write_image()
    fused, plain = everything(None), everything(AttnProcessor())
    rounding = {name: float((fused[name] - plain[name]).abs().max()) for name in fused}
    save_file(fused, HERE / "expected.safetensors")
    (HERE / "expected.json").write_text(
        json.dumps({"made_with": record.made_with(), "rounding": rounding}, indent=1) + "\n")
    for name, latents in fused.items():
        print(name, list(latents.shape), f"largest {latents.abs().max():.2f}, rounding {rounding[name]:.1e}")


def write_image():
    down, across = numpy.mgrid[0:64, 0:64] / 63
    colours = [0.5 + 0.5 * numpy.sin(3 * across + 5 * down), across * down, 1 - across]
    Image.fromarray((numpy.stack(colours, -1) * 255).round().astype("uint8")).save(HERE / "image.png")


def everything(processor):
    pipe = StableDiffusionPipeline.from_pretrained(SD1, local_files_only=True, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    if processor:
        pipe.unet.set_attn_processor(processor)
    own = PNDMScheduler.from_config(pipe.scheduler.config)
    kept = {"loop/as written": by_hand(pipe, PNDMScheduler()), "loop/own": by_hand(pipe, own)}
    steps = {"num_inference_steps": 50, "output_type": "latent"}
    kept["guidance"] = torch.cat([
        pipe(PROMPT, guidance_scale=scale, generator=seeded(SEED), **steps).images for scale in (1, 2, 4, 6, 8, 10, 20)])
    seeds = [SEED + index for index in range(9)]
    prompt, negative = NEGATIVE
    kept["negative"] = torch.cat([
        pipe(prompt, negative_prompt=negative, generator=seeded(seed), **steps).images for seed in seeds])
    vary = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    vary.set_progress_bar_config(disable=True)
    prompt, negative = VARIATIONS
    image = Image.open(HERE / "image.png")
    kept["variations"] = torch.cat([
        vary(prompt, negative_prompt=negative, image=image, strength=0.8, guidance_scale=6.0, generator=seeded(seed),
             **steps).images for seed in seeds])
    return {name: latents.contiguous() for name, latents in kept.items()}


def seeded(seed):
    return torch.Generator("cpu").manual_seed(seed)


@torch.no_grad()
def by_hand(pipe, scheduler):
    """The loop of the article."""
    def embedded(text):
        ids = pipe.tokenizer(text, padding="max_length", max_length=pipe.tokenizer.model_max_length, truncation=True,
                             return_tensors="pt").input_ids
        return pipe.text_encoder(ids)[0]

    embeddings = torch.cat([embedded(""), embedded(PROMPT)])
    scheduler.set_timesteps(64)
    latents = torch.randn([1, 4, 8, 8], generator=seeded(SEED)) * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        both = scheduler.scale_model_input(torch.cat([latents, latents]), time)
        without, with_prompt = pipe.unet(both, time, encoder_hidden_states=embeddings).sample.chunk(2)
        latents = scheduler.step(without + 9.0 * (with_prompt - without), time, latents).prev_sample
    return latents


if __name__ == "__main__":
    main()
