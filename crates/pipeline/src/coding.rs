//! Encoding of texts and pictures, and decoding of latents.

use crate::condition::EncodedText;
use crate::counts;
use crate::error::{Error, Result, Stage};
use crate::execute::missing;
use crate::model::{PagesOfNetworks, TextModel};
use crate::tripwire::{FaultContext, blame, fault, hint, hint_of_vae};
use crate::{Mask, Model, Picture, Prepared, Size, Start, TextOptions};
use latentrace_nn::tch::{self, Kind, Tensor, no_grad};
use latentrace_nn::{Pass, if_it_fits};
use latentrace_schedulers::Reading;
use latentrace_text::{Encoded, Encoding, Tokens};
use latentrace_vae::Posterior;

impl Model {
    /// Encodes the pictures that images start from, to latents at unit variance `[images, 4, height, width]`. `noise`
    /// has the same shape, and samples from the encoder's distribution.
    pub(crate) fn encode_pictures(&self, images: &[&Prepared], noise: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        self.encode_each(images, noise, |picture, _, size| {
            picture.check(size)?;
            let pixels = self.as_input(&picture.to_tensor());
            let moments = self.vae.moments(pass, &pixels);
            self.finite(moments, &pixels, pass)
        })
    }

    /// Encodes the pictures of images without their masked parts, as [`Model::encode_pictures`] does. No tensor passes a
    /// tap: those of the encoder are for the whole picture.
    pub(crate) fn encode_masked(&self, images: &[&Prepared], noise: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        self.encode_each(images, noise, |picture, mask, size| {
            picture.check(size)?;
            let pixels = self.as_input(&mask.ok_or_else(missing)?.removed_from(picture));
            let moments = self.vae.moments(&mut Pass::silent(), &pixels);
            self.finite(moments, &pixels, pass)
        })
    }

    /// The moments that the encoder has computed of pixels, `[1, 3, height, width]`.
    ///
    /// # Errors
    /// They are not finite; the error names the first such tensor.
    fn finite(&self, moments: Tensor, pixels: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        match fault(&moments) {
            None => Ok(moments),
            Some(found) => {
                let context = self.context("vae.encoder.moments", Stage::Encoding);
                Err(blame(context, found, pass, |pass| self.vae.moments(pass, pixels)))
            }
        }
    }

    /// The masks of images at the size of the latents, `[images, 1, height, width]`.
    pub(crate) fn masks(&self, images: &[&Prepared]) -> Result<Tensor> {
        let factor = self.checkpoint.vae.config.factor();
        let row = |image: &&Prepared| {
            let Start::Masked { mask, .. } = &image.start else { return Err(missing()) };
            mask.check(image.request.size)?;
            Ok(mask.to_latents(factor).to_device(self.device))
        };
        Ok(Tensor::cat(&images.iter().map(row).collect::<Result<Vec<_>>>()?, 0))
    }

    /// Latents of each image at unit variance, `[images, 4, height, width]`. `moments` encodes a picture with its mask, and is
    /// called once for equal ones.
    fn encode_each<'a>(
        &self,
        images: &[&'a Prepared],
        noise: &Tensor,
        mut moments: impl FnMut(&'a Picture, Option<&'a Mask>, Size) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut encoded: Vec<((&Picture, Option<&Mask>), Posterior)> = Vec::new();
        let mut rows = Vec::new();
        for (image, Prepared { request, start, .. }) in images.iter().enumerate() {
            let asked = match start {
                Start::Picture { picture, .. } => (&**picture, None),
                Start::Masked { picture, mask, .. } => (&**picture, Some(&**mask)),
                _ => return Err(missing()),
            };
            let place = match encoded.iter().position(|(known, _)| *known == asked) {
                Some(place) => place,
                None => {
                    encoded.push((asked, Posterior::of(&moments(asked.0, asked.1, request.size)?)));
                    encoded.len() - 1
                }
            };
            let Posterior { mean, log_variance } = &encoded[place].1;
            let posterior =
                Posterior { mean: mean.to_kind(Kind::Float), log_variance: log_variance.to_kind(Kind::Float) };
            let sample = posterior.sample(&noise.narrow(0, image as i64, 1));
            rows.push(self.checkpoint.vae.config.normalised(&sample));
        }
        Ok(Tensor::cat(&rows, 0))
    }

