"""What a report is made of: one plain JSON value, stored as report.json beside the page.

Every part may be missing where the run had none (no test rows, no synthesis); the page then
says so. Rates and most scores lie in [0, 1], losses are nats per token, times are seconds.
"""

from __future__ import annotations

from typing import TypedDict


class Estimate(TypedDict):
    """A measured value with its 95 % interval."""

    value: float
    low: float
    high: float


class Verdict(TypedDict):
    """Whether fine-tuning was worth it."""

    text: str  # the verdict in words, complete sentences
    is_assessable: bool  # False: too few test rows to say anything
    wins: bool | None  # None: the rows do not decide
    best_baseline: str  # name of the baseline that it was compared with, "" for none
    difference: Estimate | None  # fine-tuned minus best baseline, paired


class ModelScores(TypedDict):
    """How one model did on the test rows."""

    name: str  # "Fine-tuned", "In-context", "Zero-shot", "Majority class"
    is_fine_tuned: bool
    metrics: dict[str, Estimate]  # by metric name; one that was not measured is left out


class Confusion(TypedDict):
    """True labels against predicted ones."""

    labels: list[str]  # of the rows, which are the true labels
    predicted: list[str]  # of the columns; may end with one for answers that are no label
    counts: list[list[int]]  # [true][predicted]


class Prediction(TypedDict):
    """One test row and what was answered."""

    input: str
    target: str
    prediction: str
    base_prediction: str  # of the best baseline, "" where unknown
    is_right: bool


class Latency(TypedDict):
    """How fast one way of serving answered, one request at a time."""

    name: str
    p50_seconds: float
    p95_seconds: float
    tokens_per_second: float
    num_requests: int
    max_answer_tokens: int  # a longer right answer counts with its beginning
    ratio: Estimate | None  # of its times to those of the first way, prompt by prompt


class Evaluation(TypedDict):
    """What was measured on the held-out rows."""

    num_test_rows: int
    primary_metric: str  # the one the verdict is about
    models: list[ModelScores]  # fine-tuned first
    confusion: Confusion | None  # of the fine-tuned model; classification only
    predictions: list[Prediction]  # a sample, wrong ones first
    latency: list[Latency]


class JudgeSample(TypedDict):
    """One row that a judge compared two answers of."""

    input: str
    target: str  # the reference answer
    tuned: str
    baseline: str
    outcome: str  # "win", "tie" or "loss" of the fine-tuned model's answer, with a word on why
    reason: str  # in the judge's words, of both orders; "" where it gave none


class JudgePart(TypedDict):
    """What a judge of answers said; it stands beside the verdict."""

    judge: str  # the model that was asked
    text: str  # its verdict in words, complete sentences
    is_assessable: bool  # False: not trusted, or too few rows were judged
    prefers_tuned: bool | None  # None: the rows do not decide
    trust_note: str  # how it did where the right answer is known; "" where it was not measured
    num_judged: int
    counts: dict[str, int]  # rows by "win", "tie", "loss", "unreadable", "unanswered"
    num_inconsistent: int  # judged rows of which the two orders said different things
    win_rate: Estimate | None  # ties half; None where no row was judged
    baseline: str  # what the answers were compared with, as `ModelScores.name`
    samples: list[JudgeSample]  # losses first


class TrainingPart(TypedDict):
    """How the training went."""

    method: str  # "lora", "qlora", "full"
    losses: list[float]  # of step 1, 2, ...
    validation: list[tuple[int, float]]  # (steps done, loss)
    steps: int
    best_step: int  # steps done by the weights that were kept
    stopped_early: bool
    num_trainable_parameters: int
    num_parameters: int
    num_supervised_tokens: int
    tokens_per_second: float
    peak_memory_bytes: int


class Sample(TypedDict):
    """One row shown as an example."""

    input: str
    target: str
    reason: str  # why it was rejected; "" for a kept one


class ClassCount(TypedDict):
    """Synthetic rows of one label."""

    label: str
    generated: int
    kept: int


class VariationRow(TypedDict):
    """What was planned for one value of one attribute, and what came of it."""

    attribute: str  # "length", "style", ...
    value: str
    asked: int
    written: int
    kept: int
    median_words: int  # of the kept rows; 0 without any


