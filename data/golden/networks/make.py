"""Two tiny checkpoints with random weights, and what diffusers computes with them.

    python data/golden/networks/make.py

writes beside this file, for NAME = sd1 and sd2,

    NAME/                       a checkpoint folder in the diffusers layout (model_index.json, scheduler/, tokenizer/,
                                text_encoder/, unet/, vae/), which StableDiffusionPipeline.from_pretrained opens
    NAME/expected.json          versions, and the cases: each names its tensors in expected.safetensors
    NAME/expected.safetensors   inputs and outputs of the text encoder, the U-Net and the VAE, and some activations inside
    NAME/double.safetensors     the outputs among these once more, under the same names, computed in f64

`sd1` has the shape of Stable Diffusion v1: four levels, two layers each, one number of heads (under the misleading name
attention_head_dim), 1x1 convolutions around the transformers, quick_gelu, VAE attention under its names of 2022 and a stray
position_ids buffer. `sd2` has the shape of version 2: a number of heads for each level, linear projections, upcast_attention,
gelu, padding with "!", v-prediction, and weights stored in f16. It has three levels, so a latent is a quarter of its image
on each side. The outputs are computed in f32 from the stored values.

Tensor names are described in record.py. The same bytes come out each time on one machine.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from safetensors.torch import save_file

import checkpoint as files
import record
import tokens

HERE = Path(__file__).parent

PROMPTS = ["a large red circle on the left, it isn't above 3 yellow stars", ""]

UNET_TAPS = [
    "time_proj",
    "time_embedding",
    "conv_in",
    "down_blocks.0.resnets.0",
    "down_blocks.0.attentions.0",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2",
    "down_blocks.0.attentions.0.transformer_blocks.0.ff",
    "down_blocks.0.downsamplers.0",
    "down_blocks.1.attentions.0",
    "mid_block.attentions.0",
    "mid_block",
    "up_blocks.0.resnets.0",
    "up_blocks.0.upsamplers.0",
    "up_blocks.1.attentions.0",
    "conv_norm_out",
]
UNET_ATTENTIONS = [
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2",
    "mid_block.attentions.0.transformer_blocks.0.attn2",
]
TEXT_TAPS = [
    "text_model.encoder.layers.0.self_attn",
    "text_model.encoder.layers.0",
]
VAE_TAPS = [
    "encoder.down_blocks.0.downsamplers.0",
    "encoder.mid_block.attentions.0",
    "encoder.mid_block",
    "decoder.mid_block.attentions.0",
    "decoder.mid_block",
    "decoder.up_blocks.0.upsamplers.0",
]


def write_sd1(folder):
    merges = tokens.tiny_merges()
    unet = files.unet_config([4, 8, 8, 12], 2, layers=2, context=24, heads=2, sample_size=8,
                             class_embed_type=None, mid_block_type="UNetMidBlock2DCrossAttn",
                             resnet_time_scale_shift="default", upcast_attention=False, use_linear_projection=False)
    vae = files.vae_config([4, 8, 8, 12], 2, layers=1, sample_size=64, scaling_factor=0.18215)
    text = files.text_config(len(tokens.vocabulary(merges)), 24, 48, layers=2, heads=4, activation="quick_gelu")
    text_weights = files.random_weights(files.text_shapes(text), 1)
    text_weights["text_model.embeddings.position_ids"] = torch.arange(77).reshape(1, 77)
    tokens.write_tokenizer(folder / "tokenizer", merges, pad=tokens.END)
    write_configs(folder, unet, vae, text, files.PNDM)
    files.write_weights(folder / files.TEXT_FILE, text_weights)
    files.write_weights(folder / files.UNET_FILE, files.random_weights(files.unet_shapes(unet), 2))
    files.write_weights(folder / files.VAE_FILE, files.old_vae_names(files.random_weights(files.vae_shapes(vae), 3)))


def write_sd2(folder):
    merges = tokens.tiny_merges()
    unet = files.unet_config([8, 12, 16], 4, layers=1, context=32, heads=[2, 4, 8], sample_size=8,
                             upcast_attention=True, use_linear_projection=True)
    vae = files.vae_config([8, 16, 16], 4, layers=1, sample_size=32)
    text = files.text_config(len(tokens.vocabulary(merges)), 32, 64, layers=3, heads=4, activation="gelu",
                             projection_dim=512)
    tokens.write_tokenizer(folder / "tokenizer", merges, pad="!")
    write_configs(folder, unet, vae, text, {**files.PNDM, "prediction_type": "v_prediction"})
    half = torch.float16
    files.write_weights(folder / files.TEXT_FILE, files.random_weights(files.text_shapes(text), 4), half)
    files.write_weights(folder / files.UNET_FILE, files.random_weights(files.unet_shapes(unet), 5, output=0.1), half)
    files.write_weights(folder / files.VAE_FILE, files.random_weights(files.vae_shapes(vae), 6), half)


def write_configs(folder, unet, vae, text, scheduler):
    files.write_json(folder / "model_index.json", files.MODEL_INDEX)
    files.write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    files.write_json(folder / "text_encoder" / "config.json", text)
    files.write_json(folder / "unet" / "config.json", unet)
    files.write_json(folder / "vae" / "config.json", vae)


def write_expected(folder, factor):
    """`factor` is how many pixels one latent stands for."""
    kept = {}
    cases = {"made_with": record.made_with()}
    cases["text_encoder"] = record.record_text(folder, PROMPTS, TEXT_TAPS, kept)
    cases["unet"] = record.record_unet(
        folder,
        sizes={"square": (8, 8), "wide": (8, 16), "odd": (9, 13)},
        timesteps={"square": [999, 500, 1, 37.25], "wide": [500], "odd": [250]},
        tap_case="square-t500",
        taps=UNET_TAPS,
        attentions=UNET_ATTENTIONS,
        kept=kept,
    )
    cases["vae"] = record.record_vae(
        folder,
        images={"square": (1, 3, 4 * factor, 4 * factor), "wide": (2, 3, 2 * factor, 4 * factor)},
        latents={"square": (1, 4, 4, 4), "wide": (2, 4, 2, 4)},
        taps=VAE_TAPS,
        kept=kept,
    )
    double = record.record_double(folder, cases, kept)
    save_file({name: value.contiguous() for name, value in kept.items()}, folder / "expected.safetensors")
    save_file({name: value.contiguous() for name, value in double.items()}, folder / "double.safetensors")
    files.write_json(folder / "expected.json", cases)
    return kept


def main():
    torch.set_num_threads(1)
    record.quiet()
    for name, write, factor in [("sd1", write_sd1, 8), ("sd2", write_sd2, 4)]:
        write(HERE / name)
        for key, value in sorted(write_expected(HERE / name, factor).items()):
            value = value.float()
            print(f"{name} {key} {list(value.shape)} rms {value.square().mean().sqrt():.3f} max {value.abs().max():.3f}")


if __name__ == "__main__":
    main()
