"""LoRAs under all names that trainers write, and what diffusers computes with them on networks/sd1.

    python data/golden/lora/make.py

writes beside this file the LoRAs

    kohya.safetensors      kohya's names, with alphas: attention, feed-forward, projections, convolutions; both networks
    original.safetensors   kohya's names over those of the original repository (input_blocks), attention only, in f16
    peft.safetensors       as StableDiffusionPipeline.save_lora_weights writes it, with PEFT's configuration in the header:
                           other ranks and alphas for some layers
    diffusers.safetensors  the same numbers as peft.safetensors, without a configuration, under diffusers' names before PEFT
    old.safetensors        the oldest names, of attention processors, UNet and text encoder
    adapter/               PEFT's own folder of a UNet: adapter_model.safetensors and adapter_config.json, rank-stabilised
    tucker.safetensors     a convolution in three parts (lora_mid), which diffusers does not read

and expected.json, expected.safetensors: for each case the text features [1, 77, 24], and the UNet's output [1, 4, 8, 8] at
timestep 500 for `sample` and `context`, computed in f64; and of whole runs (DDIM, 6 steps, in f32) the final latents. `rounding` in
the JSON is how far the same computation in f32 is from it, relative to the largest number: the larger of the LoRA merged and not.

What a case expects is what load_lora_weights and set_adapters give. For the files that diffusers does not read, adapter/ and
tucker.safetensors, the UNet's weights are changed by hand: W + scale factor up down.
"""

import json
import math
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
SD1 = HERE.parent / "networks" / "sd1"
sys.path.insert(0, str(HERE.parent / "networks"))

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

import record

PROMPT = "a large red circle on the left, white background"
NEGATIVE = "blue square, bad drawing"
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
RANK = 2
GENERATOR = torch.Generator("cpu").manual_seed(14)


def main():
    torch.set_num_threads(1)
    record.quiet()
    write_kohya()
    write_original()
    write_peft()
    write_old()
    write_tucker()
    sample, context = record.randn([1, 4, 8, 8], 1), record.randn([1, 77, 24], 2)
    kept, cases = {"sample": sample, "context": context}, []
    for loras in ([], [("kohya.safetensors", 0.7)], [("original.safetensors", 1.0)], [("peft.safetensors", 0.7)],
                  [("diffusers.safetensors", 1.3)], [("old.safetensors", 1.0)], [("adapter", 0.5)],
                  [("tucker.safetensors", 2.0)], [("kohya.safetensors", 0.7), ("peft.safetensors", -0.4)]):
        name = " and ".join(file.removesuffix(".safetensors") for file, _ in loras) or "plain"
        save_case(name, loras, kept, cases)
    for name, weight in (("constant", lambda sigma: 0.7), ("window", lambda sigma: 0.9 if 0.5 <= sigma <= 5.0 else 0.0)):
        kept[f"run {name}/final"] = run(weight)
    save_file(kept, HERE / "expected.safetensors")
    (HERE / "expected.json").write_text(json.dumps({"made_with": record.made_with(), "cases": cases}, indent=1) + "\n")
    for name, value in kept.items():
        print(name, list(value.shape), f"rms {value.square().mean().sqrt():.4f}")


