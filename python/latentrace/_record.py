"""The record of a run: its description, its index, and the choice of tensors."""

import fcntl
import json
import re
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

import numpy as np

from ._errors import Absent, Damaged, Error
from ._files import parse, read
from ._index import Index, read_index, refuse
from ._shard import Shard

FORMAT = 1
"""The latest version of the format that is read."""

FIELDS = ("call", "step", "evaluation", "branch", "image", "kept")
"""What distinguishes the tensors of one tap."""


class Record:
    """The folder `trace/` of a run. Each file is read when it is first needed, and then kept."""

    def __init__(self, folder: Path, damaged: str) -> None:
        """The record in a folder. `damaged` is "refuse" or "skip"."""
        if damaged not in ("refuse", "skip"):
            raise ValueError(f'damaged={damaged!r}: expected "refuse" or "skip"')
        self.folder = folder
        self.problems: list[str] = []
        self.problem = refuse if damaged == "refuse" else self.problems.append
        self.shards: dict[str, Shard] = {}
        self.bytes = read(folder / "run.json")

    @cached_property
    def description(self) -> dict:
        """The content of `run.json`."""
        path = self.folder / "run.json"
        run = parse(self.bytes, path)
        if not isinstance(run.get("format"), int):
            raise Error(f"{path}: has no format: this is not a record of latentrace")
        if run["format"] > FORMAT:
            known = f"and this package reads up to {FORMAT}"
            raise Error(f"{path}: format version {run['format']}, {known}\nhint: use a newer latentrace")
        return run

    @cached_property
    def index(self) -> Index:
        """The lines of `index.jsonl`."""
        self.description  # a later format may have another index
        return read_index(self.folder, self.bytes, self.problem)

    @cached_property
    def state(self) -> str:
        """Whether the run has finished, in words; see `Run.state`."""
        writer = live(self.folder / "lock")  # before the index: a run that ends in between is live then
        if self.index.end is not None and "error" in self.index.end:
            return f"stopped after {self.index.complete} calls: {self.index.end['error']}"
        if self.index.end is not None:
            return "finished"
        if writer:
            return f"live: {writer} is writing it"
        return f"cut off after {self.index.complete} calls"

    def matching(self, tap: str, wanted: dict) -> list[dict]:
        """The lines of a tap whose fields have the wanted values; a value of None fits all."""
        of_tap = [entry for entry in self.index.entries if entry["tap"] == tap]
        if not of_tap:
            known = sorted({entry["tap"] for entry in self.index.entries})
            near = ", ".join(get_close_matches(tap, known)) or "none"
            raise Absent(f"{tap}: not in {self.folder}\nhint: near names: {near}; Run.tensors() lists all")
        wanted = {name: value for name, value in wanted.items() if value is not None}
        found = [entry for entry in of_tap if all(entry[name] == value for name, value in wanted.items())]
        if not found:
            asked = ", ".join(f"{name}={value!r}" for name, value in wanted.items())
            there = "; ".join(f"{name} {values(of_tap, name)}" for name in wanted)
            state = "" if self.state == "finished" else f"; the run is not finished: {self.state}"
            raise Absent(f"{tap}: not in {self.folder} with {asked}\nhint: recorded are {there}{state}")
        return found

    def only(self, tap: str, found: list[dict], names: tuple[str, ...] = FIELDS) -> None:
        """Checks that lines differ in none of these fields."""
        differ = [name for name in names if len({entry[name] for entry in found}) > 1]
        if {"step", "evaluation"} & set(differ):  # which say what call it is
            differ.remove("call")
        if differ:
            say = ", ".join(f"{name}= ({values(found, name)})" for name in differ)
            raise Absent(f"{tap}: {len(found)} tensors in {self.folder}, and one is expected\nhint: say {say}")

    def numbers(self, entry: dict, part: str = "stored") -> np.ndarray:
        """The numbers of a line, or the places of a `topk`."""
        stored = entry.get(part)
        if stored is None:
            kept = f"kept as {entry['kept']!r}" if entry["kept"] else "kept whole"
            what = "only its statistics were kept" if part == "stored" else f"it has no places: it is {kept}"
            raise Absent(f"{entry['tap']}, call {entry['call']}: {what}, in {self.folder}\nhint: see Run.tensors()")
        name = stored["shard"]
        if not re.fullmatch(r"\d{6}\.safetensors", name):
            raise Damaged(f"{self.folder / 'index.jsonl'}: {name!r} is no name of a shard")
        if name not in self.shards:
            self.shards[name] = Shard(self.folder / "shards" / name)
        return self.shards[name].numbers(stored, entry["shape"])


def values(entries: list[dict], name: str) -> str:
    """The values of a field, for a hint."""
    there = sorted({entry[name] for entry in entries}, key=lambda value: (value is not None, value))
    if len(there) > 2 and isinstance(there[0], int) and there == list(range(there[0], there[-1] + 1)):
        return f"{there[0]} to {there[-1]}"
    shown = ["none" if value is None else repr(value) for value in there[:8]]
    return ", ".join(shown) + (", .." if len(there) > 8 else "")


def live(lock: Path) -> str | None:
    """The process that is writing a record at this moment, if any: the one that has locked this file."""
    try:
        with lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            except BlockingIOError:
                return owner(file.read(4096))
    except OSError:  # no such file: nobody is writing
        return None


def owner(text: bytes) -> str:
    """The name of the process in a lock, which may not have been written yet."""
    try:
        about = json.loads(text)
        return f"process {about['pid']} on {about['host']}"
    except (ValueError, LookupError, TypeError):
        return "a process"
