//! `latentrace man`: manual pages, made of the help of the commands.

use crate::command_line::{self, all};
use crate::printer;
use anyhow::Result;
use clap::Command;
use latentrace::files::{create_folder, replace_unsynced};
use std::path::{Path, PathBuf};

/// Print a man page, or write one for every command
///
/// With --output, every command has a page: latentrace.1, latentrace-run.1, latentrace-model-inspect.1, ... Without it,
/// the page of the program itself, latentrace.1, is printed.
#[derive(clap::Args)]
pub struct Man {
    /// Write a page for every command into this folder [default: latentrace.1 is printed]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

impl Man {
    /// Prints the page of the program, or writes all pages.
    pub fn run(self) -> Result<()> {
        let program = program();
        match &self.output {
            None => printer::text(Page::of(&program)?.text),
            Some(folder) => {
                create_folder(folder)?;
                let written: Result<Vec<PathBuf>> =
                    all(&program).into_iter().map(|command| Page::of(command)?.write(folder)).collect();
                printer::files(&written?);
            }
        }
        Ok(())
    }
}

/// The program with what every command inherits. The command `help` has no page: `man` is in its place.
fn program() -> Command {
    let mut program = command_line::command().disable_help_subcommand(true);
    program.build();
    program
}

/// The page of a command.
struct Page {
    name: String,
    text: String,
}

impl Page {
    /// Makes it, with all options: a page has no short form.
    fn of(command: &Command) -> Result<Page> {
        let shown = command.clone().mut_args(|arg| arg.hide_short_help(false));
        let source = format!("latentrace {}", env!("CARGO_PKG_VERSION"));
        let man = clap_mangen::Man::new(shown).source(source).manual("Latentrace");
        let mut text = Vec::new();
        man.render(&mut text)?;
        Ok(Page { name: man.get_filename(), text: String::from_utf8(text)? })
    }

    /// Writes it into a folder, and returns its path.
    fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(&self.name);
        replace_unsynced(&path, self.text.as_bytes())?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::{command, paths};

    #[test]
    fn every_command_has_a_page_named_as_it_is_called() {
        let program = program();
        let names: Vec<String> = all(&program)
            .into_iter()
            .map(|command| Page::of(command).map(|page| page.name))
            .map(Result::unwrap)
            .collect();
        let of = |path: &String| format!("latentrace {path}").trim_end().replace(' ', "-") + ".1";
        assert_eq!(names, paths(&command()).iter().map(of).collect::<Vec<_>>());
        assert!(names.contains(&"latentrace-model-inspect.1".to_string()), "{names:?}");
    }

    #[test]
    fn a_page_has_every_option_with_its_help_and_the_examples() {
        for command in all(&program()) {
            let Page { name, text } = Page::of(command).unwrap();
            // In roff, quotes, hyphens and the ends of lines are written otherwise than in the help.
            let plain = |text: &str| {
                text.replace(r"\*(Aq", "'").replace('\\', "").split_whitespace().collect::<Vec<_>>().join(" ")
            };
            let text = plain(&text);
            for option in command.get_arguments().filter(|option| !option.is_positional()) {
                let named = format!("--{}", option.get_long().unwrap());
                assert!(text.contains(&named), "{name}: {named}");
                let help = plain(&option.get_help().unwrap().to_string());
                assert!(text.contains(&help), "{name}: {named}: {help}");
            }
            assert!(text.contains("Examples:"), "{name}");
        }
    }
}
