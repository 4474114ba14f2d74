# Everyday commands. `./just RECIPE` first installs what is missing; once nothing is missing, `just RECIPE` is the same.

set positional-arguments

# Everything uses the release profile, so dependencies (torch-sys takes longest) are compiled only once.
latentrace := "cargo run --release -p latentrace-program --bin latentrace --"

# Doctests are built in a temporary folder, where the rpath in .cargo/config.toml does not lead to .libtorch. Tests run in
# parallel, so each gets one OpenMP thread: waiting threads spin, and would slow each other down.
with-libtorch := 'env OMP_NUM_THREADS=1 LD_LIBRARY_PATH="$PWD/.libtorch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"'

[private]
default:
    @'{{ just_executable() }}' --justfile '{{ justfile() }}' --list --unsorted

# Find or download libtorch, and print which one is used
setup:
    @tools/setup --report

# Call the program itself, with any command: ./just latentrace vary photo.jpg "a red circle"
latentrace *args:
    {{ latentrace }} "$@"

# Make pictures of a prompt: ./just generate "a red circle" --seed 193 --images 9
generate prompt *args:
    {{ latentrace }} generate "$@"

# Sweep the guidance scale; continues a stopped sweep: ./just sweep-guidance --set prompt="a red circle"
sweep-guidance *args:
    {{ latentrace }} run experiments/specs/sweep-guidance.toml "$@"

# With and without a negative prompt, nine seeds each
sweep-negative *args:
    {{ latentrace }} run experiments/specs/sweep-negative.toml "$@"

# How often the negative prompt “red” removes red, over a hundred seeds
negative-red *args:
    {{ latentrace }} run experiments/specs/negative-red.toml --batched "$@"

# Nine variations of a picture: ./just vary --set image=photo.jpg --set prompt="a red circle"
vary *args:
    {{ latentrace }} run experiments/specs/vary.toml "$@"

# The same at ten strengths, from 0.1 to 1
vary-strength *args:
    {{ latentrace }} run experiments/specs/vary-strength.toml "$@"

# PNDM, LMS and DDPM compared: pictures, error against a 500-step solution, time
compare-schedulers *args:
    {{ latentrace }} run experiments/specs/compare-schedulers.toml "$@"

# Which runs alternate, and how far each ends from a fine solution, over samplers, steps and guidance (takes half an hour)
alarm *args:
    {{ latentrace }} run experiments/specs/alarm.toml --batched "$@"

# From noise to picture: film strips, paths, sizes
trajectory *args:
    {{ latentrace }} run experiments/specs/trajectory.toml "$@"

# Noise schedules, noise levels, and the noise in real runs
noise-curves *args:
    {{ latentrace }} run experiments/specs/noise-curves.toml "$@"

# How much of a caption is shown, by guidance scale (takes minutes)
adherence-guidance *args:
    {{ latentrace }} run experiments/specs/adherence-guidance.toml --batched "$@"

# List the experiments in experiments/specs
experiments:
    {{ latentrace }} experiments

# The experiments of the source article on one page: ./just article --model CompVis/stable-diffusion-v1-4
article *args:
    {{ latentrace }} article "$@"

# Write an HTML page that shows runs: ./just report runs/sweep-guidance
report *args:
    {{ latentrace }} report "$@"

# Look at checkpoints and convert them: ./just model inspect CompVis/stable-diffusion-v1-4
model *args:
    {{ latentrace }} model "$@"

# List every tensor of a model with its shape: ./just taps --select "unet.**.attn2.*"
taps *args:
    {{ latentrace }} taps "$@"

# Show the tokens of a prompt, and what of it does not fit: ./just tokens "a large red circle"
tokens prompt *args:
    {{ latentrace }} tokens "$@"

# Print a sampler's noise levels and coefficients: ./just schedule dpm++2m --steps 10 --explain
schedule *args:
    {{ latentrace }} schedule "$@"

# Measure every sampler on data whose exact flow is known, and write docs/schedulers
scheduler-atlas *args:
    {{ latentrace }} scheduler-atlas "$@"

# Measure at which guidance each sampler becomes unstable, and write docs/schedulers/stability.md (takes minutes)
stability *args:
    {{ latentrace }} stability "$@"

# Print how a picture was made: ./just show runs/generate/a-cat-193/image.png
show *args:
    {{ latentrace }} show "$@"

# Summarize a recorded run and draw it: ./just trace runs/generate/a-cat-193
trace *args:
    {{ latentrace }} trace "$@"

