//! Every command's help, output and errors, word for word: one file of `snapshots/` for each command.
//!
//! After a change of a message, write the snapshots again and read the difference:
//!
//! ```text
//! SNAPSHOTS=overwrite cargo test --release -p latentrace-program --test messages && git diff
//! ```
//!
//! The model is the tiny random checkpoint of the other tests. Each test has a folder of its own, and the program runs in
//! it, so that paths are short and the same everywhere. What still varies is replaced in `placeholders.rs`. A snapshot
//! says what the program prints, not that it is right: that is for the tests beside this one.

mod checkpoints;
mod experiments;
mod pictures;
mod placeholders;
mod records;
mod session;
mod sharing;
mod studies;
mod tables;
