//! `latentrace model`: what checkpoints are, and checkpoints in other forms.

mod convert;
mod diff;
mod inspect;
mod list;
mod synth;
mod verify;

use anyhow::Result;

/// Inspect, verify, compare, convert and make checkpoints
#[derive(clap::Args)]
pub struct Model {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    List(list::List),
    Inspect(inspect::Inspect),
    Verify(verify::Verify),
    Diff(diff::Diff),
    Convert(convert::Convert),
    Synth(synth::Synth),
}

impl Model {
    /// Runs the action.
    pub fn run(self) -> Result<()> {
        match self.action {
            Action::List(action) => action.run(),
            Action::Inspect(action) => action.run(),
            Action::Verify(action) => action.run(),
            Action::Diff(action) => action.run(),
            Action::Convert(action) => action.run(),
            Action::Synth(action) => action.run(),
        }
    }
}
