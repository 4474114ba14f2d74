//! `latentrace model convert`: a checkpoint in another form or number format.

use crate::arguments::{ChoiceArguments, DtypeName};
use crate::printer::{line, warn};
use anyhow::Result;
use latentrace::checkpoints::Form;
use latentrace::pipeline::nn::tch::Kind;
use std::path::PathBuf;

/// Write a checkpoint as a folder, or as a single file
///
/// As a single file if TO ends in .safetensors, otherwise as a folder in the diffusers layout.
#[derive(clap::Args)]
pub struct Convert {
    /// The checkpoint: a folder in the diffusers layout, a single .safetensors file, or a hub id
    model: PathBuf,
    /// What to write: a new folder, or a new .safetensors file
    to: PathBuf,
    /// Number format of the weights [default: as in the files]
    #[arg(long = "to-dtype", value_enum)]
    kind: Option<DtypeName>,
    #[command(flatten)]
    choice: ChoiceArguments,
}

impl Convert {
    /// Writes the checkpoint.
    pub fn run(self) -> Result<()> {
        let checkpoint = self.choice.open(&self.model)?;
        let is_single = self.to.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("safetensors"));
        let form = if is_single { Form::Single } else { Form::Folder };
        let kind = self.kind.map(|name| match name {
            DtypeName::F32 => Kind::Float,
            DtypeName::F16 => Kind::Half,
            DtypeName::Bf16 => Kind::BFloat16,
        });
        let parts = checkpoint.inspect()?;
        let broken: Vec<&str> = parts.iter().filter(|part| !part.is_whole()).map(|part| part.part).collect();
        checkpoint.convert(form, &self.to, kind)?;
        if !broken.is_empty() {
            warn(format_args!(
                "{}: {} cannot be loaded, because tensors are missing or have another shape than the configuration says\nhint: `latentrace model inspect` lists them; a single file that is not of the published size needs --config FOLDER",
                self.to.display(),
                broken.join(", ")
            ));
        }
        line!("{}", self.to.display());
        Ok(())
    }
}
