"""The tables of a sweep: `results.csv` with the right types, and the curves of all its cells."""

from pathlib import Path
from typing import TYPE_CHECKING

from ._columns import column
from ._csv import read_columns
from ._errors import Damaged, Unfinished, module
from ._files import parse, read
from ._run import run

if TYPE_CHECKING:
    import pandas as pd


def load(folder: str | Path) -> "pd.DataFrame":
    """The table of a sweep, `results.csv`: a row for each cell, in the order of the spec, then those that failed.

    Numbers are numbers and texts are texts, whatever a cell has: a seed keeps all its digits, a word such as `007` its
    zeros, and an empty prompt is an empty text. A number that is not defined is NaN; a setting that is not set is NA.
    docs/sweeps.md in the repository describes the columns.
    """
    pd = module("pandas", "tables")
    path = Path(folder) / "results.csv"
    if not path.is_file():
        what = "no such folder" if not Path(folder).is_dir() else "not there: no sweep has finished in this folder"
        hint = f"`latentrace run SPEC --output {folder}` makes a sweep, or continues it"
        raise Unfinished(f"{path}: {what}\nhint: {hint}")
    return pd.DataFrame({name: column(pd, name, texts, path) for name, texts in read_columns(path).items()})


def curves(folder: str | Path) -> "pd.DataFrame":
    """The numbers of every network call of every cell of a sweep.

    The columns are the fields that vary, `cell`, and those of the runs' `scalars.csv`.
    `cell` joins it with the table: `curves.merge(table[["cell", "right.whole"]], on="cell")`.
    """
    pd = module("pandas", "tables")
    folder = Path(folder)
    table = load(folder)
    done = table[table["trace"].notna()]
    if done.empty:
        raise Unfinished(f"{folder / 'results.csv'}: no cell of it is done")
    parts = [run(folder / trace).scalars() for trace in done["trace"]]
    lengths = [len(part) for part in parts]
    own = done[[*varied(folder, table), "cell"]]
    own = own.loc[own.index.repeat(lengths)].reset_index(drop=True)
    return pd.concat([own, pd.concat(parts, ignore_index=True)], axis="columns")


def varied(folder: Path, table: "pd.DataFrame") -> list[str]:
    """The names of the fields that vary, as `experiment.json` has them."""
    path = folder / "experiment.json"
    axes = parse(read(path), path).get("axes")
    try:
        names = [field["name"] for axis in axes for field in axis["fields"]]
    except (TypeError, LookupError) as error:
        raise Damaged(f"{path}: has no axes with fields") from error
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise Damaged(f"{folder / 'results.csv'}: has no column {missing[0]}, which {path.name} says varies")
    return names
