"""Checks that diffusers reads a single file as Latentrace writes it:

    latentrace model convert CHECKPOINT FILE.safetensors
    python tools/single_file.py CHECKPOINT FILE.safetensors

Loads the folder with from_pretrained and the file with from_single_file, and compares every tensor of the UNet, the VAE and the
text encoder. They must be equal in every bit. Needs torch, diffusers and transformers (tools/python-env); downloads nothing.
"""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from diffusers import StableDiffusionPipeline


def main(folder, file):
    whole = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    single = StableDiffusionPipeline.from_single_file(file, config=folder, safety_checker=None)
    wrong = 0
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = (getattr(pipeline, part).state_dict() for pipeline in (whole, single))
        differ = [name for name in ours if name not in theirs or not torch.equal(ours[name], theirs[name])]
        wrong += len(differ) + len(theirs.keys() - ours.keys())
        print(f"{part}: {len(ours)} tensors, {len(differ)} differ {differ[:3] if differ else ''}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
