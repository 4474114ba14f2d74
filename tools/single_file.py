"""Checks that diffusers reads a single file as Latentrace writes it:

    latentrace model convert CHECKPOINT FILE.safetensors
    python tools/single_file.py CHECKPOINT FILE.safetensors

Loads the folder with from_pretrained and the file with from_single_file, and compares every tensor of the UNet, the VAE and the
text encoders. They must be equal in every bit. Needs torch, diffusers and transformers (tools/python-env); downloads nothing.
"""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from diffusers import DiffusionPipeline


def main(folder, file):
    whole = DiffusionPipeline.from_pretrained(folder)
    single = type(whole).from_single_file(file, config=folder)
    wrong = 0
    # The refiner of SDXL has no first text encoder, and Stable Diffusion 1.x and 2.x have no second.
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        networks = [getattr(pipeline, part, None) for pipeline in (whole, single)]
        if networks == [None, None]:
            continue
        ours, theirs = ({} if network is None else network.state_dict() for network in networks)
        differ = [name for name in ours if name not in theirs or not torch.equal(ours[name], theirs[name])]
        wrong += len(differ) + len(theirs.keys() - ours.keys())
        print(f"{part}: {len(ours)} tensors, {len(differ)} differ {differ[:3] if differ else ''}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