class QualityPart(TypedDict):
    """How the quality classifier did on seeds that it had not seen."""

    num_seeds: int
    is_advisory: bool  # it ranked rows and dropped none
    auc: Estimate
    auc_by_fault: dict[str, float]  # seeds against one kind of made-up bad rows each
    roc: list[tuple[float, float]]  # (share of bad rows kept, share of good rows kept)


class SpotCheckPart(TypedDict):
    """The sample for a person, and what the person said."""

    decision: str  # "approved", "rejected" (of some rows), or "" where nobody was asked
    by: str
    time: str  # RFC 3339
    num_sampled: int
    num_rejected: int
    num_alike: int  # rows that left because they are like rejected ones
    classifier_note: str  # what the quality classifier made of the verdicts; "" where of none
    rows: list[Sample]  # of the sample, rejected ones first; the reason is the verdict


class ReviewRow(TypedDict):
    """A row that a person looks at."""

    id: str  # as the commands take it
    cells: list[str]  # in the order of the page's columns


class ReviewPage(TypedDict):
    """The sample of a spot check, before anybody has decided."""

    job: str
    task: str
    description: str
    run_key: str
    num_rows: int  # synthetic rows, of which these are a sample
    columns: list[str]  # beside the row's id
    rows: list[ReviewRow]


class FunnelRow(TypedDict):
    """What one filter of synthetic rows did."""

    name: str
    seen: int  # rows that came to it
    passed: int
    rejected_samples: list[Sample]  # the first few


class Measure(TypedDict):
    """One property of the synthetic rows, beside the seeds'; values ready to be read."""

    name: str
    synthetic: str
    seeds: str  # "" where it has no meaning for seeds


class SynthesisPart(TypedDict):
    """What became of the rows that the teacher wrote."""

    strategy: str
    teacher: str
    num_requested: int  # rows wanted
    num_generated: int
    num_kept: int
    rejected: dict[str, int]  # rows by reason
    per_class: list[ClassCount]  # empty unless the task is classification
    analysis: list[Fact]  # what was read from the seeds; empty for strategies without
    gaps: list[str]  # what the seeds do not show, as sentences
    variation: list[VariationRow]
    funnel: list[FunnelRow]  # in the order in which rows meet the filters
    measures: list[Measure]
    filter_note: str  # whether the label-consistency filter was trusted, and why
    rationale_note: str  # how many training rows the teacher explained; "" where it was not asked
    kept_samples: list[Sample]
    rejected_samples: list[Sample]
    quality: QualityPart | None  # None where the seeds were too few to teach anything
    spot_check: SpotCheckPart | None


class BadRow(TypedDict):
    """A row of the user's files that could not be used."""

    file: str
    row: int
    reason: str


class DataPart(TypedDict):
    """The user's rows and where they went."""

    num_seed_rows: int
    num_train_rows: int  # without synthetic ones
    num_validation_rows: int
    num_test_rows: int
    num_duplicates: int
    num_conflicts: int
    bad_rows: list[BadRow]  # the first ones
    num_bad_rows: int
    notes: list[str]  # decisions of the split, in words


class StageTime(TypedDict):
    """How long one stage took."""

    name: str
    seconds: float


class Choice(TypedDict):
    """One resolved setting and why it is what it is."""

    setting: str
    value: str
    reason: str


class Fact(TypedDict):
    """A name and its value, both ready to be read."""

    name: str
    value: str


class ReportData(TypedDict):
    """Everything that the page shows."""

    job: str
    task: str
    model: str  # the base model as the manifest names it
    created_at: str  # ISO 8601, UTC
    run_key: str
    verdict: Verdict | None
    evaluation: Evaluation | None
    judge: JudgePart | None  # None in a job without one
    training: TrainingPart | None
    data: DataPart
    synthesis: SynthesisPart | None
    stages: list[StageTime]
    usage: list[Fact]  # what was used and paid: teacher requests, tokens, device time
    plan: list[Choice]
    warnings: list[str]
    lineage: list[Fact]  # digests, versions, seeds
