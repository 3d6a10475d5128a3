"""Training rows as tokens: the seeds with the synthetic rows, and the validation rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loam_runtime.data.examples import iterate_examples
from loam_runtime.data.prompt import PromptContract, build_contract
from loam_runtime.data.tables import read_table
from loam_runtime.data.template import EncodedExample, encode_example, encode_rationale

if TYPE_CHECKING:
    from datasets import Dataset

    from loam_api.finetunejob import FineTuneJobSpec
    from loam_runtime.steps.context import JobContext


@dataclass(frozen=True, slots=True)
class JobTables:
    """The tables that earlier steps left; None where a job has no such rows."""

    train: Dataset
    synthetic: Dataset | None
    validation: Dataset | None
    test: Dataset | None


def read_tables(split: Path, synthetic: Path | None) -> JobTables:
    """Read the tables from the folders of the split and synthesis steps."""

    def read(folder: Path | None, name: str) -> Dataset | None:
        path = folder / "data" / f"{name}.parquet" if folder else None
        return read_table(path) if path and path.exists() else None

    return JobTables(
        read_table(split / "data" / "train.parquet"),
        read(synthetic, "synthetic"),
        read(split, "validation"),
        read(split, "test"),
    )


def build_job_contract(context: JobContext, tables: JobTables) -> PromptContract:
    """The job's one prompt contract; its labels are those of the training rows."""
    return build_contract(context.job.spec.data, tables.train["target"], context.tokenizer)


def encode_rows(
    context: JobContext,
    contract: PromptContract,
    table: Dataset | None,
    max_length: int,
    *,
    explains: bool,
) -> Iterator[EncodedExample]:
    """The rows of a table in tokens; those that the length policy drops are left out.


    Args:
        max_length: most tokens of a row; 0 for no limit.
        explains: each row is followed by its rationale, where it has one.
    """
    policy = context.job.spec.training.on_too_long
    for example in iterate_examples(table) if table is not None else ():
        encoded = encode_example(contract, context.tokenizer, example, max_length, policy)
        if encoded:
            yield encoded
        if encoded and explains:
            told = encode_rationale(contract, context.tokenizer, example, max_length, policy)
            yield from [told] if told else []


def learns_rationales(spec: FineTuneJobSpec) -> bool:
    """Whether rationales are taught beside answers."""
    asked = spec.training.rationale
    bought = spec.synthesis is not None and spec.synthesis.strategy == "rationale"
    return asked == "multiTask" or (asked == "auto" and bought)
