"""LoRAs and textual inversions for SDXL, and what diffusers computes with them on networks/sdxl.

    python data/golden/networks/make.py     first, if its checkpoints are not there
    python data/golden/text/make.py         and its textual inversions
    python data/golden/changes/make.py

writes beside this file the LoRAs

    kohya.safetensors      kohya's names, with alphas: lora_te1_, lora_te2_ and its projection, and lora_unet_ over the names of the
                           original repository (input_blocks, label_emb, time_embed), layers of every kind and depth
    diffusers.safetensors  as StableDiffusionXLPipeline.save_lora_weights writes it, with PEFT's configuration of each network in
                           the header: other ranks and alphas

and expected.json, expected.safetensors. A case has `loras` or `embeddings` (files of data/golden/text) and a prompt. For each case
there are the text features [1, 77, 64] and the pooled text [1, 20] of the prompt; and, of LoRAs, the UNet's output [1, 4, 8, 8] at
timestep 500 for `sample`, `context`, `text_embeds` and `time_ids`, all computed in f64. `rounding` in the JSON is how far the same
computation of the UNet in f32 is from it, relative to the largest number: the larger of the LoRA merged and not.

What a case expects is what load_lora_weights with set_adapters, and load_textual_inversion for one text encoder after the other, give.
The text encoders' configurations say eos_token_id 2, for which transformers takes the pooled text at the largest id, so at an added
token.
"""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
GOLDEN = HERE.parent
SDXL = GOLDEN / "networks" / "sdxl"
sys.path.insert(0, str(GOLDEN / "networks"))

import torch
from diffusers import StableDiffusionXLPipeline
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

import record

PROMPT = "a large red circle on the left, white background!"
# Layers of the UNet under kohya's names: of each kind and, of transformers, of each depth.
KOHYA = "|".join([
    r"transformer_blocks\.\d\.attn[12]\.(to_q|to_out\.0)", r"transformer_blocks\.\d\.ff\.net\.2", r"attentions\.\d\.proj_in",
    r"resnets\.\d\.(conv1|time_emb_proj|conv_shortcut)", r"(down|up)samplers\.0\.conv", r"add_embedding\.linear_[12]",
    r"time_embedding\.linear_[12]", r"conv_in", r"conv_out",
])
RANK = 1
GENERATOR = torch.Generator("cpu").manual_seed(19)


def main():
    torch.set_num_threads(1)
    record.quiet()
    write_kohya()
    write_diffusers()
    kept = {
        "sample": record.randn([1, 4, 8, 8], 1), "context": record.randn([1, 77, 64], 2), "text_embeds": record.randn([1, 20], 3),
        "time_ids": torch.tensor([[64.0, 96.0, 0.0, 8.0, 64.0, 64.0]]),
    }
    cases = []
    for loras in ([], [("kohya", 0.7)], [("diffusers", 1.3)], [("kohya", 0.7), ("diffusers", -0.4)]):
        save_loras(loras, kept, cases)
    for name, files, prompt in (
            ("both", ["both"], "both red circle"),
            ("one of each", ["cat", "wide"], "a <cat> on the left, wide"),
            ("three", ["both", "cat", "wide"], "wide both, <cat> and both"),
    ):
        save_inversions(name, files, prompt, kept, cases)
    save_file({name: tensor.contiguous() for name, tensor in kept.items()}, HERE / "expected.safetensors")
    (HERE / "expected.json").write_text(json.dumps({"made_with": record.made_with(), "cases": cases}, indent=1) + "\n")
    for name, value in kept.items():
        print(name, list(value.shape), f"rms {value.square().mean().sqrt():.4f}")


