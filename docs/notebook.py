"""docs/notebook.py PROGRAM NOTEBOOK: writes the notebook, with the outputs of its cells. docs/notebook calls it.

The cells run in an empty folder, with the program and the package on their paths, as after `pip install` of the wheel.
Fails if a cell fails, if an output has a path of this machine, or if the notebook has more than LARGEST bytes.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 300_000

CELLS = [
    """\
# A sweep, read in Python
The program makes the runs, and the package `latentrace` reads them; [python.md](python.md) describes the package. The
model is the one that Latentrace brings along, so this notebook runs in a minute, without a download. `docs/notebook`
makes it again.

First a spec: one caption and one seed at nine guidance scales. Of every network call, the output of the UNet's middle
block is kept.""",
    """\
%%writefile nine.toml
name = "nine"
measure = ["adherence", "saturation"]
capture = ["unet.mid_block.out | f16"]

[fixed]
prompt = "a large red circle on the left, white background"
seed = 193
steps = 50

[vary]
guidance = [0.25, 0.5, 1, 2, 4, 6, 8, 10, 20]""",
    """\
!latentrace run nine.toml --output nine 2>&1 | grep pictures""",
    """\
## The table
A row for each cell, with the settings, what was measured, and where the run is. `right.whole` says whether the picture
shows the whole caption.""",
    """\
import latentrace

table = latentrace.load("nine")
table[["guidance", "right.colour", "right.shape", "right.whole", "saturation", "calls", "evaluations", "seed"]]""",
    """\
## The pictures""",
    """\
%config InlineBackend.figure_formats = ["png"]
import matplotlib.pyplot as plt
import numpy as np

runs = latentrace.runs("nine")
figure, axes = plt.subplots(1, len(runs), figsize=(9, 1.3), dpi=90)
for axis, run in zip(axes, runs):
    axis.imshow(run.picture())
    axis.set_title(f"{run.settings['guidance']:g}", fontsize=9)
    axis.axis("off")""",
    """\
## What was measured at every call
`curves` joins the numbers of all cells. This is how far the prompt moves the predicted noise, by noise level.""",
    """\
curves = latentrace.curves("nine")
figure, axis = plt.subplots(figsize=(6, 3), dpi=80)
for guidance, cell in curves.groupby("guidance"):
    axis.plot(cell["sigma"], cell["rms_epsilon_difference"], label=f"{guidance:g}", lw=1)
axis.set(xscale="log", yscale="log", xlabel="noise level σ", ylabel="rms of εc − εu")
axis.invert_xaxis()
axis.legend(title="guidance", fontsize=7, bbox_to_anchor=(1, 1));""",
    """\
## A tensor across the steps
`stack` returns a tensor at every step, of one branch. How far apart are the branches in the UNet's middle block?""",
    """\
run = runs[-1]
with_prompt = run.stack("unet.mid_block.out", branch="cond").astype("f4")
with_prompt.shape""",
    """\
figure, axis = plt.subplots(figsize=(6, 3), dpi=80)
for run in runs:
    cond, uncond = (run.stack("unet.mid_block.out", branch=branch).astype("f4") for branch in ("cond", "uncond"))
    distance = np.linalg.norm((cond - uncond).reshape(len(cond), -1), axis=1)
    size = np.linalg.norm(uncond.reshape(len(cond), -1), axis=1)
    axis.plot(distance / size, label=f"{run.settings['guidance']:g}", lw=1)
axis.set(xlabel="step", ylabel="distance of the branches, relative")
axis.legend(title="guidance", fontsize=7, bbox_to_anchor=(1, 1));""",
    """\
## One tensor
By its name in the checkpoint, its step and its branch. `tensors` lists what was recorded.""",
    """\
run = runs[4]
tensor = run.tensor("unet.mid_block.out", step=10, branch="cond")
tensor.shape, tensor.dtype, run.tensor("sampler.denoised", step=10).shape""",
    """\
index = run.tensors()
index[index["step"] == 10][["call", "sigma", "tap", "branch", "kept", "shape", "rms"]]""",
    """\
A question that has no answer is an error that says what there is:""",
    """\
try:
    run.tensor("unet.mid_block.out", step=10)
except latentrace.Absent as error:
    print(str(error).replace(str(run.folder), run.name))""",
]


def main(program: Path, path: Path) -> None:
    """Makes the notebook and checks it."""
    notebook = new_notebook(cells=[cell(number, text) for number, text in enumerate(CELLS)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bin").mkdir()
        (Path(folder) / "bin/latentrace").symlink_to(program.resolve())
        (Path(folder) / "work").mkdir()
        execute(notebook, Path(folder))
        text = nbformat.writes(notebook).rstrip() + "\n"
        for place in (folder, str(ROOT), str(Path.home())):
            if place in text:
                sys.exit(f"{path}: has the path {place}")
    size = len(text.encode())
    if size > LARGEST:
        sys.exit(f"{path}: {size} bytes, and at most {LARGEST} are wanted")
    path.write_text(text, encoding="utf-8")
    print(f"{path}: {len(CELLS)} cells, {size} bytes")


def cell(number: int, text: str) -> nbformat.NotebookNode:
    """A cell; those that begin with prose are Markdown. It has the same id each time."""
    is_code = not text.startswith(("#", "A "))
    made = (new_code_cell if is_code else new_markdown_cell)(text)
    made.id = f"cell-{number}"
    return made


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Runs all cells, and leaves out when they ran."""
    os.environ.update(
        PATH=f"{folder / 'bin'}:{os.environ['PATH']}",
        PYTHONPATH=str(ROOT / "python"),
        PYTHONDONTWRITEBYTECODE="1",
        MPLCONFIGDIR=str(Path(sys.prefix) / "matplotlib"),
    )
    # The first import tells that it lists the fonts.
    subprocess.run([sys.executable, "-c", "import matplotlib.pyplot"], check=True, capture_output=True)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder / "work")}})
    client.execute()
    for made in notebook.cells:
        made.metadata.pop("execution", None)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
