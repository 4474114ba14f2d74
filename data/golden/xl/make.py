"""Whole runs of diffusers' pipelines of SDXL on the tiny checkpoints data/golden/networks/sdxl, sdxl-turbo and sdxl-refiner.

    python data/golden/networks/make.py     first, if its checkpoints are not there
    python data/golden/pictures/make.py     and its picture sd2.png, which runs from a picture start from
    python data/golden/masks/make.py        and its mask
    python data/golden/xl/make.py

writes beside this file the mask mask.png (that of data/golden/masks, half as large) and, for NAME = sdxl, sdxl-turbo and
sdxl-refiner, NAME.json (versions and cases) and NAME.safetensors with

    draws/<seed>       f32 [k, 1, 4, h, w]   the first k torch.randn of that seed
    embeds/<number>    f32 [77, c]           different rows of the UNet's encoder_hidden_states
    pooled/<number>    f32 [p]               different rows of its text_embeds
    <case>/initial     f32 [n, 4, h, w]      what enters the sampler
    <case>/steps       f32 [s, n, 4, h, w]   the latents after each network call; the last are what output_type="latent" returns
    <case>/image       u8  [n, H, W, 3]      output_type="np", times 255, rounded half to even

Tensors that are the same in every bit are kept once, under the name of the first case that has them.

A case is [picture-|mask-]<sampler>-<steps>[-<strength>], with more words for what it is about. It starts from noise, from the
picture, or from the picture and the mask. In the JSON, a case has the arguments that its pipeline was called with; one that is
not there was not given. (`guidance` is guidance_scale, and sizes have the height first, as there.) Besides it has

    timesteps          that the pipeline went through, which are the end of its scheduler's
    draws              how many draws of its seed an image takes: from noise that noise, from a picture one for the encoder and
                       the noise (with a mask, one more for the masked picture); then, with Euler ancestral, one for each step
    time_ids           of each row, negative rows first where there are any, as the UNet got them
    embeds, pooled     names of what the rows got: of the negative rows, if there are any, and of the others

Three numbers say what tolerance makes sense. `rounding` is the largest difference of any latents, and `rounding_image` that of the
image, from the same run in f64 with the same draws. `amplification` is how many times larger a small random change of the
initial latents was at the end.

A case with a `fault` shows one of the pipeline, which nothing else should reproduce.
"""

import sys
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

HERE = Path(__file__).parent
GOLDEN = HERE.parent
NETWORKS = GOLDEN / "networks"
sys.path.insert(0, str(NETWORKS))

import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLInpaintPipeline, StableDiffusionXLPipeline
from diffusers.models.autoencoders import vae
from diffusers.pipelines.stable_diffusion_xl import (
    pipeline_stable_diffusion_xl,
    pipeline_stable_diffusion_xl_img2img,
    pipeline_stable_diffusion_xl_inpaint,
)
from diffusers.schedulers import scheduling_euler_ancestral_discrete, scheduling_euler_discrete
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from safetensors.torch import save_file

import checkpoint as files
import record

PROMPT = "a large red circle on the left, white background"
NEGATIVE = "blue square, bad drawing"
TEXT = {"prompt": PROMPT, "negative_prompt": NEGATIVE}
SECOND = "three yellow stars above a green line"
SECOND_NEGATIVE = "a small photo"
SEEDS = [193, 194]
LATENT = (8, 16)
NUDGE = 1e-3

PIPELINES = {
    "noise": StableDiffusionXLPipeline,
    "picture": StableDiffusionXLImg2ImgPipeline,
    "mask": StableDiffusionXLInpaintPipeline,
}
# Where the pipelines draw, each by its own name of randn_tensor.
DRAWING = [
    vae,
    pipeline_stable_diffusion_xl,
    pipeline_stable_diffusion_xl_img2img,
    pipeline_stable_diffusion_xl_inpaint,
    scheduling_euler_discrete,
    scheduling_euler_ancestral_discrete,
]

MIXED = "from noise, the rows of time_ids of several images are in another order than their texts"
UNSHIFTED = "with a mask, the picture is encoded without latents_mean and latents_std, with which it is decoded"


def case(name, steps, guidance=5.0, seeds=SEEDS[:1], start="noise", strength=None, fault=None, **given):
    return {"name": name, "start": start, "strength": strength, "fault": fault, "steps": steps, "guidance": guidance,
            "seeds": seeds, "given": given}


