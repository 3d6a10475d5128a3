"""What the operator says of itself to Prometheus; docs/operations.md explains each.

Every label has values from a table of this code, from the profiles (currencies) or from the
cluster's own small sets (namespaces, HTTP's codes): no user's text can grow the number of series.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

# Each counter would bring a `_created` series: twice the series, no reader.
disable_created_metrics()  # type: ignore[no-untyped-call]

API_REQUESTS = Counter(
    "loam_operator_api_requests",
    "Requests to the API server, but for the watches.",
    ["method", "status"],
)
RECONCILES = Counter("loam_operator_reconciles", "Passes over a job.", ["outcome"])
RECONCILE_SECONDS = Histogram(
    "loam_operator_reconcile_seconds",
    "Length of a pass over a job.",
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0),
)
QUEUE_SECONDS = Histogram(
    "loam_operator_queue_seconds",
    "From the news of a job to the pass over it.",
    buckets=(0.001, 0.01, 0.1, 1.0, 10.0, 60.0),
)
QUEUE_LENGTH = Gauge("loam_operator_queue_length", "Jobs that wait for a pass.")
JOBS = Gauge("loam_operator_jobs", "Jobs by phase.", ["job_namespace", "phase"])
TRANSITIONS = Counter("loam_operator_transitions", "States that jobs entered.", ["state"])
ATTEMPTS_ENDED = Counter("loam_operator_attempts_ended", "Attempts by how they ended.", ["reason"])
START_SECONDS = Histogram(
    "loam_operator_start_seconds",
    "From a job's creation to its first RayJob, and to its first training step's state.",
    ["until"],
    buckets=(1, 2, 5, 15, 60, 300, 900, 3600, 14400, 86400),
)
GPUS_HELD = Gauge(
    "loam_operator_gpus_held",
    "GPUs of pods that have a node and have not ended, by what is done.",
    ["job_namespace", "work"],
)
GPU_HELD_SECONDS = Counter(
    "loam_operator_gpu_held_seconds",
    "GPUs held, times seconds, by what was done.",
    ["job_namespace", "work"],
)
GPU_IDLE_SECONDS = Counter(
    "loam_operator_gpu_idle_seconds",
    "The part of gpu_held_seconds in which no GPU can have worked, by reason.",
    ["job_namespace", "reason"],
)
GPU_COST = Counter(
    "loam_operator_gpu_cost",
    "What gpu_held_seconds cost, by the prices of the jobs' profiles.",
    ["job_namespace", "currency"],
)
IS_LEADER = Gauge("loam_operator_is_leader", "1 for the operator that writes.")
WATCH_EVENTS = Counter("loam_operator_watch_events", "Events that were watched.", ["kind"])
WATCH_RESTARTS = Counter("loam_operator_watch_restarts", "All watches ended and were begun anew.")

for _until in ("rayjob", "training"):
    START_SECONDS.labels(_until)  # there from the start, so that a rate sees the first one
for _outcome in ("done", "error"):
    RECONCILES.labels(_outcome)
