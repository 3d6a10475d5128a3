"""The hard stop: requests, tokens and money are reserved before anything is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from loam_api.teacher_prices import LIST_PRICES
from loam_runtime.errors import BudgetError
from loam_runtime.synthesis.exchange import TeacherAnswer, TeacherRequest

# Money is counted in whole picos (10^-12 of the currency unit): sums stay exact.
PICOS = 10**12
_PICOS_PER_PRICE = PICOS // 10**6  # a price is for a million tokens


@dataclass(frozen=True, slots=True)
class Amount:
    """What requests cost, or may cost.

    Attributes:
        picos: money; 0 where prices are not known.
    """

    requests: int = 0
    tokens: int = 0
    picos: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.requests + other.requests, self.tokens + other.tokens, self.picos + other.picos
        )

    def __sub__(self, other: Amount) -> Amount:
        return Amount(
            self.requests - other.requests, self.tokens - other.tokens, self.picos - other.picos
        )

    @property
    def money(self) -> float:
        """In currency units."""
        return self.picos / PICOS


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices of a million tokens, in any one currency; zeros where they are not known."""

    prompt: float = 0.0
    completion: float = 0.0

    def __bool__(self) -> bool:
        return self.prompt > 0 or self.completion > 0

    def price(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Picos of one exchange."""
        return prompt_tokens * round(self.prompt * _PICOS_PER_PRICE) + completion_tokens * round(
            self.completion * _PICOS_PER_PRICE
        )

    def reserve(self, request: TeacherRequest) -> Amount:
        """The worst case of a request: its prompt, and all of `max_tokens`."""
        prompt = request.bound_prompt_tokens()
        return Amount(1, prompt + request.max_tokens, self.price(prompt, request.max_tokens))

    def charge(self, answer: TeacherAnswer) -> Amount:
        """The true cost of an answer."""
        return Amount(
            1, answer.num_tokens, self.price(answer.prompt_tokens, answer.completion_tokens)
        )


def find_prices(model: str, given: tuple[float, float] | None = None) -> PriceList:
    """The prices given, else the list prices of a well-known model, else none."""
    return PriceList(*(given or LIST_PRICES.get(model, ())))


class BudgetLedger:
    """Counts what the teacher has cost and refuses what might exceed the limits.

    A request is charged its worst case (prompt and `max_tokens`) when it is sent, and its true
    cost when it is answered. One that was dropped or timed out keeps its charge, since the
    endpoint may bill it; one that was refused for load costs nothing. The first request that does
    not fit ends it for all who share it: rows that a small request still writes are of no use where
    their judge's larger ones are not paid any more.

    Args:
        max_requests: 0 for no limit.
        max_tokens: prompt and answer tokens together; 0 for no limit.
        max_cost: in the currency of the prices; 0 for no limit.
        spent: by earlier starts of the same run.
    """

    def __init__(
        self,
        max_requests: int = 0,
        max_tokens: int = 0,
        max_cost: float = 0.0,
        *,
        spent: Amount = Amount(),
    ) -> None:
        self._most = Amount(max_requests, max_tokens, round(max_cost * PICOS))
        self.spent = spent
        self._open = Amount()
        self._settled = asyncio.Event()
        self._turn = asyncio.Lock()
        self._is_spent = False

    async def reserve(self, worst: Sequence[Amount]) -> int:
        """Charge the worst case of one call's requests; returns how many of the first may go out.

        Waits while open requests may still give room back. First come, first served: a smaller
        one that passed would make it a matter of time which requests a budget pays for. For the
        same reason a call is cut to what fits only once nothing else is open.

        Args:
            worst: of each request of the call, at least one.

        Raises:
            BudgetError: even if every open request cost nothing, the first one would not fit, or
                an earlier one did not.
        """
        async with self._turn:
            while not (count := self._count_room(worst)):
                if self._is_spent or not self._fits(self.spent + worst[0]):
                    self._is_spent = True
                    raise self._describe()
                self._settled.clear()
                await self._settled.wait()
            self._open += sum(worst[:count], Amount())
            return count

    def settle(self, reserved: Amount, spent: Amount | None) -> None:
        """Replace a reservation by its cost; None where the endpoint did no work."""
        self._open -= reserved
        if spent is not None:
            self.spent += spent
        self._settled.set()

    def count_within(self, worst: Sequence[Amount], share: float) -> int:
        """How many of the first requests cost at most this share of every limit.

        It goes by the limits, not by what is left of them: so a later start counts as many.
        """
        most, total = self._most, Amount()
        part = Amount(*(int(share * it) for it in (most.requests, most.tokens, most.picos)))
        for place, cost in enumerate(worst):
            total += cost
            over = (
                (most.requests and total.requests > part.requests)
                or (most.tokens and total.tokens > part.tokens)
                or (most.picos and total.picos > part.picos)
            )
            if over:
                return place
        return len(worst)

    def reopen(self) -> None:
        """Let requests that fit go out again, after one that did not."""
        self._is_spent = False

    def _count_room(self, worst: Sequence[Amount]) -> int:
        """How many of the first may go out now."""
        if self._is_spent:
            return 0
        if self._fits(self.spent + self._open + sum(worst, Amount())):
            return len(worst)
        if self._open != Amount():
            return 0
        total = self.spent
        for place, cost in enumerate(worst):
            total += cost
            if not self._fits(total):
                return place
        return len(worst)

    def _fits(self, total: Amount) -> bool:
        most = self._most
        return (
            (not most.requests or total.requests <= most.requests)
            and (not most.tokens or total.tokens <= most.tokens)
            and (not most.picos or total.picos <= most.picos)
        )

    def _describe(self) -> BudgetError:
        spent, most = self.spent, self._most
        parts = []
        if most.requests:
            parts.append(f"{spent.requests} of {most.requests} requests")
        if most.tokens:
            parts.append(f"{spent.tokens} of {most.tokens} tokens")
        if most.picos:
            parts.append(f"{spent.money:.4f} of {most.money:.4f} in money")
        return BudgetError(
            f"synthesis.budget is spent: {' and '.join(parts)}; the next request may not fit.",
            remedy="Raise synthesis.budget and run again: every answer so far is kept and is not "
            "asked for again.",
        )
