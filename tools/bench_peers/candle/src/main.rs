//! candle's Stable Diffusion, which does parts of a run when it is asked to: `bench-peers-candle CHECKPOINT FORMAT`, then a
//! request a line on stdin and an answer a line on stdout, as `workers.py` has them.

use candle_core::{DType, Device, Module, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::stable_diffusion::{clip, unet_2d, vae};
use serde_json::Value;
use std::error::Error;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::Instant;

type Answer<T = f64> = Result<T, Box<dyn Error>>;

fn main() -> Answer<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, format] = arguments.as_slice() else {
        return Err("expected CHECKPOINT FORMAT".into());
    };
    let began = Instant::now();
    let parts = Parts::open(Path::new(folder), format)?;
    println!("{}", began.elapsed().as_secs_f64());
    for line in std::io::stdin().lock().lines() {
        match parts.answer(&line?) {
            Ok(seconds) => println!("{seconds}"),
            Err(error) => println!("error: {}", error.to_string().lines().next().unwrap_or_default()),
        }
    }
    Ok(())
}

/// candle knows the sizes of published checkpoints only, so of a tiny one it may lack a part.
struct Parts {
    text: Answer<clip::ClipTextTransformer>,
    unet: Answer<unet_2d::UNet2DConditionModel>,
    vae: Answer<vae::AutoEncoderKL>,
    sample: Tensor,
    context: Tensor,
    latents: Tensor,
    ids: Tensor,
    scale: f64,
}

impl Parts {
    fn open(folder: &Path, format: &str) -> Answer<Parts> {
        let dtype = match format {
            "f32" => DType::F32,
            "f16" => DType::F16,
            "bf16" => DType::BF16,
            _ => return Err(format!("{format}: not a format").into()),
        };
        let weights = |file: &str| -> Answer<VarBuilder<'static>> {
            let file: PathBuf = folder.join(file);
            // Safety: nobody writes the checkpoint while it is read.
            Ok(unsafe { VarBuilder::from_mmaped_safetensors(&[file], dtype, &Device::Cpu)? })
        };
        let unet = read(&folder.join("unet/config.json"))?;
        let side = number(&unet["sample_size"]);
        let width = number(&unet["cross_attention_dim"]);
        let normal = |shape: &[usize]| Tensor::randn(0f32, 1f32, shape, &Device::Cpu)?.to_dtype(dtype);
        let vae = read(&folder.join("vae/config.json"))?;
        Ok(Parts {
            text: weights("text_encoder/model.safetensors")
                .and_then(|weights| Ok(clip::ClipTextTransformer::new(weights, &clip::Config::v1_5())?)),
            unet: weights("unet/diffusion_pytorch_model.safetensors")
                .and_then(|weights| Ok(unet_2d::UNet2DConditionModel::new(weights, 4, 4, false, unet_config(&unet))?)),
            vae: weights("vae/diffusion_pytorch_model.safetensors")
                .and_then(|weights| Ok(vae::AutoEncoderKL::new(weights, 3, 3, vae_config(&vae))?)),
            sample: normal(&[2, 4, side, side])?,
            context: normal(&[2, 77, width])?,
            latents: normal(&[1, 4, side, side])?,
            ids: Tensor::ones((1, 77), DType::U32, &Device::Cpu)?,
            scale: vae["scaling_factor"].as_f64().unwrap_or(0.18215),
        })
    }

    fn answer(&self, line: &str) -> Answer {
        let words: Vec<&str> = line.split(' ').collect();
        let began = Instant::now();
        match words.as_slice() {
            ["text"] => self.text()?,
            ["unet", count] => {
                let count: u32 = count.parse()?;
                (0..count).try_for_each(|_| self.unet())?;
                return Ok(began.elapsed().as_secs_f64() / f64::from(count));
            }
            ["decode"] => self.decode()?,
            ["image", steps] => {
                let steps: u32 = steps.parse()?;
                (0..2).try_for_each(|_| self.text())?;
                (0..steps).try_for_each(|_| self.unet())?;
                self.decode()?;
            }
            _ => return Err(format!("{line}: no such request").into()),
        }
        Ok(began.elapsed().as_secs_f64())
    }

    fn text(&self) -> Answer<()> {
        part(&self.text)?.forward(&self.ids)?;
        Ok(())
    }

    fn unet(&self) -> Answer<()> {
        part(&self.unet)?.forward(&self.sample, 500., &self.context)?;
        Ok(())
    }

    fn decode(&self) -> Answer<()> {
        part(&self.vae)?.decode(&(&self.latents / self.scale)?)?;
        Ok(())
    }
}

fn part<T>(part: &Answer<T>) -> Answer<&T> {
    part.as_ref().map_err(|error| error.to_string().into())
}

fn unet_config(found: &Value) -> unet_2d::UNet2DConditionModelConfig {
    let kinds = found["down_block_types"].as_array().into_iter().flatten();
    let blocks = widths(found)
        .into_iter()
        .zip(kinds)
        .map(|(out_channels, kind)| unet_2d::BlockConfig {
            out_channels,
            use_cross_attn: (kind == "CrossAttnDownBlock2D").then_some(1),
            attention_head_dim: number(&found["attention_head_dim"]),
        })
        .collect();
    unet_2d::UNet2DConditionModelConfig {
        blocks,
        cross_attention_dim: number(&found["cross_attention_dim"]),
        norm_num_groups: number(&found["norm_num_groups"]),
        ..Default::default()
    }
}

fn vae_config(found: &Value) -> vae::AutoEncoderKLConfig {
    vae::AutoEncoderKLConfig {
        block_out_channels: widths(found),
        layers_per_block: number(&found["layers_per_block"]),
        latent_channels: 4,
        norm_num_groups: number(&found["norm_num_groups"]),
        use_quant_conv: true,
        use_post_quant_conv: true,
    }
}

fn read(file: &Path) -> Answer<Value> {
    let text = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

fn widths(found: &Value) -> Vec<usize> {
    found["block_out_channels"].as_array().into_iter().flatten().map(number).collect()
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap_or_default() as usize
}
