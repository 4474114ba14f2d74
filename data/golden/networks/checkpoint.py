"""Checkpoints with random weights in the diffusers layout: configurations, shapes, weights and on-disk names.

The weights are scaled so that activations stay near one, attention is far from uniform and every parameter changes
the output, as far as mathematics lets it (a bias of the keys never does). A group of a normalisation must hold two channels or
more, or the time embedding and the bias before it would cancel.
"""

import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig

UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
VAE_FILE = "vae/diffusion_pytorch_model.safetensors"
TEXT_FILE = "text_encoder/model.safetensors"

# What Stable Diffusion v1.4 ships, value for value. There is no timestep_spacing in it.
PNDM = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.7.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}

MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.2.2",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}

# The schedulers of SDXL and its refiner, and of SDXL-Turbo, with the keys that their files have besides those read.
EULER = {
    "_class_name": "EulerDiscreteScheduler",
    "_diffusers_version": "0.19.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}
EULER_ANCESTRAL = {**EULER, "_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"}


def xl_index(scheduler, texts, **more):
    """The model_index.json of a pipeline of SDXL whose text encoders are `texts`; the others' entries are null."""
    classes = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}
    nothing = [None, None]
    return {
        "_class_name": "StableDiffusionXLPipeline",
        "_diffusers_version": "0.19.0.dev0",
        "add_watermarker": None,
        "feature_extractor": nothing,
        "force_zeros_for_empty_prompt": True,
        "image_encoder": nothing,
        "scheduler": ["diffusers", scheduler["_class_name"]],
        **{part: ["transformers", name] if part in texts else nothing for part, name in classes.items()},
        **{tokenizer_of(part): ["transformers", "CLIPTokenizer"] if part in texts else nothing for part in classes},
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        **more,
    }


def tokenizer_of(part):
    """The folder of a text encoder's tokenizer."""
    return part.replace("text_encoder", "tokenizer")


def unet_config(channels, groups, layers, context, heads, sample_size, attends=None, **more):
    """`attends` says of each down block whether it attends to the text, which all but the last do unless it is given."""
    attends = attends or [True] * (len(channels) - 1) + [False]
    return {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": "0.12.0.dev0",
        "act_fn": "silu",
        "attention_head_dim": heads,
        "block_out_channels": channels,
        "center_input_sample": False,
        "cross_attention_dim": context,
        "down_block_types": ["CrossAttnDownBlock2D" if attending else "DownBlock2D" for attending in attends],
        "downsample_padding": 1,
        "dual_cross_attention": False,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": layers,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": groups,
        "num_class_embeds": None,
        "only_cross_attention": False,
        "out_channels": 4,
        "sample_size": sample_size,
        "up_block_types": ["CrossAttnUpBlock2D" if attending else "UpBlock2D" for attending in reversed(attends)],
        **more,
    }


def xl_unet_config(*shape, depths, pooled, numbers, wave, **more):
    """A U-Net that adds to its time embedding what a small network makes of a pooled text of `pooled` features and of
    `wave` sines and cosines of each of `numbers` numbers. `shape` is what unet_config takes. Published files have the nulls.
    """
    return unet_config(
        *shape,
        addition_embed_type="text_time",
        addition_embed_type_num_heads=64,
        addition_time_embed_dim=wave,
        projection_class_embeddings_input_dim=pooled + numbers * wave,
        transformer_layers_per_block=depths,
        use_linear_projection=True,
        class_embed_type=None,
        class_embeddings_concat=False,
        conv_in_kernel=3,
        conv_out_kernel=3,
        cross_attention_norm=None,
        encoder_hid_dim=None,
        encoder_hid_dim_type=None,
        mid_block_only_cross_attention=None,
        mid_block_type="UNetMidBlock2DCrossAttn",
        num_attention_heads=None,
        resnet_out_scale_factor=1.0,
        resnet_skip_time_act=False,
        resnet_time_scale_shift="default",
        time_cond_proj_dim=None,
        time_embedding_act_fn=None,
        time_embedding_dim=None,
        time_embedding_type="positional",
        timestep_post_act=None,
        **more,
    )