def base_cases():
    """12 steps times 0.6 are 7.2, cut to 7."""
    told = {"original_size": (96, 40), "crops_coords_top_left": (12, 20), "target_size": (48, 80)}
    negative = {"negative_original_size": (24, 16), "negative_target_size": (40, 72)}
    negative_crop = {"negative_crops_coords_top_left": (4, 6)}
    cases = [case("euler-20", 20, **TEXT)]
    variants = {
        "plain": TEXT,
        "no-negative": {"prompt": PROMPT},
        "empty-negative": {"prompt": PROMPT, "negative_prompt": ""},
        "prompt-2": {**TEXT, "prompt_2": SECOND},
        "empty-prompt-2": {**TEXT, "prompt_2": ""},
        "negative-2": {**TEXT, "negative_prompt_2": SECOND_NEGATIVE},
        "empty-negative-2": {**TEXT, "negative_prompt_2": ""},
        "negative-2-alone": {"prompt": PROMPT, "negative_prompt_2": SECOND_NEGATIVE},
        "negative-2-beside-empty": {"prompt": PROMPT, "negative_prompt": "", "negative_prompt_2": SECOND_NEGATIVE},
        "exclamation": {**TEXT, "prompt": "a large red circle! on the left!! white background"},
        "clip-skip-0": {**TEXT, "clip_skip": 0},
        "clip-skip-1": {**TEXT, "clip_skip": 1},
        "original-size": {**TEXT, "original_size": told["original_size"]},
        "crop": {**TEXT, "crops_coords_top_left": told["crops_coords_top_left"]},
        "target-size": {**TEXT, "target_size": told["target_size"]},
        "negative-sizes": {**TEXT, **told, **negative, **negative_crop},
        "negative-sizes-no-crop": {**TEXT, **told, **negative},
        "negative-original-size-alone": {**TEXT, **told, "negative_original_size": negative["negative_original_size"],
                                         **negative_crop},
        "negative-crop-alone": {**TEXT, **negative_crop},
    }
    cases += [case(f"euler-8-{word}", 8, **given) for word, given in variants.items()]
    cases += [
        case("euler-8-guidance-1", 8, guidance=1.0, **TEXT),
        case("euler-8-pair", 8, seeds=SEEDS, **TEXT),
        case("euler-8-pair-negative-sizes", 8, seeds=SEEDS, fault=MIXED, **TEXT, **negative),
        case("picture-euler-12-0.6", 12, start="picture", strength=0.6, **TEXT),
        case("picture-euler-12-0.6-sizes", 12, start="picture", strength=0.6, **TEXT, **told, **negative, **negative_crop),
        case("picture-euler-12-0.6-negative-original-size", 12, start="picture", strength=0.6, **TEXT, **told,
             negative_original_size=negative["negative_original_size"]),
        case("picture-euler-12-0.6-pair", 12, start="picture", strength=0.6, seeds=SEEDS, **TEXT, **negative),
        case("mask-euler-12-0.6-sizes", 12, start="mask", strength=0.6, **TEXT, **told, **negative, **negative_crop),
    ]
    return cases


def turbo_cases():
    alone = {"guidance": 0.0, "prompt": PROMPT}
    return [
        case("euler_a-1", 1, **alone),
        case("euler_a-4", 4, **alone),
        case("euler_a-4-negative", 4, **{**alone, **TEXT}),
        case("euler_a-4-guidance-1", 4, **{**alone, "guidance": 1.0}),
        case("euler_a-4-guidance-2", 4, guidance=2.0, **TEXT),
        case("euler_a-4-pair", 4, seeds=SEEDS, **alone),
        case("picture-euler_a-4-0.5", 4, start="picture", strength=0.5, **alone),
    ]


def refiner_cases():
    """12 steps times 0.3 are 3.6, cut to 3."""
    told = {"original_size": (96, 40), "crops_coords_top_left": (12, 20)}
    negative = {"negative_original_size": (24, 16), "negative_crops_coords_top_left": (4, 6)}
    from_picture = {"start": "picture", "strength": 0.3}
    variants = {
        "plain": TEXT,
        "no-negative": {"prompt": PROMPT},
        "prompt-2": {**TEXT, "prompt_2": SECOND, "negative_prompt_2": SECOND_NEGATIVE},
        "scores": {**TEXT, "aesthetic_score": 7.5, "negative_aesthetic_score": 1.25},
        "crop": {**TEXT, **told},
        "negative-crop": {**TEXT, **told, **negative},
        "target-size": {**TEXT, "target_size": (48, 80), "negative_target_size": (40, 72)},
        "clip-skip-2": {**TEXT, "clip_skip": 2},
    }
    return [
        *(case(f"picture-euler-12-0.3-{word}", 12, **from_picture, **given) for word, given in variants.items()),
        case("picture-euler-12-0.3-guidance-1", 12, guidance=1.0, **from_picture, **TEXT),
        case("mask-euler-12-0.6", 12, start="mask", strength=0.6, fault=UNSHIFTED, **TEXT),
    ]


