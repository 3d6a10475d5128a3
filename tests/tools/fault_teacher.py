"""A scripted OpenAI-compatible teacher over real HTTP, for the faults a real one has.

A `script` decides what happens to each request from its question (the concatenated message
contents), how often that question has come before, and how many requests came before it.
Everything is counted on the server's side.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Call:
    """One request as the script sees it."""

    question: str
    attempt: int  # how often this very body came before
    number: int  # how many requests of any kind came before
    body: dict


@dataclass(frozen=True)
class Reply:
    """What the server does: an answer by default, or one of the faults."""

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False  # reset the connection
    hold: bool = False  # wait for `release` (or the client's end) before answering
    raw_body: str | None = None
    has_usage: bool = True
    finish_reason: str = "stop"


Script = Callable[[Call], Reply]


class FaultTeacher:
    """The server; use `serve_script`."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.lock = threading.Lock()
        self.num_requests = 0
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.bodies: list[dict] = []
        self.headers: list[Message] = []
        self.num_open = 0
        self.peak_open = 0
        self.release = threading.Event()
        self.base_url = ""

    def begin(self, body: dict) -> Call:
        """Count a request that came in."""
        identity = json.dumps(body, sort_keys=True)
        with self.lock:
            call = Call(
                _read_question(body),
                self.asked[identity],
                self.num_requests,
                body,
            )
            self.asked[identity] += 1
            self.num_requests += 1
            self.bodies.append(body)
            self.num_open += 1
            self.peak_open = max(self.peak_open, self.num_open)
        return call

    def end(self, body: dict, reply: Reply, is_delivered: bool) -> None:
        """Count what became of it."""
        with self.lock:
            self.num_open -= 1
            if is_delivered and reply.status == 200:
                self.answered[json.dumps(body, sort_keys=True)] += 1

    @property
    def num_repeated(self) -> int:
        """Requests that came again although they had been answered."""
        with self.lock:
            return sum(count - 1 for count in self.answered.values() if count > 1)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    teacher: FaultTeacher

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        call = self.teacher.begin(body)
        self.teacher.headers.append(self.headers)
        reply = self.teacher.script(call)
        is_delivered = False
        try:
            if reply.hold:
                self.teacher.release.wait()
            if reply.drop:
                self._reset()
            else:
                self._send(reply, call)
                is_delivered = True
        except OSError:
            self.close_connection = True
        finally:
            self.teacher.end(body, reply, is_delivered)

    def _send(self, reply: Reply, call: Call) -> None:
        data = (reply.raw_body or json.dumps(_build_body(reply, call))).encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *args: object) -> None:
        pass  # a client that went away is part of the script


def _read_question(body: dict) -> str:
    if "prompt" in body:  # of the completions endpoint
        return body["prompt"]
    return "\n".join(message["content"] for message in body["messages"])


def _build_body(reply: Reply, call: Call) -> dict:
    if reply.status != 200:
        return {"error": {"message": f"scripted status {reply.status}", "code": None}}
    body = {
        "id": f"call-{call.number}",
        "object": "chat.completion",
        "created": 0,
        "model": call.body["model"],
        "choices": [
            {
                "index": 0,
                **(
                    {"text": reply.text}
                    if "prompt" in call.body
                    else {"message": {"role": "assistant", "content": reply.text}}
                ),
                "finish_reason": reply.finish_reason,
            }
        ],
    }
    if reply.has_usage:
        body["usage"] = {"prompt_tokens": 40, "completion_tokens": 20, "total_tokens": 60}
    return body


@contextmanager
def serve_script(script: Script, host: str = "127.0.0.1"):
    """A `FaultTeacher` listening on a free port of this address until the block ends."""
    teacher = FaultTeacher(script)
    handler = type("Handler", (_Handler,), {"teacher": teacher})
    server = _Server((host, 0), handler)
    teacher.base_url = f"http://{host}:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield teacher
    finally:
        teacher.release.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
