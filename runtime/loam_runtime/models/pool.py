"""One language model on several workers: each call goes to whichever of them is free.

Results depend neither on the number of workers nor on who answered: a call is made whole by one
of them, and what is scored is cut into the batches that one model alone would have scored.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from loam_runtime.errors import LoamError
from loam_runtime.models.prefix_cache import find_prefix, iterate_batches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from loam_runtime.models.language_model import Generation

_MAX_LOSSES = 3
_WAKE_SECONDS = 0.5


class ReplicaLost(Exception):
    """The process that held the model is gone; what it was asked, another one can answer."""


class Replica(Protocol):
    """The model on one worker. `stop` may come from another thread than the rest."""

    def load(self) -> None:
        """Return when it can be called, however long its worker takes to come.

        Raises:
            ReplicaLost: it is gone, or was stopped.
            LoamError: it cannot be loaded, here or elsewhere.
        """

    def call(self, method: str, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        """What the method of `LanguageModel` returns.

        Raises:
            ReplicaLost: it is gone, or was stopped.
            Exception: what the method raised.
        """

    def stop(self) -> None:
        """Give its memory back. A second time does nothing."""


@dataclass(slots=True)
class _Call:
    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    prefix: list[int]
    future: Future[Any] = field(default_factory=Future)
    num_losses: int = 0


class ModelPool:
    """Stands where a `LanguageModel` stands; may be called from several threads.

    Replicas are started with the first call. Those that have come answer, the others join when
    they come; one that is lost is started anew, and its call goes to the next that is free.

    Args:
        tokenizer: the model's.
        make_replica: makes one; returns at once.
        num_replicas: wanted.
        on_loss: called with the reason, from a thread of the pool, when one is lost.
        batch_size: prompts that are scored together; by default what the caller of `score` says.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        make_replica: Callable[[], Replica],
        num_replicas: int,
        *,
        on_loss: Callable[[str], None] = lambda reason: None,
        batch_size: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self._batch_size = batch_size
        self._make_replica = make_replica
        self._on_loss = on_loss
        self._changed = threading.Condition()
        self._calls: list[_Call] = []
        self._replicas: list[Replica] = []
        self._failure: BaseException | None = None
        self._num_serving = num_replicas
        self._threads = [
            threading.Thread(target=self._serve, name=f"loam-replica-{place}", daemon=True)
            for place in range(num_replicas)
        ]

    def generate(self, prompts: Sequence[Sequence[int]], **options: Any) -> list[Generation]:
        """See `LanguageModel.generate`; one worker continues all prompts of a call.

        Raises:
            LoamError: the model cannot be loaded, or workers were lost too often.
        """
        return self._submit("generate", (prompts,), options, find_prefix(prompts)).result()

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        candidates: Sequence[Sequence[int]],
        *,
        batch_size: int = 16,
    ) -> np.ndarray:
        """See `LanguageModel.score`; the batches of a call go to all workers.

        Raises:
            LoamError: as `generate`.
        """
        prefix = find_prefix(prompts)
        batch_size = self._batch_size or batch_size
        options = {"batch_size": batch_size, "prefix": prefix}
        batches = list(iterate_batches(prompts, batch_size))
        futures = [
            self._submit("score", ([prompts[i] for i in batch], candidates), options, prefix)
            for batch in batches
        ]
        # An interrupt from Ray sends no signal that would wake this thread.
        while wait(futures, timeout=_WAKE_SECONDS).not_done:
            pass
        scores = np.zeros((len(prompts), len(candidates)))
        for batch, future in zip(batches, futures, strict=True):
            scores[batch] = future.result()
        return scores

    def close(self) -> None:
        """Stop all replicas; calls that wait fail."""
        self._fail(LoamError("The model was let go while it was asked."))
        with ThreadPoolExecutor(len(self._threads)) as threads:
            list(threads.map(lambda replica: replica.stop(), list(self._replicas)))
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _submit(
        self, method: str, arguments: tuple[Any, ...], options: dict[str, Any], prefix: list[int]
    ) -> Future[Any]:
        call = _Call(method, arguments, options, prefix)
        with self._changed:
            if self._failure is not None:
                raise self._failure
            for thread in self._threads:
                if thread.ident is None:
                    thread.start()
            self._calls.append(call)
            self._changed.notify()
        return call.future

    def _serve(self) -> None:
        """A worker's place: a replica, and another one each time that it is lost."""
        num_losses = 0  # in a row
        while num_losses <= _MAX_LOSSES and (replica := self._open_replica()) is not None:
            try:
                replica.load()
                prefix: list[int] = []
                while (call := self._take(prefix)) is not None:
                    self._answer(replica, call)
                    num_losses, prefix = 0, call.prefix
            except ReplicaLost as exc:
                num_losses += 1
                self._replicas.remove(replica)
                replica.stop()
                if self._failure is None:
                    self._on_loss(str(exc))
            except BaseException as exc:
                self._fail(exc)
        self._leave()

    def _open_replica(self) -> Replica | None:
        """One that `close` will stop; None once the pool has failed or was closed."""
        with self._changed:
            if self._failure is not None:
                return None
            replica = self._make_replica()
            self._replicas.append(replica)
            return replica

    def _take(self, prefix: list[int]) -> _Call | None:
        """The next call, rather one with the prefix that was computed last; None at the end."""
        with self._changed:
            while not self._calls and self._failure is None:
                self._changed.wait()
            if self._failure is not None:
                return None
            same = (place for place, call in enumerate(self._calls) if call.prefix == prefix)
            return self._calls.pop(next(same, 0))

    def _answer(self, replica: Replica, call: _Call) -> None:
        try:
            result = replica.call(call.method, call.arguments, call.options)
        except ReplicaLost as exc:
            self._give_back(call, exc)
            raise
        except BaseException as exc:
            call.future.set_exception(exc)
        else:
            call.future.set_result(result)

    def _give_back(self, call: _Call, loss: ReplicaLost) -> None:
        """Put the call first in line, unless it seems to be what its workers die of."""
        call.num_losses += 1
        with self._changed:
            failure = self._failure
            if failure is None and call.num_losses > _MAX_LOSSES:
                failure = _describe_losses(loss)
            if failure is None:
                self._calls.insert(0, call)
                self._changed.notify()
                return
        call.future.set_exception(failure)

    def _leave(self) -> None:
        with self._changed:
            self._num_serving -= 1
            is_last = not self._num_serving
        if is_last:
            self._fail(_describe_losses(None))

    def _fail(self, failure: BaseException) -> None:
        """Answer nothing more; the first reason is the one that is told."""
        with self._changed:
            self._failure = self._failure or failure
            calls, self._calls = self._calls, []
            self._changed.notify_all()
        for call in calls:
            call.future.set_exception(self._failure)


def _describe_losses(loss: ReplicaLost | None) -> LoamError:
    last = f" The last one: {loss}" if loss else ""
    return LoamError(
        f"Workers that held the model were lost {_MAX_LOSSES + 1} times without an answer.{last}",
        remedy="Look for node failures, evictions, or too little memory; answers so far are kept.",
    )
