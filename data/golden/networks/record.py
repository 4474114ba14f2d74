"""Runs the networks of a checkpoint folder and pipelines over it, and collects inputs and outputs under fixed names.

Each `record_*` function adds tensors to a dictionary and returns the list of its cases for `expected.json`, where each case
names its tensors. Everything is loaded from the files by diffusers and transformers, in f32.
"""

import inspect
import os
import platform

os.environ["HF_HUB_OFFLINE"] = "1"

import diffusers
import numpy
import torch
import transformers
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel, CLIPTokenizer

F32 = torch.float32


def made_with():
    return {
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }


def quiet():
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def randn(shape, seed):
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))


def first(output):
    """The tensor of a module's output, which may be a tuple, a data class or the tensor itself."""
    if torch.is_tensor(output):
        return output
    return output[0]


def watch(model, names, kept, prefix):
    """Keeps the outputs of the modules named; returns the hooks. Each must run exactly once until they are removed."""
    modules = dict(model.named_modules())

    def hook_for(name):
        def hook(_module, _inputs, output):
            assert prefix + name not in kept, f"{name} ran twice"
            kept[prefix + name] = first(output).detach().clone()
        return hook

    return [modules[name].register_forward_hook(hook_for(name)) for name in names]


def remove(hooks):
    for hook in hooks:
        hook.remove()


def record_text(folder, prompts, taps, kept):
    """text_encoder/ids, text_encoder/last_hidden_state, text_encoder/taps/<module>.

    A tap has the name that the module has in the published files, under `text_model.`.
    """
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    model = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=F32).eval()
    ids = tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    found = {}
    prefix = "" if hasattr(model, "text_model") else "text_model."
    hooks = watch(model, [tap.removeprefix(prefix) for tap in taps], found, "text_encoder/taps/" + prefix)
    with torch.no_grad():
        output = model(ids).last_hidden_state
    remove(hooks)
    kept.update(found)
    kept["text_encoder/ids"] = ids
    kept["text_encoder/last_hidden_state"] = output
    return [{
        "prompts": prompts,
        "ids": "text_encoder/ids",
        "last_hidden_state": "text_encoder/last_hidden_state",
        "taps": sorted(found),
    }]


def record_unet(folder, sizes, timesteps, tap_case, taps, attentions, kept):
    """unet/encoder_hidden_states, unet/<size>/sample, unet/<size>-t<timestep>/output, and for one case
    unet/taps/<module> and unet/taps/<attention>.probs of shape [batch, heads, query, key].
    """
    model = UNet2DConditionModel.from_pretrained(folder / "unet", dtype=F32).eval()
    batch = 2
    context = randn((batch, 77, model.config.cross_attention_dim), 11)
    kept["unet/encoder_hidden_states"] = context
    cases = []
    for number, (size, (height, width)) in enumerate(sizes.items()):
        sample = randn((batch, 4, height, width), 21 + number)
        kept[f"unet/{size}/sample"] = sample
        for timestep in timesteps[size]:
            name = f"{size}-t{timestep}"
            found = {}
            hooks = watch(model, taps if name == tap_case else [], found, "unet/taps/")
            with torch.no_grad():
                output = model(sample, torch.tensor(timestep), encoder_hidden_states=context).sample
            remove(hooks)
            if name == tap_case:
                found.update(attention_probabilities(model, attentions, sample, timestep, context, output))
            kept.update(found)
            kept[f"unet/{name}/output"] = output
            cases.append({
                "name": name,
                "timestep": timestep,
                "sample": f"unet/{size}/sample",
                "encoder_hidden_states": "unet/encoder_hidden_states",
                "output": f"unet/{name}/output",
                "taps": sorted(found),
            })
    return cases


def attention_probabilities(model, names, sample, timestep, context, expected):
    """Runs once more with the plain attention of diffusers, which forms the probabilities."""
    if not names:
        return {}
    found = {}
    modules = dict(model.named_modules())
    fused = model.attn_processors
    model.set_attn_processor(AttnProcessor())
    for name in names:
        keep_scores(modules[name], f"unet/taps/{name}.probs", sample.shape[0], found)
    with torch.no_grad():
        output = model(sample, torch.tensor(timestep), encoder_hidden_states=context).sample
    for name in names:
        del modules[name].get_attention_scores
    model.set_attn_processor(fused)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)
    return found


def keep_scores(attention, key, batch, found):
    original = attention.get_attention_scores

    def get_attention_scores(*arguments):
        scores = original(*arguments)
        found[key] = scores.unflatten(0, (batch, attention.heads)).clone()
        return scores

    attention.get_attention_scores = get_attention_scores


