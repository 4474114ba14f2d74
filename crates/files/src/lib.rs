//! Files and their formats, below everything else in Latentrace: this crate knows no tensor and none of the other
//! crates.
//!
//! - [`replace`] and [`create`] write a file that appears whole or not at all.
//! - [`read_text`] reads a file that is a file, and not too large; [`open_lock`] opens one to be locked.
//! - [`Table`] writes and reads CSV.
//! - [`png`] writes PNG files with text chunks (prompt, seed, ...), and opens pictures.
//! - [`slug`] makes a label fit for a file name; [`hint`] answers a name that is not known.
//!
//! ```
//! use latentrace_files::{Table, fields};
//!
//! let mut table = Table::new(["call", "word", "rate"]);
//! table.row(fields![0, "red, or green", 0.25]);
//! table.row(fields![1, "blue", f64::NAN]);
//! assert_eq!(table.to_string(), "call,word,rate\n0,\"red, or green\",0.25\n1,blue,\n");
//! ```

mod error;
mod field;
mod lock;
mod names;
pub mod png;
mod read;
mod table;
mod whole;

pub use error::{Error, said};
pub use field::Field;
pub use lock::open_lock;
pub use names::{counted, hint, near, slug};
pub use read::{LARGEST, open_plain, read_text};
pub use table::Table;
pub use whole::{PARTIAL, create, create_folder, create_unsynced, is_partial, replace, replace_unsynced, sync_all};
