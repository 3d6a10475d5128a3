"""The rows that every stage shares: one canonical example, and its Arrow table.

Whatever a file looks like, a row becomes an `Example`; a table is a `datasets.Dataset` with
exactly the columns of `FEATURES`, so that stages never meet a user's column names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datasets import Dataset, Features

Origin = Literal["seed", "synthetic"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One training or test row.

    Attributes:
        id: stable identity, from the content and its place in the files.
        input: the text the model is given (the last user turn of a chat); empty for plain text.
        target: what it shall answer: a label's name, a completion, or the whole plain text.
        context: earlier turns of a chat, oldest first.
        rejected: the refused answer of a preference row, else "".
        group: rows with the same non-empty group stay on one side of every split.
        origin: "seed" (given by the user) or "synthetic".
        source: file and row for messages to the user, e.g. "seeds.jsonl:17".
        rationale: why the target is the answer, step by step; "" where nobody wrote it down.
    """

    id: str
    input: str
    target: str
    context: tuple[Turn, ...] = ()
    rejected: str = ""
    group: str = ""
    origin: Origin = "seed"
    source: str = ""
    rationale: str = ""


def compute_example_id(input_text: str, target: str, salt: str = "") -> str:
    """Sixteen hex digits that identify a row by content (and `salt`, its place among equals)."""
    payload = "\x1f".join((input_text, target, salt))
    return hashlib.sha256(payload.encode("utf-8")).hexdigest()[:16]


def build_features() -> Features:
    """The Arrow schema of every table of examples."""
    from datasets import Features, Value
    from datasets import List as ListOf

    text = Value("string")
    turns = ListOf({"role": text, "content": text})
    names = ("id", "input", "target", "rejected", "group", "origin", "source", "rationale")
    return Features({**dict.fromkeys(names, text), "context": turns})


def to_dataset(examples: Iterable[Example]) -> Dataset:
    """A table with the columns of `Example`, in the given order."""
    import pyarrow as pa
    from datasets import Dataset

    features = build_features()
    rows = list(examples)
    columns = {name: [getattr(example, name) for example in rows] for name in features}
    columns["context"] = [list(map(asdict, turns)) for turns in columns["context"]]
    return Dataset(pa.Table.from_pydict(columns, schema=features.arrow_schema))


def iterate_examples(dataset: Dataset) -> Iterator[Example]:
    """The rows of a table of examples, in order."""
    for batch in dataset.iter(batch_size=1000):  # row by row takes ten times as long
        for values in zip(*batch.values(), strict=True):
            row = dict(zip(batch, values, strict=True))
            turns = tuple(Turn(turn["role"], turn["content"]) for turn in row["context"])
            yield Example(**{**row, "context": turns})
