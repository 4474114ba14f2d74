//! `latentrace model synth`: a checkpoint with random weights.

use crate::arguments::DtypeName;
use crate::printer::line;
use anyhow::{Result, ensure};
use clap::ValueEnum;
use latentrace::checkpoints::{Architecture, Synthetic, UnetInput};
use latentrace::pipeline::nn::tch::Kind;
use std::path::PathBuf;

/// Write a checkpoint with random weights
///
/// To try a loader, or to measure speed without a download.
#[derive(clap::Args)]
pub struct Synth {
    /// The architecture
    #[arg(value_enum)]
    architecture: Name,
    /// The new folder
    to: PathBuf,
    /// Share of the published widths, above 0 and at most 1 [default: 1, or 0.05 for tiny ones]
    #[arg(long)]
    width: Option<f64>,
    /// Number format of the weights
    #[arg(long, value_enum, default_value = "f32")]
    dtype: DtypeName,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// An architecture by name.
#[derive(Clone, Copy, ValueEnum, PartialEq)]
enum Name {
    /// Stable Diffusion 1.4, 4.3 GB
    Sd14,
    /// Stable Diffusion 1.5, the same as 1.4
    Sd15,
    /// Stable Diffusion 2.1 for 768 pixels, which predicts v, 5.2 GB
    Sd21,
    /// Stable Diffusion 2.1 base for 512 pixels, 5.2 GB
    Sd21Base,
    /// Stable Diffusion 1.5 for inpainting, whose UNet takes a mask and a picture too
    Sd15Inpaint,
    /// Stable Diffusion 2 for inpainting, with 512 pixels
    Sd2Inpaint,
    /// SDXL, 13.9 GB
    Sdxl,
    /// SDXL-Turbo for 512 pixels, which is sampled without guidance, 13.9 GB
    SdxlTurbo,
    /// The refiner of SDXL, 12.2 GB
    SdxlRefiner,
    /// Stable Diffusion 1.5, narrow
    Tiny,
    /// Stable Diffusion 1.5 for inpainting, narrow
    TinyInpaint,
    /// SDXL, narrow and with fewer layers
    TinySdxl,
    /// SDXL-Turbo, narrow and with fewer layers
    TinySdxlTurbo,
    /// The refiner of SDXL, narrow and with fewer layers
    TinySdxlRefiner,
}

impl Name {
    fn is_tiny(self) -> bool {
        let is_sdxl = matches!(self, Name::TinySdxl | Name::TinySdxlTurbo | Name::TinySdxlRefiner);
        is_sdxl || matches!(self, Name::Tiny | Name::TinyInpaint)
    }

    /// What its UNet takes.
    fn input(self) -> UnetInput {
        match self {
            Name::Sd15Inpaint | Name::Sd2Inpaint | Name::TinyInpaint => UnetInput::Inpainting,
            Name::Sd14 | Name::Sd15 | Name::Sd21 | Name::Sd21Base | Name::Tiny => UnetInput::Sample,
            Name::Sdxl | Name::SdxlTurbo | Name::SdxlRefiner => UnetInput::Sample,
            Name::TinySdxl | Name::TinySdxlTurbo | Name::TinySdxlRefiner => UnetInput::Sample,
        }
    }

    /// What it is, at any width.
    fn architecture(self) -> Architecture {
        match self {
            Name::Sd14 | Name::Sd15 | Name::Sd15Inpaint | Name::Tiny | Name::TinyInpaint => Architecture::Sd1,
            Name::Sd21 => Architecture::Sd2,
            Name::Sd21Base | Name::Sd2Inpaint => Architecture::Sd2Base,
            Name::Sdxl | Name::TinySdxl => Architecture::Sdxl,
            Name::SdxlTurbo | Name::TinySdxlTurbo => Architecture::SdxlTurbo,
            Name::SdxlRefiner | Name::TinySdxlRefiner => Architecture::SdxlRefiner,
        }
    }
}

impl Synth {
    /// Writes the checkpoint.
    pub fn run(self) -> Result<()> {
        let width = self.width.unwrap_or(if self.architecture.is_tiny() { 0.05 } else { 1.0 });
        ensure!(width > 0.0 && width <= 1.0, "--width: expected a number above 0 and at most 1, found {width}");
        let kind = match self.dtype {
            DtypeName::F32 => Kind::Float,
            DtypeName::F16 => Kind::Half,
            DtypeName::Bf16 => Kind::BFloat16,
        };
        let (architecture, input) = (self.architecture.architecture(), self.architecture.input());
        Synthetic { architecture, input, width, kind, seed: self.seed }.write(&self.to)?;
        line!("{}", self.to.display());
        Ok(())
    }
}
