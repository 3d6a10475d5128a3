"""How a training process finds the run it writes to."""

from __future__ import annotations

from dataclasses import dataclass

from loam_runtime.storage.registry import open_store
from loam_runtime.storage.run_store import RunStore


@dataclass(frozen=True, slots=True)
class RunAddress:
    """A run's folder, as another process can open it for writing.

    Attributes:
        output_uri: of the store.
        run_key: of the run.
        token: `RunStore.token` of the process that holds the run's lock.
    """

    output_uri: str
    run_key: str
    token: int

    def open(self) -> RunStore:
        """Attach to the run.

        Raises:
            FencedError: the lock has passed on.
        """
        run = RunStore(open_store(self.output_uri), self.run_key)
        run.attach(self.token)
        return run
