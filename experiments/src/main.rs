//! The `latentrace` program.
#![allow(clippy::print_stdout, clippy::print_stderr)] // printing is this crate's affair

mod adherence;
mod cell;
mod cuda;
mod doctor;
mod figures;
mod generate;
mod models;
mod record;
mod run;
mod spec;
mod store;
mod train;

use clap::Parser;
use std::process::ExitCode;

/// A research bench for latent diffusion: run a model, record it, sweep it, draw it
#[derive(Parser)]
#[command(name = "latentrace", version, max_term_width = 100)]
enum Command {
    Generate(generate::Generate),
    Run(run::Run),
    Adherence(adherence::Measure),
    Train(train::Train),
    Doctor(doctor::Doctor),
}

fn main() -> ExitCode {
    cuda::open();
    let done = match Command::parse() {
        Command::Generate(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Adherence(command) => command.run(),
        Command::Train(command) => command.run(),
        Command::Doctor(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
