"""Reads what the program latentrace writes: sweeps as tables, and runs with every tensor that was recorded.

    import latentrace

    table = latentrace.load("runs/x")                    # results.csv of a sweep, a row for each cell
    curves = latentrace.curves("runs/x")                 # a row for each network call of each cell
    run = latentrace.run("runs/x", table["cell"][0])     # one run; also latentrace.run("runs/generate/NAME")
    run.tensor("unet.mid_block.out", step=10, branch="cond")

Nothing here starts the program, and no file is written. Tables need pandas and pictures need Pillow; tensors need only
numpy.
"""

from ._errors import Absent, Damaged, Error, Unfinished
from ._run import Run, run, runs
from ._sweep import curves, load

__all__ = ["Absent", "Damaged", "Error", "Run", "Unfinished", "curves", "load", "run", "runs"]
