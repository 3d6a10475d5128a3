"""A server that keeps objects as an API server does, as far as the operator's requests go."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web
from kubernetes.aio import client

from loam_operator.api import Api, build_guard


class ObjectServer:
    """Creates, reads, lists and deletes whatever it is given.

    Attributes:
        objects: by path.
        refused: plurals that it refuses to create.
        deleted: paths of the requests to delete.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.refused: set[str] = set()
        self.deleted: list[str] = []

    def add(self, path: str, **metadata: Any) -> None:
        """An object in the folder `path`."""
        place = f"{path}/{metadata['name']}"
        self.objects[place] = {"metadata": {"resourceVersion": "1", **metadata}}

    async def answer(self, request: web.Request) -> web.Response:
        path = request.path
        if request.method == "POST":
            return self._create(path, await request.json())
        if request.method == "DELETE":
            self.deleted.append(path)
            return web.json_response({})
        if path in self.objects:
            return web.json_response(self.objects[path])
        found = [one for place, one in self.objects.items() if place.rpartition("/")[0] == path]
        if not found and path.count("/") > 6:
            return web.json_response({"reason": "NotFound"}, status=404)
        is_short = "PartialObjectMetadataList" in request.headers.get("Accept", "")
        return web.json_response({"items": found or (None if is_short else []), "metadata": {}})

    def _create(self, path: str, body: dict[str, Any]) -> web.Response:
        place = f"{path}/{body['metadata']['name']}"
        if place in self.objects:
            return web.json_response({"reason": "AlreadyExists"}, status=409)
        if path.rpartition("/")[2] in self.refused:
            return web.json_response({"reason": "Forbidden"}, status=403)
        if body.get("kind") == "RoleBinding" and not self._has_role(path, body["roleRef"]["name"]):
            return web.json_response({"reason": "NotFound"}, status=404)
        body["metadata"] |= {"uid": f"uid-{place}", "resourceVersion": "1"}
        self.objects[place] = body
        return web.json_response(body)

    def _has_role(self, path: str, name: str) -> bool:
        return f"{path.replace('rolebindings', 'roles')}/{name}" in self.objects

    @contextlib.asynccontextmanager
    async def serve(self, may_write: Callable[[], bool] = lambda: True) -> AsyncIterator[Api]:
        """Serve while the block runs; gives the operator's own connection to it."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        configuration = client.Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
        configuration.trace_configs = [build_guard(may_write)]
        try:
            async with client.ApiClient(configuration) as connection:
                yield Api(connection)
        finally:
            await runner.cleanup()
