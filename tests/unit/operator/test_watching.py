"""The watches, by the real kopf, on a server that breaks them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import kopf
import pytest
from aiohttp import web
from tests.unit.operator.api_server import ObjectServer

from loam_operator import watching
from loam_operator.cache import Cache, Key
from loam_operator.kinds import list_kinds
from loam_operator.observed import JobView, PodView
from loam_operator.watching import keep_swept, register, sweep, watch

JOB = {
    "apiVersion": "loam.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "late", "namespace": "team", "uid": "u", "resourceVersion": "2"},
    "spec": {},
}
# What an API server writes into a stream whose connection to etcd was cut; kopf gives up on it.
BROKEN = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "reason": "InternalError"}}


class BreakingServer:
    """Has the kinds of a cluster and lists no object; breaks the first watch of jobs, and tells of
    a job in the second."""

    def __init__(self) -> None:
        self.num_watches = 0
        self._is_closing = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response(describe(request.path))
        response = web.StreamResponse()
        await response.prepare(request)
        if request.path.endswith("/finetunejobs"):
            self.num_watches += 1
            is_first = self.num_watches == 1
            event: dict[str, Any] = BROKEN if is_first else {"type": "ADDED", "object": JOB}
            await response.write(json.dumps(event).encode() + b"\n")
        await self._is_closing.wait()
        return response

    async def start(self) -> tuple[web.AppRunner, int]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner, runner.addresses[0][1]

    def close(self) -> None:
        self._is_closing.set()


def describe(path: str) -> dict[str, Any]:
    """What it has under a path: groups, kinds of a version, or an empty list of objects."""
    versions: dict[str, list[dict[str, Any]]] = {}
    groups = []
    needed = [("coordination.k8s.io", "v1", "leases"), ("", "v1", "namespaces")]
    kinds = [(kind.group, kind.version, kind.plural) for kind in list_kinds(has_profiles=True)]
    for group, version, plural in [*kinds, *needed]:
        place = f"/apis/{group}/{version}" if group else f"/api/{version}"
        groups.append({"name": group, "versions": [{"version": version}]})
        versions.setdefault(place, []).append(
            {
                "name": plural,
                "kind": plural.removesuffix("s").title(),
                "singularName": plural.removesuffix("s"),
                "namespaced": plural not in ("finetuneprofiles", "namespaces"),
                "verbs": ["list", "watch", "patch"],
            }
        )
    if path == "/api":
        return {"versions": ["v1"]}
    if path == "/apis":
        known = {one["name"]: {**one, "preferredVersion": one["versions"][0]} for one in groups}
        return {"groups": [one for name, one in known.items() if name]}
    if path in versions:
        return {"resources": versions[path]}
    return {"items": [], "metadata": {"resourceVersion": "1"}}


async def hear_after_break(folder: Path) -> tuple[Key, int]:
    """The first job that is heard of, and how many watches of jobs it took."""
    server = BreakingServer()
    runner, port = await server.start()
    write_kubeconfig(folder / "kubeconfig", port)
    heard: asyncio.Queue[Key] = asyncio.Queue()
    registry = kopf.OperatorRegistry()
    cache = Cache()
    register(registry, cache, heard.put_nowait, lambda: None, has_profiles=True)
    stop = asyncio.Event()
    begun = asyncio.Event()
    watches = asyncio.create_task(watch(registry, "operator-0", [], stop, begun))
    try:
        key = await asyncio.wait_for(heard.get(), 60)
        assert begun.is_set()
        return key, server.num_watches
    finally:
        stop.set()
        await watches
        server.close()
        await runner.cleanup()


def write_kubeconfig(path: Path, port: int) -> None:
    document = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "test", "user": {"token": "none"}}],
    }
    path.write_text(json.dumps(document), encoding="utf-8")


def test_a_broken_stream_is_followed_by_new_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An error in the middle of one stream ends all of kopf: the operator would hear of no job any
    more, or end where no kubelet starts it again at once."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr(watching, "RESTART_SECONDS", 0.01)
    key, num_watches = asyncio.run(hear_after_break(tmp_path))
    assert (key, num_watches) == (Key("team", "late"), 2)


def test_what_was_deleted_unheard_is_forgotten():
    """A watch that begins anew lists what is there and is silent about what is not: a pod that went
    in the gap would hold its GPUs, by our figures, until the operator is restarted. What has come
    while the lists were read is not gone."""
    cache, kept, gone = Cache(), Key("team", "kept"), Key("team", "gone")

    class Server(ObjectServer):
        async def answer(self, request: web.Request) -> web.Response:
            cache.put_pod(kept, PodView("new", "uid-new", "head", 2))
            return await super().answer(request)

    server = Server()
    server.add("/apis/loam.dev/v1alpha1/namespaces/team/finetunejobs", name="kept", uid="uid-kept")
    server.add("/api/v1/namespaces/team/pods", name="p1", uid="uid-p1")
    for key in (kept, gone):
        cache.put_job(JobView(*key, f"uid-{key.name}", 1, "1", status={"phase": "Succeeded"}))
    for number in (1, 2):
        cache.put_pod(kept, PodView(f"p{number}", f"uid-p{number}", "head", 1, gpus=1))

    async def scenario() -> list[Key]:
        async with server.serve() as api:
            return await sweep(api, cache, ("team",))

    assert asyncio.run(scenario()) == [kept, gone]
    assert {pod.name for pod in cache.observe(kept).pods} == {"p1", "new"}
    assert cache.observe(gone) is None
    assert asyncio.run(scenario()) == [kept]  # of the pod that the server never had


def test_deletions_are_looked_for_when_watches_begin(monkeypatch: pytest.MonkeyPatch):
    """A head pod that goes between the operator's own first look and kopf's list of pods is in no
    event: its job would wait for it until the next sweep, five minutes in which its GPUs idle."""
    monkeypatch.setattr(watching, "FIRST_SWEEP_SECONDS", 3600)
    cache, key = Cache(), Key("team", "kept")
    cache.put_job(JobView(*key, "uid-kept", 1, "1", status={}))
    cache.put_pod(key, PodView("head", "uid-head", "head", 1))

    async def scenario() -> None:
        server, begun = ObjectServer(), asyncio.Event()
        jobs = "/apis/loam.dev/v1alpha1/namespaces/team/finetunejobs"
        server.add(jobs, name="kept", uid="uid-kept")
        heard: asyncio.Queue[Key] = asyncio.Queue()
        async with server.serve() as api:
            sweeps = asyncio.create_task(keep_swept(api, cache, ("team",), heard.put_nowait, begun))
            await asyncio.sleep(0)  # it waits by now, as between two late sweeps
            monkeypatch.setattr(watching, "FIRST_SWEEP_SECONDS", 0.01)
            begun.set()
            assert await asyncio.wait_for(heard.get(), 60) == key
            sweeps.cancel()

    asyncio.run(scenario())
    assert not cache.observe(key).pods
