//! The `latentrace` program.

mod arguments;
mod bytes;
mod commands;
mod estimate;
mod interrupt;
mod pictures;
mod printer;
mod sweeps;

use anyhow::anyhow;
use clap::Parser;
use commands::Program;
use std::process::ExitCode;

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
    latentrace::nn::keep_freed_memory();
    let ended = Program::parse().run();
    let lost = printer::lost().map(|error| anyhow!("stdout: could not be written: {error}"));
    match ended.and(lost.map_or(Ok(()), Err)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer::err(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
