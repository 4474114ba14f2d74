"""A sweep by HyperQueue: tests/engines/hq.py, with the packages hyperqueue and cloudpickle.

The wheel of HyperQueue brings a cluster but no `hq`, so the tasks that `latentrace submit --hq` writes are submitted by its Python
API: one for each line of keys, as `hq submit --each-line` does. Its workers are threads of this process, so a lost node is shown by
what it would do: the tasks that run are killed.
"""

import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from engines import CELLS, hasty, latentrace, same, spec, status, until_done

try:
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig
except ImportError:
    print("skipped: the package hyperqueue is not installed (pip install hyperqueue cloudpickle)")
    sys.exit()


def submitted(cluster, job_folder: pathlib.Path):
    """Submits the tasks of a job's folder."""
    client = cluster.client()
    job = Job()
    for number, line in enumerate((job_folder / "keys").read_text().splitlines()):
        log = str(job_folder / f"{number}.log")
        job.program(["bash", str(job_folder / "task.sh")], env={"HQ_ENTRY": line}, stdout=log, stderr=log)
    return client, client.submit(job)


def lose_tasks(sweep: pathlib.Path) -> None:
    """Kills the tasks that run now, as a node that is lost does."""
    subprocess.run(["pkill", "-KILL", "-f", f"latentrace run {sweep}"], check=True)


def main() -> None:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="latentrace-hq-"))
    sweep, alone, shared = spec(folder), folder / "alone", folder / "shared"
    submit = ("submit", sweep, "--hq", "--output", shared, "--per-task", 4)
    latentrace("run", sweep, "--output", alone)
    hasty(shared)
    print(latentrace(*submit).strip())
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=2))
        client, job = submitted(cluster, shared / "jobs/1")
        until_done(shared, 4)
        print("== the tasks of a node are lost, and another node joins")
        lose_tasks(sweep)
        cluster.start_worker(WorkerConfig(cores=2))
        client.wait_for_jobs([job], raise_on_error=False)
        left = len(status(shared)["left"])
        print(latentrace("status", shared).strip())
        assert left > 0, "nothing was lost: the tasks were done before they were killed"
        print("== the same command again")
        print(latentrace(*submit).strip())
        keys = (shared / "jobs/2/keys").read_text().split()
        assert len(keys) == left, f"{left} cells are left, and {len(keys)} were submitted"
        client, job = submitted(cluster, shared / "jobs/2")
        client.wait_for_jobs([job])
    print(latentrace("status", shared).strip())
    print(latentrace("run", sweep, "--output", shared, "--gather").strip())
    assert status(shared)["done"] == CELLS
    same(alone, shared)


main()
