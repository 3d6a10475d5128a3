"""The tables are whole, and the documents say what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from loam_api.status import Phase
from loam_operator.failures import FAILURES, HEALING
from loam_operator.states import INITIAL_STATES, STATES, STATES_BY_NAME

ROOT = Path(__file__).parents[3]


def test_names_are_unique_and_fit_a_reason():
    """A reason is what programs read, and Kubernetes' own pattern for it is strict."""
    names = [state.name for state in STATES]
    assert len(names) == len(set(names))
    assert all(name.isalpha() and name[0].isupper() and len(name) <= 64 for name in names)


def test_every_followed_state_exists():
    for state in STATES:
        assert set(state.next_states) <= set(STATES_BY_NAME), state.name
    assert set(INITIAL_STATES) <= set(STATES_BY_NAME)


def test_every_state_can_be_reached_and_left_or_is_an_end():
    """A state that nothing leads to is a promise that the operator does not keep."""
    seen, todo = set(), list(INITIAL_STATES)
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += STATES_BY_NAME[name].next_states
    assert seen == set(STATES_BY_NAME)
    for state in STATES:
        assert state.next_states or state.is_terminal, state.name


def test_phases_are_the_apis():
    assert {state.phase for state in STATES} <= set(get_args(Phase))


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_conditions_make_sense_to_kstatus(state):
    """Ready while stalled, or working and stalled at once, would be read as either."""
    conditions = state.list_conditions()
    assert sum(conditions[kind] for kind in ("Ready", "Reconciling", "Stalled")) <= 1
    assert not (conditions["Complete"] and conditions["Failed"])
    assert conditions["Ready"] == conditions["Complete"]
    assert conditions["Failed"] <= conditions["Stalled"]


def test_every_failure_says_what_to_do():
    for failure in FAILURES:
        assert failure.remedy.endswith("."), failure.name
        assert failure.name in STATES_BY_NAME
        assert (failure.retry == "never") == (failure.most_retries == 0), failure.name
    for one in HEALING:
        assert not one.name or one.name in STATES_BY_NAME


def test_documents_are_fresh():
    """A table that was changed without `make crds` leaves a document that says something else."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "operator" / "write_docs.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
