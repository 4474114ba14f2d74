"""Tiny checkpoints with random weights, and what diffusers computes with them.

    python data/golden/networks/make.py

writes beside this file, for NAME = sd1, sd2, sdxl, sdxl-turbo and sdxl-refiner,

    NAME/                       a checkpoint folder in the diffusers layout (model_index.json, scheduler/, tokenizer/,
                                text_encoder/, unet/, vae/), which the pipeline that its index names opens
    NAME/expected.json          versions, and the cases: each names its tensors in expected.safetensors
    NAME/expected.safetensors   inputs and outputs of the text encoders, the U-Net and the VAE, and some activations inside
    NAME/double.safetensors     the outputs among these once more, under the same names, computed in f64

`sd1` has the shape of Stable Diffusion v1: four levels, two layers each, one number of heads (under the misleading name
attention_head_dim), 1x1 convolutions around the transformers, quick_gelu, VAE attention under its names of 2022 and a stray
position_ids buffer. `sd2` has the shape of version 2: a number of heads for each level, linear projections, upcast_attention,
gelu, padding with "!", v-prediction, and weights stored in f16. It has three levels, so a latent is a quarter of its image
on each side. The outputs are computed in f32 from the stored values.

`sdxl` has the shape of SDXL: two text encoders, of which a pipeline takes the last state but one, the second with a
projection of the pooled text; a U-Net that takes that and six numbers too, without transformers at the first of its three
levels, with two blocks in each transformer of the second and three in those of the third. `sdxl-turbo` has the same shape,
weights in f16, the size of latents and the scheduler of SDXL-Turbo, and configurations that name the id of the end.
`sdxl-refiner` has the second text encoder only, a U-Net of four levels with transformers at the middle two and five numbers,
and a VAE of whose latents each channel has a mean and a deviation of its own.

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

# The "!" is one of the letters for the first tokenizer and the padding for the second.
XL_PROMPTS = ["a large red circle on the left! it isn't above 3 yellow stars", ""]

# The features of a pooled text.
POOLED = 20

# What the networks of SDXL are told of two pictures: the original size, the corner of the crop and the target size, heights
# first, or for a refiner an aesthetic score in place of the last.
SIZES = [[1024, 768, 0, 64, 1024, 1024], [1021, 640, 128, 0, 768, 1344]]
SCORES = [[1024, 768, 0, 64, 2.5], [1021, 640, 128, 0, 6.0]]

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
XL_UNET_TAPS = [
    "time_proj",
    "time_embedding",
    "add_embedding",
    "conv_in",
    "down_blocks.0.resnets.0",
    "down_blocks.0.downsamplers.0",
    "down_blocks.1.attentions.0",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1",
    "down_blocks.1.attentions.0.transformer_blocks.1.attn1",
    "down_blocks.1.attentions.0.transformer_blocks.1.attn2",
    "down_blocks.1.attentions.0.transformer_blocks.1.ff",
    "down_blocks.1.attentions.1.transformer_blocks.1",
    "down_blocks.2.attentions.1",
    "mid_block.attentions.0",
    "mid_block.attentions.0.transformer_blocks.1",
    "mid_block",
    "up_blocks.0.resnets.0",
    "up_blocks.0.upsamplers.0",
    "up_blocks.1.attentions.0",
    "up_blocks.1.attentions.2.transformer_blocks.1",
    "conv_norm_out",
]
XL_UNET_ATTENTIONS = [
    "down_blocks.1.attentions.0.transformer_blocks.1.attn1",
    "down_blocks.2.attentions.0.transformer_blocks.1.attn2",
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


def write_sdxl(folder):
    unet = files.xl_unet_config([8, 12, 16], 4, 2, 64, [1, 2, 4], 8, attends=[False, True, True], depths=[1, 2, 3],
                                pooled=POOLED, numbers=6, wave=8, upcast_attention=None)
    write_xl(folder, {}, files.EULER, unet, xl_vae_config(32), xl_texts(), 7)


def write_sdxl_turbo(folder):
    unet = files.xl_unet_config([8, 12, 16], 4, 2, 64, [1, 2, 4], 64, attends=[False, True, True], depths=[1, 2, 3],
                                pooled=POOLED, numbers=6, wave=8, upcast_attention=False)
    texts = xl_texts(eos_token_id=vocabulary().index(tokens.END))
    write_xl(folder, {}, files.EULER_ANCESTRAL, unet, xl_vae_config(256), texts, 11, torch.float16)


def write_sdxl_refiner(folder):
    unet = files.xl_unet_config([8, 12, 16, 16], 4, 2, 40, [1, 2, 4, 4], 8, attends=[False, True, True, False], depths=2,
                                pooled=POOLED, numbers=5, wave=8, upcast_attention=None)
    vae = xl_vae_config(32, latents_mean=[0.3, -0.7, 0.15, 1.1], latents_std=[1.4, 0.8, 2.1, 0.6])
    index = {"_class_name": "StableDiffusionXLImg2ImgPipeline", "force_zeros_for_empty_prompt": False,
             "requires_aesthetics_score": True}
    texts = {"text_encoder_2": xl_texts()["text_encoder_2"]}
    write_xl(folder, index, files.EULER, unet, vae, texts, 15)


def vocabulary():
    return tokens.vocabulary(tokens.tiny_merges())


def xl_texts(**more):
    """The configurations of both text encoders, by the names of their folders."""
    words = len(vocabulary())
    first = files.text_config(words, 24, 32, layers=2, heads=4, activation="quick_gelu", projection_dim=24, **more)
    second = files.text_config(words, 40, 48, layers=3, heads=4, activation="gelu", projection_dim=POOLED,
                               architectures=["CLIPTextModelWithProjection"], **more)
    return {"text_encoder": first, "text_encoder_2": second}


def xl_vae_config(sample_size, **more):
    unset = {"latents_mean": None, "latents_std": None, "shift_factor": None}
    return files.vae_config([4, 8, 8], 2, layers=1, sample_size=sample_size, force_upcast=True, scaling_factor=0.13025,
                            **{**unset, **more})


def write_xl(folder, index, scheduler, unet, vae, texts, seed, dtype=torch.float32):
    """`index` holds what the index of SDXL does not say. Weights are drawn from `seed` and, part by part, the next seeds."""
    files.write_json(folder / "model_index.json", files.xl_index(scheduler, texts, **index))
    files.write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    for part, config in {**texts, "unet": unet, "vae": vae}.items():
        files.write_json(folder / part / "config.json", config)
    for number, (part, config) in enumerate(texts.items()):
        pad = "!" if part == "text_encoder_2" else tokens.END
        tokens.write_tokenizer(folder / files.tokenizer_of(part), tokens.tiny_merges(), pad)
        weights = files.random_weights(files.text_shapes(config), seed + number)
        files.write_weights(folder / part / "model.safetensors", weights, dtype)
    seed += len(texts)
    files.write_weights(folder / files.UNET_FILE, files.random_weights(files.unet_shapes(unet), seed, added=0.3), dtype)
    files.write_weights(folder / files.VAE_FILE, files.random_weights(files.vae_shapes(vae), seed + 1), dtype)


def write_configs(folder, unet, vae, text, scheduler):
    files.write_json(folder / "model_index.json", files.MODEL_INDEX)
    files.write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    files.write_json(folder / "text_encoder" / "config.json", text)
    files.write_json(folder / "unet" / "config.json", unet)
    files.write_json(folder / "vae" / "config.json", vae)


def record_sd(folder, kept):
    return {
        "text_encoder": record.record_text(folder, PROMPTS, TEXT_TAPS, kept),
        "unet": record.record_unet(
            folder,
            sizes={"square": (8, 8), "wide": (8, 16), "odd": (9, 13)},
            timesteps={"square": [999, 500, 1, 37.25], "wide": [500], "odd": [250]},
            tap_case="square-t500",
            taps=UNET_TAPS,
            attentions=UNET_ATTENTIONS,
            kept=kept,
        ),
    }


def record_xl(folder, told, kept):
    texts = [part for part in ("text_encoder", "text_encoder_2") if (folder / part).exists()]
    return {
        **{part: record.record_xl_text(folder, part, XL_PROMPTS, kept) for part in texts},
        "unet": record.record_unet(
            folder,
            sizes={"square": (8, 8)},
            timesteps={"square": [999, 500, 1, 37.25]},
            tap_case="square-t500",
            taps=XL_UNET_TAPS,
            attentions=XL_UNET_ATTENTIONS,
            kept=kept,
            added={"text_embeds": record.randn((2, POOLED), 12), "time_ids": torch.tensor(told, dtype=torch.float32)},
        ),
    }


def write_expected(folder, factor, told):
    """`factor` is how many pixels one latent stands for, `told` what a network of SDXL's kind is told of two pictures."""
    kept = {}
    cases = {"made_with": record.made_with()}
    cases.update(record_xl(folder, told, kept) if told else record_sd(folder, kept))
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


CHECKPOINTS = [
    ("sd1", write_sd1, 8, None),
    ("sd2", write_sd2, 4, None),
    ("sdxl", write_sdxl, 4, SIZES),
    ("sdxl-turbo", write_sdxl_turbo, 4, SIZES),
    ("sdxl-refiner", write_sdxl_refiner, 4, SCORES),
]


def main():
    torch.set_num_threads(1)
    record.quiet()
    for name, write, factor, told in CHECKPOINTS:
        write(HERE / name)
        for key, value in sorted(write_expected(HERE / name, factor, told).items()):
            value = value.float()
            print(f"{name} {key} {list(value.shape)} rms {value.square().mean().sqrt():.3f} max {value.abs().max():.3f}")


if __name__ == "__main__":
    main()
