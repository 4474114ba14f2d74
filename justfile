# Everyday commands. `./just RECIPE` also installs what is missing first; `just RECIPE` does once that is there.

set positional-arguments

# Everything uses the release profile, so that the dependencies, and above all torch-sys, are compiled once.
latentrace := "cargo run --release -p latentrace-experiments --bin latentrace --"

# Doctests run from a temporary folder, out of reach of the rpath in .cargo/config.toml. Tests run side by side, so each
# has one thread: the waiting threads of OpenMP would otherwise keep each other from working.
with-libtorch := 'env OMP_NUM_THREADS=1 LD_LIBRARY_PATH="$PWD/.libtorch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"'

[private]
default:
    @'{{ just_executable() }}' --justfile '{{ justfile() }}' --list --unsorted

# Find or fetch libtorch and say which one it is
setup:
    @tools/setup --report

# Make pictures of a prompt: ./just generate "a red circle" --seed 193 --images 9
generate prompt *args:
    {{ latentrace }} generate "$@"

# Sweep the guidance weight; goes on where it stopped: ./just sweep-guidance --set prompt="a red circle"
sweep-guidance *args:
    {{ latentrace }} run experiments/specs/sweep-guidance.toml "$@"

# A negative prompt against none, nine seeds each
sweep-negative *args:
    {{ latentrace }} run experiments/specs/sweep-negative.toml "$@"

# How often a negative “red” removes red, over a hundred seeds
negative-red *args:
    {{ latentrace }} run experiments/specs/negative-red.toml --fast "$@"

# Nine variations of a picture: ./just vary --set image=photo.jpg --set prompt="a red circle"
vary *args:
    {{ latentrace }} run experiments/specs/vary.toml "$@"

# The same from hardly changed to made anew
vary-strength *args:
    {{ latentrace }} run experiments/specs/vary-strength.toml "$@"

# PNDM, LMS and DDPM side by side: pictures, error to a fine solution, time
compare-schedulers *args:
    {{ latentrace }} run experiments/specs/compare-schedulers.toml "$@"

# The way from noise to picture: film strips, paths, sizes
trajectory *args:
    {{ latentrace }} run experiments/specs/trajectory.toml "$@"

# Noise schedules, levels, and the noise that runs really had
noise-curves *args:
    {{ latentrace }} run experiments/specs/noise-curves.toml "$@"

# How much of what is asked is seen as guidance grows (some minutes)
adherence-guidance *args:
    {{ latentrace }} run experiments/specs/adherence-guidance.toml --fast "$@"

# List the experiments that are brought along
experiments:
    {{ latentrace }} experiments

# Write one page that shows runs: ./just report runs/sweep-guidance
report *args:
    {{ latentrace }} report "$@"

# List every tensor of a model with its shape: ./just taps --select "unet.**.attn2.*"
taps *args:
    {{ latentrace }} taps "$@"

# Print a sampler's levels and coefficients: ./just schedule dpm++2m --steps 10 --explain
schedule *args:
    {{ latentrace }} schedule "$@"

# Measure every sampler on data whose exact flow is known, and write docs/schedulers
scheduler-atlas *args:
    {{ latentrace }} scheduler-atlas "$@"

# Say what is in a recorded run, and draw it: ./just trace runs/generate/a-cat-193.trace
trace *args:
    {{ latentrace }} trace "$@"

# Compute a recorded run again from its record alone
verify *args:
    {{ latentrace }} verify "$@"

# Go on with a recorded run that was cut off
resume *args:
    {{ latentrace }} resume "$@"

# Go on from a step of a recorded run with something changed: ./just fork TRACE --at 25 --guidance 3
fork *args:
    {{ latentrace }} fork "$@"

# Put every site of one recorded run into another, and draw what each carries: ./just causal A --from B
causal *args:
    {{ latentrace }} causal "$@"

# Hold two recorded runs against each other
compare *args:
    {{ latentrace }} compare "$@"

# Record diffusers in the same format, to compare: ./just dump-diffusers CHECKPOINT PROMPT --output theirs.trace
dump-diffusers *args:
    tools/python-env
    .parity/venv/bin/python tools/dump_diffusers.py "$@"

# Say what the program found on this machine, and what to do about what it did not
doctor *args:
    {{ latentrace }} doctor "$@"

# Build everything
build:
    cargo build --release --workspace

# Formatting and lints
check:
    tools/timed "check: format" cargo fmt --all --check
    tools/timed "check: lints" cargo clippy --release --workspace --all-targets -- -D warnings

# Everything that has to pass: check, tests, doctests, documentation
test: check
    {{ with-libtorch }} tools/timed "test: tests" cargo test --release --workspace --lib --bins --tests --examples
    {{ with-libtorch }} tools/timed "test: doctests" cargo test --release --workspace --doc
    RUSTDOCFLAGS="-D warnings" tools/timed "test: documentation" cargo doc --release --workspace --no-deps

# Criterion benches, or those whose name contains a word: ./just bench attention
bench *args:
    cargo bench --workspace --bench '*' -- "$@"

# Train the bundled checkpoint again, into runs/train-shapes; goes on where it stopped
train-shapes *args:
    {{ latentrace }} train shapes "$@"

# Diffusion on latents against diffusion on pixels at equal parameter counts: time and adherence; goes on where it stopped
latent-vs-pixel *args:
    {{ latentrace }} latent-vs-pixel "$@"

# Compare with diffusers, side by side (needs Python and about 6 GB for its torch)
parity *args:
    tools/python-env
    tools/parity.sh .parity/venv/bin/python "$@"

# Make the fixtures again with diffusers: all, or some: ./just golden schedulers runs
golden *parts:
    tools/golden "$@"
