"""Comparison with diffusers at full size, and on the bundled checkpoint.

    python tools/parity.py prepare FOLDER
    python tools/parity.py shapes FOLDER CHECKPOINT [--prompt TEXT]

Needs torch 2.11, diffusers, transformers and safetensors; downloads nothing. The other program runs the same inputs and compares.

prepare
    makes FOLDER a checkpoint of exactly the shape of Stable Diffusion v1.4 (U-Net 859,520,964 parameters, VAE 83,653,863, text
    encoder 123,060,480) with random weights, in the diffusers layout and f32, 4.3 GB:

        FOLDER/model_index.json, scheduler/scheduler_config.json, tokenizer/{vocab.json, merges.txt, ..},
        FOLDER/{text_encoder,unet,vae}/config.json, text_encoder/model.safetensors,
        FOLDER/unet/diffusion_pytorch_model.safetensors, vae/diffusion_pytorch_model.safetensors (attention under its old names)

    and writes what diffusers computes with it, in four parts that are put together at the end:

        FOLDER/expected.json and FOLDER/expected.safetensors

        text_encoder/ids                  i64 [2, 77]           text_encoder/last_hidden_state      f32 [2, 77, 768]
        unet/square/sample                f32 [2, 4, 64, 64]    unet/encoder_hidden_states          f32 [2, 77, 768]
        unet/square-t500/output           f32 [2, 4, 64, 64]    at timestep 500
        vae/decode-square/latent          f32 [1, 4, 64, 64]    vae/decode-square/image             f32 [1, 3, 512, 512]
        pndm-3/initial, pndm-3/final      f32 [1, 4, 64, 64]    pndm-3/steps (each network call)    f32 [4, 1, 4, 64, 64]
        pndm-3/image                      u8  [1, 512, 512, 3]
        {text_encoder,unet,vae}/taps/<module>                   outputs of some modules inside

    with the naming of data/golden/networks/*/expected.safetensors and data/golden/runs/*.safetensors, where more is said.
    pndm-3 is PNDM as shipped, 3 steps, guidance 7.5, seed 193, `PROMPT` against `NEGATIVE`. What is already there is not made again;
    delete a file to have it made. One network is in memory at a time.

shapes
    runs StableDiffusionPipeline on the bundled checkpoint: its scheduler as shipped, 20 steps, guidance 4, seed 193, no negative
    prompt, the checkpoint's own size. Writes FOLDER/expected.json and FOLDER/expected.safetensors with

        shapes-20/initial, shapes-20/final   f32 [1, 4, h, w]
        shapes-20/steps                      f32 [calls, 1, 4, h, w]
        shapes-20/image                      u8  [1, H, W, 3]
"""

import argparse
import gc
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "data" / "golden" / "networks"))

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

import checkpoint as files
import record
import tokens

PROMPT = "a large red circle on the left, white background"
NEGATIVE = "blue square, bad drawing"

UNET_TAPS = ["time_embedding", "conv_in", "down_blocks.2.attentions.1", "mid_block", "up_blocks.1.resnets.2"]
TEXT_TAPS = ["text_model.encoder.layers.0", "text_model.encoder.layers.5"]
VAE_TAPS = ["decoder.mid_block.attentions.0", "decoder.mid_block"]

UNET = files.unet_config([320, 640, 1280, 1280], 32, layers=2, context=768, heads=8, sample_size=64,
                         class_embed_type=None, mid_block_type="UNetMidBlock2DCrossAttn",
                         resnet_time_scale_shift="default", upcast_attention=False, use_linear_projection=False)
VAE = files.vae_config([128, 256, 512, 512], 32, layers=2, sample_size=512, scaling_factor=0.18215)
VOCABULARY = 49408
TEXT = files.text_config(VOCABULARY, 768, 3072, layers=12, heads=12, activation="quick_gelu")

# file, its shapes, the parameters that Stable Diffusion v1.4 has there, the seed, the names on disk
WEIGHTS = [
    (files.TEXT_FILE, lambda: files.text_shapes(TEXT), 123_060_480, 1, lambda weights: weights),
    (files.UNET_FILE, lambda: files.unet_shapes(UNET), 859_520_964, 2, lambda weights: weights),
    (files.VAE_FILE, lambda: files.vae_shapes(VAE), 83_653_863, 3, files.old_vae_names),
]


def say(text):
    print(text, flush=True)


def prepare(folder):
    write_small_files(folder)
    write_large_files(folder)
    parts = [("text_encoder", expect_text), ("unet", expect_unet), ("vae", expect_vae), ("runs", expect_run)]
    for name, expect in parts:
        make_part(folder, name, expect)
    join_parts(folder, [name for name, _ in parts])


def write_small_files(folder):
    if (folder / "tokenizer" / "vocab.json").exists():
        return
    files.write_json(folder / "model_index.json", files.MODEL_INDEX)
    files.write_json(folder / "scheduler" / "scheduler_config.json", files.PNDM)
    files.write_json(folder / "text_encoder" / "config.json", TEXT)
    files.write_json(folder / "unet" / "config.json", UNET)
    files.write_json(folder / "vae" / "config.json", VAE)
    merges = tokens.padded_merges(VOCABULARY - 512 - 2)
    assert len(tokens.vocabulary(merges)) == VOCABULARY
    tokens.write_tokenizer(folder / "tokenizer", merges, pad=tokens.END)


