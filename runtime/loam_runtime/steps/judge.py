"""Let a remote chat model compare the fine-tuned model's answers with the best baseline's.

It is measured first, on rows whose right answer is known; where that does not show it to be better
than chance, it is asked for nothing more. Every answer is in the journal before it counts: a start
after a kill, and a job that asks the same, pay for none twice.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loam_runtime.data.examples import Example, iterate_examples
from loam_runtime.data.export import write_json_lines
from loam_runtime.evaluation.answer_judge import CRITERIA, JudgeBrief, Opinion
from loam_runtime.evaluation.answer_trust import (
    AnswerTrust,
    Trial,
    compute_answer_trust,
    draw_trials,
)
from loam_runtime.evaluation.answer_verdict import JudgedPair, decide_answer_verdict, decide_pair
from loam_runtime.evaluation.metrics import DECISIVE_METRICS, METRICS
from loam_runtime.observability.monitor import NullMonitor
from loam_runtime.steps.judge_inquiry import Inquiry, Questions, Said, open_inquiry
from loam_runtime.steps.predictions import (
    EVALUATION_FOLDER,
    TUNED,
    VERDICTS_FILE,
    read_predictions,
)
from loam_runtime.steps.rows import read_tables
from loam_runtime.synthesis.drawing import run_to_end

if TYPE_CHECKING:
    from loam_api.evaluation_block import AnswerJudge
    from loam_runtime.observability.monitor import StageMonitor
    from loam_runtime.stages import StageOutput
    from loam_runtime.steps.context import JobContext

TRIALS_FILE = f"{EVALUATION_FOLDER}/judge_trust.jsonl"
EQUAL = "the answers are equal"


@dataclass(frozen=True, slots=True)
class Pair:
    """A test row with the answers that are compared."""

    row: Example
    tuned: str
    baseline: str

    @property
    def is_equal(self) -> bool:
        """Nobody is asked which of two equal texts is better."""
        return self.tuned.strip() == self.baseline.strip()


def check_judge(context: JobContext, split: Path) -> None:
    """Ask the first of the questions that the judge is measured by, before anything is trained.

    It is asked online, whatever its mode: a batch of one may take a day.

    Raises:
        CredentialsError, TeacherError: it refuses, or is not there.
    """
    trials = draw_trials(_read_test(split), context.job.spec.training.seed)
    if not trials:
        return
    judge = _get_judge(context)
    online = judge.openai.model_copy(update={"mode": "online"})
    question = _compose_trial(build_brief(context), trials[0])[0]

    async def ask() -> None:
        reachable = judge.model_copy(update={"openai": online})
        async with open_inquiry(context, reachable, NullMonitor(), {}) as inquiry:
            await inquiry.ask([question])

    run_to_end(ask())


def judge_answers(
    context: JobContext, outputs: Mapping[str, StageOutput], out: Path, monitor: StageMonitor
) -> dict[str, Any]:
    """Write `VERDICTS_FILE` and `TRIALS_FILE`; return the judge's verdict and what it cost.

    Raises:
        CredentialsError, TeacherError: it refuses, or is down; answers so far are kept.
    """
    judge = _get_judge(context)
    rows = _read_test(outputs["split"].folder)
    baseline = choose_baseline(outputs["baselines"].result["models"])
    pairs = _draw_pairs(context, outputs, rows, baseline)
    brief = build_brief(context)
    trials = draw_trials(rows, context.job.spec.training.seed)
    spent = outputs["synthesize"].result["usage"] if "synthesize" in outputs else {}

    async def work() -> dict[str, Any]:
        async with open_inquiry(context, judge, monitor, spent) as inquiry:
            trust = await _measure(inquiry, brief, trials, out, monitor) if rows else None
            is_trusted = trust is not None and trust.is_trusted
            judged = await _judge(inquiry, brief, pairs if is_trusted else [], baseline, out)
            verdict = decide_answer_verdict(
                judged,
                trust,
                judge=judge.openai.model,
                baseline=baseline,
                is_budget_spent=inquiry.is_spent,
            )
            usage = inquiry.describe_usage()
        monitor.log("judge_verdict", text=verdict.text, **usage)
        return {**verdict.to_record(), "usage": usage}

    (out / EVALUATION_FOLDER).mkdir()
    num_asked = len(trials) + sum(not pair.is_equal for pair in pairs)
    monitor.start(2 * num_asked, "verdicts")
    return run_to_end(work())


def build_brief(context: JobContext) -> JudgeBrief:
    """What the job's judge is told."""
    data, judge = context.job.spec.data, _get_judge(context)
    return JudgeBrief(data.description, judge.criteria or CRITERIA[data.task])


