"""The Prometheus metrics of one process: what exists, under which names, with which labels.

`CATALOG` is the whole list. A label has a declared set of values and anything else is counted
as "other", so that no user's text can ever grow the number of series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
    start_http_server,
)

PREFIX = "loam_"
OTHER = "other"
RESPONDENTS = ("teacher", "judge")
STAGE_STATES = ("pending", "running", "done", "failed", "interrupted", "skipped")


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric: its name without `loam_` (and without `_total`), and its labels' values.

    A label whose values are empty is "stage": its values are the stages of the run.
    """

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)


CATALOG: tuple[MetricSpec, ...] = (
    MetricSpec("stage_duration_seconds", "gauge", "Wall time a stage took.", {"stage": ()}),
    MetricSpec(
        "stage_state",
        "gauge",
        "1 for the state a stage is in, 0 for the others.",
        {"stage": (), "state": STAGE_STATES},
    ),
    MetricSpec(
        "rows",
        "counter",
        "Rows a stage has dealt with, by what became of them.",
        {"stage": (), "outcome": ("read", "generated", "kept", "rejected", "dropped", "scored")},
    ),
    MetricSpec("supervised_tokens", "counter", "Tokens that carried the training loss."),
    MetricSpec(
        "teacher_requests",
        "counter",
        "Requests to the teacher or the judge; cached ones were answered by the journal.",
        {"respondent": RESPONDENTS, "outcome": ("ok", "retried", "failed", "cached")},
    ),
    MetricSpec(
        "teacher_tokens",
        "counter",
        "Tokens exchanged with the teacher or the judge.",
        {"respondent": RESPONDENTS, "direction": ("prompt", "completion")},
    ),
    MetricSpec(
        "teacher_cost",
        "counter",
        "Money charged for the teacher or the judge, in the currency of the prices.",
        {"respondent": RESPONDENTS},
    ),
    MetricSpec("training_loss", "gauge", "Loss of the last step, nats per supervised token."),
    MetricSpec("validation_loss", "gauge", "Last validation loss, nats per supervised token."),
    MetricSpec("training_steps", "counter", "Optimizer steps taken."),
    MetricSpec(
        "training_throughput_tokens_per_second", "gauge", "Tokens trained on in one second."
    ),
    MetricSpec(
        "gpu_memory_bytes",
        "gauge",
        "Device memory held by the training process.",
        {"kind": ("allocated", "reserved", "peak")},
    ),
    MetricSpec("checkpoints", "counter", "Checkpoints written."),
    MetricSpec("checkpoint_seconds", "counter", "Time spent writing checkpoints."),
    MetricSpec(
        "wait_seconds",
        "counter",
        "Time in which training waited, for its inputs or for a checkpoint to be stored.",
        {"reason": ("download", "checkpoint")},
    ),
    MetricSpec("checkpoint_bytes", "counter", "Size of the checkpoints written."),
)


@dataclass(frozen=True, slots=True)
class Exporter:
    """A running exporter: the port it listens on and how to stop it."""

    port: int
    close: Callable[[], None]


class Metrics:
    """The metrics of `CATALOG` in a registry of their own; make one per process. Thread-safe.

    Args:
        stages: names of the run's stages, the allowed values of every `stage` label.
    """

    def __init__(self, stages: Iterable[str]) -> None:
        # Each counter would bring a `_created` series: twice the series, no reader.
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self._stages = tuple(stages)
        self._specs = {spec.name: spec for spec in CATALOG}
        self._collectors = {spec.name: self._register(spec) for spec in CATALOG}

    def count(self, name: str, n: float = 1, **labels: str) -> None:
        """Add `n` >= 0 to a counter. Raises KeyError for a name that is not in the catalog."""
        self._select(name, "counter", labels).inc(n)

    def set_gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge. Raises KeyError for a name that is not in the catalog."""
        self._select(name, "gauge", labels).set(value)

    def set_stage_state(self, stage: str, state: str) -> None:
        """Say that `stage` is now in `state`, one of `STAGE_STATES`."""
        for candidate in STAGE_STATES:
            value = float(candidate == state)
            self.set_gauge("stage_state", value, stage=stage, state=candidate)

    def has_label(self, name: str, label: str) -> bool:
        """Whether the metric of this name exists and carries that label."""
        return name in self._specs and label in self._specs[name].labels

    def render(self) -> str:
        """The exposition text, as a scrape would see it."""
        return generate_latest(self.registry).decode("utf-8")

    def serve(self, port: int, host: str = "127.0.0.1") -> Exporter:
        """Answer scrapes on `host:port` from a daemon thread; port 0 takes a free one.

        A pod passes host "0.0.0.0"; a laptop shows its figures to nobody else.
        """
        server, thread = start_http_server(port, addr=host, registry=self.registry)

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join(timeout=5)

        return Exporter(port=server.server_port, close=close)

    def _register(self, spec: MetricSpec) -> Counter | Gauge:
        kind = Counter if spec.kind == "counter" else Gauge
        return kind(PREFIX + spec.name, spec.help, tuple(spec.labels), registry=self.registry)

    def _select(self, name: str, kind: str, labels: dict[str, str]) -> Counter | Gauge:
        spec = self._specs[name]
        if spec.kind != kind:
            raise KeyError(f"{name} is a {spec.kind}, not a {kind}")
        collector = self._collectors[name]
        if not spec.labels:
            return collector
        return collector.labels(
            **{label: self._bound(label, values, labels) for label, values in spec.labels.items()}
        )

    def _bound(self, label: str, values: tuple[str, ...], given: dict[str, str]) -> str:
        allowed = values or self._stages
        value = given.get(label, OTHER)
        return value if value in allowed else OTHER
