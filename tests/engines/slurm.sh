#!/usr/bin/env bash
# tests/engines/slurm.sh: a sweep by a real Slurm of one node, which is lost in the middle. Installs Slurm if that is possible
# (Debian, root); otherwise the test is skipped. Needs target/release/latentrace.
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

start_node() {
    /usr/sbin/slurmd -f "$SLURM_CONF"
}

mkdir -p /run/munge
chown munge: /run/munge
pgrep -x munged >/dev/null || runuser -u munge -- /usr/sbin/munged
/usr/sbin/slurmctld -f "$SLURM_CONF"
start_node
for _ in $(seq 60); do
    sinfo -h -o %t 2>/dev/null | grep -qx idle && break
    sleep 1
done
sinfo

ended() { # waits until Slurm has no job left
    for _ in $(seq 600); do
        [[ -z $(squeue -h 2>/dev/null) ]] && return
        sleep 0.5
    done
    squeue
    echo "Slurm still has jobs after 5 minutes"
    exit 1
}

our_steps() { # the step daemons of this Slurm: they have files in its folder open, and those of another one have not
    local pid open
    for pid in $(pgrep -x slurmstepd || true); do
        open=$(ls -l "/proc/$pid/fd" "/proc/$pid/cwd" 2>/dev/null || true)
        if [[ $open == *"$work/"* ]]; then echo "$pid"; fi
    done
}

helper() { # runs a function of engines.py
    python3 -c "import sys, pathlib; sys.path.insert(0, '$here'); import engines; $1"
}

alone=$work/alone shared=$work/shared
spec=$(helper "print(engines.spec(pathlib.Path('$work')))")
"$program" run "$spec" --output "$alone" >/dev/null
helper "engines.hasty(pathlib.Path('$shared'))"

echo "== submitted: 24 cells, MaxArraySize 9"
"$program" submit "$spec" --output "$shared" --slurm
helper "engines.until_done(pathlib.Path('$shared'), 4)"
"$program" status "$shared"
echo "== the node is lost"
pkill -KILL -f "latentrace run $spec" || true
kill -KILL "$(cat "$work/slurmd.pid")"
for step in $(our_steps); do kill -KILL "$step" 2>/dev/null || true; done
"$program" status "$shared"
scontrol update NodeName="$(hostname -s)" State=DOWN Reason=lost # Slurm finds it out by itself after SlurmdTimeout
start_node
for _ in $(seq 30); do
    scontrol update NodeName="$(hostname -s)" State=RESUME 2>/dev/null || true
    sinfo -h -o %t | grep -qxE "idle|mix|alloc" && break
    sleep 1
done
sinfo
squeue
ended
"$program" status "$shared"
echo "== the same command again"
"$program" submit "$spec" --output "$shared" --slurm
ended
"$program" status "$shared"
[[ -f $shared/results.csv && -f $shared/grid.png ]] || { cat "$shared"/jobs/*/gather.log; echo "nothing was gathered"; exit 1; }
"$program" store verify "$shared"
helper "engines.same(pathlib.Path('$alone'), pathlib.Path('$shared'))"
grep -h . "$work/log/ctld.log" | grep -iE "error|lost|requeue|not resp" | head -5 || true
