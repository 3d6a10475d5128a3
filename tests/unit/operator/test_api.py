"""The operator's requests: what leaves the process, and when."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.operator.api_server import ObjectServer

from loam_operator.api import ApiError

MAPS = "/api/v1/namespaces/team/configmaps"


def test_without_the_lease_nothing_is_written():
    """A process that was stopped in the middle of a pass, and goes on when another one leads, has
    left its own questions behind it: what it then sends is decided at the socket."""

    async def scenario() -> ObjectServer:
        server = ObjectServer()
        server.add(MAPS, name="there")
        is_held = True
        async with server.serve(lambda: is_held) as api:
            await api.create(MAPS, {"metadata": {"name": "first"}})
            is_held = False
            for write in (
                api.create(MAPS, {"metadata": {"name": "second"}}),
                api.patch(f"{MAPS}/there", {"data": {"a": "b"}}),
                api.delete(f"{MAPS}/there"),
                api.delete(MAPS, labelSelector="a=b"),
            ):
                with pytest.raises(ApiError, match="the lease is lost"):
                    await write
            assert await api.find(f"{MAPS}/there")
        return server

    server = asyncio.run(scenario())
    assert set(server.objects) == {f"{MAPS}/first", f"{MAPS}/there"}
    assert server.deleted == []
