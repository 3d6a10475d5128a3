"""Servers as child processes: their logs in one folder, ended in reverse order, by pid."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.tools.waiting import wait_until


class Processes:
    """The running servers of one test cluster.

    They die with the process that started them, so that a killed test run leaves none behind.
    """

    def __init__(self, log_folder: Path) -> None:
        log_folder.mkdir(parents=True, exist_ok=True)
        self._log_folder = log_folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str | Path], cwd: Path | None = None) -> None:
        """Start a server; a second start of one name goes on in its log."""
        with self.get_log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *map(str, command)],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the test run, which ends its servers in order.
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """End a server as a crash would; return when it is gone."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def kill_all(self) -> None:
        """End all servers, the latest first: their data goes with them."""
        for name in reversed(list(self._running)):
            self.kill(name)

    def wait_until(self, name: str, is_ready: Callable[[], bool], timeout_seconds: float) -> None:
        """Wait for a server.

        Raises:
            RuntimeError: it ended, or it was not ready in time; with the end of its log.
        """
        process = self._running[name]
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: is_ready() or process.poll() is not None, name, timeout_seconds)
            if process.poll() is None:
                return
        raise RuntimeError(f"{name} is not ready:\n{self.read_log(name)}")

    def get_pid(self, name: str) -> int:
        """Of a server that runs."""
        return self._running[name].pid

    def get_log(self, name: str) -> Path:
        """The file with all that a server has printed."""
        return self._log_folder / f"{name}.log"

    def read_log(self, name: str, num_lines: int = 40) -> str:
        """The last lines that a server has printed."""
        text = self.get_log(name).read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-num_lines:])

    def list_logs(self) -> list[str]:
        """Names of all servers that were ever started here."""
        return sorted(file.stem for file in self._log_folder.glob("*.log"))


def find_free_port() -> int:
    """A TCP port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
