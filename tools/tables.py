"""tools/tables.py PROGRAM: runs a small sweep and reads its tables with pandas and polars, as a researcher would.

Fails if a name is there twice, a number is read as text, a whole number loses digits, or an empty text is anything else.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import polars as pl

SEED = 9_007_199_254_740_993  # not a float
SPEC = f"""
name = "tables"
measure = ["adherence", "colours", "contrast"]
figures = ["curves", "adherence"]
[fixed]
prompt = "a large {{colour}} circle on the left, white background"
steps = 4
[vary]
guidance = [1, 7.5]
seed = [{SEED}, {SEED + 1}]
[[zip]]
colour = ["red", "blue"]
negative = ["", "blurry, \\"soft\\""]
"""


def main() -> None:
    program = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        spec, out = Path(folder, "spec.toml"), Path(folder, "out")
        spec.write_text(SPEC)
        subprocess.run([program, "run", spec, "--output", out], check=True, stdout=subprocess.DEVNULL)
        check(out)
    print("the tables read as they should, with pandas and polars")


def check(out: Path) -> None:
    results, curves, measures = (pd.read_csv(out / f"{name}.csv") for name in ("results", "curves", "measures"))
    for table in (results, curves, measures):
        assert table.columns.is_unique, list(table.columns)
        assert not any(name.endswith(".1") for name in table.columns), list(table.columns)  # what pandas makes of two
    assert len(results) == 8 and list(results.columns[:4]) == ["guidance", "seed", "colour", "negative"]
    assert results["seed"].dtype == "int64" and set(results["seed"]) == {SEED, SEED + 1}
    assert results["guidance"].dtype == "float64" and results["seconds"].dtype == "float64"
    assert results["negative"].isna().sum() == 4 and 'blurry, "soft"' in set(results["negative"])
    assert results["right.whole"].between(0, 1).all() and results["failure"].isna().all()
    assert all((out / path).exists() for column in ("trace", "picture") for path in results[column])
    assert (curves["call"].dtype, len(curves)) == ("int64", results["calls"].sum())
    began = time.perf_counter()
    joined = curves.merge(results[["cell", "right.whole"]], on="cell")
    assert len(joined) == len(curves) and time.perf_counter() - began < 1
    assert set(measures.columns) == {"guidance", "colour", "negative", "number", "n", "value", "low", "high", "interval"}
    rates = measures[measures["interval"] == "Wilson"]
    assert (rates["low"] <= rates["value"]).all() and (rates["value"] <= rates["high"]).all()

    polar = pl.read_csv(out / "results.csv")
    assert polar["seed"].dtype == pl.Int64 and polar["seed"].max() == SEED + 1
    assert polar["right.whole"].dtype.is_numeric() and polar["negative"].null_count() == 4
    assert pl.read_csv(out / "curves.csv").height == len(curves)


main()
