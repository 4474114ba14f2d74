"""A run: the folder that `latentrace generate`, `vary`, `fork` and a cell of a sweep make."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._csv import read_columns
from ._errors import Damaged, Error, Unfinished, module
from ._files import parse, read
from ._record import Record

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

STATISTICS = ("mean", "rms", "min", "max", "nan", "inf")


class Run:
    """A run on disk. `latentrace.run` and `latentrace.runs` find it.

    What was read is kept. Of a run that is still being written, ask `latentrace.run` again to see more.
    """

    def __init__(self, folder: Path, record: Path, picture: Path, damaged: str) -> None:
        """The run in a folder, with the places of its record and of its picture."""
        self.folder = folder
        self._picture = picture
        self._record = Record(record, damaged)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.folder.absolute().name.removesuffix(".trace")

    @property
    def description(self) -> dict[str, Any]:
        """All of `run.json`: settings, model, scheduler, tokens, and the program that made the run."""
        return self._record.description

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as they were asked for, by their names in a spec: prompt, seed, steps, guidance, .."""
        if "cell" not in self.description:
            path = self._record.folder / "run.json"
            raise Error(f"{path}: has no settings (cell), so it is of another program\nhint: see Run.description")
        return self.description["cell"]

    @cached_property
    def about(self) -> dict[str, Any]:
        """All of `cell.json`: the settings, what was used, and how long the run took."""
        path = self.folder / "cell.json"
        if not path.exists():
            raise Unfinished(f"{path}: this run has none: {self.state}\nhint: {self._resume()}")
        return parse(read(path), path)

    @property
    def state(self) -> str:
        """`finished`, or what the run is instead: `live: ..`, `cut off after 7 calls`, `stopped after 7 calls: ..`."""
        return self._record.state

    @property
    def calls(self) -> int:
        """How many network calls from the first on are recorded completely."""
        return self._record.index.complete

    @property
    def problems(self) -> list[str]:
        """What of the index could not be read; only with `damaged="skip"` is there ever any."""
        self._record.index
        return self._record.problems

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The lines of the index, one for each tensor, in the order of recording. docs/trace.md in the repository has the fields."""
        return self._record.index.entries

    def tensors(self) -> "pd.DataFrame":
        """The index as a table: a row for each tensor, with its statistics and whether its numbers are stored."""
        pd = module("pandas", "tables")
        names = ["call", "step", "evaluation", "t", "sigma", "tap", "role", "branch", "image", "kept", "shape", "dtype"]
        columns = {name: [entry.get(name) for entry in self.entries] for name in names}
        columns["shape"] = [tuple(shape) for shape in columns["shape"]]
        for name in STATISTICS:
            default = 0 if name in ("nan", "inf") else None
            columns[name] = [entry["statistics"].get(name, default) for entry in self.entries]
        columns["stored"] = ["stored" in entry for entry in self.entries]
        table = pd.DataFrame(columns)
        text = {name: "string" for name in ("tap", "role", "branch", "kept", "dtype")}
        return table.astype({**text, **{name: "float64" for name in ("t", "sigma", "mean", "rms", "min", "max")}})

    def tensor(
        self,
        tap: str,
        *,
        step: int | None = None,
        branch: str | None = None,
        call: int | None = None,
        evaluation: int | None = None,
        image: int | None = None,
        kept: str | None = None,
    ) -> np.ndarray:
        """The numbers of one tensor.

        What is not said may be anything, as long as one tensor fits: `branch` is "cond" or "uncond", `evaluation` is
        needed where a step has several network calls, and `kept` ("" for the whole tensor, or the words of the capture
        rule) where a tensor was kept in several ways. The result is an array of its own, in the number format of the
        record; what is stored as bfloat16 or in 256 levels (`q8`) is f32.
        """
        return self._record.numbers(self._entry(tap, step, branch, call, evaluation, image, kept))

    def places(
        self,
        tap: str,
        *,
        step: int | None = None,
        branch: str | None = None,
        call: int | None = None,
        evaluation: int | None = None,
        image: int | None = None,
        kept: str | None = None,
    ) -> np.ndarray:
        """Of a tensor that was kept as `topk(n)`: where its numbers are in the flattened tensor."""
        return self._record.numbers(self._entry(tap, step, branch, call, evaluation, image, kept), "places")

    def stack(
        self, tap: str, *, branch: str | None = None, image: int | None = None, kept: str | None = None
    ) -> np.ndarray:
        """A tensor at every step at which it was kept, `[steps, ..]`. Of a step with several calls it is the last."""
        found = self._record.matching(tap, {"branch": branch, "image": image, "kept": kept})
        self._record.only(tap, found, ("branch", "image", "kept"))
        last = {entry["step"]: entry for entry in found}  # in the order of recording, so the last call of a step stays
        shapes = sorted({tuple(entry["shape"]) for entry in last.values()})
        if len(shapes) > 1:
            raise Error(f"{tap}: shapes {shapes} in {self._record.folder}, and equal ones are expected")
        return np.stack([self._record.numbers(entry) for entry in last.values()])

    def scalars(self) -> "pd.DataFrame":
        """The numbers that were measured at each network call (`scalars.csv`): a row for each call."""
        pd = module("pandas", "tables")
        path = self._record.folder / "scalars.csv"
        if not path.is_file():
            raise Unfinished(f"{path}: not there: {self.state}\nhint: `latentrace trace {self.folder}` writes it")
        try:
            table = pd.read_csv(path)
            counts = {name: "int64" for name in ("call", "step", "evaluation")}
            others = {name: "float64" for name in table.columns if name not in counts}
            return table.astype({**counts, **others})
        except (ValueError, KeyError) as error:
            raise Damaged(f"{path}: not readable as a table of numbers: {error}") from error

    def picture(self) -> "Image":
        """The picture, as Pillow has it. `numpy.asarray` makes an array of it."""
        image = module("PIL.Image", "pictures")
        if not self._picture.is_file():
            raise Unfinished(f"{self._picture}: this run has no picture: {self.state}\nhint: {self._resume()}")
        try:
            with image.open(self._picture) as opened:
                opened.load()
                return opened
        except (OSError, SyntaxError, ValueError) as error:  # Pillow has a SyntaxError of damaged PNG files
            raise Damaged(f"{self._picture}: not a readable picture: {error}") from error

    def _entry(self, tap: str, step, branch, call, evaluation, image, kept) -> dict:
        """The line of one tensor."""
        wanted = {"step": step, "branch": branch, "call": call, "evaluation": evaluation, "image": image, "kept": kept}
        found = self._record.matching(tap, wanted)
        self._record.only(tap, found)
        return found[-1]

    def _resume(self) -> str:
        """How what is missing is made."""
        return f"`latentrace resume {self.folder}` continues the run"


def run(folder: str | Path, cell: str | None = None, *, damaged: str = "refuse") -> Run:
    """The run in a folder, or a cell of the sweep in a folder, by its name in the column `cell` of the table.

    A run is also found by its record or by its picture. `damaged="skip"` leaves out lines of the index that cannot be
    read, which `Run.problems` then lists; by default they are an error.
    """
    folder = Path(folder)
    if cell is not None:
        folder = folder / "cells" / cell
        if not is_record(folder / "trace"):
            raise Error(f"{folder}: no such run\nhint: the column cell of results.csv has the names")
    found = find(folder, damaged)
    if found is None:
        raise Error(f"{folder}: {what_else(folder)}")
    return found


def runs(folder: str | Path, *, damaged: str = "refuse") -> list[Run]:
    """All runs in a folder: the cells of a sweep in the order of its table, or else runs by name.

    Cells that failed have no run. They are the last rows of the table, so `runs(folder)[3]` is of its row 3.
    """
    folder = Path(folder)
    table = folder / "results.csv"
    if table.is_file():
        traces = read_columns(table).get("trace", [])
        return [run(folder / trace, damaged=damaged) for trace in traces if trace]
    inside = folder / "cells" if (folder / "cells").is_dir() else folder
    if not inside.is_dir():
        raise Error(f"{folder}: no such folder")
    names = sorted(path for path in inside.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = [found for path in names if (found := find(path, damaged)) is not None]
    if not found:
        raise Error(f"{folder}: no runs in it\nhint: name the folder of a sweep, or one that has the folders of runs")
    return found


def find(path: Path, damaged: str) -> Run | None:
    """The run that a path is of: its folder, its record, or its picture."""
    if is_record(path / "trace"):
        return Run(path, path / "trace", path / "image.png", damaged)
    if path.name == "image.png" and path.is_file() and is_record(path.parent / "trace"):
        return Run(path.parent, path.parent / "trace", path, damaged)
    if not is_record(path):
        return None
    if path.name == "trace" and not path.with_suffix(".png").is_file():
        return Run(path.parent, path, path.parent / "image.png", damaged)
    return Run(path, path, path.with_suffix(".png"), damaged)  # as earlier versions wrote it


def is_record(folder: Path) -> bool:
    """Whether a folder is the record of a run."""
    return (folder / "run.json").is_file()


def what_else(folder: Path) -> str:
    """What a path is that is no run, and what would work."""
    if not folder.exists():
        return "no such folder"
    if (folder / "results.csv").is_file() or (folder / "cells").is_dir():
        return (
            "a sweep, and one run is expected"
            "\nhint: latentrace.runs(folder) has all of them, latentrace.run(folder, cell) one"
        )
    return "no record of a run in it\nhint: a run is a folder made by `latentrace generate`, `vary`, `fork` or a sweep"
