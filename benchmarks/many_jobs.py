"""The operator under many jobs at once, on a real API server on this machine.

    python benchmarks/many_jobs.py [--standing N] [NUM_JOBS ...]

For each number of jobs: they are created while the operator runs, until the last RayJob exists;
then it is left alone; then it is killed, a third of the RayJobs start to run, a third fail, and it
starts again. At last, with `--standing`, so many finished jobs are added, and it starts once more.
KubeRay and pods are not there: what is measured is the operator and the API server.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.tools.control_plane import ControlPlane, run_control_plane
from tests.tools.operator_process import OperatorProcess, Stage, read_reason
from tests.tools.waiting import wait_until

from loam_api.status import FineTuneJobStatus
from loam_operator.history import end_attempt, start_attempt
from loam_operator.status import build_patch, enter_state

TIMEOUT_SECONDS = 600
QUIET_SECONDS = 30
NUM_CLIENTS = 8
_JOBS = "/apis/loam.dev/v1alpha1/namespaces/{}/finetunejobs"
_RAY_JOBS = "/apis/ray.io/v1/namespaces/{}/rayjobs"
_SPEC = {
    "model": {"uri": "s3://bucket/model"},
    "data": {"task": "text", "seeds": {"uri": "s3://bucket/seeds.jsonl"}},
    "output": {"uri": "s3://bucket/out"},
}
_RUNNING = {"jobStatus": "RUNNING", "jobDeploymentStatus": "Running"}
_FAILED = {
    "jobStatus": "FAILED",
    "jobDeploymentStatus": "Failed",
    "reason": "AppFailed",
    "message": "Job entrypoint command failed with exit code 10, last available logs",
}


class Bench:
    """A namespace full of jobs, an operator for it, and requests that cost little CPU time."""

    def __init__(self, control_plane: ControlPlane, folder: Path) -> None:
        self.namespace = control_plane.create_namespace()
        self.server_pid = control_plane.processes.get_pid("kube-apiserver")
        self.stage = Stage(control_plane.client, self.namespace)
        self._pool = control_plane.client.rest_client.pool_manager
        self._url = control_plane.url
        settings = {"LOAM_NAMESPACES": self.namespace, "POD_NAMESPACE": self.namespace}
        self.operator = OperatorProcess(
            control_plane.kubeconfig, folder / f"{self.namespace}.log", **settings
        )

    def send(self, method: str, path: str, body: dict[str, Any]) -> None:
        """One request without the client's models, which would take more time than the server."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        answer = self._pool.request(
            method,
            self._url + path.format(self.namespace),
            body=json.dumps(body),
            headers={"Content-Type": kind},
        )
        assert answer.status < 300, answer.data[:500]

    def create_jobs(self, names: list[str]) -> None:
        run_all(self._create_job, names)

    def _create_job(self, name: str) -> None:
        head = {"apiVersion": "loam.dev/v1alpha1", "kind": "FineTuneJob"}
        self.send("POST", _JOBS, {**head, "metadata": {"name": name}, "spec": _SPEC})

    def finish_job(self, name: str) -> None:
        """A job that succeeded long ago, and whose children are deleted."""
        self._create_job(name)
        now = datetime.now(UTC)
        status = end_attempt(start_attempt(FineTuneJobStatus(), "run", now), "Succeeded", now)
        status = enter_state(status, "Succeeded", now)
        status = status.model_copy(update={"observed_generation": 1})
        self.send("PATCH", f"{_JOBS}/{name}/status", {"status": build_patch({}, status)})

    def play_ray_jobs(self, statuses: dict[str, dict[str, str]]) -> None:
        def play(name: str) -> None:
            self.send("PATCH", f"{_RAY_JOBS}/{name}/status", {"status": statuses[name]})

        run_all(play, list(statuses))

    def list_ray_jobs(self) -> dict[str, str]:
        """UID by name."""
        return {
            one["metadata"]["name"]: one["metadata"]["uid"] for one in self.stage.list_ray_jobs()
        }

    def count_reasons(self) -> dict[str, int]:
        reasons: dict[str, int] = {}
        answer = self._pool.request("GET", self._url + _JOBS.format(self.namespace))
        for job in json.loads(answer.data)["items"]:
            reason = read_reason(job)
            reasons[reason] = reasons.get(reason, 0) + 1
        return reasons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=[100, 1000])
    parser.add_argument("--standing", type=int, default=0, help="finished jobs besides the last")
    options = parser.parse_args()
    with run_control_plane() as control_plane, tempfile.TemporaryDirectory() as folder:
        for count in options.counts:
            bench = Bench(control_plane, Path(folder))
            try:
                measure_burst(bench, count)
                measure_restart(bench, count)
                if options.standing and count == options.counts[-1]:
                    measure_standing(bench, count, options.standing)
            finally:
                bench.operator.kill()


