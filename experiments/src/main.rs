//! The `latentrace` program.
#![allow(clippy::print_stdout, clippy::print_stderr)] // printing is this crate's affair

mod train;

use clap::Parser;

#[derive(Parser)]
#[command(name = "latentrace", version, about)]
enum Command {
    Train(train::Train),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Train(train) => train.run(),
    }
}
