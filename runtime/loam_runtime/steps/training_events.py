"""What the training loop tells while it runs, handed on to progress, metrics and log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loam_runtime.observability.monitor import StageMonitor


class TrainingEvents:
    """Receives the loop's events, in whatever thread they come."""

    def __init__(self, monitor: StageMonitor) -> None:
        self._monitor = monitor

    def __call__(self, event: dict[str, Any]) -> None:
        handle = getattr(self, f"_on_{event['event']}", None)
        if handle:
            handle(event)

    def _on_download(self, event: dict[str, Any]) -> None:
        self._monitor.note_wait("download", event["seconds"])

    def _on_start(self, event: dict[str, Any]) -> None:
        self._monitor.start(event["num_steps"], "steps")
        if event["step"]:
            self._monitor.advance(event["step"])
        self._monitor.log("training_started", **{k: v for k, v in event.items() if k != "event"})

    def _on_step(self, event: dict[str, Any]) -> None:
        speed = event["tokens_per_second"]
        self._monitor.advance(1, loss=round(event["loss"], 4), tokens_per_s=round(speed))
        self._monitor.count("training_steps")
        self._monitor.count("supervised_tokens", event["num_supervised_tokens"])
        self._monitor.gauge("training_loss", event["loss"])
        self._monitor.gauge("training_throughput_tokens_per_second", speed)
        self._monitor.gauge("gpu_memory_bytes", event["memory_bytes"], kind="peak")
        self._monitor.log("step", **{k: v for k, v in event.items() if k != "event"})

    def _on_validation(self, event: dict[str, Any]) -> None:
        self._monitor.gauge("validation_loss", event["loss"])
        self._monitor.log("validation", step=event["step"], loss=event["loss"])

    def _on_checkpoint(self, event: dict[str, Any]) -> None:
        self._monitor.count("checkpoints")
        self._monitor.count("checkpoint_seconds", event["seconds"])
        self._monitor.count("checkpoint_bytes", event["bytes"])
        self._monitor.note_wait("checkpoint", event["waited_seconds"])
        self._monitor.log("checkpoint", **{k: v for k, v in event.items() if k != "event"})
