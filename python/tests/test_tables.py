"""The tables of a sweep."""

import json
import os
import subprocess
import sys
import time
import unittest
from unittest import mock

import latentrace
import pandas as pd

from . import made


def setUpModule() -> None:
    made.program()


class Tables(unittest.TestCase):
    def setUp(self) -> None:
        self.sweep = made.sweep()
        self.table = latentrace.load(self.sweep)

    def test_columns_have_the_types_of_what_they_hold(self) -> None:
        table = self.table
        self.assertEqual((len(table), table.columns.is_unique), (8, True))
        self.assertEqual(list(table.columns[:5]), ["guidance", "seed", "colour", "negative", "tag"])
        kinds = {
            "int64": ["seed", "steps", "height", "width", "calls", "evaluations", "taken_over"],
            "Int64": ["alternates_from"],
            "float64": ["guidance", "seconds", "contrast", "seen.red"],
            "string": ["prompt", "negative", "colour", "tag", "sampler", "failure", "cell", "trace", "prompt_lost"],
        }
        for kind, names in kinds.items():
            self.assertEqual({name: str(table[name].dtype) for name in names}, dict.fromkeys(names, kind))
        self.assertEqual(set(table["seed"]), {made.SEED, made.SEED + 1})
        self.assertEqual(set(table["tag"]), {"007", "NA"})  # pandas.read_csv makes 7 and NaN of these
        self.assertEqual(set(table["negative"]), {"", 'blurry, "soft"'})
        self.assertEqual((set(table["prompt_lost"]), table["failure"].isna().all()), ({""}, True))
        self.assertTrue(table["seen.red"].isin([0, 1]).all() and table["alternates_from"].isna().all())

    def test_a_cell_that_failed_has_no_numbers_and_changes_no_type(self) -> None:
        sweep = made.copy(self.sweep)
        path = sweep / "results.csv"
        header, *rows = path.read_text().splitlines()
        names, last = header.split(","), rows[0].split(",")
        empty = {"calls", "evaluations", "taken_over", "seconds", "trace", "picture"}
        given = {"failure": "no memory", "cell": "0123456789abcdef"}
        first_text = names.index("prompt")  # its comma makes two parts of the field
        before = [f if n in names[:5] else "" for n, f in zip(names[:first_text], last)]
        behind = [given.get(n, "" if n in empty else "4") for n in names[first_text + 1 :]]
        path.write_text("\n".join([header, *rows, ",".join([*before, "a circle", *behind])]) + "\n")
        table = latentrace.load(sweep)
        self.assertEqual((len(table), table["failure"][8], table["prompt"][8]), (9, "no memory", "a circle"))
        self.assertTrue(table.loc[8, ["calls", "seconds", "trace", "seen.red"]].isna().all())
        self.assertEqual((str(table["calls"].dtype), str(table["seed"].dtype)), ("Int64", "int64"))
        self.assertEqual(len(latentrace.runs(sweep)), 8)
        self.assertEqual(set(latentrace.curves(sweep)["cell"]), set(self.table["cell"]))

    def test_runs_are_in_the_order_of_the_table(self) -> None:
        runs = latentrace.runs(self.sweep)
        self.assertEqual([run.name for run in runs], list(self.table["cell"]))
        self.assertEqual([run.settings["seed"] for run in runs], list(self.table["seed"]))
        self.assertEqual([run.settings["guidance"] for run in runs], list(self.table["guidance"]))
        one = latentrace.run(self.sweep, self.table["cell"][3])
        self.assertEqual(one.tensor("unet.mid_block.out", step=2, branch="cond").shape[0], 1)
        self.assertEqual(one.about["key"], self.table["cell"][3].rsplit("-", 1)[1])

    def test_the_runs_of_a_folder_without_a_table_are_found_too(self) -> None:
        self.assertEqual([run.folder for run in latentrace.runs(made.run().parent)], [made.run()])

    def test_curves_are_those_of_the_program(self) -> None:
        curves = latentrace.curves(self.sweep)
        theirs = pd.read_csv(self.sweep / "curves.csv", keep_default_na=False, dtype={"tag": str, "negative": str})
        self.assertEqual(list(curves.columns), list(theirs.columns))
        self.assertEqual(len(curves), self.table["calls"].sum())
        for name in curves.columns:
            own = curves[name]
            if own.dtype == "float64":
                self.assertTrue(own.equals(pd.to_numeric(theirs[name]).astype("float64")), name)
            else:
                self.assertEqual(list(own), list(theirs[name]), name)
        joined = curves.merge(self.table[["cell", "seen.red"]], on="cell")
        self.assertEqual(len(joined), len(curves))

    def test_the_curves_of_sixty_cells_take_less_than_a_second(self) -> None:
        sweep = made.copy(self.sweep)
        path = sweep / "results.csv"
        header, *rows = path.read_text().splitlines()
        path.write_text("\n".join([header, *(rows * 8)[:60]]) + "\n")
        began = time.process_time()  # not the time on the wall: the machine may be busy
        curves = latentrace.curves(sweep)
        took = time.process_time() - began
        self.assertEqual(len(curves), 60 * 5)
        self.assertLess(took, 1)

    def test_only_tables_need_pandas(self) -> None:
        code = "import sys, latentrace; print(*sorted({'pandas', 'PIL'} & set(sys.modules)))"
        environment = {**os.environ, "PYTHONPATH": str(made.ROOT / "python")}
        printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        self.assertEqual(printed.stdout, "\n")
        with mock.patch.dict(sys.modules, {"pandas": None}):
            with self.assertRaises(latentrace.Error) as raised:
                latentrace.load(self.sweep)
            self.assertIn("hint: pip install pandas", str(raised.exception))
            self.assertEqual(latentrace.runs(self.sweep)[0].stack("unet.mid_block.out", branch="cond").shape[0], 4)

    def test_what_is_no_sweep_or_no_table_is_an_error_with_its_name(self) -> None:
        sweep = made.copy(self.sweep)
        table = (sweep / "results.csv").read_text()

        def error(of) -> str:
            with self.assertRaises(latentrace.Error) as raised:
                of(sweep)
            self.assertIn(str(sweep), str(raised.exception))
            return str(raised.exception)

        for text, cause in {
            table.replace(f",{made.SEED},", ",many,"): "results.csv: column seed: ",
            table + "1,2\n": "results.csv, row 9: 2 fields, and ",
            table.replace("guidance,seed", "seed,seed", 1): "results.csv: the column seed is there twice",
            table.replace("a large", '"', 1): "results.csv: not a readable CSV table",
            "": "results.csv: has no line of names",
        }.items():
            (sweep / "results.csv").write_text(text)
            self.assertIn(cause, error(latentrace.load))
        (sweep / "results.csv").write_text(table)
        self.assertIn("a sweep, and one run is expected", error(latentrace.run))
        (sweep / "experiment.json").write_text(json.dumps({"axes": [{}]}))
        self.assertIn("experiment.json: has no axes", error(latentrace.curves))
        (sweep / "results.csv").unlink()
        self.assertIn("results.csv: not there: no sweep has finished", error(latentrace.load))
        self.assertEqual(len(latentrace.runs(sweep)), 8)  # those that are done, without a table


if __name__ == "__main__":
    unittest.main()
