//! Where the program finds what it brings along: the bundled model, the specs, and the pictures that they start from.
//!
//! A program that cargo builds finds the checkout. One that is installed has its own copy, in the folder
//! `share/latentrace` of the prefix whose `bin` it is in. With the feature `installed`, which `tools/package` sets, a
//! program looks nowhere else: the path of the checkout is not compiled in, and a checkout around it is not used.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
#[cfg(not(feature = "installed"))]
use std::process::Command;
use std::sync::OnceLock;

/// The folder of an installed program's data, in the prefix.
const SHARE: &str = "share/latentrace";

/// The folder of this crate in the checkout that it is built for.
#[cfg(not(feature = "installed"))]
const BUILT_IN: Option<&str> = Some(env!("CARGO_MANIFEST_DIR"));
#[cfg(feature = "installed")]
const BUILT_IN: Option<&str> = None;

/// How a program came to this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// cargo built it, in a checkout of the repository.
    Built,
    /// It was installed, in the Python environment that a wheel is for. There is no checkout.
    Installed,
}

impl Origin {
    /// That of this program.
    pub const THIS: Origin = if cfg!(feature = "installed") { Origin::Installed } else { Origin::Built };

    /// What a message calls a page in the folder `docs`.
    pub fn page(self, name: &str) -> String {
        match self {
            Origin::Built => format!("docs/{name}"),
            Origin::Installed => format!("docs/{name} of the repository"),
        }
    }
}

/// What a message of this program calls a page in the folder `docs`.
pub fn page(name: &str) -> String {
    Origin::THIS.page(name)
}

/// The folder of the bundled checkpoint. It does not depend on the working directory.
///
/// # Errors
/// The folder does not exist.
pub fn bundled() -> Result<PathBuf> {
    let found = home().map(|home| home.join("data/models/shapes")).filter(|folder| folder.is_dir());
    found.context(
        "data/models/shapes: the bundled model is not beside the program\nhint: name a checkpoint folder with --model",
    )
}

/// The folder that has `data/models` and `experiments/specs`: that of the installed program, or else the checkout that
/// contains the program, or else the one that it was built in.
pub fn home() -> Option<PathBuf> {
    let program = std::env::current_exe().ok();
    places(program.as_deref(), BUILT_IN.map(Path::new)).into_iter().find(|folder| is_home(folder))
}

/// Where the home of a program may be, the first choice first.
fn places(program: Option<&Path>, built_in: Option<&Path>) -> Vec<PathBuf> {
    let prefix = program.and_then(|program| program.parent()?.parent());
    let mut places: Vec<PathBuf> = prefix.map(|prefix| prefix.join(SHARE)).into_iter().collect();
    if let Some(built_in) = built_in {
        places.extend(program.into_iter().flat_map(Path::ancestors).skip(1).map(Path::to_path_buf));
        places.extend(built_in.ancestors().nth(2).map(Path::to_path_buf));
    }
    places
}

/// Whether a folder has what the program brings along.
fn is_home(folder: &Path) -> bool {
    folder.join("data/models").is_dir() && folder.join("experiments").is_dir()
}

/// The commit that the program was built from, computed once; `None` if it is not known.
pub fn commit() -> Option<String> {
    static COMMIT: OnceLock<Option<String>> = OnceLock::new();
    COMMIT.get_or_init(found_commit).clone()
}

/// The commit that `tools/package` names. The folder of an installed program may be in a repository of something else.
#[cfg(feature = "installed")]
fn found_commit() -> Option<String> {
    option_env!("LATENTRACE_COMMIT").filter(|commit| !commit.is_empty()).map(str::to_string)
}

/// The commit of the checkout, with a + if files were changed since; `None` without git.
#[cfg(not(feature = "installed"))]
fn found_commit() -> Option<String> {
    let folder = home()?;
    let git = |arguments: &[&str]| {
        // Without optional locks, a kill during `git status` leaves no index.lock in the checkout.
        let git = ["--no-optional-locks", "-C"];
        let output = Command::new("git").args(git).arg(&folder).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|files| !files.is_empty());
    Some(if changed { head + "+" } else { head })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first place that is a home, of a program in a folder and built for a checkout.
    fn found(program: &Path, built_in: Option<&Path>) -> Option<PathBuf> {
        places(Some(program), built_in).into_iter().find(|folder| is_home(folder))
    }

    fn make_home(folder: &Path) {
        std::fs::create_dir_all(folder.join("data/models/shapes")).unwrap();
        std::fs::create_dir_all(folder.join("experiments/specs")).unwrap();
    }

    #[test]
    fn an_installed_program_finds_its_own_folder_and_no_checkout() {
        let folder = tempfile::tempdir().unwrap();
        let checkout = folder.path().join("checkout");
        let built_in = checkout.join("crates/runs");
        let prefix = checkout.join("environment"); // a Python environment inside a checkout
        let program = prefix.join("bin/latentrace");
        make_home(&checkout);
        assert_eq!(found(&program, None), None, "the checkout around it is not looked at");
        assert_eq!(found(&program, Some(&built_in)), Some(checkout.clone()));
        make_home(&prefix.join(SHARE));
        assert_eq!(found(&program, None), Some(prefix.join("share/latentrace")));
        assert_eq!(found(&program, Some(&built_in)), Some(prefix.join("share/latentrace")));
    }

    #[test]
    fn a_program_that_cargo_builds_finds_the_checkout_around_it_before_the_one_it_was_built_in() {
        let folder = tempfile::tempdir().unwrap();
        let [around, built_in] = ["around", "built-in"].map(|name| folder.path().join(name));
        let program = around.join("target/release/latentrace");
        let source = built_in.join("crates/runs");
        assert_eq!(found(&program, Some(&source)), None);
        make_home(&built_in);
        assert_eq!(found(&program, Some(&source)), Some(built_in));
        make_home(&around);
        assert_eq!(found(&program, Some(&source)), Some(around));
    }

    #[test]
    fn a_page_is_not_looked_for_where_there_is_no_checkout() {
        assert_eq!(Origin::Built.page("cluster.md"), "docs/cluster.md");
        assert_eq!(Origin::Installed.page("cluster.md"), "docs/cluster.md of the repository");
    }

    #[test]
    fn this_build_has_the_path_of_its_checkout_unless_it_is_for_installation() {
        assert_eq!(BUILT_IN.is_none(), cfg!(feature = "installed"));
        assert_eq!(places(None, BUILT_IN.map(Path::new)).is_empty(), cfg!(feature = "installed"));
    }
}
