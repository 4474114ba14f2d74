"""The index of a record: a line for each tensor, with the checks that docs/trace.md in the repository describes."""

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from ._errors import Damaged
from ._files import read

# What a line of a tensor has in every record, also in one of another program; and what its `stored` has if it is there.
REQUIRED = {"call": int, "step": int, "t": (int, float), "sigma": (int, float), "tap": str, "shape": list, "dtype": str}
REQUIRED |= {"statistics": dict}
STORED = {"shard": str, "name": str, "dtype": str}


@dataclass
class Index:
    """The lines of an index that could be read."""

    entries: list[dict] = field(default_factory=list)
    """A line for each tensor, in the order of recording."""
    complete: int = 0
    """How many network calls from the first on are complete."""
    end: dict | None = None
    """How the record ended; None if it has not."""


def read_index(folder: Path, run: bytes, problem: Callable[[str], None]) -> Index:
    """Reads `index.jsonl`. `run` is the content of `run.json`; `problem` is told what is damaged, and may raise it."""
    path = folder / "index.jsonl"
    index, numbering, is_whole = Index(), Numbering(), True
    *lines, _cut_off = read(path).split(b"\n")  # what a kill has left of a line has no line feed
    for place, text in enumerate(lines, 1):
        try:
            line = parse_line(text)
        except ValueError as error:
            is_whole = False
            numbering.unreadable()
            problem(f"{path}, line {place}: {error}")
            continue
        wrong = numbering.read(line.get("line"))
        if wrong:
            is_whole = False
            problem(f"{path}, line {place}: {wrong.cause}")
            if wrong.is_twice:
                continue
        if line.get("run_crc32", zlib.crc32(run)) != zlib.crc32(run):
            problem(f"{folder / 'run.json'}: has changed since the run was recorded")
        if "tap" in line:
            index.entries.append(line)
        elif "complete" in line and is_whole:
            index.complete = max(index.complete, line["complete"] + 1)
        elif "end" in line and is_whole:
            index.end = line["end"]
    return index


def parse_line(text: bytes) -> dict:
    """A line of the index, whose checksum and fields are checked. A ValueError says what is wrong with it."""
    body, mark, check = text.rpartition(b',"check":"')
    if mark and check != b'%08x"}' % zlib.crc32(body):
        raise ValueError("has changed since it was written")
    line = json.loads(text)
    if not isinstance(line, dict):
        raise ValueError("not a JSON object")
    if "tap" in line:
        check_fields(line, REQUIRED)
        for part in ("stored", "places"):
            if part in line:
                check_fields(line[part], STORED)
        return {"evaluation": 0, "branch": None, "image": 0, "kept": "", **line}
    if isinstance(line.get("complete"), int) or isinstance(line.get("end"), dict):
        return line
    raise ValueError("neither a tensor nor an end")


def check_fields(about: object, fields: dict) -> None:
    """Checks that an object has these fields, each of its type. A ValueError names one that it lacks."""
    if not isinstance(about, dict):
        raise ValueError(f"expected an object with {', '.join(fields)}, found {about!r}")
    for name, kind in fields.items():
        if not isinstance(about.get(name), kind):
            raise ValueError(f"has no {name}, or one of another type: {about.get(name)!r}")


@dataclass
class Wrong:
    """What is wrong with the number of a line."""

    cause: str
    is_twice: bool = False


class Numbering:
    """Follows the numbers of the lines, so that a line that is missing, moved or doubled is detected."""

    def __init__(self) -> None:
        self.next, self.skipped = 1, 0

    def unreadable(self) -> None:
        """Counts a line that could not be read: it may be the one that seems to be missing."""
        self.skipped += 1

    def read(self, number: int | None) -> Wrong | None:
        """Reads the number of the next line; older records and those of other programs have none."""
        if number is None:
            return None
        first, skipped = self.next, self.skipped
        if number < first:
            return Wrong(f"it is line {number} of the original, moved or for the second time", is_twice=True)
        self.next, self.skipped = number + 1, 0
        if number - first > skipped:
            return Wrong(f"it is line {number} of the original, and lines before it are missing, from line {first} on")
        return None


def refuse(text: str) -> None:
    """Stops at the first problem of a record."""
    raise Damaged(f'{text}\nhint: damaged="skip" reads the rest, and Run.problems lists what is left out')