CASES = {"sdxl": base_cases(), "sdxl-turbo": turbo_cases(), "sdxl-refiner": refiner_cases()}


def load_pipelines(folder, dtype=torch.float32):
    """One for each way to start, which the index gives its options. A refiner has none from noise."""
    starts = {run["start"] for run in CASES[folder.name]}
    pipelines = {}
    for start in sorted(starts):
        pipeline = PIPELINES[start].from_pretrained(folder, dtype=record.F32).to(dtype)
        pipeline.set_progress_bar_config(disable=True)
        if dtype == torch.float64:
            # It would encode in f32. In f32 itself it changes nothing.
            pipeline.vae.register_to_config(force_upcast=False)
        pipelines[start] = pipeline
    return pipelines


def run(pipeline, case, pictures, nudge=0.0):
    """One whole run: {initial, after, timesteps, draws of each seed, rows, image}. The sampler has a state, so the pipeline gets a
    fresh copy of it. All draws are made in f32, whatever the pipeline's format. `nudge` adds that much noise to the initial
    latents.
    """
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    generators = record.generators(case["seeds"])
    seen = {"timesteps": [], "after": [], "draws": [[] for _ in generators]}
    prepare = pipeline.prepare_latents

    def draw(shape, generator, dtype=None, **named):
        noise = randn_tensor(shape, generator, dtype=torch.float32, **named)
        for drawing, drawn in zip(generator if isinstance(generator, list) else [generator], noise.split(1), strict=True):
            seen["draws"][generators.index(drawing)].append(drawn)
        return noise.to(dtype)

    def prepare_latents(*arguments, **named):
        latents = prepare(*arguments, **named)
        others = ()
        if isinstance(latents, tuple):
            latents, *others = latents
        seen["initial"] = latents.clone()
        if nudge:
            latents = latents + nudge * record.randn(latents.shape, 51)
        return (latents, *others) if others else latents

    def before_unet(_unet, _arguments, named):
        rows = {"embeds": named["encoder_hidden_states"], "pooled": named["added_cond_kwargs"]["text_embeds"],
                "time_ids": named["added_cond_kwargs"]["time_ids"]}
        first = seen.setdefault("rows", rows)
        assert all(torch.equal(value, first[key]) for key, value in rows.items())

    def step_end(_pipeline, _step, timestep, values):
        seen["timesteps"].append(timestep.item())
        seen["after"].append(values["latents"].clone())
        return {}

    with ExitStack() as patches:
        for module in DRAWING:
            patches.enter_context(patch.object(module, "randn_tensor", draw))
        patches.enter_context(patch.object(pipeline, "prepare_latents", prepare_latents))
        patches.callback(pipeline.unet.register_forward_pre_hook(before_unet, with_kwargs=True).remove)
        images = pipeline(
            # With several images each has its own generator.
            generator=generators if len(generators) > 1 else generators[0],
            num_images_per_prompt=len(generators),
            output_type="np",
            callback_on_step_end=step_end,
            **arguments(pipeline, case, pictures),
        ).images
    seen["after"] = torch.stack(seen["after"])
    seen["image"] = torch.from_numpy((images * 255).round()).to(torch.uint8)
    return seen


def arguments(pipeline, case, pictures):
    start = case["start"]
    height, width = size(pipeline)
    return {
        **case["given"],
        **({} if start == "picture" else {"height": height, "width": width}),
        **({} if start == "noise" else {"image": pictures["picture"], "strength": case["strength"]}),
        **({"mask_image": pictures["mask"]} if start == "mask" else {}),
        "num_inference_steps": case["steps"],
        "guidance_scale": case["guidance"],
    }


def size(pipeline):
    return tuple(side * pipeline.vae_scale_factor for side in LATENT)


