//! What a run with a mask knows of its picture, and how it uses that.

use latentrace_checkpoints::UnetInput;
use latentrace_nn::tch::{Device, Tensor};
use latentrace_schedulers::Noised;

/// What a run with a mask knows of its picture, in tensors of f32. A mask is 1 where the picture is made anew, and 0 where it is
/// kept.
#[derive(Debug)]
pub enum Known {
    /// For an ordinary UNet. Before each network call but the first, the sample is replaced outside the mask by the picture
    /// with the noise that the run started from; and after the last step by the picture itself.
    Replaces {
        /// The mask, `[images, 1, height, width]`.
        mask: Tensor,
        /// The latents of the picture at unit variance, `[images, 4, height, width]`.
        image: Tensor,
        /// The normal noise that the run started from, `[images, 4, height, width]`. A run that draws its start uses what it
        /// draws.
        noise: Tensor,
    },
    /// For an inpainting UNet, which takes them at every call.
    Given {
        /// The mask, `[images, 1, height, width]`.
        mask: Tensor,
        /// The latents of the picture without its masked part, `[images, 4, height, width]`.
        masked: Tensor,
        /// The latents of the picture, if the run starts from them: with a strength below 1.
        image: Option<Tensor>,
    },
}

impl Clone for Known {
    /// The copy shares the tensors.
    fn clone(&self) -> Known {
        self.map(Tensor::shallow_clone)
    }
}

impl Known {
    /// What the UNet of such a run takes.
    pub fn input(&self) -> UnetInput {
        match self {
            Known::Replaces { .. } => UnetInput::Sample,
            Known::Given { .. } => UnetInput::Inpainting,
        }
    }

    /// The same on another device.
    pub(crate) fn to_device(&self, device: Device) -> Known {
        self.map(|tensor| tensor.to_device(device))
    }

    fn map(&self, of: impl Fn(&Tensor) -> Tensor) -> Known {
        match self {
            Known::Replaces { mask, image, noise } => {
                Known::Replaces { mask: of(mask), image: of(image), noise: of(noise) }
            }
            Known::Given { mask, masked, image } => {
                Known::Given { mask: of(mask), masked: of(masked), image: image.as_ref().map(of) }
            }
        }
    }

    /// The latents of the picture.
    pub(crate) fn image(&self) -> Option<&Tensor> {
        match self {
            Known::Replaces { image, .. } => Some(image),
            Known::Given { image, .. } => image.as_ref(),
        }
    }

    /// What several images know, as rows. `None` if there are none, or if they are of different kinds.
    pub(crate) fn stacked(images: &[&Known]) -> Option<Known> {
        let mut images = images.iter();
        let first = (*images.next()?).clone();
        images.try_fold(first, |all, next| match (all, next) {
            (Known::Replaces { mask, image, noise }, Known::Replaces { mask: m, image: i, noise: n }) => {
                let [mask, image, noise] = [(mask, m), (image, i), (noise, n)].map(|(a, b)| Tensor::cat(&[&a, b], 0));
                Some(Known::Replaces { mask, image, noise })
            }
            (Known::Given { mask, masked, image }, Known::Given { mask: m, masked: p, image: i }) => {
                let [mask, masked] = [(mask, m), (masked, p)].map(|(a, b)| Tensor::cat(&[&a, b], 0));
                let image = image.zip(i.as_ref()).map(|(a, b)| Tensor::cat(&[&a, b], 0));
                Some(Known::Given { mask, masked, image })
            }
            _ => None,
        })
    }

    /// The input of a network call: that of an inpainting UNet is `[images, 4 + 1 + 4, height, width]`.
    pub(crate) fn beside(&self, input: Tensor) -> Tensor {
        match self {
            Known::Replaces { .. } => input,
            Known::Given { mask, masked, .. } => Tensor::cat(&[&input, mask, masked], 1),
        }
    }

    /// A sample, `[images, 4, height, width]`, with its known part replaced by the picture with noise.
    pub(crate) fn keep(&self, sample: Tensor, noised: Noised) -> Tensor {
        match self {
            Known::Replaces { mask, image, noise } => {
                (image * noised.picture + noise * noised.noise) * (1 - mask) + sample * mask
            }
            Known::Given { .. } => sample,
        }
    }

    /// The final latents, with their known part replaced by those of the picture.
    pub(crate) fn keep_at_the_end(&self, latents: Tensor) -> Tensor {
        match self {
            Known::Replaces { mask, image, .. } => image * (1 - mask) + latents * mask,
            Known::Given { .. } => latents,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.flatten(0, -1)).unwrap()
    }

    fn row(of: &[f32]) -> Tensor {
        Tensor::from_slice(of).view([1, 1, 1, -1])
    }

    #[test]
    fn the_known_part_of_a_sample_is_the_picture_with_noise() {
        let known = Known::Replaces { mask: row(&[1.0, 0.0]), image: row(&[2.0, 3.0]), noise: row(&[0.5, -1.0]) };
        let sample = || row(&[10.0, 20.0]);
        assert_eq!(numbers(&known.keep(sample(), Noised::to(4.0))), [10.0, -1.0]);
        assert_eq!(numbers(&known.keep(sample(), Noised { picture: 0.5, noise: 2.0 })), [10.0, -0.5]);
        assert_eq!(numbers(&known.keep_at_the_end(sample())), [10.0, 3.0]);
        assert_eq!(known.beside(sample()).size(), [1, 1, 1, 2]);
        let both = Known::stacked(&[&known, &known]).unwrap();
        assert_eq!(numbers(&both.keep_at_the_end(Tensor::cat(&[sample(), sample()], 0))), [10.0, 3.0, 10.0, 3.0]);
    }

    #[test]
    fn an_inpainting_unet_takes_the_mask_and_the_masked_picture_beside_the_sample() {
        let known = Known::Given { mask: row(&[1.0, 0.0]), masked: row(&[0.0, 3.0]), image: None };
        assert_eq!(numbers(&known.beside(row(&[7.0, 8.0]))), [7.0, 8.0, 1.0, 0.0, 0.0, 3.0]);
        assert_eq!(numbers(&known.keep(row(&[7.0, 8.0]), Noised::to(4.0))), [7.0, 8.0]);
        let other = Known::Replaces { mask: row(&[1.0]), image: row(&[1.0]), noise: row(&[1.0]) };
        assert!(Known::stacked(&[&known, &other]).is_none() && Known::stacked(&[]).is_none());
    }
}