    /// Pixels on the device and in the number format of the VAE.
    fn as_input(&self, pixels: &Tensor) -> Tensor {
        pixels.to_device(self.device).to_kind(self.vae.kind())
    }

    /// The tokens of a text for the first text encoder, and its text features, `[1, tokens, features]`.
    ///
    /// # Errors
    /// The text cannot be tokenized, or the features are not finite.
    pub fn encode(&self, prompt: &str, pass: &mut Pass) -> Result<(Tokens, Tensor)> {
        self.encode_as(prompt, TextOptions::default(), pass)
    }

    /// [`Model::encode`], with options. A text of several chunks has `[1, chunks * tokens, features]`.
    ///
    /// # Errors
    /// The text cannot be read or tokenized, or the features are not finite.
    pub fn encode_as(&self, prompt: &str, options: TextOptions, pass: &mut Pass) -> Result<(Tokens, Tensor)> {
        self.check_text(options)?;
        let _held = self.hold_threads(Size::of(&self.checkpoint), 1);
        let tokens = self.tokens(prompt, options)?;
        let encodings = self.encodings_of(options.clip_skip, Reading::Diffusers);
        let EncodedText { features, .. } = self.encode_tokens(&tokens, &encodings, pass)?;
        Ok((tokens.into_iter().next().unwrap_or_default(), features))
    }

    /// What the text encoders return for the tokens of each, as `encodings` asks it of each.
    pub(crate) fn encode_tokens(
        &self,
        tokens: &[Tokens],
        encodings: &[Encoding],
        pass: &mut Pass,
    ) -> Result<EncodedText> {
        counts::add(|counts| &mut counts.encoded);
        let asked = tokens.iter().zip(encodings);
        let each = self.texts.iter().zip(asked).map(|(text, (tokens, how))| self.encode_by(text, tokens, *how, pass));
        let mut each: Vec<EncodedText> = each.collect::<Result<_>>()?;
        let last = each.pop().ok_or_else(missing)?;
        if each.is_empty() {
            return Ok(last);
        }
        let features: Vec<&Tensor> = each.iter().chain([&last]).map(|one| &one.features).collect();
        Ok(EncodedText { features: Tensor::cat(&features, 2), pooled: last.pooled })
    }

    /// What a text encoder returns for tokens. The chunks are encoded in one batch, so that each tap is passed once. The pooled text is
    /// that of the first chunk, and weights of words do not change it.
    fn encode_by(&self, text: &TextModel, tokens: &Tokens, how: Encoding, pass: &mut Pass) -> Result<EncodedText> {
        let length = text.tokenizer.length() as i64;
        let ids = Tensor::from_slice(&tokens.ids).view([-1, length]).to_device(self.device); // [chunks, tokens]
        let encode = |pass: &mut Pass| {
            let Encoded { features, pooled } = text.encoder.encode(pass, &ids, how);
            (weighted(features, &tokens.weights), pooled)
        };
        // Gradients are on again also where a caught panic ends the work.
        let (features, pooled) = no_grad(|| if_it_fits(|| encode(pass)))?; // [chunks, tokens, features], [chunks, features]
        match fault(&features).or_else(|| pooled.as_ref().and_then(fault)) {
            None => {
                let (width, kind) = (features.size()[2], self.unet.kind());
                let pooled = pooled.map(|pooled| pooled.narrow(0, 0, 1).to_kind(kind));
                Ok(EncodedText { features: features.view([1, -1, width]).to_kind(kind), pooled })
            }
            Some(found) => {
                let context = self.context(&format!("{}.out", text.name), Stage::Text);
                Err(blame(context, found, pass, |pass| no_grad(|| encode(pass))))
            }
        }
    }