def pipeline():
    pipe = StableDiffusionPipeline.from_pretrained(SD1, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save_case(name, loras, kept, cases):
    text, unet = computed(adapted(loras, torch.float64), kept)
    rounding = 0.0
    for merged in (False, True):
        pipe = adapted(loras, torch.float32)
        if merged and hasattr(pipe.unet, "peft_config"):
            pipe.fuse_lora(components=["unet"])
            pipe.unload_lora_weights()
        found = computed(pipe, kept)[1]
        rounding = max(rounding, float((found - unet).abs().max() / unet.abs().max()))
    kept[f"{name}/text"], kept[f"{name}/unet"] = text.float(), unet.float()
    cases.append({"name": name, "loras": [f"{file}:{scale}" for file, scale in loras], "rounding": rounding})


def computed(pipe, kept):
    """The text features and the UNet's output, in the pipeline's number format."""
    kind = pipe.unet.dtype
    with torch.no_grad():
        text = pipe.encode_prompt(PROMPT, "cpu", 1, False)[0]
        return text, pipe.unet(kept["sample"].to(kind), 500, kept["context"].to(kind)).sample


def adapted(loras, kind):
    """A pipeline with LoRAs, which diffusers reads, or by hand where it does not."""
    pipe, weights = pipeline(), []
    for index, (file, scale) in enumerate(loras):
        if file in ("adapter", "tucker.safetensors"):
            change_by_hand(pipe.unet, file, scale)
            continue
        pipe.load_lora_weights(read_by_diffusers(file), adapter_name=f"lora{index}")
        weights.append((f"lora{index}", scale))
    if weights:
        pipe.set_adapters([name for name, _ in weights], [scale for _, scale in weights])
    pipe.text_encoder.to(kind)
    pipe.unet.to(kind)
    return pipe


def read_by_diffusers(file):
    """The file, or for original.safetensors the same numbers under kohya's names, which diffusers reads for SD 1."""
    if file != "original.safetensors":
        return HERE / file
    ours = load_file(HERE / file)
    known = {original(layer).replace(".", "_"): layer.replace(".", "_") for layer in attention_layers(pipeline().unet)}
    renamed = {}
    for name, tensor in ours.items():
        layer, ending = name.removeprefix("lora_unet_").split(".", 1)
        renamed[f"lora_unet_{known[layer]}.{ending}"] = tensor.float()
    return renamed


def run(weight):
    """DDIM with a scale that depends on the noise level of a call; the text encoder's is the largest."""
    largest = max(weight(sigma) for sigma in (100.0, 3.0, 0.1))
    pipe = pipeline()
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.load_lora_weights(HERE / "kohya.safetensors", adapter_name="lora0")
    pipe.set_adapters(["lora0"], [largest])
    pipe.scheduler.set_timesteps(6)
    cumulative = pipe.scheduler.alphas_cumprod
    sigmas = [math.sqrt((1 - float(cumulative[t])) / float(cumulative[t])) for t in pipe.scheduler.timesteps]

    def scale(index):
        if index < len(sigmas):
            pipe.unet.set_adapters(["lora0"], [weight(sigmas[index])])

    def after(_pipe, index, _timestep, values):
        scale(index + 1)
        return values

    scale(0)
    return pipe(PROMPT, negative_prompt=NEGATIVE, num_inference_steps=6, guidance_scale=7.5, output_type="latent",
                generator=torch.Generator("cpu").manual_seed(193), callback_on_step_end=after).images.contiguous()


def attention_layers(unet):
    names = [name for name, _ in unet.named_modules()]
    return [name for name in names if re.search(r"attn[12]\.(to_[qkv]|to_out\.0)$", name)]


def draw(*shape):
    return torch.randn(shape, generator=GENERATOR) * 0.3


def pair(weight, rank=RANK):
    """Random factors of a change of a weight: down, up."""
    return draw(rank, *weight.shape[1:]), draw(weight.shape[0], rank, *[1] * (weight.dim() - 2))


def write_kohya():
    pipe, tensors = pipeline(), {}
    wanted = r"attn[12]\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2)|proj_(in|out)|resnets\.\d\.(conv1|conv2|time_emb_proj)"
    for layer, module in pipe.unet.named_modules():
        if re.search(rf"({wanted})$", layer):
            add_kohya(tensors, "lora_unet_" + layer.replace(".", "_"), module.weight)
    for layer, module in pipe.text_encoder.named_modules():
        if re.search(r"(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])$", layer):
            add_kohya(tensors, "lora_te_text_model_" + layer.removeprefix("text_model.").replace(".", "_"), module.weight)
    save_file(tensors, HERE / "kohya.safetensors", {"ss_network_module": "networks.lora"})


def add_kohya(tensors, name, weight):
    tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = pair(weight)
    tensors[f"{name}.alpha"] = torch.tensor(1.0)


def write_original():
    pipe, tensors = pipeline(), {}
    for layer in attention_layers(pipe.unet):
        add_kohya(tensors, "lora_unet_" + original(layer).replace(".", "_"), pipe.unet.get_submodule(layer).weight)
    save_file({name: tensor.half() for name, tensor in tensors.items()}, HERE / "original.safetensors")


def original(layer):
    """The name in the original repository of a layer of attention, for two layers a block."""
    down = re.match(r"down_blocks\.(\d)\.attentions\.(\d)\.(.*)", layer)
    up = re.match(r"up_blocks\.(\d)\.attentions\.(\d)\.(.*)", layer)
    if down:
        return f"input_blocks.{1 + 3 * int(down[1]) + int(down[2])}.1.{down[3]}"
    if up:
        return f"output_blocks.{3 * int(up[1]) + int(up[2])}.1.{up[3]}"
    return layer.replace("mid_block.attentions.0", "middle_block.1")


def write_peft():
    pipe = pipeline()
    config = LoraConfig(r=RANK, lora_alpha=3, target_modules=ATTENTION, rank_pattern={"attn2.to_k": 3},
                        alpha_pattern={"attn2.to_v": 5})
    pipe.unet.add_adapter(config)
    for name, parameter in sorted(pipe.unet.named_parameters()):
        if "lora_" in name:
            parameter.data = draw(*parameter.shape)
    tensors = get_peft_model_state_dict(pipe.unet)
    StableDiffusionPipeline.save_lora_weights(HERE, unet_lora_layers=tensors, weight_name="peft.safetensors",
                                              unet_lora_adapter_metadata=pipe.unet.peft_config["default"].to_dict())
    before = {f"unet.{name.replace('.lora_A.', '.lora.down.').replace('.lora_B.', '.lora.up.')}": tensor.contiguous()
              for name, tensor in tensors.items()}
    save_file(before, HERE / "diffusers.safetensors")
    folder = HERE / "adapter"
    folder.mkdir(exist_ok=True)
    attention = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in tensors.items() if "attn1" in name}
    save_file(attention, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(
        {"peft_type": "LORA", "r": RANK, "lora_alpha": 3, "use_rslora": True, "alpha_pattern": {}, "rank_pattern": {}},
        indent=1) + "\n")


