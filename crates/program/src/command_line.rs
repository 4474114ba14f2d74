//! The program's command line and its help: -h and --help show what is often used, --help-all shows every option.

use crate::commands::Program;
use crate::headings;
use crate::help;
use clap::builder::styling::Style;
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};
use latentrace::files::counted;
use std::ffi::OsString;

/// Reads a command line, whose first word is the program's name. Help that is asked for is an error too, as in clap.
pub fn parse(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Program, clap::Error> {
    let mut command = command();
    let mut matches = command.try_get_matches_from_mut(words)?;
    Program::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// The program with all its commands and their help.
pub fn command() -> Command {
    let short = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort).help("Print help");
    let long = Arg::new("help-all").long("help-all").action(ArgAction::HelpLong).help("Print help with every option");
    let flags = [short, long].map(|flag| flag.global(true).help_heading(headings::GENERAL));
    grouped(ended(Program::command().disable_help_flag(true).args(flags), ""))
}

/// A command and those below it, with examples at the end of the help. What only the long help says after the options
/// is above them; the short one has a last line instead. `path` has the words that call the command.
fn ended(command: Command, path: &str) -> Command {
    let command = command.mut_subcommands(|below| {
        let path = below_path(path, &below);
        ended(below, &path)
    });
    let header = *command.get_styles().get_header();
    let [both, long] =
        [command.get_after_help(), command.get_after_long_help()].map(|text| text.map(ToString::to_string));
    let examples = examples(path);
    let short = [both.clone(), examples.clone(), last_line(&command, path)];
    let [short, long] = [short, [both, long, examples]].map(|blocks| {
        blocks.into_iter().flatten().map(|block| titled(&block, header)).collect::<Vec<_>>().join("\n\n")
    });
    command.after_help(short).after_long_help(long)
}

/// The words that call a command below another.
fn below_path(path: &str, below: &Command) -> String {
    format!("{path} {}", below.get_name()).trim_start().to_string()
}

/// The examples of a command as they are printed.
fn examples(path: &str) -> Option<String> {
    let examples = help::examples(path)?;
    let lines = examples.iter().map(|(what, line)| format!("\n  {what}:\n    {line}"));
    Some("Examples:".to_string() + &lines.collect::<String>())
}

/// A block of text whose first line is styled as a heading, if it is one.
fn titled(block: &str, header: Style) -> String {
    match block.split_once('\n') {
        Some((title, rest)) if title.ends_with(':') => format!("{header}{title}{header:#}\n{rest}"),
        _ => block.to_string(),
    }
}

/// The last line of the short help: what else there is to be read, if anything.
fn last_line(command: &Command, path: &str) -> Option<String> {
    let hidden = command.get_arguments().filter(|arg| arg.is_hide_short_help_set() && !arg.is_hide_set()).count();
    if command.has_subcommands() {
        let name = format!("latentrace {path}");
        Some(format!("`{} COMMAND --help` shows the options of a command, --help-all all of them.", name.trim_end()))
    } else if hidden > 0 {
        let rules = if command.get_after_long_help().is_some() { ", and how a RULE is written" } else { "" };
        Some(format!("--help-all shows {}{rules}.", counted(hidden, "more option")))
    } else if has_details(command) {
        Some("--help-all says more of the options.".into())
    } else {
        None
    }
}

/// Whether the long help of a command, which has no hidden options, says more than the short one.
fn has_details(command: &Command) -> bool {
    let explained = |arg: &Arg| {
        arg.get_long_help().is_some() || arg.get_possible_values().iter().any(|value| value.get_help().is_some())
    };
    command.get_long_about().is_some() || command.get_arguments().any(explained)
}

/// The commands in the order and the groups of the program's help.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Pictures", &["generate", "vary", "show"]),
    ("Experiments", &["experiments", "run", "submit", "status", "store", "article", "report"]),
    ("Models", &["model", "taps", "tokens", "train"]),
    ("Recorded runs", &["trace", "verify", "resume", "fork", "compare", "causal"]),
    ("Samplers and studies", &["schedule", "scheduler-atlas", "stability", "adherence", "latent-vs-pixel"]),
    ("The program", &["doctor", "completions", "man", "help"]),
];

/// The program with its commands in groups, which clap does not have.
fn grouped(command: Command) -> Command {
    let mut built = command.clone();
    built.build(); // adds the command `help`
    let header = *command.get_styles().get_header();
    let literal = *command.get_styles().get_literal();
    let width = GROUPS.iter().flat_map(|(_, names)| *names).map(|name| name.len()).max().unwrap_or(0);
    let line = |name: &&str| {
        let about = built.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string);
        format!("\n  {literal}{name}{literal:#}{:1$}  {2}", "", width - name.len(), about.unwrap_or_default())
    };
    let group = |(title, names): &(&str, &[&str])| {
        format!("{header}{title}:{header:#}{}", names.iter().map(line).collect::<String>())
    };
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{{before-help}}{header}Options:{header:#}\n{{options}}\
         {{after-help}}"
    );
    command.before_help(GROUPS.iter().map(group).collect::<Vec<_>>().join("\n")).help_template(template)
}

/// A command and all below it.
pub fn all(command: &Command) -> Vec<&Command> {
    std::iter::once(command).chain(command.get_subcommands().flat_map(all)).collect()
}

