"""The few addresses of the Hugging Face Hub that its client needs to read one repository."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40
_PIECE_BYTES = 1 << 16


@dataclass
class Hub:
    """A hub with one model repository, `owner/name`.

    Attributes:
        endpoint: its address.
        files: content by path; as large files of git, they are known by their SHA-256.
        num_busy: so many requests are answered 503 before all is well; -1 for ever.
        is_gated: whether the repository asks for a licence to be accepted.
        knows_ranges: whether a part of a file can be asked for.
        requests: what was asked for.
        sent_bytes: by path, how much of its content left.
    """

    endpoint: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    num_busy: int = 0
    is_gated: bool = False
    knows_ranges: bool = True
    requests: list[str] = field(default_factory=list)
    sent_bytes: Counter[str] = field(default_factory=Counter)


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, hub: Hub, *args: object) -> None:
        self._hub = hub
        super().__init__(*args)

    def do_GET(self) -> None:
        hub, path = self._hub, self.path.partition("?")[0]
        hub.requests.append(f"{self.command} {path}")
        if hub.num_busy:
            hub.num_busy -= 1
            return self._answer(503)
        if "owner/name" not in path:
            return self._answer(404, error="RepoNotFound")
        if hub.is_gated:
            return self._answer(403, error="GatedRepo")
        if path in ("/api/models/owner/name", "/api/models/owner/name/revision/v1"):
            return self._answer(200, json.dumps({"id": "owner/name", "sha": COMMIT}).encode())
        if path.startswith("/api/models/owner/name/revision/"):
            return self._answer(404, error="RevisionNotFound")
        if path == f"/api/models/owner/name/tree/{COMMIT}":
            return self._answer(200, json.dumps(self._list_tree()).encode())
        name = path.removeprefix(f"/owner/name/resolve/{COMMIT}/")
        if name in hub.files:
            return self._send_file(name)
        return self._answer(404, error="EntryNotFound")

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        """Tests read `Hub.requests` instead."""

    def _list_tree(self) -> list[dict]:
        return [
            {
                "type": "file",
                "path": path,
                "size": len(content),
                "oid": "0" * 40,
                "lfs": {"oid": _hash(content), "size": len(content), "pointerSize": 1},
            }
            for path, content in self._hub.files.items()
        ]

    def _send_file(self, name: str) -> None:
        content = self._hub.files[name]
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")
        if not span or not self._hub.knows_ranges:
            self._answer(200, content, name=name)
            return
        start, last = map(int, span.groups())
        if start >= len(content):
            self._answer(416)
            return
        self._answer(206, content[start : last + 1], name=name)

    def _answer(self, status: int, body: bytes = b"", error: str = "", name: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{_hash(body)}"')
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self._send_body(body, name)

    def _send_body(self, body: bytes, name: str) -> None:
        with contextlib.suppress(OSError):  # the client has enough
            for start in range(0, len(body), _PIECE_BYTES):
                piece = body[start : start + _PIECE_BYTES]
                self._hub.sent_bytes[name] += len(piece)  # before the client can have it
                self.wfile.write(piece)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def run_hub_server() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
