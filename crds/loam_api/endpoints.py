"""The models that a job asks over the network: who they are, and when they are asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from loam_api.finetunejob import FineTuneJobSpec
    from loam_api.synthesis_block import OpenAITeacher

EndpointRole = Literal["teacher", "judge", "answerJudge"]

_ROLES: dict[str, EndpointRole] = {
    "synthesis.teacher.openai": "teacher",
    "synthesis.judge.openai": "judge",
    "evaluation.judge.openai": "answerJudge",
}


@dataclass(frozen=True, slots=True)
class NamedEndpoint:
    """One endpoint of a job.

    Attributes:
        role: teacher writes rows, judge judges rows, answerJudge judges test answers.
        field: its place below `spec`, such as synthesis.teacher.openai.
        openai: address, model, key.
    """

    role: EndpointRole
    field: str
    openai: OpenAITeacher


def list_endpoints(spec: FineTuneJobSpec) -> tuple[NamedEndpoint, ...]:
    """Every endpoint that the job asks, the teacher's first."""
    named = spec.synthesis.list_endpoints() if spec.synthesis is not None else {}
    if spec.evaluation.judge is not None:
        named = {**named, "evaluation.judge.openai": spec.evaluation.judge.openai}
    return tuple(NamedEndpoint(_ROLES[field], field, one) for field, one in named.items())


def needs_finish(spec: FineTuneJobSpec) -> bool:
    """Whether something is asked after the training that needs no GPU: the judge of answers.

    In a cluster its stages then have a step of their own, whose pods hold none.
    """
    return spec.evaluation.judge is not None
