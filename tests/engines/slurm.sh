#!/usr/bin/env bash
# tests/engines/slurm.sh: sweeps by a real Slurm of one node, which is lost in the middle: once Slurm is told of it and queues the
# lost tasks again, and once it finds out by itself, and the lost tasks have failed. Installs Slurm if that is possible (Debian,
# root); otherwise the test is skipped. Needs target/release/latentrace.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
root=$(cd "$here/../.." && pwd -P)
program=$root/target/release/latentrace

skip() {
    printf 'skipped: %s\n' "$1"
    exit 0
}

[[ -x $program ]] || { echo "$program: not built"; exit 1; }
if ! command -v slurmctld >/dev/null; then
    [[ $(id -u) == 0 ]] || skip "Slurm is not installed, and only root can install it"
    (apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge) >/dev/null 2>&1 || skip "Slurm cannot be installed"
fi
[[ $(id -u) == 0 ]] || skip "the daemons of Slurm are started as root"

work=$(mktemp -d)
mkdir -p "$work/state" "$work/spool" "$work/log"
sed -e "s|@DIR@|$work|g" -e "s|@HOST@|$(hostname -s)|g" "$here/slurm.conf.in" >"$work/slurm.conf"
export SLURM_CONF=$work/slurm.conf

stop() {
    for daemon in slurmd slurmctld; do
        [[ -s $work/$daemon.pid ]] && kill "$(cat "$work/$daemon.pid")" 2>/dev/null
    done
    sleep 1 # until they have written their state
    rm -rf "$work"
    true
}
trap stop EXIT

fail() {
    printf '%s\n' "$1"
    exit 1
}

node=$(hostname -s)

start_node() {
    /usr/sbin/slurmd -f "$SLURM_CONF"
}

node_is() { # waits until the state of the node is one of these, at most so many seconds
    for _ in $(seq "$2"); do
        sinfo -h -o %t 2>/dev/null | grep -qxE "$1" && return
        sleep 1
    done
    sinfo
    fail "the node is not $1 after $2 s"
}

resume_node() {
    scontrol update NodeName="$node" State=RESUME 2>/dev/null || true # it may have come back by itself
    node_is "idle|mix|alloc" 30
}

ended() { # waits until Slurm has no job left
    for _ in $(seq 600); do
        [[ -z $(squeue -h 2>/dev/null) ]] && return
        sleep 0.5
    done
    squeue
    fail "Slurm still has jobs after 5 minutes"
}

our_steps() { # the step daemons of this Slurm: they have files in its folder open, and those of another one have not
    local pid open
    for pid in $(pgrep -x slurmstepd || true); do
        open=$(ls -l "/proc/$pid/fd" "/proc/$pid/cwd" 2>/dev/null || true)
        if [[ $open == *"$work/"* ]]; then echo "$pid"; fi
    done
}

lose_node() { # ends everything that runs on the node, as when its power fails
    local pid
    for pid in $(cat "$work/slurmd.pid") $(our_steps) $(pgrep -f "latentrace run $spec " || true); do
        kill -KILL "$pid" 2>/dev/null || true
    done
}

helper() { # runs a function of engines.py
    python3 -c "import sys, pathlib; sys.path.insert(0, '$here'); import engines; $1"
}

submit() { # a store, and options
    "$program" submit "$spec" --output "$1" --slurm "${@:2}"
}

begun() { # submits a sweep into a new store, and waits until some cells are done
    helper "engines.hasty(pathlib.Path('$1'))"
    submit "$@"
    helper "engines.until_done(pathlib.Path('$1'), 4)"
    "$program" status "$1"
}

left() { # how many cells of a store nobody has begun, or were lost
    helper "print(len(engines.status(pathlib.Path('$1'))['left']))"
}

whole() { # checks that a store has figures, and the cells of one process
    "$program" status "$1"
    [[ -f $1/results.csv && -f $1/grid.png ]] || { cat "$1"/jobs/*/gather.log; fail "nothing was gathered"; }
    "$program" store verify "$1"
    helper "engines.same(pathlib.Path('$alone'), pathlib.Path('$1'))"
}

lost_and_queued_again() { # Slurm is told that the node is lost, and queues its tasks again
    local store=$work/queued
    begun "$store"
    echo "== the node is lost"
    lose_node
    "$program" status "$store"
    scontrol update NodeName="$node" State=DOWN Reason=lost
    start_node
    resume_node
    squeue
    ended
    echo "== the same command again"
    submit "$store"
    ended
    whole "$store"
}

lost_and_failed() { # Slurm finds out by itself that the node is lost, and its tasks have failed
    local store=$work/failed lost submitted
    begun "$store" --sbatch=--no-requeue
    echo "== the node is lost, and nobody says it"
    helper "engines.until_running(pathlib.Path('$store'))"
    lose_node
    node_is "down[*]?" 60
    [[ -n $(squeue -h -t NODE_FAIL) ]] || { scontrol show job; fail "no task has ended because of the node"; }
    start_node
    resume_node
    ended
    "$program" status "$store"
    lost=$(left "$store")
    ((lost > 0)) || fail "no cell is left, although tasks were lost"
    echo "== the same command again"
    submit "$store" --sbatch=--no-requeue
    submitted=$(wc -w <"$store/jobs/2/keys")
    ((submitted == lost)) || fail "$lost cells were left, and $submitted were submitted"
    ended
    ((0 == $(left "$store"))) || fail "$(left "$store") cells are left"
    whole "$store"
}

mkdir -p /run/munge
chown munge: /run/munge
pgrep -x munged >/dev/null || runuser -u munge -- /usr/sbin/munged
/usr/sbin/slurmctld -f "$SLURM_CONF"
start_node
node_is idle 60
sinfo

alone=$work/alone
spec=$(helper "print(engines.spec(pathlib.Path('$work')))")
"$program" run "$spec" --output "$alone" >/dev/null
echo "== submitted: 24 cells, MaxArraySize 9; lost tasks are queued again"
lost_and_queued_again
echo "== submitted: lost tasks are not queued again"
lost_and_failed
grep -h . "$work/log/ctld.log" | grep -iE "error|lost|requeue|not resp" | head -5 || true
