"""The steps of a job's way in a cluster: each is a RayJob of its own, with the pods it needs.

No GPU is held by what needs none: the data is prepared, and a remote teacher asked, by a head pod
alone; where the base model itself writes rows, one worker does, before the others are asked for.
"""

from __future__ import annotations

from loam_api.finetunejob import FineTuneJobSpec

PREPARE = "prepare"
GENERATE = "generate"
REVIEW = "review"  # no attempt and no pod: the job waits for a person
TRAIN = "train"
STEPS = (PREPARE, GENERATE, TRAIN)


def list_steps(spec: FineTuneJobSpec) -> tuple[str, ...]:
    """The steps of this job, in order.

    A single worker generates and trains in one, unless a person looks at the rows in between.
    """
    synthesis = spec.synthesis
    has_review = bool(synthesis and synthesis.spot_check and synthesis.spot_check.required)
    is_own_teacher = bool(synthesis and synthesis.teacher.kind == "self")
    has_generate = is_own_teacher and (spec.compute.workers.max > 1 or has_review)
    steps = (PREPARE, GENERATE if has_generate else "", REVIEW if has_review else "", TRAIN)
    return tuple(step for step in steps if step)


def count_workers(step: str, spec: FineTuneJobSpec) -> int:
    """Worker pods of a step, beside its head."""
    return {PREPARE: 0, GENERATE: 1, TRAIN: spec.compute.workers.max}[step]


def count_gpus(step: str, spec: FineTuneJobSpec) -> int:
    """GPUs that all pods of a step ask for together."""
    return count_workers(step, spec) * spec.compute.worker.gpus
