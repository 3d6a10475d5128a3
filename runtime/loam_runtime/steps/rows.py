"""Training rows as tokens: the seeds with the synthetic rows, and the validation rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from loam_runtime.data.examples import iterate_examples, to_dataset
from loam_runtime.data.export import read_json_lines, write_json_lines
from loam_runtime.data.prompt import PromptContract, build_contract
from loam_runtime.data.tables import read_table
from loam_runtime.data.template import (
    EncodedExample,
    encode_example,
    encode_rationale,
    encode_reasoning,
)

if TYPE_CHECKING:
    from datasets import Dataset

    from loam_runtime.steps.context import JobContext


RATIONALES_FILE = "data/rationales.jsonl"  # of training rows, by the row's id
# What the quality classifier learnt from, so that a review can fit it again.
WRONG_ANSWERS_FILE = "rejected/wrong_answers.jsonl"


@dataclass(frozen=True, slots=True)
class JobTables:
    """The tables that earlier steps left; None where a job has no such rows."""

    train: Dataset
    synthetic: Dataset | None
    validation: Dataset | None
    test: Dataset | None

    @property
    def has_rationales(self) -> bool:
        """Whether any training row has one."""
        parts = (self.train, self.synthetic)
        return any(any(table["rationale"]) for table in parts if table is not None)


def read_tables(split: Path, synthetic: Path | None) -> JobTables:
    """Read the tables from the folders of the split and synthesis steps.

    Training rows carry the rationales that the synthesis bought for them.
    """

    def read(folder: Path | None, name: str) -> Dataset | None:
        path = folder / "data" / f"{name}.parquet" if folder else None
        return read_table(path) if path and path.exists() else None

    train = read_table(split / "data" / "train.parquet")
    return JobTables(
        _add_rationales(train, synthetic / RATIONALES_FILE) if synthetic else train,
        read(synthetic, "synthetic"),
        read(split, "validation"),
        read(split, "test"),
    )


def write_rationales(rationales: Mapping[str, str], out: Path) -> None:
    """Write `RATIONALES_FILE`."""
    records = [{"id": name, "rationale": text} for name, text in rationales.items()]
    write_json_lines(records, out / RATIONALES_FILE)


def write_wrong_answers(answers: Mapping[str, str], out: Path) -> None:
    """Write `WRONG_ANSWERS_FILE`: wrong answers to training rows, by the row's id."""
    records = [{"id": name, "wrong_answer": text} for name, text in answers.items()]
    write_json_lines(records, out / WRONG_ANSWERS_FILE)


def read_wrong_answers(folder: Path) -> dict[str, str]:
    """What `write_wrong_answers` wrote; empty where there was nothing to write."""
    path = folder / WRONG_ANSWERS_FILE
    records = read_json_lines(path) if path.exists() else []
    return {record["id"]: record["wrong_answer"] for record in records}


def add_rationales(table: Dataset, rationales: Mapping[str, str]) -> Dataset:
    """The rows, those without a rationale of their own with the one of their id."""
    return to_dataset(
        replace(row, rationale=row.rationale or rationales.get(row.id, ""))
        for row in iterate_examples(table)
    )


def _add_rationales(table: Dataset, path: Path) -> Dataset:
    if not path.exists():
        return table
    return add_rationales(table, {it["id"]: it["rationale"] for it in read_json_lines(path)})


def build_job_contract(context: JobContext, tables: JobTables) -> PromptContract:
    """The job's one prompt contract; its labels are those of the training rows."""
    return build_contract(context.job.spec.data, tables.train["target"], context.tokenizer)


def build_training_contract(context: JobContext, tables: JobTables) -> PromptContract:
    """The contract that is trained and published: with room for rationales that come first."""
    contract = build_job_contract(context, tables)
    if context.job.spec.rationale_form != "prefix":
        return contract
    first = replace(contract, rationale_tokens=1)
    parts = [table for table in (tables.train, tables.synthetic) if table is not None]
    lengths = [
        len(encode_reasoning(first, context.tokenizer, text))
        for table in parts
        for text in table["rationale"]
        if text
    ]
    return replace(contract, rationale_tokens=max(lengths, default=0))


def encode_rows(
    context: JobContext,
    contract: PromptContract,
    table: Dataset | None,
    max_length: int,
    *,
    explains: bool = False,
) -> Iterator[EncodedExample]:
    """The rows of a table in tokens; those that the length policy drops are left out.


    Args:
        max_length: most tokens of a row; 0 for no limit.
        explains: each row is followed by its rationale, where it has one, as a task of its own.
    """
    policy = context.job.spec.training.on_too_long
    for example in iterate_examples(table) if table is not None else ():
        encoded = encode_example(contract, context.tokenizer, example, max_length, policy)
        if encoded:
            yield encoded
        if encoded and explains:
            told = encode_rationale(contract, context.tokenizer, example, max_length, policy)
            yield from [told] if told else []
