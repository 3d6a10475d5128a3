"""The operator under many jobs at once, on a real API server on this machine.

    python benchmarks/many_jobs.py [NUM_JOBS ...]

For each number: seconds until the last RayJob exists, the operator's CPU seconds and memory, and
its writes per job. KubeRay and pods are not there: what is measured is the operator alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.tools.control_plane import ControlPlane, run_control_plane
from tests.tools.operator_process import OperatorProcess, Stage, run_operator
from tests.tools.waiting import wait_until

TIMEOUT_SECONDS = 300
QUIET_SECONDS = 20


def main() -> None:
    counts = [int(text) for text in sys.argv[1:]] or [100, 1000]
    with run_control_plane() as control_plane, tempfile.TemporaryDirectory() as folder:
        for count in counts:
            measure(control_plane, Path(folder) / f"{count}.log", count)


def measure(control_plane: ControlPlane, log: Path, count: int) -> None:
    """Create jobs, and then let an operator find them."""
    namespace = control_plane.create_namespace()
    stage = Stage(control_plane.client, namespace)
    for index in range(count):
        stage.apply(f"job-{index}")
    settings = {"LOAM_NAMESPACES": namespace, "POD_NAMESPACE": namespace}
    started = time.monotonic()
    with run_operator(control_plane.kubeconfig, log, **settings) as operator:
        wait_until(lambda: len(stage.list_ray_jobs()) == count, "all RayJobs", TIMEOUT_SECONDS)
        seconds = time.monotonic() - started
        cpu, memory = read_process(operator)
        writes = count_writes(operator)
        time.sleep(QUIET_SECONDS)  # a span in which nothing happens, which is what is measured
        idle = count_writes(operator) - writes
    print(
        f"{count} jobs: {seconds:.1f} s to the last RayJob from the operator's start, "
        f"{cpu:.1f} CPU s, {memory:.0f} MiB, {writes / count:.1f} writes a job, "
        f"{idle} writes in {QUIET_SECONDS} quiet s (lease included)"
    )


def read_process(operator: OperatorProcess) -> tuple[float, float]:
    """CPU seconds and resident MiB."""
    fields = Path(f"/proc/{operator.pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    pages = int(Path(f"/proc/{operator.pid}/statm").read_text().split()[1])
    return cpu, pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def count_writes(operator: OperatorProcess) -> int:
    requests = "loam_operator_api_requests_total"
    return int(sum(operator.count(f'{requests}{{method="{one}"') for one in ("POST", "PATCH")))


if __name__ == "__main__":
    main()