/// The words that call each command, in the same order.
#[cfg(test)]
pub fn paths(command: &Command) -> Vec<String> {
    fn of(command: &Command, path: String) -> Vec<String> {
        let below = command.get_subcommands().flat_map(|below| of(below, below_path(&path, below))).collect::<Vec<_>>();
        std::iter::once(path.clone()).chain(below).collect()
    }
    of(command, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The program, with what is inherited given to every command, for a terminal of 100 columns.
    fn built() -> Command {
        let mut command = command().term_width(100).disable_help_subcommand(true);
        command.build();
        command
    }

    fn short(command: &Command) -> String {
        command.clone().render_help().to_string()
    }

    fn long(command: &Command) -> String {
        command.clone().render_long_help().to_string()
    }

    /// The options that a help lists: `      --like`, `  -h, --help`; rules begin with `  --capture`.
    fn listed(help: &str) -> Vec<&str> {
        let is_option =
            |line: &&str| line.starts_with("      --") || line.starts_with("  -") && !line.starts_with("  --");
        let named = help.lines().filter(is_option);
        named.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--"))).collect()
    }

    #[test]
    fn every_short_help_fits_60_lines_of_100_columns() {
        for command in all(&built()) {
            let (name, help) = (command.get_name(), short(command));
            assert!(help.lines().count() <= 60, "{name}: {} lines\n{help}", help.lines().count());
            for line in help.lines() {
                assert!(line.chars().count() <= 100, "{name}: {} columns: {line}", line.chars().count());
            }
        }
    }

    #[test]
    fn every_help_ends_with_examples_on_one_line_each() {
        for (command, path) in all(&built()).into_iter().zip(paths(&command())) {
            for text in [short(command), long(command)] {
                let (_, end) = text.split_once("\nExamples:\n").unwrap_or_else(|| panic!("{path}: {text}"));
                for (what, line) in help::examples(&path).into_iter().flatten() {
                    assert!(end.contains(&format!("  {what}:\n    {line}\n")), "{path}: {line}\n{end}");
                }
            }
        }
    }

    #[test]
    fn the_short_help_says_how_many_options_it_hides() {
        let mut hiding = 0;
        for command in all(&built()) {
            let (short, long) = (short(command), long(command));
            let hidden = listed(&long).len() - listed(&short).len();
            let last = short.lines().last().unwrap();
            let says = format!("--help-all shows {}", counted(hidden, "more option"));
            assert_eq!(last.starts_with(&says), hidden > 0, "{}: {hidden} are hidden: {last}", command.get_name());
            hiding += usize::from(hidden > 0);
        }
        assert!(hiding > 3, "{hiding} commands have rare options");
    }

    #[test]
    fn rare_options_are_only_in_the_long_help() {
        let built = built();
        let generate = built.find_subcommand("generate").unwrap();
        let (short, long) = (short(generate), long(generate));
        for rare in [
            "--kernels",
            "--budget",
            "--clip-skip",
            "--long-prompts",
            "--weights[=<BOOL>]",
            "--features",
            "--save-features",
            "--exact[=<BOOL>]",
            "--lora",
            "--vae",
            "--embedding",
        ] {
            assert!(!listed(&short).contains(&rare) && listed(&long).contains(&rare), "{rare}");
        }
        for often in ["--model", "--seed", "--steps", "--negative", "--capture", "--output", "--offline", "--help-all"]
        {
            assert!(listed(&short).contains(&often), "{often}");
        }
        let tokens = self::short(built.find_subcommand("tokens").unwrap());
        assert!(listed(&tokens).contains(&"--weights[=<BOOL>]"), "{tokens}");
    }

    #[test]
    fn every_command_is_in_one_group_and_on_one_line() {
        let command = command();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let mut names: Vec<&str> = command.get_subcommands().map(Command::get_name).chain(["help"]).collect();
        grouped.sort_unstable();
        names.sort_unstable();
        assert_eq!(grouped, names);
        let help = short(&command.clone().term_width(100));
        for below in command.get_subcommands() {
            let (name, about) = (below.get_name(), below.get_about().map(ToString::to_string).unwrap_or_default());
            let is_whole =
                |line: &&str| line.strip_prefix(&format!("  {name} ")).is_some_and(|rest| rest.trim() == about);
            assert_eq!(help.lines().filter(is_whole).count(), 1, "{name}: {about}\n{help}");
        }
        let narrow = short(&command.clone().term_width(70));
        assert!(narrow.lines().all(|line| line.chars().count() <= 70), "{narrow}");
    }

    #[test]
    fn help_flags_print_the_short_and_the_long_help_of_a_command() {
        let said = |words: &[&str]| parse(words).err().map(|error| error.to_string()).unwrap_or_default();
        let short = said(&["latentrace", "generate", "--help"]);
        assert_eq!(short, said(&["latentrace", "generate", "-h"]));
        assert!(short.contains("--steps") && !short.contains("--kernels"), "{short}");
        assert!(said(&["latentrace", "generate", "--help-all"]).contains("--kernels"));
        assert!(said(&["latentrace", "model", "inspect", "--help-all"]).contains("--variant"));
        assert!(said(&["latentrace", "generat"]).contains("try '--help'"));
    }
}