# Recompute a recorded run from its record alone, and compare: ./just verify RUN
verify *args:
    {{ latentrace }} verify "$@"

# Continue a run that was interrupted: ./just resume RUN
resume *args:
    {{ latentrace }} resume "$@"

# Continue from a step of a recorded run with a change: ./just fork RUN --at 25 --guidance 3
fork *args:
    {{ latentrace }} fork "$@"

# Patch tensors of run B into run A, and draw the effect of each: ./just causal A --from B
causal *args:
    {{ latentrace }} causal "$@"

# Compare two recorded runs, tensor by tensor: ./just compare A B
compare *args:
    {{ latentrace }} compare "$@"

# Record a diffusers pipeline in the same format, to compare: ./just dump-diffusers CHECKPOINT PROMPT --output theirs.trace
dump-diffusers *args:
    tools/python-env
    .parity/venv/bin/python tools/dump_diffusers.py "$@"

# Print what was found on this machine, and how to get what is missing
doctor *args:
    {{ latentrace }} doctor "$@"

# Build everything
build:
    cargo build --release --workspace

# Formatting and lints
check:
    tools/timed "check: format" cargo fmt --all --check
    tools/timed "check: lints" cargo clippy --release --workspace --all-targets -- -D warnings

# Everything that must pass: formatting, lints, tests, doctests, documentation
test: check
    {{ with-libtorch }} tools/timed "test: tests" tools/tests --release --workspace --lib --bins --tests --examples
    {{ with-libtorch }} tools/timed "test: doctests" cargo test --release --workspace --doc
    RUSTDOCFLAGS="-D warnings" tools/timed "test: documentation" cargo doc --release --workspace --no-deps

# Run every command of README.md and docs with the built program; with --all the slow ones too
docs *args:
    python3 -m unittest discover --quiet --start-directory tests/documented
    tools/timed "docs" python3 tools/docs_commands.py "$@"

# Build a wheel of the program, its model and the Python package, for a Python with torch (docs/python.md)
wheel:
    tools/package

# Benchmarks, or those whose name contains a word: ./just bench attention
bench *args:
    cargo bench --workspace --bench '*' -- "$@"

# Measure in turn with diffusers, OpenVINO, stable-diffusion.cpp and candle: ./just bench-peers --quick (Python, 25 GB of disk)
bench-peers *args:
    tools/python-env
    cargo build --release -p latentrace-program --bin latentrace
    cargo build --release --example turns
    tools/timed "bench-peers" .parity/venv/bin/python tools/bench_peers.py "$@"

# Time a sweep beside busy cores and beside another sweep; with --full CHECKPOINT a step of full size as well
bench-busy *args:
    cargo build --release -p latentrace-program
    python3 tools/busy.py target/release/latentrace "$@"

# Print how far a picture drifts by number format, kernels, threads and batch: ./just bench-drift data/models/shapes 50
bench-drift *args:
    cargo run --release --example drift -- "$@"

# Train the bundled model again, into runs/train-shapes; continues a stopped training
train-shapes *args:
    {{ latentrace }} train shapes "$@"

# Diffusion on latents or on pixels, with equal parameter counts: time and adherence; continues a stopped run
latent-vs-pixel *args:
    {{ latentrace }} latent-vs-pixel "$@"

# Compare with diffusers at full size (needs Python, about 6 GB for its torch, and 19 GB for random weights)
parity *args:
    tools/python-env
    tools/parity.sh .parity/venv/bin/python "$@"

# The pictures of the comparison alone, all rows or some: ./just parity-pictures --only sd14 lora
parity-pictures *args:
    tools/python-env
    cargo build --release -p latentrace-program
    tools/timed "parity: pictures" .parity/venv/bin/python tools/parity_pictures.py target/release/latentrace .parity/pictures "$@"

# Read records and tables with the Python package, pandas and polars
python-tests:
    cargo build --release -p latentrace-program
    tools/python-tests

# Make a sweep on a real Slurm, which loses its node, and on HyperQueue (installs them, if it can)
engines:
    cargo build --release -p latentrace-program
    tools/timed "engines: Slurm" tests/engines/slurm.sh
    python3 -m venv target/engines && target/engines/bin/pip install --quiet hyperqueue cloudpickle
    tools/timed "engines: HyperQueue" target/engines/bin/python tests/engines/hq.py

# Make the test fixtures again with diffusers, all or some: ./just golden schedulers runs
golden *parts:
    tools/golden "$@"
