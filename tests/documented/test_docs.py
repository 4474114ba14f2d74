"""Tests of tools/docs_commands.py: that it reads pages as bash and CommonMark do, and that each kind of fault is found.

    python3 -m unittest discover --start-directory tests/documented
"""

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import docs_commands
import docs_standins
from docs import checks
from docs.fences import commands, read_page
from docs.shell import Shell

JUSTFILE = """\
set positional-arguments
latentrace := "false"

generate *args:
    {{ latentrace }} generate "$@"
"""
PROGRAM = """\
#!/bin/sh
if [ "$1" = --help ]; then printf 'Usage: latentrace COMMAND\\n\\nPictures:\\n  generate  Make\\n\\nOptions:\\n'; exit; fi
if [ "$2" = wrong ]; then echo 'error: wrong prompt' >&2; exit 3; fi
mkdir -p runs/generate && echo "$2" >>runs/generate/said
"""
KNOWN = ({"generate", "causal", "latentrace"}, {"generate", "causal"}, {("latentrace", "peak")})


class Checkout(unittest.TestCase):
    """A folder that stands for the checkout, with a program of three lines."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name).resolve()
        (self.root / "justfile").write_text(JUSTFILE)
        (self.root / ".libtorch").mkdir()
        self.program = self.root / "program"
        self.program.write_text(PROGRAM)
        self.program.chmod(0o755)

    def page(self, text):
        (self.root / "README.md").write_text(text)
        return read_page(self.root, self.root / "README.md")

    def texts(self, text):
        return [(command.line, command.text) for command in commands(self.page(text))]

    def faults(self, text):
        return list(checks.all_of(self.page(text), *KNOWN))

    def run_page(self, text, stand_ins=(), not_run=(), every=False):
        """How many faults a page has, and what is printed."""
        run = docs_commands.Run(self.program, ROOT / ".tools/just", every)
        said = io.StringIO()
        entries = {"STAND_INS": list(stand_ins), "NOT_RUN": list(not_run)}
        with mock.patch.multiple(docs_standins, **entries), mock.patch.object(docs_commands, "ROOT", self.root):
            with contextlib.redirect_stdout(said):
                run.page(page := self.page(text))
                run.check_entries([page])
                status = run.summary(0)
        self.assertEqual(status, 1 if run.faults else 0)
        return run.faults, said.getvalue()


class Reading(Checkout):
    def test_comments_and_continuations_are_not_part_of_a_command(self):
        found = self.texts('text\n```sh\n# one\nls "#a" \\\n   -l   # two\n\necho b#c\n```\n')
        self.assertEqual(found, [(4, 'ls "#a" -l'), (7, "echo b#c")])

    def test_a_command_goes_on_until_bash_has_all_of_it(self):
        found = self.texts("```bash\ncat <<'END' >a\ntext\nEND\nfor a in 1 2; do\necho $a\ndone\n```\n")
        self.assertEqual([line for line, _ in found], [2, 5])

    def test_of_a_console_only_the_input_is_run(self):
        self.assertEqual(self.texts("```console\n$ ls \\\n> -l\na  b\n$ pwd\n```\n"), [(2, "ls -l"), (5, "pwd")])

    def test_other_languages_are_not_run_and_a_longer_fence_holds_a_shorter_one(self):
        found = self.texts("```toml\na = 1\n```\n````text\n```sh\nls\n```\n````\n~~~sh\npwd\n~~~\n")
        self.assertEqual(found, [(10, "pwd")])


class Running(Checkout):
    def test_commands_share_folder_and_variables_and_leave_the_checkout_alone(self):
        faults, said = self.run_page(
            '```sh\n./just generate "a red circle"\nRUN=$(ls -d runs/generate)\n```\n'
            '```sh\ngrep -x "a red circle" $RUN/said\n```\n'
        )
        self.assertEqual(faults, 0, said)
        self.assertFalse((self.root / "runs").exists())

    def test_a_failure_is_told_with_its_place_and_its_output(self):
        faults, said = self.run_page("```sh\nlatentrace generate right\nlatentrace generate wrong\n```\n")
        self.assertEqual(faults, 1)
        told = r"README.md:3: failed with status 3 after .* s: latentrace generate wrong\n    error: wrong prompt"
        self.assertRegex(said, told)

    def test_a_syntax_error_and_an_exit_are_failures(self):
        self.assertEqual(self.run_page("```sh\necho (\n```\n")[0], 1)
        faults, said = self.run_page("```sh\nexit 0\npwd\n```\n")
        self.assertEqual(faults, 1)
        self.assertIn("ended the shell", said)
        self.assertEqual(self.run_page('```sh\necho "a\n```\n')[0], 1)

    def test_nothing_is_built(self):
        faults, said = self.run_page("```sh\ncargo run -p latentrace --example peak\n```\n")
        self.assertEqual(faults, 1)
        self.assertIn("cargo is not run here", said)

    def test_a_slow_command_is_run_with_all_only_and_otherwise_its_replacement(self):
        text = "```sh\nlatentrace generate slow\ncat made\n```\n"
        slow = docs_standins.Slow("latentrace generate slow", "minutes", "echo >made")
        self.assertEqual(self.run_page(text, not_run=[slow])[0], 0)
        self.assertEqual(self.run_page(text, not_run=[slow], every=True)[0], 1, "the replacement is not run with --all")

    def test_a_stand_in_is_made_for_the_page_that_names_it(self):
        photo = docs_standins.File("photo.jpg", "of a user", "echo >photo.jpg")
        model = docs_standins.Model("owner/model", "of the hub", 'mkdir "$TO" && echo 1 >"$TO/config.json"')
        at = "$HF_HUB_CACHE/models--owner--model/snapshots/*/config.json # owner/model"
        self.assertEqual(self.run_page(f"```sh\ncat photo.jpg\n: owner/model\ncat {at}\n```\n", [photo, model])[0], 0)
        self.assertEqual(self.run_page("```sh\ncat photo.jpg\n```\n")[0], 1)

    def test_an_entry_without_a_command_is_a_fault(self):
        stale = docs_standins.Never("./just gone", "a reason")
        faults, said = self.run_page("```sh\npwd\n```\n", [docs_standins.File("gone.jpg", "a reason", "")], [stale])
        self.assertEqual(faults, 2, said)

    def test_a_command_that_takes_too_long_is_stopped_with_what_it_started(self):
        with Shell(self.root, {"PATH": "/usr/bin:/bin"}) as shell:
            self.assertIsNone(shell.run("echo begun; sleep 60", 0.3).status)
            self.assertIsNone(shell.run("pwd", 1).status)


class Checking(Checkout):
    def test_a_command_outside_of_a_shell_block(self):
        found = self.faults("```\n./just generate a\n```\n\n    latentrace generate a\n")
        self.assertEqual([line for line, _ in found], [5, 2])
        self.assertEqual(self.faults("```\nruns/a.png\n```\n\n    import numpy\n"), [])

    def test_a_recipe_or_a_command_that_does_not_exist(self):
        self.assertEqual([line for line, _ in self.faults("`./just\ngenerat` or\n`latentrace patch`\n")], [1, 3])
        self.assertEqual(self.faults("`./just generate`, `./just latentrace COMMAND`, `latentrace causal A`\n"), [])

    def test_cargo_run_names_its_package(self):
        self.assertIn("package", self.faults("`cargo run --release --example peak -- -p latentrace`")[0][1])
        self.assertIn("no example pique", self.faults("```sh\ncargo run -p latentrace --example pique\n```\n")[0][1])
        self.assertEqual(self.faults("`cargo run --release -p latentrace --example peak -- A`"), [])

    def whole(self, rule, user='./just causal $A --from "$B"'):
        made = f'./just generate b --output runs/b --capture "{rule}"\nA=$(ls -d runs/a/*)\nB=$(ls -d runs/b/*)'
        return self.faults(f"```sh\n{made}\n{user}\n```\n")

    def test_a_command_that_reads_tensors_names_a_run_that_has_them_whole(self):
        for user in ["./just causal $A --from $B", './just generate a --edit "unet.x => replace($B)"',
                     './just generate a --edit "unet.x => add($B, 0.5)"']:
            self.assertEqual(self.whole("unet.x", user), [], user)
            self.assertEqual(len(self.whole("unet.x | stats", user)), 1, user)
        self.assertEqual(self.whole("unet.x | full"), [])
        self.assertEqual(len(self.whole("unet.x @step[0:5]")), 1)
        self.assertEqual(len(self.whole("unet.x", "./just causal $A --from $A")), 1)
        self.assertEqual(self.whole("unet.x | stats", './just generate a --edit "unet.x => add(0.5)"'), [])

    def test_python_reads_a_tap_that_was_captured_whole(self):
        read = '```python\nh = by_step("runs/b/b-193/trace", "unet.mid_block.out")\n```\n'
        rules = {"unet.{mid_block,up}.out": 0, "unet.**.out": 0, "unet.up.out": 1, "unet.** | f16": 1}
        for rule, faults in rules.items():
            made = f'```sh\nlatentrace generate b --output runs/b --capture "{rule}"\n```\n'
            self.assertEqual(len(self.faults(made + read)), faults, rule)
        self.assertEqual(len(self.faults(read)), 1)


if __name__ == "__main__":
    unittest.main()
