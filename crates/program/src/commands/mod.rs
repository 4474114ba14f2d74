//! The commands, a file each, named as they are called.

mod adherence;
mod article;
mod causal;
mod compare;
mod completions;
mod doctor;
mod experiments;
mod fork;
mod generate;
mod latent_vs_pixel;
mod man;
mod model;
mod report;
mod resume;
mod run;
mod schedule;
mod scheduler_atlas;
mod show;
mod stability;
mod status;
mod store;
mod submit;
mod taps;
mod tokens;
mod trace;
mod train;
mod vary;
mod verify;

use crate::headings;
use anyhow::Result;

/// A research bench for latent diffusion: run a model, record it, sweep it, draw it
#[derive(clap::Parser)]
#[command(name = "latentrace", version, max_term_width = 100)]
pub struct Program {
    /// Download nothing: take models of the hub from its cache, as with HF_HUB_OFFLINE=1
    #[arg(long, global = true, help_heading = headings::GENERAL)]
    offline: bool,
    #[command(subcommand)]
    command: Command,
}

impl Program {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        if self.offline {
            latentrace::runs::go_offline();
        }
        self.command.run()
    }
}

/// The commands.
#[derive(clap::Subcommand)]
enum Command {
    Generate(generate::Generate),
    Vary(vary::Vary),
    Show(show::Show),
    Experiments(experiments::Experiments),
    Run(run::Run),
    Submit(submit::Submit),
    Status(status::Status),
    Store(store::Store),
    Article(article::Article),
    Report(report::Report),
    Model(model::Model),
    Taps(taps::Taps),
    Tokens(tokens::Tokenize),
    Schedule(schedule::Schedule),
    SchedulerAtlas(scheduler_atlas::SchedulerAtlas),
    Stability(stability::Stability),
    Trace(trace::Trace),
    Verify(verify::Verify),
    Resume(resume::Resume),
    Fork(fork::Fork),
    Compare(compare::Compare),
    Causal(causal::Causal),
    Adherence(adherence::Adherence),
    LatentVsPixel(latent_vs_pixel::LatentVsPixel),
    Train(train::Train),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Command {
    /// Runs it.
    fn run(self) -> Result<()> {
        match self {
            Command::Generate(command) => command.run(),
            Command::Vary(command) => command.run(),
            Command::Show(command) => command.run(),
            Command::Experiments(command) => command.run(),
            Command::Run(command) => command.run(),
            Command::Submit(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::Store(command) => command.run(),
            Command::Article(command) => command.run(),
            Command::Report(command) => command.run(),
            Command::Model(command) => command.run(),
            Command::Taps(command) => command.run(),
            Command::Tokens(command) => command.run(),
            Command::Schedule(command) => command.run(),
            Command::SchedulerAtlas(command) => command.run(),
            Command::Stability(command) => command.run(),
            Command::Trace(command) => command.run(),
            Command::Verify(command) => command.run(),
            Command::Resume(command) => command.run(),
            Command::Fork(command) => command.run(),
            Command::Compare(command) => command.run(),
            Command::Causal(command) => command.run(),
            Command::Adherence(command) => command.run(),
            Command::LatentVsPixel(command) => command.run(),
            Command::Train(command) => command.run(),
            Command::Doctor(command) => command.run(),
            Command::Completions(command) => command.run(),
            Command::Man(command) => command.run(),
        }
    }
}