def measure_burst(bench: Bench, count: int) -> None:
    """Jobs that are created all at once while the operator runs."""
    operator = bench.operator
    operator.start()
    before_cpu, before_server = read_process(operator.pid)[0], read_process(bench.server_pid)[0]
    started = time.monotonic()
    bench.create_jobs([f"job-{index}" for index in range(count)])
    created = time.monotonic() - started
    launched = 'loam_operator_start_seconds_count{until="rayjob"}'
    await_slowly(lambda: operator.count(launched) == count, "all RayJobs")
    seconds = time.monotonic() - started
    assert len(bench.list_ray_jobs()) == count
    await_silence(operator)  # Kubernetes events are written behind the jobs
    cpu, memory = read_process(operator.pid)
    server_cpu = read_process(bench.server_pid)[0] - before_server
    writes = count_writes(operator)
    time.sleep(QUIET_SECONDS)  # a span in which nothing happens, which is what is measured
    idle, idle_cpu = count_writes(operator) - writes, read_process(operator.pid)[0] - cpu
    print(
        f"{count} jobs: {seconds:.1f} s to the last RayJob (the last job was created after "
        f"{created:.1f} s); operator {cpu - before_cpu:.1f} CPU s, {memory:.0f} MiB; API server "
        f"{server_cpu:.1f} CPU s; {writes / count:.2f} writes a job; then in {QUIET_SECONDS} s "
        f"{idle} writes and {idle_cpu:.1f} CPU s",
        flush=True,
    )


def measure_restart(bench: Bench, count: int) -> None:
    """Killed, two thirds of the RayJobs change, and started again."""
    before = bench.list_ray_jobs()
    bench.operator.kill()
    third = count // 3
    names = sorted(before)
    statuses = dict.fromkeys(names[:third], _RUNNING) | dict.fromkeys(
        names[third : 2 * third], _FAILED
    )
    bench.play_ray_jobs(statuses)
    wanted = {"Preparing": third, "BadInput": third, "Starting": count - 2 * third}
    started = time.monotonic()
    bench.operator.start(is_awaited=False)
    await_slowly(lambda: bench.count_reasons() == wanted, f"{wanted}")
    seconds = time.monotonic() - started
    assert bench.list_ray_jobs() == before, "a RayJob was created twice or deleted"
    print(
        f"{count} jobs, restart: all states right {seconds:.1f} s after the process's start, "
        f"no RayJob twice; {read_process(bench.operator.pid)[1]:.0f} MiB",
        flush=True,
    )


def measure_standing(bench: Bench, count: int, num_finished: int) -> None:
    """Started with many finished jobs besides."""
    bench.operator.kill()
    run_all(bench.finish_job, [f"old-{index}" for index in range(num_finished)])
    total = count + num_finished
    started = time.monotonic()
    bench.operator.start(is_awaited=False)
    passes = 'loam_operator_reconciles_total{outcome="done"}'
    await_slowly(lambda: bench.operator.count(passes) >= total, "a pass over each job")
    seconds = time.monotonic() - started
    cpu, memory = read_process(bench.operator.pid)
    print(
        f"{total} jobs in etcd, {count} with children: each was looked at {seconds:.1f} s after "
        f"the process's start; {cpu:.1f} CPU s, {memory:.0f} MiB, "
        f"{count_writes(bench.operator)} writes",
        flush=True,
    )


def run_all(work: Callable[[str], None], names: list[str]) -> None:
    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        list(pool.map(work, names))


def await_slowly(look: Callable[[], bool], what: str) -> None:
    """Ask seldom: to answer costs the operator and the server time, too."""
    wait_until(look, what, TIMEOUT_SECONDS, poll_seconds=0.25)


def await_silence(operator: OperatorProcess) -> None:
    """Until nothing has been written for two seconds."""
    seen = (-1, 0.0)

    def look() -> bool:
        nonlocal seen
        writes, now = count_writes(operator), time.monotonic()
        if writes != seen[0]:
            seen = (writes, now)
        return now - seen[1] > 2

    await_slowly(look, "the last write")


def read_process(pid: int) -> tuple[float, float]:
    """CPU seconds and resident MiB."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return cpu, pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def count_writes(operator: OperatorProcess) -> int:
    """Without the renewals of the lease, which are one each few seconds whatever happens."""
    requests = "loam_operator_api_requests_total"
    total = sum(
        operator.count(f'{requests}{{method="{one}"') for one in ("POST", "PATCH", "DELETE")
    )
    return int(total - operator.count('loam_operator_watch_events_total{kind="leases"}'))


if __name__ == "__main__":
    main()
