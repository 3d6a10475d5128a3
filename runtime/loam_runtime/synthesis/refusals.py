"""Whether a prompt that the endpoint refuses is given up alone, or ends the run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

MOST_IN_A_ROW = 20  # refused without an answer between them: it is not the prompts


class Refusals:
    """Tells a refused prompt from an endpoint that refuses everything.

    What is refused alone is too long, or stopped by a content filter; what is refused always is a
    wrong setting, which the user must correct.
    """

    def __init__(self) -> None:
        self._has_answered = False
        self._num_in_a_row = 0
        self._num_open = 0
        self._changed = asyncio.Event()

    def record_answer(self) -> None:
        """The endpoint answered a request, in this start or an earlier one."""
        self._has_answered = True
        self._num_in_a_row = 0
        self._tell_waiting()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """A request is under way while the block runs."""
        self._num_open += 1
        try:
            yield
        finally:
            self._num_open -= 1
            self._tell_waiting()

    async def is_alone(self) -> bool:
        """Whether a request just refused is given up while others go on.

        Before the first answer it waits for what is under way: a refusal comes sooner than an
        answer, and one bad prompt among the first would end every start of the run.
        """
        self._num_in_a_row += 1
        while not self._has_answered and self._num_open:
            await self._changed.wait()
        return self._has_answered and self._num_in_a_row < MOST_IN_A_ROW

    def _tell_waiting(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