class Kept:
    """Tensors by name, each once."""

    def __init__(self):
        self.tensors = {}

    def keep(self, name, tensor, kind=None):
        """Returns the name of the tensor, which is another where the same is there already: of its last word, or of `kind`."""
        for other, found in self.tensors.items():
            is_of_kind = other.startswith(kind) if kind else other.endswith(name[name.rindex("/"):])
            if is_of_kind and torch.equal(found, tensor):
                return other
        self.tensors[name] = tensor.clone()
        return name

    def rows(self, kind, rows, images):
        """Keeps the different rows of a case under numbered names, and returns those of its rows. Of all images they are alike."""
        names = []
        for group in rows.split(images):
            assert all(torch.equal(row, group[0]) for row in group)
            number = sum(name.startswith(f"{kind}/") for name in self.tensors)
            names.append(self.keep(f"{kind}/{number}", group[0], f"{kind}/"))
        return names

    def draws(self, seeds, draws):
        """Keeps the draws of each seed, of which those of every run are the first."""
        for seed, found in zip(seeds, draws, strict=True):
            generator = torch.Generator("cpu").manual_seed(seed)
            drawn = torch.stack([torch.randn((1, 4, *LATENT), generator=generator) for _ in found])
            assert torch.equal(torch.stack(found), drawn)
            if len(found) > len(self.tensors.get(f"draws/{seed}", [])):
                self.tensors[f"draws/{seed}"] = drawn


def record_runs(folder, pictures):
    pipelines, doubles = load_pipelines(folder), load_pipelines(folder, torch.float64)
    kept, cases = Kept(), []
    for case in CASES[folder.name]:
        name, seeds = case["name"], case["seeds"]
        pipeline, double = pipelines[case["start"]], doubles[case["start"]]
        seen = run(pipeline, case, pictures)
        assert torch.isfinite(seen["after"]).all(), name
        kept.draws(seeds, seen["draws"])
        scheduler = record.scheduler_facts(pipeline.scheduler, case["steps"])
        assert seen["timesteps"] == scheduler["timesteps"][-len(seen["timesteps"]):], name
        rows = seen["rows"]
        height, width = size(pipeline)
        cases.append({
            "name": name,
            "pipeline": type(pipeline).__name__,
            **{key: case[key] for key in ("fault", "strength") if case[key] is not None},
            "start": case["start"],
            **case["given"],
            "guidance": case["guidance"],
            "seeds": seeds,
            "steps": case["steps"],
            "height": height,
            "width": width,
            "timesteps": seen["timesteps"],
            "draws": len(seen["draws"][0]),
            "time_ids": rows["time_ids"].tolist(),
            "embeds": kept.rows("embeds", rows["embeds"], len(seeds)),
            "pooled": kept.rows("pooled", rows["pooled"], len(seeds)),
            **rounding(double, pipeline.scheduler, case, pictures, seen),
            "amplification": amplification(pipeline, case, pictures, seen),
            "initial": kept.keep(f"{name}/initial", seen["initial"]),
            "after_each_step": kept.keep(f"{name}/steps", seen["after"]),
            "image": kept.keep(f"{name}/image", seen["image"]),
            "scheduler": scheduler,
        })
        print(f"{folder.name} {name}: {len(seen['timesteps'])} calls, {len(rows['time_ids'])} rows, {len(seen['draws'][0])} draws, "
              f"rounding {cases[-1]['rounding']} {cases[-1]['rounding_image']}, rms {seen['after'][-1].square().mean().sqrt():.2f}, "
              f"{(seen['image'] % 255 == 0).float().mean():.0%} of the image black or white, amplification {cases[-1]['amplification']}")
    return kept.tensors, cases


def rounding(double, scheduler, case, pictures, seen):
    double.scheduler = scheduler
    exact = run(double, case, pictures)
    assert exact["after"].dtype == exact["rows"]["embeds"].dtype == torch.float64
    latents = (exact["after"] - seen["after"]).abs().max().item()
    pixels = exact["image"].int() - seen["image"].int()
    return {"rounding": float(f"{latents:.2g}"), "rounding_image": pixels.abs().max().item()}


def amplification(pipeline, case, pictures, seen):
    moved = run(pipeline, case, pictures, NUDGE)
    return float(f"{(moved['after'][-1] - seen['after'][-1]).square().mean().sqrt().item() / NUDGE:.2g}")


def open_pictures():
    picture = Image.open(GOLDEN / "pictures/sd2.png").convert("RGB")
    mask = Image.open(GOLDEN / "masks/mask.png").convert("RGB").resize(picture.size, Image.Resampling.BOX)
    mask.save(HERE / "mask.png")
    return {"picture": picture, "mask": mask}


def main():
    torch.set_num_threads(1)
    record.quiet()
    pictures = open_pictures()
    for name in CASES:
        kept, cases = record_runs(NETWORKS / name, pictures)
        save_file({key: value.contiguous() for key, value in kept.items()}, HERE / f"{name}.safetensors")
        files.write_json(HERE / f"{name}.json", {"made_with": record.made_with(), "cases": cases})


if __name__ == "__main__":
    main()
