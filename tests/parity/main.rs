//! Networks and whole runs against diffusers 0.42.1.
//!
//! `data/golden/networks/make.py`, `data/golden/runs/make.py` (from text), `data/golden/pictures/make.py` (from a
//! picture and text) and `data/golden/masks/make.py` (from a picture, a mask and text) made the numbers for two tiny
//! checkpoints with random weights, `sd1` in the shape of Stable Diffusion 1 and `sd2` in that of 2, and
//! `data/golden/xl/make.py` those for three in the shapes of SDXL. `tools/parity.sh` makes the same at full size and for the
//! bundled checkpoint, which `full` compares. Run with `--nocapture` to see the tables.

mod fixture;
mod full;
mod masks;
mod networks;
mod pictures;
mod runs;
mod xl;
