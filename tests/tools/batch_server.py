"""A small provider of batches over real HTTP: files in, files out, states in between."""

from __future__ import annotations

import email
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class BatchServer:
    """The provider's books.

    Attributes:
        batches: by id, as the API shows them.
        refused: questions whose lines come back with HTTP 500.
        unknown: parameter that every line with it is refused for, "" for none.
        is_held: batches stay in progress.
        failure: why every batch fails, or "".
        write: the answer to a question, the last message of a line.
        answered_before_expiry: lines that the next batch answers before it expires; None: it is
            answered to its end.
        lose_next: the next batch is made, and the connection cut before its id is told.
        num_blips: looks that fail before one succeeds, by what is looked at: batches, files.
        num_unmade: batches that are refused while the first one is in work; then all are done.
        headers: of every request.
        answered: how often each line was, by its id.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}
        self.refused: set[str] = set()
        self.unknown = ""
        self.is_held = False
        self.failure = ""
        self.write: Callable[[str], str] = "re: {}".format
        self.answered_before_expiry: int | None = None
        self.answered: Counter[str] = Counter()
        self.lose_next = False
        self.num_blips: Counter[str] = Counter()
        self.num_unmade = 0
        self.headers: list[Message] = []
        self.looked = threading.Event()
        self.base_url = ""

    @property
    def num_answered(self) -> int:
        """Lines that were answered, refused ones included."""
        return self.answered.total()

    def add_file(self, data: bytes) -> dict:
        """Keep a file."""
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = data
        return _describe_file(file_id, len(data))

    def add_batch(self, body: dict) -> dict:
        """Start a batch."""
        batch_id = f"batch-{len(self.batches)}"
        self.batches[batch_id] = {
            "id": batch_id,
            "object": "batch",
            "created_at": 0,
            "status": "in_progress",
            **body,
        }
        return self.batches[batch_id]

    def show_batch(self, batch_id: str) -> dict:
        """A batch; it ends when it is looked at, unless all are held."""
        batch = self.batches[batch_id]
        self.looked.set()
        if batch["status"] == "in_progress" and not self.is_held:
            if self.failure:
                batch |= {
                    "status": "failed",
                    "errors": {"data": [{"message": self.failure}]},
                }
                return batch
            lines = list(map(json.loads, self.files[batch["input_file_id"]].splitlines()))
            most, self.answered_before_expiry = self.answered_before_expiry, None
            made = [self._answer(line) for line in lines[:most]]
            made += [_expire(line) for line in lines[len(made) :]]
            batch["status"] = "completed" if most is None else "expired"
            for name, is_error in (("output_file_id", False), ("error_file_id", True)):
                # As UTF-8 and not as escapes: providers write it so.
                part = [
                    json.dumps(one, ensure_ascii=False).encode()
                    for one in made
                    if _is_error(one) is is_error
                ]
                if part:
                    batch[name] = self.add_file(b"\n".join(part))["id"]
        return batch

    def refuses_batch(self) -> bool:
        """Whether the batch that is asked for now is not made."""
        if not self.num_unmade or not self.batches:
            return False
        self.looked.wait(30)  # so that the one that is in work is known to be
        self.num_unmade -= 1
        self.is_held = self.num_unmade > 0
        return True

    def _answer(self, line: dict) -> dict:
        self.answered[line["custom_id"]] += 1
        question = line["body"]["messages"][-1]["content"]
        if question in self.refused:
            response = {"status_code": 500, "body": {"error": {"message": "no"}}}
        elif self.unknown in line["body"]:
            error = {"message": "no", "param": self.unknown, "code": "unsupported_parameter"}
            response = {"status_code": 400, "body": {"error": error}}
        else:
            choice = {"message": {"content": self.write(question)}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 40, "completion_tokens": 20}
            response = {"status_code": 200, "body": {"choices": [choice], "usage": usage}}
        return {"custom_id": line["custom_id"], "response": response}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_books: BatchServer

    def do_POST(self) -> None:
        self.server_books.headers.append(self.headers)
        data = self.rfile.read(int(self.headers["Content-Length"]))
        books = self.server_books
        if self.path == "/v1/files":
            self._send(books.add_file(_read_upload(self.headers["Content-Type"], data)))
            return
        if books.refuses_batch():
            self._send({"error": {"message": "busy"}}, status=500)
            return
        batch = books.add_batch(json.loads(data))
        if books.lose_next:
            books.lose_next = False
            self.close_connection = True
            self.connection.close()
            return
        self._send(batch)

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].split("/")[2:]
        books = self.server_books
        books.headers.append(self.headers)
        if len(parts) > 1 and books.num_blips[parts[0]] > 0:
            books.num_blips[parts[0]] -= 1
            self._fail(is_cut=books.num_blips[parts[0]] % 2 == 1)
        elif parts == ["batches"]:
            self._send({"object": "list", "data": list(books.batches.values()), "has_more": False})
        elif parts[0] == "batches":
            self._send(books.show_batch(parts[1]))
        else:
            self._send_bytes(books.files[parts[1]])

    def _fail(self, *, is_cut: bool) -> None:
        if is_cut:
            self.close_connection = True
            self.connection.close()
        else:
            self._send({"error": {"message": "busy"}}, status=503)

    def _send(self, value: dict, status: int = 200) -> None:
        self._send_bytes(json.dumps(value).encode(), status)

    def _send_bytes(self, data: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


def _read_upload(content_type: str, data: bytes) -> bytes:
    """The part "file" of a multipart form."""
    form = email.message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + data)
    for part in form.get_payload():
        if part.get_param("name", header="content-disposition") == "file":
            return part.get_payload(decode=True)
    raise ValueError("an upload without a file")


def _expire(line: dict) -> dict:
    """What the provider says of a line that it did not come to."""
    error = {"code": "batch_expired", "message": "This request could not be executed in time."}
    return {"custom_id": line["custom_id"], "response": None, "error": error}


def _is_error(line: dict) -> bool:
    return not line["response"] or line["response"]["status_code"] != 200


def _describe_file(file_id: str, size: int) -> dict:
    return {"id": file_id, "object": "file", "bytes": size, "created_at": 0, "purpose": "batch"}


@contextmanager
def serve_batches() -> Iterator[BatchServer]:
    """A `BatchServer` listening on a free port of this machine until the block ends."""
    books = BatchServer()
    handler = type("Handler", (_Handler,), {"server_books": books})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *args: None
    books.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield books
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
