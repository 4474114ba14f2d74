"""Runs the networks of a checkpoint folder and pipelines over it, and collects inputs and outputs under fixed names.

Each `record_*` function adds tensors to a dictionary and returns the list of its cases for `expected.json`, where each case
names its tensors. Everything is loaded from the files by diffusers and transformers, in f32.
"""

import inspect
import json
import os
import platform

os.environ["HF_HUB_OFFLINE"] = "1"

import diffusers
import numpy
import torch
import transformers
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTokenizer

import checkpoint as files

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


def load_text(folder, part):
    """A text encoder, of the class that its configuration names."""
    config = json.loads((folder / part / "config.json").read_text())
    return getattr(transformers, config["architectures"][0]).from_pretrained(folder / part, dtype=F32).eval()


def token_ids(folder, part, prompts):
    tokenizer = CLIPTokenizer.from_pretrained(folder / files.tokenizer_of(part))
    return tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


def text_outputs(model, case, kept):
    """Runs a text encoder on a case's ids: {name that the case gives an output: tensor}. A pipeline of SDXL takes the last
    hidden state but one as the features.
    """
    with torch.no_grad():
        output = model(kept[case["ids"]], output_hidden_states=True)
    outputs = {
        "last_hidden_state": output.last_hidden_state,
        "features": output.hidden_states[-2],
        "text_embeds": getattr(output, "text_embeds", None),
    }
    return {case[key]: value for key, value in outputs.items() if key in case}


def watched_text(model, part, case, taps, kept):
    """Keeps a text encoder's outputs on a case's ids, and the taps; returns the case with their names.

    A tap has the name that the module has in the published files, where all but text_projection are under `text_model.`.
    """
    found = {}
    prefix = "" if hasattr(model, "text_model") else "text_model."
    hooks = watch(model, [tap.removeprefix(prefix) for tap in taps], found, f"{part}/taps/{prefix}")
    outputs = text_outputs(model, case, kept)
    remove(hooks)
    found.update({name: value for name, value in outputs.items() if name.startswith(f"{part}/taps/")})
    kept.update({**outputs, **found})
    return {**case, "taps": sorted(found)}


def record_text(folder, prompts, taps, kept):
    """text_encoder/ids, text_encoder/last_hidden_state, text_encoder/taps/<module>."""
    kept["text_encoder/ids"] = token_ids(folder, "text_encoder", prompts)
    case = {"prompts": prompts, "ids": "text_encoder/ids", "last_hidden_state": "text_encoder/last_hidden_state"}
    return [watched_text(load_text(folder, "text_encoder"), "text_encoder", case, taps, kept)]


def record_xl_text(folder, part, prompts, kept):
    """<part>/ids, <part>/last_hidden_state, <part>/taps/<module> and, of an encoder with a projection, <part>/text_embeds.

    The taps are every hidden state up to the features (none went through the final norm) and the projection. The features'
    tap is named text_model.encoder, for what a pipeline takes of it; to the module, its output is the layer after.

    An encoder with a projection has a second case: ids without an end, <part>/endless/ids, and their
    <part>/endless/text_embeds. The two ways of finding an end differ there: one takes the place of the largest id, the
    other that of eos_token_id, which is 0 where there is none.
    """
    model = load_text(folder, part)
    projects = hasattr(model, "text_projection")
    kept[f"{part}/ids"] = token_ids(folder, part, prompts)
    case = {
        "prompts": prompts,
        "ids": f"{part}/ids",
        "last_hidden_state": f"{part}/last_hidden_state",
        "features": f"{part}/taps/text_model.encoder",
        **({"text_embeds": f"{part}/text_embeds"} if projects else {}),
    }
    before = [f"text_model.encoder.layers.{layer}" for layer in range(model.config.num_hidden_layers - 2)]
    taps = ["text_model.embeddings", *before, *(["text_projection"] if projects else [])]
    cases = [watched_text(model, part, case, taps, kept)]
    if projects:
        ids = torch.randint(model.config.vocab_size - 2, (1, 77), generator=torch.Generator("cpu").manual_seed(13))
        kept[f"{part}/endless/ids"] = ids
        case = {"prompts": [], "ids": f"{part}/endless/ids", "text_embeds": f"{part}/endless/text_embeds"}
        cases.append(watched_text(model, part, case, [], kept))
    return cases


