//! How many CPU threads a model's networks run on.

use crate::{Model, Size};
use latentrace_nn::{HeldThreads, all_threads, given_threads, hold_threads, set_threads, tch};
use latentrace_unet::UnetConfig;

/// How many CPU threads the networks of a model run on. Sums are rounded otherwise on two threads than on one, by a few
/// units in the last place. So the number never depends on how busy the machine is, and records have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// One if a call of the UNet is small, and otherwise all that libtorch has.
    BySize,
    /// As many as libtorch is set to. A model is loaded with this where `OMP_NUM_THREADS` or `MKL_NUM_THREADS` gives a number.
    AsSet,
    /// By size as in [`Threads::BySize`], so many for small calls and so many for large ones: as a store has chosen.
    Chosen {
        /// For a small call of the UNet.
        small: usize,
        /// For a large one.
        large: usize,
    },
    /// So many, as a record says, or all that libtorch has if these are fewer.
    Recorded(usize),
}

/// The work from which a call of the UNet runs on all threads.
///
/// An operation on two threads pays from some work of its own on, so it is the work of a layer that counts, and not the
/// number of layers: see [`work`]. For one picture the first bundled model, of 64x64 pixels, had 3e5, and gained nothing
/// from a second thread; that of today has 3e6, and nine pictures take 14 s on two threads and 23 s on one. Stable Diffusion 1.x
/// has 2e9.
const LARGE: f64 = 1e6;

/// The work of a layer of the UNet for images with such latents, summed over the resolutions: pixels times channels squared, as a
/// convolution or a linear layer has it.
fn work(config: &UnetConfig, [height, width]: [i64; 2], images: usize) -> f64 {
    let layer = |(level, channels): (usize, &i64)| (channels * channels) as f64 / 4f64.powi(level as i32);
    let layers: f64 = config.block_out_channels.iter().enumerate().map(layer).sum();
    (height * width) as f64 * images as f64 * layers
}

impl Threads {
    /// Those of a new model.
    pub fn of_environment() -> Threads {
        if given_threads().is_some() { Threads::AsSet } else { Threads::BySize }
    }

    /// Those of a record, unless the environment gives a number.
    pub fn of_record(count: usize) -> Threads {
        if given_threads().is_some() { Threads::AsSet } else { Threads::Recorded(count) }
    }

    /// How many they are for small and for large calls of the UNet.
    pub fn counts(self) -> [usize; 2] {
        [false, true].map(|large| self.count(|| large))
    }

    /// Has its threads until the returned value is dropped, for work that is not that of a model.
    pub fn hold(self) -> HeldThreads {
        hold_threads(self.count(|| false))
    }

    /// How many they are, where `is_large` says whether there is much work.
    fn count(self, is_large: impl Fn() -> bool) -> usize {
        match self {
            Threads::AsSet => set_threads(),
            Threads::BySize if is_large() => all_threads(),
            Threads::BySize => 1,
            Threads::Chosen { large, .. } if is_large() => large,
            Threads::Chosen { small, .. } => small,
            Threads::Recorded(count) => count.clamp(1, all_threads()),
        }
    }
}

impl Model {
    /// How many CPU threads it runs on for so many images of a size in one batch. For a model on a GPU nothing is changed.
    pub fn threads_for(&self, size: Size, images: usize) -> usize {
        let factor = self.checkpoint.vae.config.factor();
        self.threads_of([size.height / factor, size.width / factor], images)
    }

    fn threads_of(&self, latents: [i64; 2], images: usize) -> usize {
        match self.device {
            tch::Device::Cpu => self.threads.count(|| work(&self.checkpoint.unet.config, latents, images) >= LARGE),
            _ => set_threads(),
        }
    }

    /// Has its threads until the returned value is dropped.
    pub(crate) fn hold_threads(&self, size: Size, images: usize) -> HeldThreads {
        hold_threads(self.threads_for(size, images))
    }

    /// [`Model::hold_threads`] for latents `[images, 4, height, width]`.
    pub(crate) fn hold_threads_for(&self, latents: &tch::Tensor) -> HeldThreads {
        match latents.size()[..] {
            [images, _, height, width] => hold_threads(self.threads_of([height, width], images as usize)),
            _ => hold_threads(set_threads()),
        }
    }
}
