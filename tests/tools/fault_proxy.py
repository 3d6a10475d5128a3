"""A TCP proxy before an HTTP server that does what networks do: drops, refuses, corrupts, heals.

It relays each connection to the real server, after its `Fault` had its way. A fault counts
what it does and stops after `times`, so that "fails N times, then heals" needs no clock.

A `Gate` in it stops whoever sends a certain request until the test lets him go on: a job is held
at a known point, and knows nothing of the test.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tests.tools.tcp_relay import TcpRelay

CHUNK_BYTES = 1 << 16
CONTINUE = b"HTTP/1.1 100 "
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Fault:
    """What goes wrong.

    Attributes:
        kind: "busy" answers 503; "drop_request" closes once `after_bytes` of a request passed;
            "drop_answer" lets the request through and closes in place of an answer;
            "cut_answer" closes once `after_bytes` of an answer passed; "flip_answer" flips a
            bit of the answer's last byte.
        times: how many connections it hits before all is well; -1 for ever.
        method: only requests of this HTTP method are hit.
        every: of these the first, and then one in so many.
        num_hits: how many it has hit.
    """

    kind: Literal["busy", "drop_request", "drop_answer", "cut_answer", "flip_answer"]
    times: int
    method: str
    after_bytes: int = 0
    every: int = 1
    num_hits: int = 0
    _num_seen: int = field(default=0, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take(self, head: bytes) -> bool:
        """Whether this connection is hit."""
        with self._lock:
            if not head.startswith(self.method.encode()) or self.num_hits == self.times:
                return False
            hit = self._num_seen % self.every == 0
            self._num_seen += 1
            self.num_hits += hit
            return hit


class Gate:
    """Holds back all requests whose first line matches.

    Attributes:
        reached: set as soon as somebody waits.

    Args:
        pattern: of a request's first line, such as r"PUT /bucket/.*/step-00000005/".
    """

    def __init__(self, pattern: str) -> None:
        self.reached = threading.Event()
        self._pattern = re.compile(pattern)
        self._is_open = threading.Event()

    def hold(self, head: bytes) -> bool:
        """Wait until the gate opens; whether this request was held back."""
        line = head.partition(b"\r\n")[0].decode(errors="replace")
        if self._is_open.is_set() or not self._pattern.match(line):
            return False
        self.reached.set()
        self._is_open.wait()
        return True

    def open(self) -> None:
        """Let all go on."""
        self._is_open.set()


class FaultProxy(TcpRelay):
    """Listens on a free port of this machine and relays to `upstream` ("http://host:port").

    Attributes:
        fault, gate: what is in the way, if anything.
        further_faults: others; a connection is hit by the first that takes it.
        num_answered_bytes: how much of its answers the server sent in all.
    """

    def __init__(self, upstream: str, address: str = "127.0.0.1") -> None:
        host, port = upstream.removeprefix("http://").split(":")
        super().__init__((host, int(port)), address)
        self.endpoint = f"http://{address}:{self.port}"
        self.fault: Fault | None = None
        self.further_faults: list[Fault] = []
        self.gate: Gate | None = None
        self.num_answered_bytes = 0
        self._lock = threading.Lock()

    def _relay(self, client: socket.socket) -> None:
        # One request a connection: the S3 server closes after each answer, as does every fault.
        with client, contextlib.suppress(OSError):
            head = client.recv(CHUNK_BYTES)
            if self.gate and self.gate.hold(head):
                # He asks again if he still lives; nothing is written in a dead one's name.
                return
            faults = [self.fault, *self.further_faults]
            fault = next((one for one in faults if one and one.take(head)), None)
            if fault and fault.kind == "busy":
                _answer_busy(client, head)
                return
            with socket.create_connection(self._upstream) as server:
                server.sendall(head)
                upload = threading.Thread(target=_pump_request, args=(client, server, fault))
                upload.start()
                num_bytes = _pump_answer(server, client, fault)
                with self._lock:
                    self.num_answered_bytes += num_bytes
                _shut(client)
                _shut(server)
                upload.join()


@contextlib.contextmanager
def run_fault_proxy(upstream: str, address: str = "127.0.0.1") -> Iterator[FaultProxy]:
    """A proxy that relays until the block ends."""
    proxy = FaultProxy(upstream, address)
    with proxy.running():
        try:
            yield proxy
        finally:
            if proxy.gate:
                proxy.gate.open()


def _answer_busy(client: socket.socket, head: bytes) -> None:
    """Answer 503 after the whole request: a client that still sends would see a reset instead."""
    header, _, body = head.partition(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in header.lower().split(b"\r\n")[1:])
    missing = int(fields.get(b"content-length", b"0")) - len(body)
    if b"expect" in fields:
        missing = 0
    while missing > 0 and (chunk := client.recv(CHUNK_BYTES)):
        missing -= len(chunk)
    client.sendall(BUSY)


def _pump_request(client: socket.socket, server: socket.socket, fault: Fault | None) -> None:
    num_bytes = 0
    with contextlib.suppress(OSError):
        while chunk := client.recv(CHUNK_BYTES):
            num_bytes += len(chunk)
            if fault and fault.kind == "drop_request" and num_bytes > fault.after_bytes:
                _shut(client)
                _shut(server)
                return
            server.sendall(chunk)


def _pump_answer(server: socket.socket, client: socket.socket, fault: Fault | None) -> int:
    """Pass an answer on, as far as the fault lets it; how many bytes of it came."""
    num_bytes = 0
    held = b""  # the latest chunk: whether it is the last one is known only with the next
    while chunk := server.recv(CHUNK_BYTES):
        if chunk.startswith(CONTINUE):  # asks for the request's body; the answer is yet to come
            client.sendall(chunk)
            continue
        num_bytes += len(chunk)
        if fault and fault.kind == "drop_answer":
            return num_bytes
        client.sendall(held)
        held = chunk
        if fault and fault.kind == "cut_answer" and num_bytes > fault.after_bytes:
            client.sendall(held[: len(held) - num_bytes + fault.after_bytes])
            return num_bytes
    if fault and fault.kind == "flip_answer":
        held = held[:-1] + bytes([held[-1] ^ 1])
    client.sendall(held)
    return num_bytes


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