def record_unet(folder, sizes, timesteps, tap_case, taps, attentions, kept, added=None):
    """unet/encoder_hidden_states, unet/<size>/sample, unet/<size>-t<timestep>/output, and for one case
    unet/taps/<module> and unet/taps/<attention>.probs of shape [batch, heads, query, key].

    `added` is what diffusers calls added_cond_kwargs, for a network that takes it: text_embeds and time_ids. They are kept
    as unet/text_embeds and unet/time_ids, with the taps of `watch_added`.
    """
    model = UNet2DConditionModel.from_pretrained(folder / "unet", dtype=F32).eval()
    batch = 2
    shared = {"encoder_hidden_states": randn((batch, 77, model.config.cross_attention_dim), 11), **(added or {})}
    kept.update({f"unet/{name}": value for name, value in shared.items()})
    cases = []
    for number, (size, (height, width)) in enumerate(sizes.items()):
        kept[f"unet/{size}/sample"] = randn((batch, 4, height, width), 21 + number)
        for timestep in timesteps[size]:
            name = f"{size}-t{timestep}"
            case = {
                "name": name,
                "timestep": timestep,
                "sample": f"unet/{size}/sample",
                **{input_name: f"unet/{input_name}" for input_name in shared},
                "output": f"unet/{name}/output",
            }
            found = {}
            hooks = []
            if name == tap_case:
                hooks = watch(model, taps, found, "unet/taps/")
                hooks += watch_added(model, added, found) if added else []
            output = unet_output(model, case, kept)
            remove(hooks)
            if name == tap_case:
                found.update(attention_probabilities(model, attentions, case, kept, output))
            kept.update(found)
            kept[case["output"]] = output
            cases.append({**case, "taps": sorted(found)})
    return cases


def watch_added(model, added, found):
    """Keeps what enters the network of the added embedding: the numbers, and the pooled text and the sines and cosines
    that stand side by side; returns the hooks. No module returns these, so their names are ours.
    """
    def ids(_module, inputs):
        found["unet/taps/time_ids"] = inputs[0].reshape(added["time_ids"].shape).clone()

    def text_and_waves(_module, inputs):
        text, waves = inputs[0].tensor_split([added["text_embeds"].shape[1]], dim=1)
        found.update({"unet/taps/add_embedding.text": text.clone(), "unet/taps/add_embedding.waves": waves.clone()})

    return [model.add_time_proj.register_forward_pre_hook(ids),
            model.add_embedding.register_forward_pre_hook(text_and_waves)]


def unet_output(model, case, kept):
    """Runs a U-Net on the inputs that a case names, in the U-Net's number format."""
    def given(key):
        return kept[case[key]].to(model.dtype)

    added = {}
    if "time_ids" in case:
        added["added_cond_kwargs"] = {"text_embeds": given("text_embeds"), "time_ids": given("time_ids")}
    with torch.no_grad():
        return model(given("sample"), torch.tensor(case["timestep"]), given("encoder_hidden_states"), **added).sample


def attention_probabilities(model, names, case, kept, expected):
    """Runs once more with the plain attention of diffusers, which forms the probabilities."""
    if not names:
        return {}
    found = {}
    modules = dict(model.named_modules())
    fused = model.attn_processors
    model.set_attn_processor(AttnProcessor())
    for name in names:
        keep_scores(modules[name], f"unet/taps/{name}.probs", expected.shape[0], found)
    output = unet_output(model, case, kept)
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

    In f32 a network this small rounds up to 6e-5 of its largest number away from them, which hides small faults. Where there
    are features, last_hidden_state is left out, since no pipeline takes it.
    """
    texts = {part: load_text(folder, part).double() for part in cases if part.startswith("text_encoder")}
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", dtype=F32).eval().double()
    vae = AutoencoderKL.from_pretrained(folder / "vae", dtype=F32).eval().double()
    found = {}
    with torch.no_grad():
        for part, text in texts.items():
            for case in cases[part]:
                outputs = text_outputs(text, case, kept)
                if "features" in case:
                    del outputs[case["last_hidden_state"]]
                found.update(outputs)
        for case in cases["unet"]:
            found[case["output"]] = unet_output(unet, case, kept)
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
