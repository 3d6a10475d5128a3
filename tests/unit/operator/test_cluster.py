"""What the operator creates and deletes, and what it takes for its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.operator.api_server import ObjectServer
from tests.unit.operator.world import SPEC

from loam_operator.cluster import ApiCluster
from loam_operator.decision import Launch
from loam_operator.observed import JobView
from loam_operator.settings import read_settings
from loam_operator.worker import ConflictError, RefusedError, TakenError

JOB = JobView("team", "job", "uid-new", 1, "1", spec=SPEC)
SETTINGS = read_settings({"LOAM_RUNTIME_IMAGE": "registry.example/runtime:1"})
MAPS = "/api/v1/namespaces/team/configmaps"


def make_owner(kind: str, name: str) -> dict[str, Any]:
    group = "loam.dev/v1alpha1" if kind == "FineTuneJob" else "apps/v1"
    return {"apiVersion": group, "kind": kind, "name": name, "uid": "uid-old", "controller": True}


@pytest.mark.parametrize(
    ("owners", "error"),
    [
        ([make_owner("FineTuneJob", "job")], ConflictError),
        ([make_owner("FineTuneJob", "another")], TakenError),
        ([make_owner("ReplicaSet", "job")], TakenError),
        ([], TakenError),
    ],
)
def test_children_of_an_earlier_job_of_this_name_are_waited_for(
    owners: list[dict[str, Any]],
    error: type[Exception],
):
    """Deleted in the background and applied again, a job finds the old one's objects before the
    garbage collector does. To ask for their deletion by hand, and stall, would be a false alarm in
    every pipeline that does this; what nobody deletes has to be named."""

    async def scenario() -> tuple[str, ...]:
        server = ObjectServer()
        server.add(MAPS, name="job-manifest", uid="m", ownerReferences=owners)
        async with server.serve() as api:
            cluster = ApiCluster(api, SETTINGS)
            with pytest.raises(error):
                await cluster.create_attempt(JOB, Launch("prepare", 1))
            return await cluster.find_conflicts(JOB, ("ConfigMap job-manifest",))

    conflicts = asyncio.run(scenario())
    assert bool(conflicts) == (error is TakenError)


def test_no_child_is_there_without_a_config_map():
    """By the ConfigMaps alone is it seen that an ended job has children to be deleted: rights that
    came to be before a refused ConfigMap, or outlive it, would stay as long as the job."""

    async def scenario() -> ObjectServer:
        server = ObjectServer()
        server.refused = {"configmaps"}
        async with server.serve() as api:
            cluster = ApiCluster(api, SETTINGS)
            with pytest.raises(RefusedError):
                await cluster.create_attempt(JOB, Launch("prepare", 1))
            assert not server.objects
            server.refused = set()
            await cluster.create_attempt(JOB, Launch("prepare", 1))
            await cluster.delete_access(JOB)
        return server

    server = asyncio.run(scenario())
    kinds = {place.split("/")[-2] for place in server.objects}
    assert kinds - {"rayjobs"} == {path.rpartition("/")[2] for path in server.deleted}
    assert server.deleted[-1] == MAPS


@pytest.mark.parametrize("forged", [{"data": {"job.yaml": "another"}}, {}])
def test_a_manifest_that_can_be_changed_is_not_the_jobs(forged: dict[str, Any]):
    """Who may write ConfigMaps, and knows the job's UID, can make one that looks like the job's: a
    manifest that was taken on trust would get round the profile's teachers, outputs and budget."""

    async def scenario() -> list[str]:
        server = ObjectServer()
        owner = {**make_owner("FineTuneJob", "job"), "uid": JOB.uid}
        server.add(MAPS, name="job-manifest", uid="m", ownerReferences=[owner])
        server.objects[f"{MAPS}/job-manifest"] |= forged
        async with server.serve() as api:
            with pytest.raises(ConflictError):
                await ApiCluster(api, SETTINGS).create_attempt(JOB, Launch("prepare", 1))
        return server.deleted

    assert asyncio.run(scenario()) == [MAPS]