def write_large_files(folder):
    for path, shapes, parameters, seed, names in WEIGHTS:
        found = shapes()
        assert files.parameter_count(found) == parameters, path
        if not (folder / path).exists():
            say(f"writing {path}: {len(found)} tensors, {parameters:,} parameters")
            files.write_weights(folder / path, names(files.random_weights(found, seed)))
            gc.collect()


def make_part(folder, name, expect):
    """Runs one part, unless it was written by an earlier run."""
    tensors = folder / "parts" / f"{name}.safetensors"
    if tensors.exists():
        return
    started = time.monotonic()
    kept = {}
    cases = expect(folder, kept)
    gc.collect()
    files.write_json(folder / "parts" / f"{name}.json", cases)
    save(tensors, kept)
    say(f"{name}: {time.monotonic() - started:.0f} s")
    for key, value in sorted(kept.items()):
        value = value.float()
        say(f"  {key} {list(value.shape)} rms {value.square().mean().sqrt():.3f} max {value.abs().max():.3f}")


def save(path, kept):
    for key, value in kept.items():
        assert not value.is_floating_point() or torch.isfinite(value).all(), f"{key} is not finite"
    partial = path.with_suffix(".partial")
    save_file({key: value.contiguous() for key, value in kept.items()}, partial)
    partial.rename(path)


def join_parts(folder, names):
    kept, cases = {}, {"made_with": record.made_with()}
    for name in names:
        kept.update(load_file(folder / "parts" / f"{name}.safetensors"))
        cases[name] = json.loads((folder / "parts" / f"{name}.json").read_text())
    save(folder / "expected.safetensors", kept)
    files.write_json(folder / "expected.json", cases)


def expect_text(folder, kept):
    return record.record_text(folder, [PROMPT, NEGATIVE], TEXT_TAPS, kept)


def expect_unet(folder, kept):
    return record.record_unet(folder, {"square": (64, 64)}, {"square": [500]}, "square-t500", UNET_TAPS, [], kept)


def expect_vae(folder, kept):
    return record.record_vae(folder, {}, {"square": (1, 4, 64, 64)}, VAE_TAPS, kept)


def expect_run(folder, kept):
    """Text first, then the U-Net alone, then the VAE alone, so that never two large networks are in memory."""
    pipeline = record.load_pipeline(folder, unet=None, vae=None)
    with torch.no_grad():
        positive, negative = pipeline.encode_prompt(PROMPT, "cpu", 1, True, NEGATIVE)
    del pipeline
    gc.collect()
    pipeline = record.load_pipeline(folder, text_encoder=None, tokenizer=None, vae=None)
    scheduler = record.scheduler_facts(pipeline.scheduler, 3)
    text = {"prompt_embeds": positive, "negative_prompt_embeds": negative}
    initial, after, final = record.run_latents(pipeline, 3, 7.5, [193], text, (512, 512))
    del pipeline
    gc.collect()
    vae = AutoencoderKL.from_pretrained(folder / "vae", dtype=torch.float32).eval()
    image = record.decode_images(vae, final)
    return keep_run(kept, "pndm-3", PROMPT, NEGATIVE, 7.5, 3, scheduler, initial, after, final, image)


def keep_run(kept, name, prompt, negative, guidance, steps, scheduler, initial, after, final, image):
    kept.update({f"{name}/initial": initial, f"{name}/steps": after, f"{name}/final": final, f"{name}/image": image})
    return [{
        "name": name,
        "prompt": prompt,
        "negative_prompt": negative,
        "guidance": guidance,
        "seeds": [193],
        "steps": steps,
        "height": image.shape[1],
        "width": image.shape[2],
        "initial": f"{name}/initial",
        "after_each_step": f"{name}/steps",
        "final": f"{name}/final",
        "image": f"{name}/image",
        "scheduler": scheduler,
    }]


def shapes(folder, checkpoint, prompt):
    pipeline = record.load_pipeline(checkpoint)
    initial, after, final = record.run_latents(pipeline, 20, 4.0, [193], {"prompt": prompt})
    image = record.decode_images(pipeline.vae, final)
    kept = {}
    scheduler = record.scheduler_facts(pipeline.scheduler, 20)
    cases = keep_run(kept, "shapes-20", prompt, None, 4.0, 20, scheduler, initial, after, final, image)
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / "expected.safetensors", kept)
    files.write_json(folder / "expected.json", {"made_with": record.made_with(), "runs": cases})
    say(f"wrote {folder / 'expected.safetensors'}: latents {list(final.shape)}, image {list(image.shape)}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = arguments.add_subparsers(dest="command", required=True)
    command = commands.add_parser("prepare")
    command.add_argument("folder", type=Path)
    command = commands.add_parser("shapes")
    command.add_argument("folder", type=Path)
    command.add_argument("checkpoint", type=Path)
    command.add_argument("--prompt", default=PROMPT)
    given = arguments.parse_args()
    torch.set_num_threads(2)
    record.quiet()
    if given.command == "prepare":
        prepare(given.folder)
    else:
        shapes(given.folder, given.checkpoint, given.prompt)


if __name__ == "__main__":
    main()
