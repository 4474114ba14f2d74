//! What one would write in Python's diffusers for each part.

use super::part::{PICTURES, Part, SCALES, SEED, STEPS, SWEEP, Subject};
use latentrace_runs::STRENGTH;
use std::path::Path;

/// The lines of Python for a part, on a model.
pub fn lines(part: Part, model: &str, subject: &Subject, image: &Path) -> String {
    let [loop_steps, steps] = STEPS;
    let [by_hand, varied] = SCALES;
    let quoted = |text: &str| format!("{text:?}");
    let prompt = quoted(&subject.prompt);
    let from = if model.ends_with(".safetensors") { "from_single_file" } else { "from_pretrained" };
    let pipe = |class: &str| format!("pipe = {class}.{from}({model:?}, safety_checker=None)\n");
    let generators = format!("generators = [torch.Generator().manual_seed({SEED} + i) for i in range({PICTURES})]\n");
    match part {
        Part::Text => format!(
            "import torch
from diffusers import (AutoencoderKL, PNDMScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline,
                       UNet2DConditionModel)
from diffusers.utils import load_image
from PIL import Image, ImageOps
from transformers import CLIPTextModel, CLIPTokenizer

tokenizer = CLIPTokenizer.from_pretrained({model:?}, subfolder=\"tokenizer\")
text_encoder = CLIPTextModel.from_pretrained({model:?}, subfolder=\"text_encoder\")

def embedded(text):
    ids = tokenizer(text, padding=\"max_length\", truncation=True,
                    max_length=tokenizer.model_max_length, return_tensors=\"pt\").input_ids
    return text_encoder(ids)[0]

embeddings, empty = embedded({prompt}), embedded(\"\")
"
        ),
        Part::Loop => format!(
            "torch.set_grad_enabled(False)
unet = UNet2DConditionModel.from_pretrained({model:?}, subfolder=\"unet\")
vae = AutoencoderKL.from_pretrained({model:?}, subfolder=\"vae\")
scheduler = PNDMScheduler()          # as written; or PNDMScheduler.from_pretrained(.., subfolder=\"scheduler\")
scheduler.set_timesteps({loop_steps})
size = unet.config.sample_size
noise = torch.randn(1, unet.config.in_channels, size, size, generator=torch.Generator().manual_seed({SEED}))
latents, pictures = noise * scheduler.init_noise_sigma, []
for i, t in enumerate(scheduler.timesteps):
    both = scheduler.scale_model_input(torch.cat([latents, latents]), t)
    u, c = unet(both, t, encoder_hidden_states=torch.cat([empty, embeddings])).sample.chunk(2)
    latents = scheduler.step(u + {by_hand} * (c - u), t, latents).prev_sample
    if i % 8 == 0 or i == len(scheduler.timesteps) - 1:
        pictures.append(vae.decode(latents / vae.config.scaling_factor).sample)
"
        ),
        Part::Guidance => format!(
            "{}for scale in {SWEEP:?}:
    generator = torch.Generator().manual_seed({SEED})
    picture = pipe({prompt}, num_inference_steps={steps}, guidance_scale=scale, generator=generator).images[0]
",
            pipe("StableDiffusionPipeline")
        ),
        Part::Negative => {
            let [prompt, negative] = subject.with_negative.each_ref().map(|text| quoted(text));
            format!(
                "{}{generators}pictures = pipe({prompt}, negative_prompt={negative},
                num_inference_steps={steps}, num_images_per_prompt={PICTURES}, generator=generators).images
",
                pipe("StableDiffusionPipeline")
            )
        }
        Part::Variations => {
            let [prompt, negative] = subject.of_variations.each_ref().map(|text| quoted(text));
            let image = quoted(&image.display().to_string());
            format!(
                "{}{generators}size = pipe.unet.config.sample_size * pipe.vae_scale_factor
pictures = pipe({prompt},
                negative_prompt={negative}, image=ImageOps.fit(load_image({image}), (size, size), Image.LANCZOS),
                strength={STRENGTH}, guidance_scale={varied}, num_inference_steps={steps},
                num_images_per_prompt={PICTURES}, generator=generators).images
",
                pipe("StableDiffusionImg2ImgPipeline")
            )
        }
    }
}
