"""A real Prometheus, as `tools/prometheus.sh` puts it into the cache."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from tests.tools.processes import Processes, find_free_port

START_TIMEOUT_SECONDS = 60


def find_tool(name: str) -> str:
    """Path of prometheus or promtool: the cache's, or the system's.

    Raises:
        FileNotFoundError: it is not there.
    """
    cache = Path(os.environ.get("LOAM_CACHE", Path.home() / ".cache" / "loam"))
    cached = cache / "tools" / "prometheus" / "usr" / "bin" / name
    found = str(cached) if cached.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is missing: run tools/prometheus.sh")
    return found


def run_promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it, whatever comes of it."""
    command = [find_tool("promtool"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


class Prometheus:
    """Scrapes what it is told to, every second."""

    def __init__(self, folder: Path, jobs: list[dict[str, Any]]) -> None:
        """
        Args:
            folder: for its configuration and data.
            jobs: its `scrape_configs`.
        """
        self._folder = folder
        self.processes = Processes(folder / "logs")
        self._url = f"http://127.0.0.1:{find_free_port()}"
        every_second = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        self._config = {"global": every_second, "scrape_configs": jobs}

    def start(self) -> None:
        """Return once it answers."""
        config = self._folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(self._config))
        command = [
            find_tool("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address={self._url.removeprefix('http://')}",
            f"--web.console.templates={self._folder}",
            f"--web.console.libraries={self._folder}",
        ]
        self.processes.start("prometheus", command)
        self.processes.wait_until("prometheus", self._is_ready, START_TIMEOUT_SECONDS)

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{self._url}/-/ready", timeout=5).close()
            return True
        return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of an expression, now.

        Raises:
            ValueError: Prometheus does not understand it.
        """
        text = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/query?{text}", timeout=30) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{expression}: {error.read().decode()}") from error
        return found


@contextlib.contextmanager
def run_prometheus(folder: Path, jobs: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """A Prometheus that answers, until the block ends."""
    prometheus = Prometheus(folder, jobs)
    try:
        prometheus.start()
        yield prometheus
    finally:
        prometheus.processes.kill_all()
