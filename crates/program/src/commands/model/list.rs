//! `latentrace model list`: the models in the hub's cache.

use crate::bytes::human;
use crate::printer::{aside, line};
use anyhow::Result;
use latentrace::runs::hub;

/// List the models of the Hugging Face hub that are in its cache
///
/// Those that Python downloaded are included.
#[derive(clap::Args)]
pub struct List {}

impl List {
    /// Prints a line for each model and revision.
    pub fn run(self) -> Result<()> {
        let hub = hub()?;
        let models = hub.list()?;
        aside!("{}", hub.cache().display());
        if models.is_empty() {
            aside!("no models");
        }
        for model in models {
            line!("{:>9}  {}", human(model.bytes), model.id);
            for revision in &model.revisions {
                let names = if revision.names.is_empty() { "(no name)".into() } else { revision.names.join(", ") };
                line!("{:>9}  {} {names}", "", &revision.commit[..revision.commit.len().min(12)]);
            }
        }
        Ok(())
    }
}
