//! The `latentrace` program.
#![allow(clippy::print_stdout, clippy::print_stderr)] // printing is this crate's affair

mod adherence;
mod atlas;
mod capture;
mod causal;
mod cell;
mod compare;
mod description;
mod doctor;
mod experiment;
mod experiments;
mod figures;
mod fork;
mod frames;
mod free;
mod generate;
mod init_image;
mod inputs;
mod interrupt;
mod latent_vs_pixel;
mod like;
mod located;
mod look;
mod lost;
mod measure;
mod models;
mod names;
mod paths;
mod phases;
mod pictures;
mod processor;
mod provenance;
mod record;
mod report;
mod results;
mod rules;
mod run;
mod sampler;
mod scalars;
mod schedule;
mod show;
mod spec;
mod store;
mod sweep;
mod taps;
mod train;
mod vary;
mod verify;
mod views;
mod whole;

use clap::Parser;
use std::process::ExitCode;

/// A research bench for latent diffusion: run a model, record it, sweep it, draw it
#[derive(Parser)]
#[command(name = "latentrace", version, max_term_width = 100)]
enum Command {
    Generate(generate::Generate),
    Vary(vary::Vary),
    Show(show::Show),
    Experiments(experiments::Experiments),
    Run(run::Run),
    Report(report::Report),
    Taps(taps::Taps),
    Schedule(schedule::ScheduleRun),
    SchedulerAtlas(atlas::Atlas),
    Trace(look::Look),
    Verify(verify::Verify),
    Resume(fork::Resume),
    Fork(fork::ForkRun),
    Compare(compare::Compare),
    Causal(causal::Causal),
    Adherence(adherence::Measure),
    LatentVsPixel(latent_vs_pixel::LatentVsPixel),
    Train(train::Train),
    Doctor(doctor::Doctor),
}

/// Lets a closed pipe end the program quietly (`latentrace run .. | head`), as other commands do; what is half-written is
/// under a temporary name.
fn end_with_the_pipe() {
    #[allow(unsafe_code)] // Safety: the handler is the system's own, set before there is a second thread.
    #[cfg(unix)]
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

fn main() -> ExitCode {
    end_with_the_pipe();
    let done = match Command::parse() {
        Command::Generate(command) => command.run(),
        Command::Vary(command) => command.run(),
        Command::Show(command) => command.run(),
        Command::Experiments(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Report(command) => command.run(),
        Command::Taps(command) => command.run(),
        Command::Schedule(command) => command.run(),
        Command::SchedulerAtlas(command) => command.run(),
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
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
