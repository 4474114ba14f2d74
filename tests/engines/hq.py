"""A sweep by HyperQueue: tests/engines/hq.py, with the packages hyperqueue and cloudpickle.

The wheel of HyperQueue brings a cluster but no `hq`, so the tasks that `latentrace submit --hq` writes are submitted by its Python
API: one for each line of keys, as `hq submit --each-line` does.
"""

import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from engines import CELLS, latentrace, same, spec, status, until_done

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


def main() -> None:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="latentrace-hq-"))
    sweep, alone, shared = spec(folder), folder / "alone", folder / "shared"
    latentrace("run", sweep, "--output", alone)
    print(latentrace("submit", sweep, "--hq", "--output", shared, "--per-task", 4).strip())
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=2))
        client, job = submitted(cluster, shared / "jobs/1")
        until_done(shared, 4)
        # Another node joins in the middle.
        cluster.start_worker(WorkerConfig(cores=2))
        client.wait_for_jobs([job], raise_on_error=False)
    print(latentrace("status", shared).strip())
    print(latentrace("run", sweep, "--output", shared, "--gather").strip())
    assert status(shared)["done"] == CELLS
    same(alone, shared)


main()
