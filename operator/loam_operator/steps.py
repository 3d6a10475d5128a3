"""The steps of a job's way in a cluster: each is a RayJob of its own, with the pods it needs.

No GPU is held by what needs none: the data is prepared, and a remote teacher or judge asked, by a
head pod alone; where the base model itself writes rows, all workers do.
"""

from __future__ import annotations

from loam_api.endpoints import needs_finish
from loam_api.finetunejob import FineTuneJobSpec

PREPARE = "prepare"
GENERATE = "generate"
REVIEW = "review"  # no attempt and no pod: the job waits for a person
TRAIN = "train"
FINISH = "finish"  # what is left of a run when its adapter is trained, and needs no GPU
STEPS = (PREPARE, GENERATE, TRAIN, FINISH)
_HEAD_ALONE = (PREPARE, FINISH)


def list_steps(spec: FineTuneJobSpec) -> tuple[str, ...]:
    """The steps of this job, in order.

    The workers that train have generated before, in one step, unless a person looks at the rows
    in between. That is what leaves GPUs idle least. With W workers, S seconds for one to start
    (image, Ray, model: minutes) and F in which rows are filtered and nobody generates (seconds),
    W * F GPU seconds are idle; in a step of its own W * (S + F) with all workers, or S + F with
    one, which is less only with more than 1 + S / F workers, and generates W times as long.
    An elastic job generates with the workers that have come, as it trains.
    """
    synthesis = spec.synthesis
    has_review = bool(synthesis and synthesis.spot_check and synthesis.spot_check.required)
    is_own_teacher = bool(synthesis and synthesis.teacher.kind == "self")
    has_generate = is_own_teacher and has_review
    steps = (
        PREPARE,
        GENERATE if has_generate else "",
        REVIEW if has_review else "",
        TRAIN,
        FINISH if needs_finish(spec) else "",
    )
    return tuple(step for step in steps if step)


def count_workers(step: str, spec: FineTuneJobSpec) -> int:
    """Worker pods of a step, beside its head."""
    return 0 if step in _HEAD_ALONE else spec.compute.workers.max


def count_gpus(step: str, spec: FineTuneJobSpec) -> int:
    """GPUs that all pods of a step ask for together."""
    return count_workers(step, spec) * spec.compute.worker.gpus