def write_old():
    pipe, tensors = pipeline(), {}
    for layer in attention_layers(pipe.unet):
        module, projection = layer.removesuffix(".0").rsplit(".", 1)
        down, up = pair(pipe.unet.get_submodule(layer).weight)
        name = f"unet.{module}.processor.{projection}_lora"
        tensors[f"{name}.down.weight"], tensors[f"{name}.up.weight"] = down, up
    for layer, module in pipe.text_encoder.named_modules():
        found = re.match(r"(?:text_model\.)?(.*self_attn)\.(q|k|v|out)_proj$", layer)
        if found:
            name = f"text_encoder.text_model.{found[1]}.to_{found[2]}_lora"
            tensors[f"{name}.down.weight"], tensors[f"{name}.up.weight"] = pair(module.weight)
    save_file(tensors, HERE / "old.safetensors")


def write_tucker():
    layer, tensors = "down_blocks_0_resnets_0_conv1", {}
    weight = pipeline().unet.down_blocks[0].resnets[0].conv1.weight
    name = f"lora_unet_{layer}"
    tensors[f"{name}.lora_down.weight"] = draw(RANK, weight.shape[1], 1, 1)
    tensors[f"{name}.lora_mid.weight"] = draw(RANK, RANK, 3, 3)
    tensors[f"{name}.lora_up.weight"] = draw(weight.shape[0], RANK, 1, 1)
    tensors[f"{name}.alpha"] = torch.tensor(4.0)
    save_file(tensors, HERE / "tucker.safetensors")


def change_by_hand(unet, file, scale):
    if file == "adapter":
        tensors = load_file(HERE / file / "adapter_model.safetensors")
        for layer in attention_layers(unet):
            name = f"base_model.model.{layer}"
            if f"{name}.lora_A.weight" in tensors:
                up, down = tensors[f"{name}.lora_B.weight"], tensors[f"{name}.lora_A.weight"]
                add(unet.get_submodule(layer), scale * 3 / math.sqrt(down.shape[0]), up @ down)
        return
    tensors = load_file(HERE / file)
    part = lambda which: tensors[f"lora_unet_down_blocks_0_resnets_0_conv1.lora_{which}.weight"]
    kernel = torch.einsum("om,mnhw,ni->oihw", part("up")[:, :, 0, 0], part("mid"), part("down")[:, :, 0, 0])
    add(unet.down_blocks[0].resnets[0].conv1, scale * 4.0 / RANK, kernel)


def add(module, scale, change):
    with torch.no_grad():
        module.weight += scale * change.reshape(module.weight.shape)


if __name__ == "__main__":
    main()
