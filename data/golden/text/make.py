"""Text features that diffusers and an implementation of our own in torch compute with networks/sd1.

    python data/golden/text/make.py

writes beside this file

    cat.safetensors        a textual inversion of one vector, as diffusers saves it: one tensor, named as the token, <cat>
    style.safetensors      one of three vectors, as AUTOMATIC1111 saves it: emb_params
    both.safetensors       one for SDXL: clip_l and clip_g
    wide.safetensors       one of another width
    expected.safetensors   the features of each case, [1, tokens, 24] in f32
    expected.json          {"made_with", "cases": [{"name", "prompt", ..}]}

The cases named skip and inversion are those of StableDiffusionPipeline.encode_prompt and load_textual_inversion. Chunks and
weights are not in diffusers; they are written here from AUTOMATIC1111's modules/sd_hijack_clip.py and modules/sd_emphasis.py
(EmphasisOriginal), with parts and weights given by hand, so that nothing here parses a prompt.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
SD1 = HERE.parent / "networks" / "sd1"
sys.path.insert(0, str(HERE.parent / "networks"))

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

import record

PROMPT = "a large red circle on the left, it isn't above 3 yellow stars"
LONG = "a large red circle on the left, 3 yellow stars and a small blue square above " * 6


def main():
    torch.set_num_threads(1)
    record.quiet()
    write_embeddings()
    pipe = StableDiffusionPipeline.from_pretrained(SD1, local_files_only=True)
    # With clip_skip, diffusers 0.42.1 reads text_encoder.text_model, which transformers 5 no longer has.
    type(pipe.text_encoder).text_model = property(lambda encoder: encoder)
    cases, kept = [], {}

    def keep(name, prompt, features, **more):
        cases.append({"name": name, "prompt": prompt, **more})
        kept[name] = features.detach().contiguous()

    with torch.no_grad():
        for skip in (0, 1, 2):
            for text, of in (("prompt", PROMPT), ("empty", "")):
                keep(f"skip {skip} {text}", of, encoded(pipe, of, clip_skip=skip), clip_skip=skip)
        # What diffusers does with the negative prompt: all layers, whatever clip_skip says.
        negative = pipe.encode_prompt(PROMPT, "cpu", 1, True, negative_prompt=PROMPT, clip_skip=1)[1]
        assert torch.equal(negative, kept["skip 0 prompt"])
        keep("chunks", LONG, chunks(pipe, [(LONG, 1.0)]), long_prompts="chunks")
        keep("weights", r"a (large:1.4) red ((circle)) on the [left] \(3)".replace("3)", r"3\)"), chunks(pipe, [
            ("a ", 1.0), ("large", 1.4), (" red ", 1.0), ("circle", 1.1 * 1.1), (" on the ", 1.0), ("left", 1 / 1.1),
            (" (3)", 1.0)]), weights=True)
        long = LONG.strip()
        keep("weights in chunks", f"({long}:0.6) (red:1.5)", chunks(pipe, [(long, 0.6), (" ", 1.0), ("red", 1.5)]),
             weights=True, long_prompts="chunks")
        pipe.load_textual_inversion(HERE / "cat.safetensors")
        pipe.load_textual_inversion(HERE / "style.safetensors", token="<style>")
        pipe.load_textual_inversion(load_file(HERE / "both.safetensors")["clip_l"], token="both")
        files = ["cat.safetensors", "style.safetensors=<style>", "both.safetensors"]
        for name, prompt in (("inversion one", "a <cat> on the left"), ("inversion three", "a <cat> in <style>, <style>"),
                             ("inversion clip_l", "both red")):
            keep(name, prompt, encoded(pipe, prompt), embeddings=files)
    save_file(kept, HERE / "expected.safetensors")
    (HERE / "expected.json").write_text(json.dumps({"made_with": record.made_with(), "cases": cases}, indent=1) + "\n")
    for name, value in kept.items():
        print(name, list(value.shape), f"rms {value.square().mean().sqrt():.3f}")


def encoded(pipe, prompt, **more):
    return pipe.encode_prompt(prompt, "cpu", 1, False, **more)[0]


def chunks(pipe, parts):
    """The features of parts of a prompt with a weight each, in chunks of 75 tokens."""
    ids, weights = [], []
    for text, weight in parts:
        found = pipe.tokenizer(text, add_special_tokens=False).input_ids
        ids += found
        weights += [weight] * len(found)
    start, end = pipe.tokenizer.bos_token_id, pipe.tokenizer.eos_token_id
    features = []
    for first in range(0, max(len(ids), 1), 75):
        own, of = ids[first:first + 75], weights[first:first + 75]
        padding = 75 - len(own)
        z = pipe.text_encoder(torch.tensor([[start] + own + [end] * (padding + 1)]))[0]
        multipliers = torch.tensor([[1.0] + of + [1.0] * (padding + 1)])
        original_mean = z.mean()
        z = z * multipliers.reshape(multipliers.shape + (1,)).expand(z.shape)
        new_mean = z.mean()
        features.append(z * (original_mean / new_mean))
    return torch.cat(features, 1)


def write_embeddings():
    generator = torch.Generator("cpu").manual_seed(9)
    draw = lambda *shape: torch.randn(shape, generator=generator) * 0.7
    save_file({"<cat>": draw(24)}, HERE / "cat.safetensors")
    save_file({"emb_params": draw(3, 24).half()}, HERE / "style.safetensors")
    save_file({"clip_l": draw(2, 24), "clip_g": draw(2, 40)}, HERE / "both.safetensors")
    save_file({"emb_params": draw(1, 40)}, HERE / "wide.safetensors")


if __name__ == "__main__":
    main()
