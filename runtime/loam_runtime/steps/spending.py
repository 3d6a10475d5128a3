"""What the models that a run asked have cost it, in all its stages and starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJobSpec


def add_spending(
    spec: FineTuneJobSpec, synthesis: Mapping[str, float], judge: Mapping[str, float]
) -> dict[str, float]:
    """Requests, tokens and, where the money for each is known, money (`spent_*`) of both.

    Args:
        synthesis, judge: usage as the stages record it; empty where nobody was asked. The base
            model as teacher costs no money.
    """
    names = ("spent_requests", "spent_tokens")
    total = {name: synthesis.get(name, 0) + judge.get(name, 0) for name in names}
    is_remote = spec.synthesis is not None and bool(spec.synthesis.list_endpoints())
    paid = [
        usage for usage, is_paid in ((synthesis, is_remote), (judge, True)) if usage and is_paid
    ]
    if paid and all("spent_cost" in usage for usage in paid):
        total["spent_cost"] = sum(usage["spent_cost"] for usage in paid)
    return total
