//! What differs between two runs or two machines, replaced by a name in brackets.

use regex::Regex;
use std::path::Path;
use std::sync::LazyLock;

/// A pattern, what stands for it, and why it varies.
type Placeholder = (&'static str, &'static str, &'static str);

/// In the order in which they are replaced.
const PLACEHOLDERS: &[Placeholder] = &[
    (
        r#"("relative"|"worst"):([1-9][0-9.e-]*|0\.0*[1-9][0-9e-]*)"#,
        "$1:[DIFFERENCE]",
        "a difference of computed numbers, which are rounded differently on another processor",
    ),
    (
        r"\b([0-9]+\.[0-9]{4})[0-9]{6,}\b",
        "$1[DIGITS]",
        "the last digits of a coefficient, which are those of the processor's logarithm",
    ),
    (r"\b[0-9a-f]{64}\b", "[BLAKE3]", "hashes of a record have the commit and the processor in them"),
    (r"\b[0-9a-f]{16}\b", "[KEY]", "the key of a cell has the program's version in it"),
    (r"\b[0-9.]+ s\b", "[SECONDS] s", "times"),
    (r#""seconds":[0-9.e-]+"#, r#""seconds":[SECONDS]"#, "times in JSON"),
    (
        r"about [0-9a-z ]+, from a probe",
        "about [SECONDS], from a probe",
        "a time that is estimated from a measured one",
    ),
    (
        r"about [0-9.]+ [kMG]?B on disk",
        "about [BYTES] on disk",
        "the size of PNG files, which depends on the last bit of a pixel",
    ),
    (r"(pictures?), [0-9.]+ MB\)", "$1, [BYTES] MB)", "the same, in a report"),
    (r"\(([0-9a-f]{12}\+?|no commit|unknown commit)\)", "([COMMIT])", "the commit, where git knows it"),
    (r#""commit":("[0-9a-f]+\+?"|null)"#, r#""commit":[COMMIT]"#, "the commit in JSON"),
    (r"latentrace( +)\d+\.\d+\.\d+", "latentrace$1[VERSION]", "the version of the program"),
    (r#""latentrace":"[^"]*""#, r#""latentrace":[VERSION]"#, "the same in JSON"),
    (r"libtorch( +)\d[0-9a-z.+]*", "libtorch$1[VERSION]", "the version of libtorch"),
    (r#""libtorch":"[^"]*""#, r#""libtorch":[VERSION]"#, "the same in JSON"),
    (r"(threads? of ).*", "$1[PROCESSOR]", "the processor"),
    (r"(threads?, ).*", "$1[PROCESSOR]", "the same, of the doctor"),
    (r#""processor":"[^"]*""#, r#""processor":[PROCESSOR]"#, "the same in JSON"),
    (r"(?m)^(cuda +).*(\nhint: .*)?$", "$1[CUDA]", "whether libtorch's CUDA half is installed"),
    (
        r"\b(by|off,) [0-9]\.[0-9]+e-?[0-9]+",
        "$1 [DIFFERENCE]",
        "a difference of computed numbers, which are rounded differently on another processor",
    ),
    (r"(?m)^ +[1-9]\.[0-9]e-?[0-9]+( +\d+ +(-|call \d+)  )", "[DIFFERENCE]$1", "the same, in a row of `compare`"),
    (
        r"(?m)^( +\d+ +[0-9.]+) +[1-9]\.[0-9]e-?[0-9]+ +[1-9]\.[0-9]e-?[0-9]+",
        "$1 [DIFFERENCE] [DIFFERENCE]",
        "the same, in a row of `verify`",
    ),
    (r"(relative difference) [1-9]\.[0-9]e-?[0-9]+", "$1 [DIFFERENCE]", "the same, at the end of `verify`"),
    (
        r"\b(colour|shape|size|position|background|whole) [0-9.]+ %( \([0-9.]+ to [0-9.]+\))?",
        "$1 [RATE] %",
        "what is seen in pictures of few steps, which a rounding may change",
    ),
    (r", edges [0-9.]+", "", "the same; there is none where no shape is right"),
    (r"(left open, [^:]+): .*", "$1: [VARIETY]", "the same"),
    (r"(\.partial-|\.unfinished-\[KEY\]-)\w+", "$1[RANDOM]", "the name of a file or folder that is not yet whole"),
    (r"(?m) +$", "", "spaces at the end of a line, which no reader sees and git complains of"),
];

/// A text with placeholders for all that varies. `folder` is the one that the program ran in.
pub fn replaced(text: &str, folder: &Path) -> String {
    static PATTERNS: LazyLock<Vec<(Regex, &str)>> =
        LazyLock::new(|| PLACEHOLDERS.iter().map(|(pattern, name, _)| (Regex::new(pattern).unwrap(), *name)).collect());
    // Both spellings of the folder: as it was given, and without links (macOS has its temporary folder behind one).
    let folders = [folder.to_path_buf(), folder.canonicalize().unwrap()];
    let text = folders.iter().fold(text.to_string(), |text, folder| text.replace(&path(folder), "[FOLDER]"));
    let text = homes().iter().fold(text, |text, home| text.replace(home, "[HOME]"));
    PATTERNS.iter().fold(text, |text, (pattern, name)| pattern.replace_all(&text, *name).into_owned())
}

/// The checkouts in which the program may find its models and specs: the one that it lies in, and that it was built in.
fn homes() -> Vec<String> {
    let program = assert_cmd::cargo::cargo_bin!("latentrace").to_path_buf();
    let is_home = |folder: &&Path| folder.join("data/models").is_dir() && folder.join("experiments").is_dir();
    let around = program.ancestors().find(is_home).map(path);
    around.into_iter().chain(Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(path)).collect()
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn what_varies_is_replaced_and_what_does_not_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{}/runs/a.png (0.2 s)\n", path(folder.path()));
    assert_eq!(replaced(&text, folder.path()), "[FOLDER]/runs/a.png ([SECONDS] s)\n");
    for kept in [
        "none differs by more than 1.0e-5",
        "worst relative difference 0.0e0",
        "steps: expected 1 to 1000",
        "with 95 % intervals",
    ] {
        assert_eq!(replaced(kept, folder.path()), kept);
    }
    assert_eq!(replaced("v1 +3.0955212345678901·v0", folder.path()), "v1 +3.0955[DIGITS]·v0");
    assert_eq!(
        replaced("    4.3e-2      1     call 1  sampler.sample", folder.path()),
        "[DIFFERENCE]      1     call 1  sampler.sample"
    );
}
