"""What is checked of a page without running anything. Each check yields pairs of a line and what is wrong there."""

import re
import subprocess
import sys
from fnmatch import fnmatchcase

from docs.fences import commands

CALL = re.compile(r"^(\$ )?(\./just|target/release/latentrace|latentrace|cargo|tools/\w+)( |$)")
REDUCED = re.compile(r"\|(?! *(full *)?$)")
TENSORS_OF = re.compile(r"\b(?:replace|add)\(([^,)]*[A-Za-z/$][^,)]*)[,)]")
TRACE_IN_PYTHON = re.compile(r"""["']([^"'\n]+)/trace["'], *["']([^"'\n]+)["']""")


def all_of(page, recipes, subcommands, examples):
    """Every check of a page."""
    yield from outside_of_shell(page)
    yield from calls(page, recipes, subcommands)
    yield from cargo_run(page, examples)
    yield from whole_records(page)


def outside_of_shell(page):
    """A command in a block that is not marked as shell would not be run."""
    indented = [(number, line[4:]) for number, line in page.prose if line.startswith("    ")]
    unmarked = [pair for fence in page.fences if not fence.language for pair in enumerate(fence.lines, fence.line)]
    for number, line in indented + unmarked:
        if CALL.match(line):
            yield number, f"{line.strip()!r} is a command outside a block of ```sh, so nothing runs it"


def calls(page, recipes, subcommands):
    """Recipes and commands of the program exist, also those named in a sentence."""
    for number, code in [*page.inline(), *((command.line, command.text) for command in commands(page))]:
        recipe = re.search(r"(?:^|[\s(])\./just ([a-z][\w-]*)", code)
        if recipe and recipe[1] not in recipes:
            yield number, f"{code!r}: the justfile has no recipe {recipe[1]}"
        subcommand = re.search(r"(?:^|[\s/(])latentrace ([a-z][\w-]*)(?= |$)", code)
        if subcommand and subcommand[1] not in subcommands:
            yield number, f"{code!r}: latentrace has no command {subcommand[1]}"


def cargo_run(page, examples):
    """`cargo run` names its package, and the package has the example. Without it, what is run depends on the folder."""
    for number, code in [*page.inline(), *((command.line, command.text) for command in commands(page))]:
        if not re.search(r"\bcargo run\b", code):
            continue
        package = re.search(r"\bcargo run\b.*? (?:-p|--package)[ =]([\w-]+)", code.split(" -- ")[0])
        example = re.search(r" --example[ =](\w+)", code)
        if not package:
            yield number, f"{code!r}: does not name its package\nhint: cargo run -p PACKAGE"
        elif example and (package[1], example[1]) not in examples:
            named = ", ".join(sorted(f"-p {of} --example {name}" for of, name in examples if name == example[1]))
            yield number, f"{code!r}: {package[1]} has no example {example[1]}\nhint: {named or 'no package has it'}"


def whole_records(page):
    """A tensor that is read from a run was captured there by an earlier command of the page, and not reduced.

    Read are the run of `causal --from`, those of the edits `replace(RUN)` and `add(RUN, 0.5)`, and in Python a record
    and a tap.
    """
    made, variables = {}, {}
    python = [(fence.line + at, line) for fence in page.fences if fence.language == "python"
              for at, line in enumerate(fence.lines)]
    steps = [(command.line, command) for command in commands(page)] + python
    for number, step in sorted(steps, key=lambda pair: pair[0]):
        if isinstance(step, str):
            needed = [(found[1], found[2]) for found in TRACE_IN_PYTHON.finditer(step)]
        else:
            words = step.words()
            variables |= dict(re.findall(r"^(\w+)=\$\(ls -d ([^)]+)\)", step.text))
            needed = [(run, None) for run in tensors_read(words)]
            made |= {folder: rules for folder, rules in [recorded(words)] if folder}
        for run, tap in needed:
            run = re.sub(r"\$\{?(\w+)\}?", lambda name: variables.get(name[1], name[0]), run)
            rules = [rule for folder, rules in made.items() if f"{run}/".startswith(f"{folder}/") for rule in rules]
            if not any(is_kept_whole(rule, tap) for rule in rules):
                what = f"{tap} of {run}" if tap else f"tensors of {run}"
                yield number, f"reads {what}, which no earlier command of the page captures whole\n" \
                    'hint: generate .. --capture "TAP", without | and a reduction'


def tensors_read(words):
    """The runs whose tensors a command takes."""
    if "causal" in words:
        yield from values(words, "--from")
    for edit in values(words, "--edit"):
        yield from TENSORS_OF.findall(edit)


def recorded(words):
    """The folder that a command writes runs to, and its rules of capture; None if it makes no run that can be read."""
    makers = {"generate": "runs/generate", "vary": "runs/vary"}
    maker = next((word for word in words[:3] if word in (*makers, "fork")), None)
    folder = next(values(words, "--output"), makers.get(maker))
    if maker is None or folder is None or "--budget" in words or "--dry-run" in words:
        return None, []
    return folder.rstrip("/"), list(values(words, "--capture"))


def values(words, option):
    """The values of an option, which may be given more than once."""
    for word, following in zip(words, [*words[1:], ""]):
        if word == option:
            yield following
        elif word.startswith(f"{option}="):
            yield word[len(option) + 1:]


def is_kept_whole(rule, tap):
    """Whether a rule keeps tensors whole and at every step, and among them this one."""
    if REDUCED.search(rule) or "@step" in rule or "@sigma" in rule or "@eval" in rule:
        return False
    pattern = rule.split("@")[0].split("|")[0].strip()
    return tap is None or any(fnmatchcase(tap, one) for one in alternatives(pattern))


def alternatives(pattern):
    """A selector without its braces: one pattern for each choice."""
    braces = re.search(r"\{([^{}]*)\}", pattern)
    if not braces:
        return [pattern]
    parts = [pattern[:braces.start()] + choice + pattern[braces.end():] for choice in braces[1].split(",")]
    return [one for part in parts for one in alternatives(part)]


def recipes_of(just, justfile):
    """The names of the recipes."""
    listed = subprocess.run([just, "--justfile", justfile, "--summary"], capture_output=True, text=True, check=True)
    return set(listed.stdout.split())


def subcommands_of(program, environment):
    """The names of the program's commands."""
    told = subprocess.run([program, "--help"], env=environment, capture_output=True, text=True, check=True).stdout
    # The commands are in groups with headings of their own, between the usage and the options.
    listed = re.search(r"^Usage: .+\n\n((?:.+\n)+)\nOptions:$", told, re.MULTILINE)
    if not listed:
        sys.exit(f"docs: the help of {program} has no list of commands between its usage and its options")
    return set(re.findall(r"^  ([a-z][\w-]*)", listed[1], re.MULTILINE))


def examples_of(root):
    """Pairs of a package and one of its examples."""
    found = set()
    for manifest in [root / "Cargo.toml", *root.glob("*/Cargo.toml"), *root.glob("crates/*/Cargo.toml")]:
        text = manifest.read_text(encoding="utf-8")
        name = re.search(r'^\[package\]\n(?:.+\n)*?name = "([^"]+)"', text, re.MULTILINE)
        if name:
            found |= {(name[1], path.stem) for path in (manifest.parent / "examples").glob("*.rs")}
    return found
