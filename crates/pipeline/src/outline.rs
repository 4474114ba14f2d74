//! The tensors that pass the taps of a model, without reading any weight.

use crate::error::Result;
use crate::execute::draws;
use crate::{Known, Negative, Options, SamplerTaps, Size, Start, TextShape, UnetInput};
use latentrace_checkpoints::{Checkpoint, TextPart};
use latentrace_nn::tch::{Kind, Tensor, no_grad};
use latentrace_nn::{Branch, Conditioning, Moment, Pass, Probe, Role, Rows, SamplerValue, Tap, Weights, shape_only};
use latentrace_schedulers::Plan;
use latentrace_text::{Encoding, End, TextEncoder};
use latentrace_unet::{Added, Condition, Unet};
use latentrace_vae::Vae;

/// A tensor that passes a tap.
#[derive(Clone, Debug)]
pub struct Outlined {
    /// The tap. Its [`Tap::id`] differs from that of the same tap in an opened model.
    pub tap: Tap,
    /// The shape. `rows` says what the first axis is.
    pub shape: Vec<i64>,
    /// The number format.
    pub kind: Kind,
    /// What the rows along the first axis are.
    pub rows: Rows,
    /// If one axis of the tensor is the pixels of a flattened picture, the picture's height and width
    /// ([`Moment::grid`]).
    pub grid: Option<[i64; 2]>,
    /// When it passes the tap.
    pub when: When,
    /// What the UNet of the checkpoint takes.
    pub input: UnetInput,
}

/// At which calls of a run a tensor passes its tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Once for each text, before the first call.
    Text,
    /// At every network call.
    Call,
    /// Once, before the first call.
    Start,
    /// At the calls whose steps draw noise.
    Draw,
    /// Once, after the last call.
    Pixels,
    /// Once, before the first call, when a run that starts from a picture encodes it.
    Picture,
    /// Once, before the first call, in a run that starts from a picture or from the latents of a picture, or keeps a part
    /// of it.
    Latents,
    /// Once, before the first call, in a run with a mask.
    Mask,
}

impl Outlined {
    /// The calls of a plan at which the tensor passes, in a run with this start.
    pub fn calls(&self, plan: &Plan, start: &Start) -> Vec<usize> {
        let from_sample = matches!(start, Start::Sample { .. });
        let (is_encoded, known) = (start.encodings(self.input).image, start.known());
        let is_masked = known.is_some() || matches!(start, Start::Masked { .. });
        let keeps = matches!(known, Some(Known::Replaces { .. }));
        let once = |passes: bool| if passes { vec![0] } else { Vec::new() };
        match self.when {
            When::Text => vec![0],
            When::Start => once(!from_sample || keeps),
            When::Call => (0..plan.calls()).collect(),
            When::Draw => draws(plan).skip(usize::from(!from_sample)).collect(),
            When::Pixels => vec![plan.calls() - 1],
            When::Picture => once(is_encoded && matches!(start, Start::Picture { .. } | Start::Masked { .. })),
            When::Latents => once(is_encoded || keeps),
            When::Mask => once(is_masked),
        }
    }

    /// The size of the tensor in bytes.
    pub fn bytes(&self) -> u64 {
        self.shape.iter().product::<i64>() as u64 * self.kind.elt_size_in_bytes() as u64
    }
}

/// Every tensor of a text-to-image run with its shape, in the order in which they pass their taps. `size` defaults to
/// the checkpoint's. Reads no weights and computes nothing.
///
/// The tensors depend on the texts too: on the layers that are left out, on the number of chunks, and on what stands for the negative
/// prompt.
///
/// # Errors
/// The model cannot produce this size.
pub fn outline(
    checkpoint: &Checkpoint,
    options: Options,
    size: Option<Size>,
    text: TextShape,
) -> Result<Vec<Outlined>> {
    let factor = checkpoint.vae.config.factor();
    let latents = size.unwrap_or_else(|| Size::of(checkpoint)).latents(factor)?;
    let mut seen = Seen { list: Vec::new(), when: When::Text, input: checkpoint.input() };
    no_grad(|| {
        see_texts(checkpoint, options, text, &mut seen)?;
        see_unet(checkpoint, options, latents, text, &mut seen)?;
        see_sampler(checkpoint, latents, text, &mut seen);
        see_vae(checkpoint, options, latents, &mut seen)?;
        Ok(seen.list)
    })
}

/// The tensors of the text encoders.
fn see_texts(checkpoint: &Checkpoint, options: Options, text: TextShape, seen: &mut Seen) -> Result<()> {
    let mut encoders = Vec::new();
    for TextPart { encoder: part, .. } in &checkpoint.texts {
        let ids = shape_only(&[text.chunks, part.config.max_position_embeddings], Kind::Int64);
        let weights = Weights::shapes(part.name(), options.dtype.kind());
        encoders.push((TextEncoder::load(&weights, &part.config)?, ids));
    }
    let [of_prompt, of_negative] = text.skipped;
    let prompt = text.given.is_none().then_some((Branch::Conditional, of_prompt));
    let is_encoded = text.given.is_none() && text.negative == Negative::Text;
    let negative = is_encoded.then_some((Branch::Unconditional, of_negative));
    for (branch, skipped) in prompt.into_iter().chain(negative) {
        for (encoder, ids) in &encoders {
            let encoding = Encoding { state: checkpoint.state(), skipped, end: End::Largest };
            let _ = encoder.encode(&mut seen.pass(When::Text, Rows::Branch(branch)), ids, encoding);
        }
    }
    Ok(())
}

