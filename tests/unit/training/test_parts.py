"""Small parts of training: rows on disk, the learning rate, early stopping."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from tests.tools.tiny_job import write_job
from tests.tools.training_tools import make_config

from loam_runtime.data.examples import Example, to_dataset
from loam_runtime.data.template import EncodedExample
from loam_runtime.errors import InputError
from loam_runtime.manifest import load_manifest
from loam_runtime.sources import Sources
from loam_runtime.steps.context import JobContext
from loam_runtime.steps.rows import JobTables, build_job_contract
from loam_runtime.steps.train import _write_rows
from loam_runtime.training.config import TrainConfig
from loam_runtime.training.early_stopping import EarlyStopping
from loam_runtime.training.rows import measure_lengths, read_encoded, write_encoded
from loam_runtime.training.schedule import build_optimizer, compute_learning_rate

encoded = st.builds(
    EncodedExample,
    id=st.text(max_size=8).filter(lambda text: text.isprintable()),
    input_ids=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=9).map(tuple),
    num_prompt_tokens=st.integers(1, 9),
)


@given(rows=st.lists(encoded, max_size=20))
def test_rows_come_back_from_disk(rows, tmp_path_factory):
    """What the workers read is what was encoded, in the same order."""
    path = tmp_path_factory.mktemp("rows") / "rows.arrow"
    write_encoded(rows, path)
    stored = read_encoded(path)
    assert list(stored) == rows
    assert measure_lengths(stored) == measure_lengths(rows)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("drop", {"real": 2, "synthetic": 1, "validation": 1, "dropped": 4, "truncated": 0}),
        ("truncate", {"real": 3, "synthetic": 2, "validation": 1, "dropped": 2, "truncated": 2}),
    ],
)
def test_rows_that_are_too_long_are_counted(tmp_path, policy: str, expected: dict[str, int]):
    """What a length costs is known by kind: a model card that took all synthetic rows off what
    was trained on told of fewer real rows than there were, down to less than none."""
    manifest = write_job(
        tmp_path,
        data={"task": "generation", "seeds": {"uri": "file://./seeds.jsonl"}},
        training={"onTooLong": policy},
    )
    context = JobContext(
        load_manifest(manifest), tmp_path, Sources(tmp_path / "model", {}, {}), None, "", tmp_path
    )
    short, long_input, long_answer = ("one", "two"), ("word " * 200, "two"), ("one", "word " * 200)
    tables = JobTables(
        _make_table(short, short, long_input),
        _make_table(short, long_input, long_answer),
        _make_table(short, long_answer),
        None,
    )
    counts = _write_rows(context, build_job_contract(context, tables), tables, 64)
    assert counts == {"train": expected["real"] + expected["synthetic"], **expected}
    assert len(read_encoded(tmp_path / "rows" / "train.arrow")) == counts["train"]


def _make_table(*pairs: tuple[str, str]) -> Dataset:
    return to_dataset(
        Example(id=str(number), input=text, target=answer)
        for number, (text, answer) in enumerate(pairs)
    )


def test_row_out_of_range_is_an_index_error(tmp_path):
    """Python's own iteration and sampling rely on it; Arrow would answer from the end."""
    write_encoded([EncodedExample("a", (1, 2), 1)], tmp_path / "rows.arrow")
    for index in (-1, 1):
        with pytest.raises(IndexError):
            read_encoded(tmp_path / "rows.arrow")[index]


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_learning_rate_rises_and_falls(decay):
    """Never 0 in a step that is taken, the peak right after the warm-up, near 0 at the end."""
    config = make_config(learning_rate=1.0, warmup=0.2, decay=decay)
    rates = [compute_learning_rate(step, 20, config) for step in range(20)]
    assert rates.index(max(rates)) == 4
    assert max(rates) == 1.0
    assert rates[:5] == sorted(rates[:5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 0.1


def test_one_step_has_a_learning_rate():
    """A run of a single step must train at all."""
    assert compute_learning_rate(0, 1, make_config(learning_rate=1.0)) == 1.0


def test_allocating_moments_moves_no_weight():
    """The optimizer takes a step of nothing to have its memory; negative zeros are kept too."""
    weight = torch.nn.Parameter(torch.tensor([1.0, -0.0, 1e-30]))
    before = weight.detach().clone()
    optimizer = build_optimizer({"weight": weight}, make_config())
    assert torch.equal(weight.view(torch.int32), before.view(torch.int32))
    assert optimizer.state[weight]["step"] == 0
    assert not optimizer.state[weight]["exp_avg"].any()


def test_early_stopping_counts_failures_in_a_row():
    """An improvement starts the count anew; an equal loss is none."""
    stopping = EarlyStopping(patience=2)
    seen = []
    for step, loss in enumerate([3.0, 4.0, 2.0, 2.0, 2.5], start=1):
        seen.append((stopping.record(step, loss), stopping.should_stop))
    assert seen == [(True, False), (False, False), (True, False), (False, False), (False, True)]
    assert stopping.best_step == 3


def test_without_patience_the_best_is_known_and_nothing_stops():
    """early_stopping off still returns the best weights."""
    stopping = EarlyStopping(patience=0)
    for step, loss in enumerate([1.0, 2.0, 3.0, 4.0], start=1):
        stopping.record(step, loss)
    assert not stopping.should_stop
    assert stopping.best_step == 1


def test_config_survives_json_and_refuses_nonsense():
    """It crosses processes, and a run of no step must not look finished."""
    config = make_config()
    assert TrainConfig.from_dict(config.to_dict()) == config
    for change in ({"max_steps": 0, "epochs": 0}, {"micro_batch": 0}, {"warmup": 1.0}):
        with pytest.raises(InputError):
            make_config(**change)