def vae_config(channels, groups, layers, sample_size, **more):
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": "0.2.2",
        "act_fn": "silu",
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": layers,
        "norm_num_groups": groups,
        "out_channels": 3,
        "sample_size": sample_size,
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        **more,
    }


def text_config(vocabulary, hidden, intermediate, layers, heads, activation, **more):
    """The bos, eos and pad ids are the placeholders found in the published files; the tokenizer has the real ones."""
    return {
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "dropout": 0.0,
        "eos_token_id": 2,
        "hidden_act": activation,
        "hidden_size": hidden,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": intermediate,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pad_token_id": 1,
        "torch_dtype": "float32",
        "transformers_version": "4.21.0.dev0",
        "vocab_size": vocabulary,
        **more,
    }


def unet_shapes(config):
    with torch.device("meta"):
        return shapes(UNet2DConditionModel.from_config(config))


def vae_shapes(config):
    with torch.device("meta"):
        return shapes(AutoencoderKL.from_config(config))


def text_shapes(config):
    """Published files have every name but that of a projection under `text_model.`; transformers 5 reads that, and no
    longer writes it for a CLIPTextModel.
    """
    with torch.device("meta"):
        found = shapes(getattr(transformers, config["architectures"][0])(CLIPTextConfig(**config)))
    named = ("text_model.", "text_projection.")
    return {name if name.startswith(named) else "text_model." + name: shape for name, shape in found.items()}


def shapes(model):
    return {name: tuple(value.shape) for name, value in sorted(model.state_dict().items())}


def parameter_count(found):
    return sum(torch.Size(shape).numel() for shape in found.values())


def random_weights(found, seed, output=0.03, added=1.0):
    """A random tensor for each name, drawn in the order of the names.

    `output` scales the last convolution of a U-Net, which is named conv_out. It is small because a random network is no
    denoiser: under guidance a whole run would be chaotic otherwise and show nothing but how rounding errors grow. `added`
    scales what the layers of a U-Net's transformer blocks add to their input, for the same reason: through thirty blocks
    in a row, rounding errors grow to a thousandth.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    weights = {}
    for name, shape in sorted(found.items()):
        noise = torch.randn(shape, generator=generator)
        if name.endswith(".bias"):
            weights[name] = noise.mul_(0.1)
        elif len(shape) == 1:
            weights[name] = noise.mul_(0.1).add_(1.0)
        elif "_embedding.weight" in name:
            weights[name] = noise.mul_(0.7)
        else:
            fan_in = noise[0].numel()
            weights[name] = noise.mul_(gain(name) / fan_in**0.5)
        if name.startswith("conv_out."):
            weights[name].mul_(output)
        if ".transformer_blocks." in name and (".to_out.0." in name or ".ff.net.2." in name):
            weights[name].mul_(added)
    return weights


def gain(name):
    """Queries and keys are enlarged, so that a softmax over their products has peaks; what reads the output of an
    activation function is enlarged to make up for what that took away.
    """
    layer = name.split(".")[-2]
    if layer in ("to_q", "to_k", "q_proj", "k_proj"):
        return 1.8
    after_activation = ("conv1", "conv2", "conv_out", "linear_2", "time_emb_proj", "fc2")
    return 1.5 if layer in after_activation else 1.0


def old_vae_names(weights):
    """The attention names that VAE files from 2022 use."""
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    renamed = {}
    for name, value in weights.items():
        for new_part, old_part in old.items():
            name = name.replace(new_part, old_part)
        renamed[name] = value
    return renamed


def write_json(path, value):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_weights(path, weights, dtype=torch.float32):
    """Integer buffers keep their type."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}
    partial = path.with_suffix(".partial")
    save_file(stored, partial, metadata={"format": "pt"})
    partial.rename(path)
