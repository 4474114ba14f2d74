//! Training of the UNet, and of the text encoder with it.

use crate::autoencoder::Autoencoder;
use crate::checkpoint::{SCHEDULER, UNET, text_config};
use crate::descent::descend;
use crate::error::Result;
use crate::optimizer::Optimizer;
use crate::{Pictures, Recipe, Report, Vocabulary};
use latentrace_nn::tch::{Device, Kind, Tensor, no_grad};
use latentrace_nn::{Config, Pass, Weights, seeded};
use latentrace_shapes::{Detail, Stream};
use latentrace_text::{TextConfig, TextEncoder, Tokenizer};
use latentrace_unet::{Unet, UnetConfig};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A trained denoiser.
pub struct Denoiser {
    /// The weights of both networks, by `unet/name` and `text_encoder/name`.
    pub weights: BTreeMap<String, Tensor>,
    /// What the VAE's latents are multiplied by.
    pub scaling_factor: f64,
}

const PHASE: &str = "denoiser";

/// Trains UNet and text encoder together to predict the velocity `sqrt(a) eps - sqrt(1 - a) x0` (Salimans and Ho 2022)
/// of noisy latents, under captions of varying completeness. Velocity, because at high noise it asks for the picture
/// itself: that is where place and background are decided, and where the prediction of noise learns next to nothing.
/// Goes on from `folder` where a run was stopped.
///
/// # Errors
/// The state cannot be read or written, or the loss is not a number any more.
pub fn denoiser(
    recipe: &Recipe,
    pictures: &Pictures,
    autoencoder: &Autoencoder,
    vocabulary: &Vocabulary,
    folder: &Path,
    device: Device,
    report: impl FnMut(Report),
) -> Result<Denoiser> {
    let phase = &recipe.denoiser;
    let (unet_weights, unet_variables) = Weights::trainable("unet", recipe.seed, device);
    let (text_weights, text_variables) = Weights::trainable("text_encoder", recipe.seed, device);
    let unet_config = UnetConfig::read(&Config::parse("unet/config.json", &UNET.to_string())?)?;
    let text = Config::parse("text_encoder/config.json", &text_config(vocabulary.len()).to_string())?;
    let networks = Networks {
        unet: Unet::load(&unet_weights, &unet_config)?,
        text: TextEncoder::load(&text_weights, &TextConfig::read(&text)?)?,
    };
    let mut optimizer = Optimizer::new(&[("unet", &unet_variables), ("text_encoder", &text_variables)]);
    let state = folder.join("denoiser.safetensors");
    let tokenizer = vocabulary.tokenizer(&folder.join("tokenizer"))?;
    let latents = encode(pictures, autoencoder, device);
    let scaling_factor = 1.0 / latents.std(false).double_value(&[]);
    let mut data = Data {
        latents: latents * scaling_factor,
        pictures,
        tokenizer: &tokenizer,
        known: HashMap::new(),
        signal: signal()?,
    };
    descend(
        PHASE,
        phase,
        &mut optimizer,
        &state,
        report,
        |step| Ok(networks.loss(&data.batch(recipe, step, device)?)),
    )?;
    Ok(Denoiser { weights: optimizer.averages(), scaling_factor })
}

struct Networks {
    unet: Unet,
    text: TextEncoder,
}

struct Batch {
    noisy: Tensor,    // [batch, 4, 8, 8]
    velocity: Tensor, // [batch, 4, 8, 8]
    times: Tensor,    // [batch]
    ids: Tensor,      // [batch, tokens]
}

impl Networks {
    fn loss(&self, batch: &Batch) -> Tensor {
        let text = self.text.forward(&mut Pass::silent(), &batch.ids);
        let predicted = self.unet.forward(&mut Pass::silent(), &batch.noisy, &batch.times, &text);
        (predicted - &batch.velocity).square().mean(Kind::Float)
    }
}

struct Data<'a> {
    latents: Tensor, // [pictures, 4, 8, 8], of unit variance
    pictures: &'a Pictures,
    tokenizer: &'a Tokenizer,
    known: HashMap<String, Vec<i64>>,
    signal: Tensor, // [1000], the cumulative product of alphas
}

impl Data<'_> {
    fn batch(&mut self, recipe: &Recipe, step: u64, device: Device) -> Result<Batch> {
        let batch = recipe.denoiser.batch as i64;
        let cpu = Device::Cpu;
        let (numbers, times, noise) = seeded(recipe.seed ^ (step << 20) ^ (1 << 62), || {
            let numbers = Tensor::randint(self.pictures.scenes.len() as i64, [batch], (Kind::Int64, cpu));
            let times = Tensor::randint(self.signal.size()[0], [batch], (Kind::Int64, cpu));
            (numbers, times, Tensor::randn([batch, 4, 8, 8], (Kind::Float, cpu)))
        });
        let mut stream = Stream::numbered(recipe.seed ^ 0x6361_7074, step);
        let mut ids = Vec::new();
        for row in 0..batch {
            let scene = &self.pictures.scenes[numbers.int64_value(&[row]) as usize];
            let caption = scene.caption(Detail::random(&mut stream));
            if !self.known.contains_key(&caption) {
                self.known.insert(caption.clone(), self.tokenizer.encode(&caption)?.ids);
            }
            ids.extend_from_slice(&self.known[&caption]);
        }
        let clean = self.latents.index_select(0, &numbers.to_device(device));
        let noise = noise.to_device(device);
        let signal = self.signal.index_select(0, &times).to_device(device).view([-1, 1, 1, 1]);
        let (alpha, sigma) = (signal.sqrt(), (-&signal + 1.0).sqrt());
        Ok(Batch {
            noisy: &alpha * &clean + &sigma * &noise,
            velocity: alpha * noise - sigma * clean,
            times: times.to_device(device).to_kind(Kind::Float),
            ids: Tensor::from_slice(&ids).view([batch, -1]).to_device(device),
        })
    }
}

/// The cumulative product of alphas of the schedule that the checkpoint ships, as f32.
fn signal() -> Result<Tensor> {
    let config = latentrace_schedulers::Config::from_json(&SCHEDULER.to_string())?;
    let signal: Vec<f32> = config.schedule().alphas_cumprod().iter().map(|&signal| signal as f32).collect();
    Ok(Tensor::from_slice(&signal))
}

/// The latents of every picture: the means, for the spread around them is small.
fn encode(pictures: &Pictures, autoencoder: &Autoencoder, device: Device) -> Tensor {
    let count = pictures.scenes.len() as i64;
    no_grad(|| {
        let chunks: Vec<Tensor> = (0..count)
            .step_by(64)
            .map(|from| {
                let numbers = Tensor::arange_start(from, (from + 64).min(count), (Kind::Int64, Device::Cpu));
                autoencoder.vae.encode(&mut Pass::silent(), &pictures.batch(&numbers, device)).mean
            })
            .collect();
        Tensor::cat(&chunks, 0)
    })
}
