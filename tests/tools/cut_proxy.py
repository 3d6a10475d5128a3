"""A TCP proxy that knows nothing of what passes, and cuts or freezes it: a network that fails.

What a load balancer does in front of an API server: it closes connections that it has had enough
of, or forgets them without a word, and both ends wait.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.tools.tcp_relay import TcpRelay

CHUNK_BYTES = 1 << 16


@dataclass(eq=False)
class _Link:
    """One connection through the proxy.

    Attributes:
        asked_at: when its client last sent something.
    """

    client: socket.socket
    server: socket.socket
    asked_at: float = field(default_factory=time.monotonic)
    is_frozen: bool = False

    def close(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class CutProxy(TcpRelay):
    """Relays a free port of this machine to another one."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        super().__init__(upstream)
        self._links: set[_Link] = set()
        self._lock = threading.Lock()

    def cut(self) -> int:
        """Close all connections; how many there were."""
        links = self._list_links()
        for link in links:
            link.close()
        return len(links)

    def freeze_watches(self, silent_seconds: float) -> None:
        """Pass on no byte any more, and close nothing, where the client has long only listened.

        New connections are none of it, nor are those that are busy.
        """
        now = time.monotonic()
        for link in self._list_links():
            if now - link.asked_at > silent_seconds:
                link.is_frozen = True

    def close(self) -> None:
        super().close()
        self.cut()

    def _list_links(self) -> list[_Link]:
        with self._lock:
            return list(self._links)

    def _relay(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            server = socket.create_connection(self._upstream)
            link = _Link(client, server)
            with self._lock:
                self._links.add(link)
            with server:
                _pump(link)
            with self._lock:
                self._links.discard(link)


def _pump(link: _Link) -> None:
    """Both ways until one end closes."""
    with selectors.DefaultSelector() as selector:
        for source, target in ((link.client, link.server), (link.server, link.client)):
            selector.register(source, selectors.EVENT_READ, target)
        while True:
            for key, _ in selector.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                chunk = _receive(source)
                if not chunk:
                    return
                if link.is_frozen:
                    continue
                if source is link.client:
                    link.asked_at = time.monotonic()
                with contextlib.suppress(OSError):
                    key.data.sendall(chunk)


def _receive(source: socket.socket) -> bytes:
    """The next bytes; none where the other end has closed, however."""
    try:
        return source.recv(CHUNK_BYTES)
    except OSError:
        return b""


@contextlib.contextmanager
def run_cut_proxy(url: str) -> Iterator[CutProxy]:
    """A proxy to the server of this address, until the block ends."""
    host, port = url.rpartition("/")[2].split(":")
    proxy = CutProxy((host, int(port)))
    with proxy.running():
        yield proxy