/// The tensors of the UNet, for latents of a height and width.
fn see_unet(
    checkpoint: &Checkpoint,
    options: Options,
    [height, width]: [i64; 2],
    text: TextShape,
    seen: &mut Seen,
) -> Result<()> {
    let (config, kind) = (&checkpoint.unet.config, options.dtype.kind());
    let rows = text.negative.rows() as i64;
    let of = match text.negative {
        Negative::Absent => Rows::Branch(Branch::Conditional),
        Negative::Text | Negative::Zeros => Rows::Branches,
    };
    let tokens = text.given.unwrap_or(text.chunks * checkpoint.text().encoder.config.max_position_embeddings);
    let features = shape_only(&[rows, tokens, checkpoint.text_features()], kind);
    let pooled = checkpoint.pooled().map(|width| shape_only(&[rows, width], kind));
    let ids = checkpoint.ids().map(|ids| shape_only(&[rows, ids.count()], Kind::Float));
    let added = pooled.as_ref().zip(ids.as_ref()).map(|(pooled, ids)| Added { pooled, ids });
    let input = shape_only(&[rows, config.in_channels, height, width], kind);
    let network = Unet::load(&Weights::shapes("unet", kind), config)?;
    let condition = Condition { text: &features, added };
    let _ = network.forward(&mut seen.pass(When::Call, of), &input, &shape_only(&[1], Kind::Float), condition);
    Ok(())
}

/// The values of the sampler, for latents of a height and width.
fn see_sampler(checkpoint: &Checkpoint, [height, width]: [i64; 2], text: TextShape, seen: &mut Seen) {
    let latent_channels = checkpoint.vae.config.latent_channels;
    let is_guided = text.negative != Negative::Absent;
    let takes = |tap: &&Tap| match tap.role() {
        Role::Sampler(SamplerValue::Masked) => seen.input == UnetInput::Inpainting,
        Role::Sampler(
            SamplerValue::Epsilon(Conditioning::Unconditional) | SamplerValue::Output(Conditioning::Unconditional),
        ) => is_guided,
        _ => true,
    };
    let taps = SamplerTaps::new();
    let taps: Vec<&Tap> = taps.all().into_iter().filter(takes).collect();
    for tap in taps {
        let channels = if tap.role() == Role::Sampler(SamplerValue::Mask) { 1 } else { latent_channels };
        let value = shape_only(&[1, channels, height, width], Kind::Float);
        let when = match tap.role() {
            Role::Sampler(SamplerValue::Mask | SamplerValue::Masked) => When::Mask,
            Role::Sampler(SamplerValue::Image) => When::Latents,
            Role::Sampler(SamplerValue::Start) => When::Start,
            Role::Sampler(SamplerValue::Noise) => When::Draw,
            Role::Sampler(SamplerValue::Latents) => When::Pixels,
            _ => When::Call,
        };
        let _ = seen.pass(when, Rows::Images).tap(tap, value);
    }
}

/// The tensors of the VAE, for latents of a height and width.
fn see_vae(checkpoint: &Checkpoint, options: Options, [height, width]: [i64; 2], seen: &mut Seen) -> Result<()> {
    let (config, kind) = (&checkpoint.vae.config, options.vae_kind(checkpoint));
    let network = Vae::load(&Weights::shapes("vae", kind), config)?;
    let latents = shape_only(&[1, config.latent_channels, height, width], kind);
    let _ = network.decode(&mut seen.pass(When::Pixels, Rows::Images), &latents);
    let picture = shape_only(&[1, 3, height * config.factor(), width * config.factor()], kind);
    network.encode(&mut seen.pass(When::Picture, Rows::Images), &picture);
    Ok(())
}

/// A probe that keeps the shapes of tensors.
struct Seen {
    list: Vec<Outlined>,
    when: When,
    input: UnetInput,
}

impl Seen {
    fn pass(&mut self, when: When, rows: Rows) -> Pass<'_> {
        self.when = when;
        let mut pass = Pass::watched(self);
        pass.set_rows(rows);
        pass
    }
}

impl Probe for Seen {
    fn wants(&self, _: &Tap, _: &Moment) -> bool {
        true
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        let (shape, kind) = (tensor.size(), tensor.kind());
        self.list.push(Outlined {
            tap: tap.clone(),
            shape,
            kind,
            rows: moment.rows,
            grid: moment.grid,
            when: self.when,
            input: self.input,
        });
        tensor
    }
}