    /// Decodes latents `[1, 4, height, width]` in the UNet's scale. The pixels do not depend on what else is decoded.
    ///
    /// # Errors
    /// The picture is not finite, or there is not enough memory.
    pub fn decode(&self, latents: &Tensor, pass: &mut Pass) -> Result<Picture> {
        self.picture(latents, &self.pixels(latents, pass)?, pass)
    }

    /// Decodes latents `[images, 4, height, width]` in the UNet's scale. Returns an error in place of each picture that is not
    /// finite or does not fit into memory.
    ///
    /// On a CPU they are decoded one at a time, each with the pixels of [`Model::decode`]: a batch would gain nothing and take more memory.
    /// On a GPU they are decoded in one batch, or in halves of it where that does not fit.
    pub fn decode_all(&self, latents: &Tensor) -> Vec<Result<Picture>> {
        let images = latents.size()[0];
        let row = |tensor: &Tensor, image| tensor.narrow(0, image, 1);
        if images > 1 && self.device == tch::Device::Cpu {
            return (0..images).map(|image| self.decode(&row(latents, image), &mut Pass::silent())).collect();
        }
        match self.pixels(latents, &mut Pass::silent()) {
            Ok(pixels) => {
                let picture = |image| self.picture(&row(latents, image), &row(&pixels, image), &mut Pass::silent());
                (0..images).map(picture).collect()
            }
            Err(Error::Memory(_)) if images > 1 => {
                let half = images / 2;
                let halves = [latents.narrow(0, 0, half), latents.narrow(0, half, images - half)];
                halves.iter().flat_map(|half| self.decode_all(half)).collect()
            }
            Err(error) => vec![Err(error)],
        }
    }

    /// The picture of latents from their decoded pixels `[1, 3, height, width]`.
    fn picture(&self, latents: &Tensor, pixels: &Tensor, pass: &mut Pass) -> Result<Picture> {
        match fault(pixels) {
            None => Ok(Picture::of_finite(pixels)),
            Some(found) => {
                let context = self.context("vae.decoder.out", Stage::Decoding);
                Err(blame(context, found, pass, |pass| self.pixels(latents, pass).map(drop)))
            }
        }
    }

    /// The context of a fault in one of the networks.
    fn context(&self, output: &str, stage: Stage) -> FaultContext {
        let hint = match stage {
            Stage::Encoding | Stage::Decoding => hint_of_vae(self.vae.kind()),
            Stage::Text | Stage::Call { .. } => hint(self.unet.kind()),
        };
        FaultContext { output: output.into(), stage, hint }
    }

    /// Decodes latents to pixels `[images, 3, 8 height, 8 width]`, about -1..1.
    ///
    /// # Errors
    /// There is not enough memory.
    fn pixels(&self, latents: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let _held = self.hold_threads_for(latents);
        let decode = || {
            let scaled = self.checkpoint.vae.config.restored(&latents.to_kind(Kind::Float));
            self.vae.decode(pass, &scaled.to_kind(self.vae.kind()))
        };
        PagesOfNetworks::release(self.pages.texts.iter().chain([&self.pages.unet]));
        let pixels = no_grad(|| if_it_fits(decode))?; // gradients are on again also where a caught panic ends the work
        PagesOfNetworks::release([&self.pages.vae]);
        Ok(pixels)
    }
}

/// Multiplies the features of each token by its weight, and restores the mean of each chunk, as AUTOMATIC1111's web
/// interface does (`EmphasisOriginal` in `modules/sd_emphasis.py`). Without weights, the features are left as they are.
fn weighted(features: Tensor, weights: &[f64]) -> Tensor {
    if weights.is_empty() {
        return features;
    }
    let kind = features.kind();
    let size = features.size(); // [chunks, tokens, features]
    let weights = Tensor::from_slice(weights).to_kind(Kind::Float).view([size[0], size[1], 1]);
    let before = features.to_kind(Kind::Float);
    let after = &before * weights.to_device(features.device());
    let mean = |tensor: &Tensor| tensor.mean_dim([1, 2].as_slice(), true, Kind::Float); // [chunks, 1, 1]
    let ratio = mean(&before) / mean(&after);
    (after * ratio).to_kind(kind)
}