def pipeline():
    pipe = StableDiffusionXLPipeline.from_pretrained(SDXL, local_files_only=True, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save_loras(loras, kept, cases):
    name = " and ".join(file for file, _ in loras) or "plain"
    pipe = adapted(loras, torch.float64)
    unet, (features, pooled) = unet_output(pipe, kept), encoded(pipe, PROMPT)
    rounding = 0.0
    for merged in (False, True):
        pipe = adapted(loras, torch.float32)
        if merged and loras:
            pipe.fuse_lora(components=["unet"])
            pipe.unload_lora_weights()
        rounding = max(rounding, float((unet_output(pipe, kept) - unet).abs().max() / unet.abs().max()))
    kept.update({f"{name}/features": features.float(), f"{name}/pooled": pooled.float(), f"{name}/unet": unet.float()})
    loras = [f"{file}.safetensors:{scale}" for file, scale in loras]
    cases.append({"name": name, "prompt": PROMPT, "loras": loras, "rounding": rounding})


def save_inversions(name, files, prompt, kept, cases):
    pipe = pipeline()
    for file in files:
        for vectors, encoder, tokenizer in split(pipe, load_file(GOLDEN / "text" / f"{file}.safetensors")):
            # The token of cat is in its file; the others are named as their files.
            token = "<cat>" if file == "cat" else file
            pipe.load_textual_inversion(vectors, token=token, text_encoder=encoder, tokenizer=tokenizer)
    to(pipe, torch.float64)
    features, pooled = encoded(pipe, prompt)
    kept.update({f"{name}/features": features.float(), f"{name}/pooled": pooled.float()})
    cases.append({"name": name, "prompt": prompt, "embeddings": [f"{file}.safetensors" for file in files]})


def split(pipe, tensors):
    """The vectors of a file for each text encoder, as diffusers' documentation loads those of SDXL."""
    first, second = (pipe.text_encoder, pipe.tokenizer), (pipe.text_encoder_2, pipe.tokenizer_2)
    if "clip_l" in tensors:
        return [(tensors["clip_l"], *first), (tensors["clip_g"], *second)]
    [vectors] = tensors.values()
    return [(vectors, *(first if vectors.shape[-1] == 24 else second))]


def encoded(pipe, prompt):
    with torch.no_grad():
        features, _, pooled, _ = pipe.encode_prompt(prompt, device="cpu", num_images_per_prompt=1,
                                                    do_classifier_free_guidance=False)
    return features, pooled


def unet_output(pipe, kept):
    sample, context, text_embeds, time_ids = (kept[name].to(pipe.unet.dtype) for name in
                                              ("sample", "context", "text_embeds", "time_ids"))
    with torch.no_grad():
        return pipe.unet(sample, 500, context, added_cond_kwargs={"text_embeds": text_embeds, "time_ids": time_ids}).sample


def adapted(loras, kind):
    pipe = pipeline()
    for index, (file, _) in enumerate(loras):
        pipe.load_lora_weights(HERE / f"{file}.safetensors", adapter_name=f"lora{index}")
    if loras:
        pipe.set_adapters([f"lora{index}" for index in range(len(loras))], [scale for _, scale in loras])
        check_all_loaded(pipe, loras)
    to(pipe, kind)
    return pipe


def check_all_loaded(pipe, loras):
    """diffusers leaves out what it does not know, with a warning."""
    parts = (pipe.unet, pipe.text_encoder, pipe.text_encoder_2)
    for index, (file, _) in enumerate(loras):
        loaded = sum(name.endswith(f"lora_A.lora{index}.weight") for part in parts for name, _ in part.named_parameters())
        names = load_file(HERE / f"{file}.safetensors")
        stored = sum(name.endswith((".lora_down.weight", ".lora.down.weight", ".lora_A.weight")) for name in names)
        assert loaded == stored, f"{file}: {loaded} of {stored} layers"


def to(pipe, kind):
    for part in (pipe.text_encoder, pipe.text_encoder_2, pipe.unet):
        part.to(kind)


def draw(*shape):
    return torch.randn(shape, generator=GENERATOR)


def pair(weight):
    """The two matrices or kernels of a change of a weight, which is about as large as the weight."""
    factor = float(weight.detach().square().mean().sqrt()) ** 0.5
    down = draw(RANK, *weight.shape[1:]) * factor
    return down, draw(weight.shape[0], RANK, *[1] * (weight.dim() - 2)) * factor


def write_kohya():
    pipe, tensors = pipeline(), {}
    for layer, module in pipe.unet.named_modules():
        if re.search(rf"(^|\.)({KOHYA})$", layer):
            add_kohya(tensors, "lora_unet_" + original(layer).replace(".", "_"), module.weight)
    for prefix, encoder in (("lora_te1_", pipe.text_encoder), ("lora_te2_", pipe.text_encoder_2)):
        for layer, module in encoder.named_modules():
            if re.search(r"(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])$", layer):
                layer = "text_model_" + layer.removeprefix("text_model.").replace(".", "_")
                add_kohya(tensors, prefix + layer, module.weight)
    add_kohya(tensors, "lora_te2_text_projection", pipe.text_encoder_2.text_projection.weight)
    save_file(tensors, HERE / "kohya.safetensors", {"ss_network_module": "networks.lora"})


def add_kohya(tensors, name, weight):
    tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = pair(weight)
    tensors[f"{name}.alpha"] = torch.tensor(0.5)


def original(layer):
    """The name of a UNet's layer in the original repository, for two layers a block and three blocks, of which the last attends
    nowhere on the way up."""
    outside = {"conv_in": "input_blocks.0.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
               "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
               "add_embedding.linear_2": "label_emb.0.2"}
    if layer in outside:
        return outside[layer]
    middle = re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", layer)
    if middle:
        return f"middle_block.{1 if middle[1] == 'attentions' else 2 * int(middle[2])}.{resnet(middle[3])}"
    way, block, kind, index, rest = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", layer).groups()
    first = 3 * int(block) + (way == "down")
    if kind == "downsamplers":
        return f"input_blocks.{first + 2}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{first + 2}.2.conv"
    place = first + int(index)
    return f"{'in' if way == 'down' else 'out'}put_blocks.{place}.{int(kind == 'attentions')}.{resnet(rest)}"


def resnet(name):
    return {"conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "conv2": "out_layers.3",
            "conv_shortcut": "skip_connection"}.get(name, name)


def write_diffusers():
    pipe = pipeline()
    unet = add_adapter(pipe.unet, LoraConfig(
        r=2, lora_alpha=3, target_modules=["to_k", "to_v"], rank_pattern={"attn2.to_k": 3}, alpha_pattern={"attn2.to_v": 5}))
    first = add_adapter(pipe.text_encoder, LoraConfig(r=1, lora_alpha=2, target_modules=["q_proj", "fc1"]))
    second = add_adapter(pipe.text_encoder_2, LoraConfig(r=2, lora_alpha=1, target_modules=["k_proj", "out_proj"]))
    about = lambda part: part.peft_config["default"].to_dict()
    StableDiffusionXLPipeline.save_lora_weights(
        HERE, unet_lora_layers=unet, text_encoder_lora_layers=first, text_encoder_2_lora_layers=second,
        weight_name="diffusers.safetensors", unet_lora_adapter_metadata=about(pipe.unet),
        text_encoder_lora_adapter_metadata=about(pipe.text_encoder),
        text_encoder_2_lora_adapter_metadata=about(pipe.text_encoder_2))


def add_adapter(part, config):
    part.add_adapter(config)
    for name, parameter in sorted(part.named_parameters()):
        if "lora_" in name:
            parameter.data = draw(*parameter.shape) * 0.3
    return {name: tensor.contiguous() for name, tensor in get_peft_model_state_dict(part).items()}


if __name__ == "__main__":
    main()
