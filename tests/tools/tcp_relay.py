"""What the proxies of the tests share: a port that is listened on, a thread for each connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator


class TcpRelay(ABC):
    """Listens on a free port of this machine.

    Args:
        upstream: the server's host and port.

    Attributes:
        port: to connect to.
    """

    def __init__(self, upstream: tuple[str, int], address: str = "127.0.0.1") -> None:
        self._upstream = upstream
        self._listener = socket.create_server((address, 0))
        self.port: int = self._listener.getsockname()[1]

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def close(self) -> None:
        # shutdown wakes the thread that waits in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Relay in a thread until the block ends."""
        thread = threading.Thread(target=self._serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.close()
            thread.join()

    @abstractmethod
    def _relay(self, client: socket.socket) -> None:
        """Serve one connection to its end."""
