"""Runs every command of the documentation as it stands there; `./just docs` calls it.

    python3 tools/docs_commands.py [--all] [--program PROGRAM] [PAGE ..]

The commands are those in the blocks ```sh, ```bash and ```console of README.md and docs/**/*.md, or of the named pages.
Those of a page run in order, in one bash, in a temporary copy of the checkout. There `./just` runs the recipes of the
justfile with the program that is already built; nothing is built or downloaded. tools/docs_standins.py lists stand-ins
for what a user has and a checkout does not, the commands that only --all runs, and those that are never run.

It also checks that the recipes, commands and examples that a page names exist, that `cargo run` names its package, and
that a command that reads tensors of a run names a run that has them whole. Exits with 1 if anything fails.

--all takes many minutes and 6 GB below TMPDIR, for a checkpoint of full size.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import docs_standins
from docs import checks
from docs.fences import commands, read_page
from docs.folder import Folder
from docs.shell import Shell

ROOT = Path(__file__).resolve().parent.parent
WANTED = 90  # seconds, for all quick commands on two cores
LIMIT = {False: 120, True: 3600}  # seconds for one command: of the quick ones, and with --all


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="run the slow commands too")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/latentrace", help="the built latentrace")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many pages at a time")
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE")
    given = parser.parse_args()
    program, just = needed(given.program)
    paths = [path.resolve() for path in given.pages] or [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    outside = [path for path in paths if ROOT not in path.parents or not path.is_file()]
    if outside:
        sys.exit(f"docs: {outside[0]}: not a page below {ROOT}")
    run = Run(program, just, given.all)
    pages = [read_page(ROOT, path) for path in paths]
    run.check(pages)
    if not given.pages:
        run.check_entries(pages)
    began = time.monotonic()
    with ThreadPoolExecutor(max(1, given.jobs)) as pool:
        try:
            list(pool.map(run.page, pages))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            run.stop()
            sys.exit(130)
    sys.exit(run.summary(time.monotonic() - began))


def needed(program):
    """The program and `just`, which must be there."""
    just = ROOT / ".tools/just"
    if not program.is_file():
        sys.exit(f"docs: {program} is not built\nhint: ./just build")
    if not just.is_file():
        sys.exit(f"docs: {just} is not there\nhint: ./just setup")
    newer = newer_than(program)
    if newer:
        print(f"note: {newer} is newer than {program}, whose commands are run\nhint: ./just build")
    return program.resolve(), just.resolve()


def newer_than(program):
    """A source of the program that has changed since it was built, by the list that cargo writes beside it."""
    listed = program.with_suffix(".d")
    sources = listed.read_text().split(": ", 1)[-1].split() if listed.is_file() else []
    built = program.stat().st_mtime
    return next((source for source in sources if Path(source).is_file() and Path(source).stat().st_mtime > built), None)


@dataclass
class Run:
    """What is run, and what came of it."""

    program: Path
    just: Path
    all: bool
    passed: list = field(default_factory=list)  # pairs of seconds and the command's place
    left_out: int = 0
    replaced: int = 0
    faults: int = 0
    shells: list = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def say(self, text):
        with self.lock:
            print(text, flush=True)

    def fault(self, place, text):
        """Tells what is wrong at a place."""
        with self.lock:
            self.faults += 1
            print(f"{place}: {text}", flush=True)

    def stop(self):
        """Ends what runs. The shells have sessions of their own, so Ctrl-C on a terminal does not reach them."""
        for shell in self.shells:
            shell.end()

    def check(self, pages):
        """The checks that run no command."""
        libraries = {**os.environ, "LD_LIBRARY_PATH": str(ROOT / ".libtorch/lib")}
        known = (
            checks.recipes_of(self.just, ROOT / "justfile"),
            checks.subcommands_of(self.program, libraries),
            checks.examples_of(ROOT),
        )
        for page in pages:
            for line, text in checks.all_of(page, *known):
                self.fault(f"{page.name}:{line}", text)

    def check_entries(self, pages):
        """Every entry of tools/docs_standins.py belongs to a command."""
        texts = {command.text for page in pages for command in commands(page)}
        unused = [entry.command for entry in docs_standins.NOT_RUN if entry.command not in texts]
        names = map(name_of, docs_standins.STAND_INS)
        unused += [name for name in names if not any(name in text for text in texts)]
        for entry in unused:
            hint = "hint: remove the entry, or write it as the page does"
            self.fault("tools/docs_standins.py", f"no page has {entry!r}\n{hint}")

    def page(self, page):
        """Runs the commands of a page."""
        of_page = commands(page)
        if not of_page:
            return
        with tempfile.TemporaryDirectory(prefix="latentrace-docs-") as parent:
            folder = Folder(ROOT, self.program, self.just, parent)
            with Shell(folder.path, folder.environment) as shell:
                self.shells.append(shell)
                self.stand_ins(page, folder, of_page)
                for command in of_page:
                    if not self.command(f"{page.name}:{command.line}", command, shell, folder):
                        break

    def stand_ins(self, page, folder, of_page):
        """Makes what the commands of a page need of a user's files."""
        for entry in docs_standins.STAND_INS:
            if any(name_of(entry) in command.text for command in of_page):
                self.make(f"{page.name}: the stand-in {name_of(entry)}", entry, folder)

    def make(self, place, entry, folder):
        is_model = isinstance(entry, docs_standins.Model)
        with tempfile.TemporaryDirectory(prefix="latentrace-docs-") as made:
            to = Path(made) / "model"
            at = made if is_model else folder.path
            variables = {"TO": str(to), "ALL": "yes" if self.all else ""}
            with Shell(at, folder.environment | variables) as shell:
                ran = shell.run(f"(set -e\n{entry.make}\n)", LIMIT[self.all])
            if ran.status != 0:
                self.fault(place, f"cannot be made (status {ran.status})\n{indented(ran.output)}")
            elif is_model:
                folder.publish(entry.id, to)

    def command(self, place, command, shell, folder):
        """Runs a command, or says why not. False if the shell has ended, so that no further command can be run."""
        entry = next((entry for entry in docs_standins.NOT_RUN if entry.command == command.text), None)
        is_slow = isinstance(entry, docs_standins.Slow)
        if entry and not (is_slow and self.all):
            with self.lock:
                self.left_out += 1
            when = "only with --all" if is_slow else "never"
            self.say(f"{place}: not run ({when}): {command.text}\n    {entry.reason}")
            if not entry.instead:
                return True
            ran = shell.run(entry.instead, LIMIT[self.all])
            with self.lock:
                self.replaced += ran.status == 0
            return self.ran(place, f"in its place: {entry.instead}", ran)
        return self.ran(place, command.text, shell.run(command.script, LIMIT[self.all]))

    def ran(self, place, text, ran):
        """Tells how a command ended."""
        if ran.status == 0:
            with self.lock:
                self.passed.append((ran.seconds, place))
                print(f"{place}: {ran.seconds:.1f} s: {text}", flush=True)
            return True
        how = f"failed with status {ran.status}"
        if ran.status is None:
            how = "was stopped, or ended the shell; the commands after it were not run"
        hint = "hint: tools/docs_standins.py lists stand-ins for files of a user, and commands that take minutes"
        self.fault(place, f"{how} after {ran.seconds:.1f} s: {text}\n{indented(ran.output)}{hint}")
        return ran.status is not None

    def summary(self, seconds):
        """Prints the sums, and returns the exit status."""
        spent = sum(time for time, _ in self.passed)
        passed = len(self.passed) - self.replaced
        print(f"docs: {passed} commands passed in {seconds:.0f} s ({spent:.0f} s one after the other), "
              f"{self.left_out} were not run, {self.faults} faults")
        if not self.all and seconds > WANTED:
            longest = ", ".join(f"{place} ({time:.0f} s)" for time, place in sorted(self.passed, reverse=True)[:5])
            print(f"note: the quick commands should take {WANTED} s at most; the longest: {longest}")
        return 1 if self.faults else 0


def name_of(entry):
    """What a command must contain to need a stand-in."""
    return entry.id if isinstance(entry, docs_standins.Model) else entry.path


def indented(output):
    """The output of a command, below it."""
    return "".join(f"    {line}\n" for line in output.splitlines())


if __name__ == "__main__":
    main()
