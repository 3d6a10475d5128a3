"""What Argo CD, Flux and kstatus make of a job, in every state that the operator can write.

Argo CD's check is run by Lua 5.1, the version of its own interpreter, and Flux's expressions by a
CEL library, in the order in which Flux evaluates them. Whoever waits for a job in GitOps goes by
these: a state that reads as healthy too early starts what depends on the adapter without it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cel
import pytest
import yaml
from lupa.lua51 import LuaRuntime

from loam_api.status import Attempt, FineTuneJobStatus
from loam_operator.states import STATES, STATES_BY_NAME, State
from loam_operator.status import build_patch, enter_state

GITOPS = Path(__file__).parents[3] / "docs" / "gitops"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
every_state = pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)

Job = dict[str, Any]


def build_job(state: State) -> Job:
    """A job as the API server holds it, in a state."""
    status = FineTuneJobStatus(observed_generation=2, attempts=[Attempt(number=1, step="run")])
    status = enter_state(status, state.name, NOW, "Something happened.")
    return {
        "apiVersion": "loam.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "job", "generation": 2},
        "spec": {},
        "status": build_patch({}, status),
    }


def name_expected(state: State) -> str:
    """The one word that the table of states gives."""
    if state.is_ready:
        return "ready"
    if state.is_stalled:
        return "failed"
    return "suspended" if state.is_suspended and not state.is_reconciling else "working"


# --- Argo CD -----------------------------------------------------------------------------------
def ask_argo(job: Job) -> tuple[str, str]:
    """Health and message by the Lua check that is shipped."""
    text = (GITOPS / "argocd-cm.yaml").read_text("utf-8")
    script = yaml.safe_load(text)["data"]["resource.customizations.health.loam.dev_FineTuneJob"]
    lua = LuaRuntime(register_eval=False)
    lua.globals().obj = lua.table_from(job, recursive=True)
    health = lua.execute(script)
    return health.status, health.message


@every_state
def test_argo_shows_every_state(state: State):
    """Degraded with what to do, and not Healthy before the adapter is there."""
    words = {
        "ready": "Healthy",
        "failed": "Degraded",
        "suspended": "Suspended",
        "working": "Progressing",
    }
    health, message = ask_argo(build_job(state))
    assert health == words[name_expected(state)]
    assert message.startswith(f"{state.name}: ")
    if state.is_stalled:
        assert "Something happened." in message


def test_argo_waits_for_a_job_that_is_new_or_changed():
    """The status speaks of an older manifest: a retried job would be Degraded before it began."""
    changed = build_job(STATES_BY_NAME["BadInput"])
    changed["metadata"]["generation"] += 1
    new = build_job(STATES_BY_NAME["Succeeded"])
    new.pop("status")
    assert [ask_argo(job)[0] for job in (changed, new)] == ["Progressing"] * 2


# --- Flux --------------------------------------------------------------------------------------
def ask_flux(job: Job) -> str:
    """InProgress, Failed or Current, by the shipped expressions and Flux's order."""
    status = job.get("status", {})
    if status.get("observedGeneration", 2) != job["metadata"]["generation"]:
        return "InProgress"
    text = (GITOPS / "flux-kustomization.yaml").read_text("utf-8")
    (check,) = yaml.safe_load(text)["spec"]["healthCheckExprs"]
    for name in ("inProgress", "failed", "current"):
        if cel.evaluate(check[name], job) is True:
            return name[0].upper() + name[1:]
    return "InProgress"


@every_state
def test_flux_shows_every_state(state: State):
    """A Kustomization that waits ends with the job, well or badly, and not before."""
    words = {
        "ready": "Current",
        "failed": "Failed",
        "suspended": "Current",
        "working": "InProgress",
    }
    assert ask_flux(build_job(state)) == words[name_expected(state)]


def test_flux_waits_for_a_job_that_is_new_or_changed():
    """With an empty status it is in progress; without one the expressions cannot be evaluated,
    which Flux shows as unknown and looks again."""
    changed = build_job(STATES_BY_NAME["BadInput"])
    changed["metadata"]["generation"] += 1
    assert ask_flux(changed) == "InProgress"
    new = build_job(STATES_BY_NAME["Succeeded"])
    new["status"] = {}
    assert ask_flux(new) == "InProgress"
    new.pop("status")
    with pytest.raises(RuntimeError, match="status"):
        ask_flux(new)


# --- kstatus -----------------------------------------------------------------------------------
def ask_kstatus(job: Job) -> str:
    """By the rules of kstatus for kinds that it does not know."""
    status = job["status"]
    if status["observedGeneration"] != job["metadata"]["generation"]:
        return "InProgress"
    values = {one["type"]: one["status"] for one in status["conditions"]}
    if values["Reconciling"] == "True":
        return "InProgress"
    if values["Stalled"] == "True":
        return "Failed"
    return "Current" if values["Ready"] == "True" else "InProgress"


@every_state
def test_kstatus_shows_every_state(state: State):
    """What `helm --wait`, kpt and others that know nothing of Loam conclude; to them a suspended
    job is still on its way."""
    words = {
        "ready": "Current",
        "failed": "Failed",
        "suspended": "InProgress",
        "working": "InProgress",
    }
    assert ask_kstatus(build_job(state)) == words[name_expected(state)]
