//! `latentrace completions`: what a shell needs to complete a command line.

use crate::command_line;
use crate::printer;
use anyhow::Result;
use clap::ValueEnum;
use clap_complete::{Shell, generate};

/// Print a completion script for bash, zsh or fish
///
/// The script is for the shell's folder of completions, as in the examples below; a new shell then reads it.
#[derive(clap::Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: ShellName,
}

/// [`Shell`] by name, those alone that the examples say a folder of.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
}

impl From<ShellName> for Shell {
    fn from(name: ShellName) -> Shell {
        match name {
            ShellName::Bash => Shell::Bash,
            ShellName::Zsh => Shell::Zsh,
            ShellName::Fish => Shell::Fish,
        }
    }
}

impl Completions {
    /// Prints the script.
    pub fn run(self) -> Result<()> {
        printer::text(script(self.shell)?);
        Ok(())
    }
}

/// The script of a shell.
fn script(shell: ShellName) -> Result<String> {
    let mut script = Vec::new();
    generate(Shell::from(shell), &mut command_line::command(), "latentrace", &mut script);
    Ok(String::from_utf8(script)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::{all, command};
    use std::process::Command;

    /// How the script of a shell names a command among those of one level.
    fn named(shell: ShellName, name: &str) -> String {
        match shell {
            ShellName::Bash => format!(",{name})\n"),
            ShellName::Zsh => format!("({name})\n"),
            ShellName::Fish => format!(" -a \"{name}\""),
        }
    }

    #[test]
    fn scripts_name_every_command_and_rare_options_too() {
        for &shell in ShellName::value_variants() {
            let script = script(shell).unwrap();
            for command in all(&command()).into_iter().skip(1) {
                let name = named(shell, command.get_name());
                assert!(script.contains(&name), "{shell:?}: {name}");
            }
            assert!(script.contains("kernels") && script.contains("help-all"), "{shell:?}");
            assert!(!script.contains(&named(shell, "generat")), "{shell:?}");
        }
    }

    #[test]
    fn bash_reads_its_script() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let accepts = |script: &str| {
            std::fs::write(&path, script).unwrap();
            Command::new("bash").arg("-n").arg(&path).output().map(|output| output.status.success())
        };
        match accepts(&script(ShellName::Bash).unwrap()) {
            Ok(accepted) => assert!(accepted && !accepts("if then").unwrap()),
            Err(error) => printer::err(format_args!("skipped: cannot run bash here: {error}")),
        }
    }
}