def record_vae(folder, images, latents, taps, kept):
    """vae/encode-<size>/{image,mean,logvar}, vae/decode-<size>/{latent,image}, vae/taps/<module>.

    A decoder's latent here is what enters the VAE, so already divided by scaling_factor. The taps belong to the
    first case of each direction.
    """
    model = AutoencoderKL.from_pretrained(folder / "vae", dtype=F32).eval()
    cases = []
    for number, (size, shape) in enumerate(images.items()):
        name = f"vae/encode-{size}"
        image = randn(shape, 31 + number).mul(0.5).clamp(-1, 1)
        found = {}
        hooks = watch(model, [tap for tap in taps if tap.startswith("encoder.")] if number == 0 else [], found, "vae/taps/")
        with torch.no_grad():
            posterior = model.encode(image).latent_dist
        remove(hooks)
        kept.update(found)
        kept.update({f"{name}/image": image, f"{name}/mean": posterior.mean, f"{name}/logvar": posterior.logvar})
        cases.append({"name": f"encode-{size}", "image": f"{name}/image", "mean": f"{name}/mean",
                      "logvar": f"{name}/logvar", "taps": sorted(found)})
    for number, (size, shape) in enumerate(latents.items()):
        name = f"vae/decode-{size}"
        latent = randn(shape, 41 + number)
        found = {}
        hooks = watch(model, [tap for tap in taps if tap.startswith("decoder.")] if number == 0 else [], found, "vae/taps/")
        with torch.no_grad():
            image = model.decode(latent).sample
        remove(hooks)
        kept.update(found)
        kept.update({f"{name}/latent": latent, f"{name}/image": image})
        cases.append({"name": f"decode-{size}", "latent": f"{name}/latent", "image": f"{name}/image",
                      "taps": sorted(found)})
    return cases


def record_double(folder, cases, kept):
    """The outputs of every case once more, by the same networks in f64 on the same inputs: {name of the output: tensor}.

    In f32 a network this small rounds up to 6e-5 of its largest number away from them, which hides small faults.
    """
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=F32).eval().double()
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", dtype=F32).eval().double()
    vae = AutoencoderKL.from_pretrained(folder / "vae", dtype=F32).eval().double()
    found = {}
    with torch.no_grad():
        for case in cases["text_encoder"]:
            found[case["last_hidden_state"]] = text(kept[case["ids"]]).last_hidden_state
        for case in cases["unet"]:
            sample, context = kept[case["sample"]].double(), kept[case["encoder_hidden_states"]].double()
            output = unet(sample, torch.tensor(case["timestep"]), encoder_hidden_states=context).sample
            found[case["output"]] = output
        for case in cases["vae"]:
            if "latent" in case:
                found[case["image"]] = vae.decode(kept[case["latent"]].double()).sample
            else:
                posterior = vae.encode(kept[case["image"]].double()).latent_dist
                found.update({case["mean"]: posterior.mean, case["logvar"]: posterior.logvar})
    return found


def load_pipeline(folder, **without):
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, dtype=F32, safety_checker=None, requires_safety_checker=False, **without)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generators(seeds):
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def run_latents(pipeline, steps, guidance, seeds, text, size=None, nudge=0.0):
    """One whole run up to the last latents: (initial, after each step, final).

    `initial` is what enters the sampler: the draw times init_noise_sigma. The sampler has a state, so
    the pipeline gets a fresh copy of it. `nudge` adds that much noise to the initial latents.
    """
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
    seen = {}
    after = []
    prepare = pipeline.prepare_latents

    def prepare_latents(*arguments, **named):
        latents = prepare(*arguments, **named)
        seen["initial"] = latents.clone()
        return latents + nudge * randn(latents.shape, 51) if nudge else latents

    def step_end(_pipeline, _step, _timestep, values):
        after.append(values["latents"].clone())
        return {}

    pipeline.prepare_latents = prepare_latents
    try:
        final = pipeline(
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generators(seeds) if len(seeds) > 1 else generators(seeds)[0],
            num_images_per_prompt=len(seeds),
            output_type="latent",
            callback_on_step_end=step_end,
            **({} if size is None else {"height": size[0], "width": size[1]}),
            **text,
        ).images
    finally:
        del pipeline.prepare_latents
    return seen["initial"], torch.stack(after), final


def decode_images(vae, latents):
    """What the pipeline does after the last step: uint8 [images, height, width, 3], rounded half to even."""
    images = []
    with torch.no_grad():
        for latent in latents.split(1):
            image = vae.decode(latent / vae.config.scaling_factor).sample
            images.append((image * 0.5 + 0.5).clamp(0, 1))
    pixels = torch.cat(images).permute(0, 2, 3, 1).numpy()
    return torch.from_numpy((pixels * 255).round().astype(numpy.uint8))


def scheduler_facts(scheduler, steps):
    """What the sampler really used, whichever of it came from a file."""
    fresh = type(scheduler).from_config(scheduler.config)
    fresh.set_timesteps(steps)
    names = [name for name in inspect.signature(type(fresh).__init__).parameters if name != "self"]
    return {
        "class": type(fresh).__name__,
        "config": {name: fresh.config[name] for name in names},
        "init_noise_sigma": float(fresh.init_noise_sigma),
        "timesteps": fresh.timesteps.tolist(),
    }
