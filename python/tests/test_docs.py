"""The example of docs/python.md: its commands make the runs that its Python reads."""

import os
import re
import shlex
import unittest
from pathlib import Path

from . import made


def setUpModule() -> None:
    made.program()


class Example(unittest.TestCase):
    def test_the_example_runs_as_it_stands_on_the_page(self) -> None:
        page = (made.ROOT / "docs/python.md").read_text(encoding="utf-8")
        (commands,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
        (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        folder = made.folder() / "docs"
        folder.mkdir()
        for command in commands.splitlines():
            name, *arguments = shlex.split(command)
            self.assertEqual(name, "latentrace")
            made.call(*arguments, cwd=folder)
        names: dict = {}
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(folder)
        exec(code, names)  # as a reader would run it
        stack = names["run"].stack("unet.mid_block.out", branch="cond")
        self.assertEqual((len(names["table"]), len(stack), stack.ndim), (9, 50, 5))
        self.assertEqual(len(names["curves"]), names["table"]["calls"].sum())


if __name__ == "__main__":
    unittest.main()
