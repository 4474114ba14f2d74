//! The `latentrace` program.

mod arguments;
mod bytes;
mod command_line;
mod commands;
mod conditioning;
mod estimate;
mod headings;
mod help;
mod interrupt;
mod openmp;
mod orphan;
mod pictures;
mod printer;
mod sweeps;

use anyhow::anyhow;
use commands::Program;

/// Lets a closed pipe end the program quietly (`latentrace run .. | head`), as other commands do; what is half-written is
/// under a temporary name.
fn end_with_the_pipe() {
    #[allow(unsafe_code)] // Safety: the handler is the system's own, set before there is a second thread.
    #[cfg(unix)]
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Ends the process at once. A return from `main`, or `exit`, would let libtorch take apart its tables of operators first.
/// That takes 0.1 s, more than many commands do; and it crashes while another thread still computes.
fn end(code: i32) -> ! {
    #[allow(unsafe_code)] // Safety: it does not return, and nothing is left to be written: stdout was flushed.
    unsafe {
        libc::_exit(code)
    }
}

/// Runs a command, says what went wrong, and returns the exit code.
fn run(program: Program) -> i32 {
    openmp::warn();
    let ended = program.run();
    let lost = printer::lost().map(|error| anyhow!("stdout: could not be written: {error}"));
    let Err(error) = ended.and(lost.map_or(Ok(()), Err)) else { return 0 };
    printer::err(format!("error: {error:#}"));
    1
}

fn main() {
    latentrace::nn::keep_freed_memory();
    end_with_the_pipe();
    let code = match command_line::parse(std::env::args_os()) {
        Ok(program) => run(program),
        Err(help) => {
            help.print().ok(); // a message of clap, or the help that was asked for
            printer::lost();
            help.exit_code()
        }
    };
    end(code);
}
