"""Seed examples in any of the usual shapes, as the rows that the stages share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from loam_api.finetunejob import DataSource, DataSpec
from loam_runtime.data.examples import Example, iterate_examples
from loam_runtime.data.files import RawRow
from loam_runtime.data.formats import ALIASES, JOINED_BEFORE, detect_layout
from loam_runtime.data.rows import RowError, build_example
from loam_runtime.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

NAME = "seed_examples"
MAX_LABEL_WORDS = 5


def describe_data(task: str, description: str = "") -> DataSpec:
    """The data block of a job for rows that are already in memory."""
    return DataSpec(seeds=DataSource(uri=f"file://{NAME}"), task=task, description=description)


def read_seeds(dataset: Dataset, task: str = "") -> tuple[list[Example], str]:
    """The rows of a table, and their task.

    Args:
        task: as `data.task` of a manifest; "" goes by the columns.
        dataset: columns text and label, prompt and completion, question and answer (with or
            without context), chat messages, text alone, or those of `Example`.

    Raises:
        InputError: no rows, columns that fit no shape, or a row that cannot be used.
    """
    if len(dataset) == 0:
        raise InputError("seed_examples holds no rows.", remedy="Give at least one example.")
    columns = set(dataset.column_names)
    if {"id", "input", "target", "context", "origin"} <= columns:
        examples = list(iterate_examples(dataset))
        return examples, task or _guess_task_of_rows(examples)
    task = task or _guess_task(columns)
    is_classification = task == "classification"
    layout = detect_layout(columns, describe_data(task), NAME)
    examples = []
    for number, values in enumerate(_iterate_rows(dataset), start=1):
        try:
            raw = RawRow(file=NAME, row=number, values=values)
            examples.append(build_example(raw, layout, is_label=is_classification, origin="seed"))
        except RowError as exc:
            raise InputError(
                f"{NAME} row {number} cannot be used: {exc}.", remedy="Correct or drop the row."
            ) from exc
    return examples, task


def _guess_task(columns: set[str]) -> str:
    if not columns.isdisjoint(ALIASES["label"]):
        return "classification"
    if columns == {"text"}:
        return "text"
    if "summary" in columns:
        return "summarization"
    is_about_context = not columns.isdisjoint(JOINED_BEFORE) and "question" in columns
    return "extraction" if is_about_context else "generation"


def _guess_task_of_rows(examples: list[Example]) -> str:
    if _looks_like_labels([example.target for example in examples]):
        return "classification"
    return "generation" if any(example.input for example in examples) else "text"


def _iterate_rows(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """The rows, with the names of class labels in place of their numbers."""
    named = {
        name: feature for name, feature in dataset.features.items() if hasattr(feature, "int2str")
    }
    for row in dataset:
        yield {
            **row,
            **{name: feature.int2str(row[name]) for name, feature in named.items()},
        }


def _looks_like_labels(targets: list[str]) -> bool:
    """Whether targets repeat as labels do: short, and each at least twice on average."""
    is_short = all(len(target.split()) <= MAX_LABEL_WORDS for target in targets)
    return is_short and 2 * len(set(targets)) <= len(targets)
