"""What the operator says of itself to Prometheus; docs/operations.md explains each."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

API_REQUESTS = Counter(
    "loam_operator_api_requests", "Requests to the API server.", ["method", "status"]
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
JOBS = Gauge("loam_operator_jobs", "Jobs by phase.", ["phase"])
ATTEMPTS_ENDED = Counter("loam_operator_attempts_ended", "Attempts by how they ended.", ["reason"])
TRANSITIONS = Counter("loam_operator_transitions", "States that jobs entered.", ["state"])
IS_LEADER = Gauge("loam_operator_is_leader", "1 for the operator that writes.")
WATCH_EVENTS = Counter("loam_operator_watch_events", "Events that were watched.", ["kind"])
