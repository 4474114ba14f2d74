#!/usr/bin/env bash
# tools/parity.sh [PYTHON] [TEST OPTION...]: compares Latentrace with diffusers, side by side: on the tiny fixtures, at the
# size of Stable Diffusion 1 (4.3 GB of random weights in .parity/full, made once) and on the bundled checkpoint.
set -euo pipefail

readonly FULL=.parity/full
readonly SHAPES=.parity/shapes
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
    # One test at a time, so that the memory it tells is that of the full size, and no table cuts another in two.
    tools/timed "parity: comparison" cargo test --release --test parity -- --nocapture --test-threads 1 "$@"
}

main "$@"
