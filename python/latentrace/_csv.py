"""CSV tables as text, by column."""

import csv
from pathlib import Path

from ._errors import Damaged


def read_columns(path: Path) -> dict[str, list[str]]:
    """The columns of a table by their names, in the order of the file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Damaged(f"{path}: not a readable CSV table: {error}") from error
    if not table:
        raise Damaged(f"{path}: has no line of names")
    names, *rows = table
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise Damaged(f"{path}: the column {twice[0]} is there twice")
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise Damaged(f"{path}, row {number}: {len(row)} fields, and {len(names)} columns")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}
