//! Help, completion scripts and man pages, as the program prints and writes them.
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod common;

use assert_cmd::Command;
use common::command;
use std::collections::BTreeSet;
use std::path::Path;

/// What a command prints.
fn printed(arguments: &[&str]) -> String {
    String::from_utf8(command(arguments).success().get_output().stdout.clone()).unwrap()
}

/// Runs another program, and returns what it prints; says so and returns nothing where it is not there.
fn other(program: &str, arguments: &[&str]) -> Option<String> {
    match std::process::Command::new(program).args(arguments).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {arguments:?}: {said}");
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) => {
            eprintln!("skipped: cannot run {program} here: {error}");
            None
        }
    }
}

/// The commands that the program's help lists.
fn commands() -> BTreeSet<String> {
    let help = printed(&["--help"]);
    let grouped = help.lines().take_while(|line| *line != "Options:");
    let listed = grouped.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    listed.filter_map(|line| line.split_whitespace().next()).map(str::to_string).collect()
}

#[test]
fn both_help_flags_print_the_short_help_and_help_all_prints_more() {
    for name in ["generate", "vary", "fork", "taps"] {
        let (short, long) = (printed(&[name, "--help"]), printed(&[name, "--help-all"]));
        assert_eq!(short, printed(&[name, "-h"]), "{name}");
        assert!(short.lines().last().unwrap().starts_with("--help-all shows "), "{name}: {short}");
        assert!(long.contains("--budget") || long.contains("--kernels"), "{name}: {long}");
        assert!(!short.contains("--budget ") && !short.contains("--kernels "), "{name}: {short}");
    }
    let nested = printed(&["model", "inspect", "--help-all"]);
    assert!(nested.contains("latentrace model inspect [OPTIONS] <MODEL>"), "{nested}");
}

#[test]
fn help_is_wrapped_to_the_width_of_the_terminal() {
    for columns in [70, 100] {
        let mut command = Command::cargo_bin("latentrace").unwrap();
        command.args(["generate", "--help-all"]).env("COLUMNS", columns.to_string());
        let help = String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap();
        let widest = help.lines().map(|line| line.chars().count()).max().unwrap();
        assert!((columns - 10..=columns).contains(&widest), "{widest} of {columns} columns: {help}");
    }
}

#[test]
fn a_completion_script_is_one_that_its_shell_reads() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        for name in commands() {
            assert!(script.contains(&name), "{shell}: {name}");
        }
        let path = folder.path().join(shell).display().to_string();
        std::fs::write(&path, script).unwrap();
        other(shell, &["-n", &path]);
    }
}

#[test]
fn bash_completes_a_command_and_a_rare_option() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("script").display().to_string();
    std::fs::write(&path, printed(&["completions", "bash"])).unwrap();
    let completed = |words: &str| {
        let last = words.split(' ').count() - 1;
        let run = format!(
            "source {path}; COMP_WORDS=({words}); COMP_CWORD={last}; \
             _latentrace latentrace \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{last}-1]}}\"; \
             echo \"${{COMPREPLY[@]}}\""
        );
        other("bash", &["-c", &run])
    };
    if let (Some(command), Some(option)) = (completed("latentrace gen"), completed("latentrace generate --kern")) {
        assert_eq!((command.trim(), option.trim()), ("generate", "--kernels"));
    }
}

#[test]
fn man_pages_are_written_whole_and_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man/man1");
    let listed = printed(&["man", "--output", &pages.display().to_string()]);
    let written: BTreeSet<String> =
        std::fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let named: BTreeSet<String> =
        listed.lines().map(|line| Path::new(line.trim()).file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(written, named);
    for name in commands().iter().filter(|name| *name != "help") {
        assert!(written.contains(&format!("latentrace-{name}.1")), "{name}: {written:?}");
    }
    assert_eq!(printed(&["man"]), std::fs::read_to_string(pages.join("latentrace.1")).unwrap());
    for (page, option) in [("generate", "--kernels"), ("run", "--batched"), ("model-inspect", "--variant")] {
        let path = pages.join(format!("latentrace-{page}.1")).display().to_string();
        if let Some(text) = other("groff", &["-man", "-Tascii", "-P-c", &path]) {
            // Bold letters are typed twice, with a step back between.
            let letters: Vec<char> = text.chars().collect();
            let plain: String = (0..letters.len())
                .filter(|&at| letters[at] != '\u{8}' && letters.get(at + 1) != Some(&'\u{8}'))
                .map(|at| letters[at])
                .collect();
            assert!(plain.contains(option) && plain.contains("Examples:"), "{page}: {plain}");
        }
    }
}