def choose_baseline(models: Sequence[Mapping[str, Any]]) -> str:
    """The best baseline that writes answers of its own, "" without any.

    Args:
        models: the records of the stage `baselines`.
    """
    written = [one for one in models if one["name"] != "majority"]
    if not written:
        return ""
    metric = DECISIVE_METRICS[written[0]["task"]]
    sign = 1 if METRICS[metric].higher_is_better else -1
    best = max(written, key=lambda one: sign * one["metrics"][metric]["value"])
    return str(best["name"])


def _get_judge(context: JobContext) -> AnswerJudge:
    judge = context.job.spec.evaluation.judge
    assert judge is not None, "a job without a judge has no such step"
    return judge


def _read_test(split: Path) -> list[Example]:
    test = read_tables(split, None).test
    return list(iterate_examples(test)) if test is not None else []


def _draw_pairs(
    context: JobContext,
    outputs: Mapping[str, StageOutput],
    rows: Sequence[Example],
    baseline: str,
) -> list[Pair]:
    """At most `maxRows` test rows, the same ones in every start, with both models' answers."""
    if not rows:
        return []
    rng = random.Random(f"{context.job.spec.training.seed}/answer-judge")
    chosen = rng.sample(rows, min(len(rows), _get_judge(context).max_rows))
    tuned = _read_answers(outputs["evaluate"], TUNED)
    other = _read_answers(outputs["baselines"], baseline)
    return [Pair(row, tuned[row.id], other[row.id]) for row in chosen]


def _read_answers(stage: StageOutput, model: str) -> dict[str, str]:
    return {row["id"]: row["answer"] for row in read_predictions(stage.folder, model)}


def _compose_trial(brief: JudgeBrief, trial: Trial) -> Questions:
    # Without the reference: it is what the judge has to find.
    return brief.compose_both(trial.row, trial.row.target, trial.wrong, shows_reference=False)


async def _measure(
    inquiry: Inquiry,
    brief: JudgeBrief,
    trials: Sequence[Trial],
    out: Path,
    monitor: StageMonitor,
) -> AnswerTrust:
    said = await inquiry.ask_both([_compose_trial(brief, trial) for trial in trials])
    records = [
        {"id": trial.row.id, "wrong": trial.wrong, **_describe(of_trial)}
        for trial, of_trial in zip(trials, said, strict=True)
    ]
    write_json_lines(records, out / TRIALS_FILE)
    trust = compute_answer_trust([of_trial.opinions for of_trial in said])
    monitor.log("judge_measured", **trust.to_record())
    return trust


async def _judge(
    inquiry: Inquiry, brief: JudgeBrief, pairs: Sequence[Pair], baseline: str, out: Path
) -> list[JudgedPair]:
    asked = [pair for pair in pairs if not pair.is_equal]
    answers = await inquiry.ask_both(
        [
            brief.compose_both(pair.row, pair.tuned, pair.baseline, shows_reference=True)
            for pair in asked
        ]
    )
    said = {pair.row.id: of_pair for pair, of_pair in zip(asked, answers, strict=True)}
    judged, records = [], []
    for pair in pairs:
        of_pair = said.get(pair.row.id)
        one = _decide(pair, of_pair)
        judged.append(one)
        records.append(
            {
                "id": pair.row.id,
                "compared": [TUNED, baseline],
                "outcome": one.outcome,
                "isConsistent": one.is_consistent,
                **(_describe(of_pair) if of_pair else {"verdicts": [], "reasons": [EQUAL]}),
            }
        )
    write_json_lines(records, out / VERDICTS_FILE)
    return judged


def _decide(pair: Pair, said: Said | None) -> JudgedPair:
    if said is None:
        return JudgedPair(pair.row.id, pair.row.group, "tie")
    outcome, is_consistent = decide_pair(*said.opinions)
    return JudgedPair(pair.row.id, pair.row.group, outcome, is_consistent)


def _describe(said: Said) -> dict[str, Any]:
    """What was said in each order, as it came, and the reasons that were given."""
    opinions: list[Opinion | None] = list(said.opinions)
    return {
        "verdicts": said.texts,
        "reasons": [opinion.reason if opinion else "" for opinion in opinions],
    }
