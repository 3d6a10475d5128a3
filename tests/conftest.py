"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

# How long one example takes depends on what else the machine does; pytest's timeout guards hangs.
settings.register_profile("loam", deadline=None)
settings.load_profile("loam")


@pytest.fixture(scope="session")
def teacher_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an OpenAI-compatible server (llama.cpp) that runs the 270M model."""
    from tests.tools.teacher_server import assemble_model, serve_model

    log = tmp_path_factory.mktemp("teacher") / "server.log"
    with serve_model(assemble_model(), log) as base_url:
        yield base_url
