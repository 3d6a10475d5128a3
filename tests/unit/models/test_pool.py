"""One model on several workers: the same results, whoever answers and whoever is lost."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.unit.models.test_language_model import CANDIDATES, make_prompts

from loam_runtime.errors import InputError, LoamError
from loam_runtime.models.language_model import LanguageModel
from loam_runtime.models.pool import ModelPool, ReplicaLost

pytestmark = pytest.mark.timeout(120)


class ThreadReplica:
    """The model in this process; it may be lost at a call, or never come."""

    def __init__(self, lm: LanguageModel, calls: Counter[str], name: str) -> None:
        self._model = LanguageModel(lm.model, lm.tokenizer, keeps_prefix=True)
        self._calls = calls
        self._name = name
        self.is_lost = lambda: False
        self.comes = threading.Event()
        self.comes.set()
        self.is_stopped = False

    def load(self) -> None:
        self.comes.wait()
        if self.is_stopped:
            raise ReplicaLost("stopped")

    def call(self, method: str, arguments: Any, options: dict[str, Any]) -> Any:
        if self.is_lost():
            raise ReplicaLost("killed")
        self._calls[self._name] += 1
        return getattr(self._model, method)(*arguments, **options)

    def stop(self) -> None:
        self.is_stopped = True
        self.comes.set()


Prepare = Callable[[ThreadReplica], None]


class Workers:
    """Makes pools of replicas and closes them."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._pools: list[ModelPool] = []
        self.made: list[ThreadReplica] = []
        self.calls: Counter[str] = Counter()
        self.losses: list[str] = []

    def open(
        self, count: int, prepare: Prepare = lambda replica: None, **options: Any
    ) -> ModelPool:
        """A pool; `prepare` is given each replica as it is made."""

        def make() -> ThreadReplica:
            replica = ThreadReplica(self._lm, self.calls, str(len(self.made)))
            prepare(replica)
            self.made.append(replica)
            return replica

        pool = ModelPool(self._lm.tokenizer, make, count, on_loss=self.losses.append, **options)
        self._pools.append(pool)
        return pool

    def close(self) -> None:
        for pool in self._pools:
            pool.close()


@pytest.fixture
def workers(lm: LanguageModel) -> Iterator[Workers]:
    running = Workers(lm)
    yield running
    running.close()


def lose_at(number: int) -> Callable[[], bool]:
    """True at the given call (from 1) of all that ask, and at no other."""
    lock, count = threading.Lock(), 0

    def is_lost() -> bool:
        nonlocal count
        with lock:
            count += 1
            return count == number

    return is_lost


@pytest.mark.parametrize("num_replicas", [1, 2, 3])
@pytest.mark.parametrize("num_shared", [0, 20])
def test_scores_are_those_of_one_model(
    lm: LanguageModel, workers: Workers, num_replicas: int, num_shared: int
) -> None:
    """Bit for bit: a batch is padded, and its prefix cut off, as among all the others; else a row
    at the filter's border would fall on either side with the number of workers."""
    prompts = make_prompts(7, num_shared, [3, 9, 1, 4, 12, 2, 30, 5, 6, 1])
    pool = workers.open(num_replicas)
    scores = pool.score(prompts, CANDIDATES, batch_size=3)
    assert np.array_equal(scores, lm.score(prompts, CANDIDATES, batch_size=3))
    assert pool.score([], CANDIDATES).shape == (0, len(CANDIDATES))


def test_an_engines_batch_is_its_own(lm: LanguageModel, workers: Workers) -> None:
    """vLLM reads what prompts begin with once for each call: in the small batches of a model that
    pads, it would read it again and again."""
    prompts = make_prompts(7, 20, [3, 9, 1, 4, 12, 2, 30, 5])
    scores = workers.open(1, batch_size=4).score(prompts, CANDIDATES, batch_size=1)
    assert np.array_equal(scores, lm.score(prompts, CANDIDATES, batch_size=4))
    assert workers.calls.total() == 2


def test_a_lost_worker_is_replaced_and_its_call_answered(
    lm: LanguageModel, workers: Workers
) -> None:
    """No call is lost with its worker, none is answered twice, and each loss is told."""
    is_lost = lose_at(3)

    def share(replica: ThreadReplica) -> None:
        replica.is_lost = is_lost

    prompts = make_prompts(8, 10, [3, 9, 1, 4, 12, 2, 30, 5])
    scores = workers.open(2, share).score(prompts, CANDIDATES, batch_size=2)
    assert np.array_equal(scores, lm.score(prompts, CANDIDATES, batch_size=2))
    assert workers.losses == ["killed"]
    assert workers.calls.total() == 4


def test_those_that_have_come_do_the_work(lm: LanguageModel, workers: Workers) -> None:
    """An elastic job is not held up by the worker that the cluster has no room for."""

    def keep_second_away(replica: ThreadReplica) -> None:
        if workers.made:
            replica.comes.clear()

    prompts = make_prompts(8, 0, [3, 9, 1, 4])
    scores = workers.open(2, keep_second_away).score(prompts, CANDIDATES, batch_size=1)
    assert np.array_equal(scores, lm.score(prompts, CANDIDATES, batch_size=1))
    assert workers.calls == {"0": 4}


def test_what_its_workers_die_of_is_not_tried_for_ever(workers: Workers) -> None:
    """A batch that no worker has the memory for ends the job, with the reason."""

    def doom(replica: ThreadReplica) -> None:
        replica.is_lost = lambda: True

    with pytest.raises(LoamError, match=r"lost 4 times.*killed"):
        workers.open(2, doom).generate([[5, 6]], max_new_tokens=2)
    assert len(workers.made) < 10


def test_a_model_that_cannot_be_loaded_is_said_as_it_is(workers: Workers) -> None:
    """Trying a broken file again would hide what is wrong behind lost workers."""

    def refuse() -> None:
        raise InputError("The model is not there.")

    def break_loading(replica: ThreadReplica) -> None:
        replica.load = refuse

    pool = workers.open(2, break_loading)
    for _ in range(2):  # a later call is told the same
        with pytest.raises(InputError, match="not there"):
            pool.generate([[5, 6]], max_new_tokens=2)


def test_an_error_of_the_model_is_the_callers(lm: LanguageModel, workers: Workers) -> None:
    """What a call does wrong is no reason to replace the worker."""
    pool = workers.open(1)
    with pytest.raises(TypeError, match="no_such"):
        pool.generate([[5, 6]], max_new_tokens=2, no_such=1)
    assert pool.generate([[5, 6]], max_new_tokens=2) == lm.generate([[5, 6]], max_new_tokens=2)
    assert not workers.losses


def test_a_closed_pool_leaves_nobody_waiting(workers: Workers) -> None:
    """Ctrl-C while no worker has come yet ends the command: calls fail, replicas are stopped."""

    def keep_away(replica: ThreadReplica) -> None:
        replica.comes.clear()

    pool = workers.open(2, keep_away)
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            pool.generate([[5, 6]], max_new_tokens=2)
        except LoamError as exc:
            errors.append(exc)

    thread = threading.Thread(target=ask)
    thread.start()
    while not pool._calls and thread.is_alive():
        pass
    pool.close()
    thread.join(30)
    assert len(errors) == 1
    assert all(replica.is_stopped for replica in workers.made)
