#!/usr/bin/env bash
# tools/parity.sh [PYTHON] [TEST OPTION...]: compares Latentrace with diffusers, side by side: on the tiny fixtures, at the
# size of Stable Diffusion 1 (4.3 GB of random weights in .parity/full, made once) and on the bundled checkpoint. Then, if there is
# no TEST OPTION, the pictures of tools/parity_pictures.py (9.5 GB of random weights in .parity/pictures, made once), which takes
# about 25 minutes and ends with a table.
set -euo pipefail

readonly FULL=.parity/full
readonly SHAPES=.parity/shapes
readonly PICTURES=.parity/pictures
readonly CHECKPOINT=data/models/shapes

cd "$(dirname "${BASH_SOURCE[0]}")/.."

main() {
    local python=${1:-.parity/venv/bin/python}
    if (($# > 0)); then shift; fi

    tools/timed "parity: diffusers at full size" "$python" tools/parity.py prepare "$FULL"
    export LATENTRACE_PARITY=$PWD/$FULL
    if [[ -e $CHECKPOINT/model_index.json ]]; then
        tools/timed "parity: diffusers on $CHECKPOINT" "$python" tools/parity.py shapes "$SHAPES" "$CHECKPOINT"
        export LATENTRACE_PARITY_SHAPES=$PWD/$SHAPES
    fi
    single_files "$python"
    tools/timed "parity: every tensor of diffusers" "$python" tools/dump_check.py target/release/latentrace
    tools/timed "parity: one cache of the hub for both" \
        "$python" tools/hub_cache.py target/release/latentrace data/golden/networks/sd1
    # One test at a time, so that the memory it tells is that of the full size, and no table cuts another in two.
    tools/timed "parity: comparison" cargo test --release --test parity -- --nocapture --test-threads 1 "$@"
    if (($# == 0)); then
        tools/timed "parity: pictures" "$python" tools/parity_pictures.py target/release/latentrace "$PICTURES"
    fi
}

# Checkpoints as single files, which diffusers must read in every bit: synthetic ones of Stable Diffusion 1.x and 2.x, and the tiny
# ones of SDXL.
single_files() {
    local python=$1 folder
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' RETURN
    cargo build --release -p latentrace-program
    for family in sd15 sd21; do
        target/release/latentrace model synth "$family" "$folder/$family" --width 0.1
        target/release/latentrace model convert "$folder/$family" "$folder/$family.safetensors"
        tools/timed "parity: diffusers reads a single file of $family" \
            "$python" tools/single_file.py "$folder/$family" "$folder/$family.safetensors"
    done
    for family in sdxl sdxl-turbo sdxl-refiner; do
        target/release/latentrace model convert "data/golden/networks/$family" "$folder/$family.safetensors"
        tools/timed "parity: diffusers reads a single file of $family" \
            "$python" tools/single_file.py "data/golden/networks/$family" "$folder/$family.safetensors"
    done
}

main "$@"
