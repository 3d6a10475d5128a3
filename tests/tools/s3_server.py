"""A real S3 server (versitygw) for a test or a benchmark: free port, own folder, own keys."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
from tests.tools.build_tools import build_tool
from tests.tools.processes import find_free_port

START_TIMEOUT_SECONDS = 30
REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server.

    Attributes:
        endpoint: its address.
        env: the AWS environment that reaches it.
        log: what it printed.
    """

    endpoint: str
    env: dict[str, str]
    log: Path

    def create_bucket(self, name: str = "") -> str:
        """A new bucket; a name of its own unless given."""
        bucket = name or f"test-{secrets.token_hex(6)}"
        self.create_client().create_bucket(Bucket=bucket)
        return bucket

    def create_client(self):
        """A plain boto3 client for it, whatever the environment says."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
        )


@contextlib.contextmanager
def run_s3_server(address: str = "127.0.0.1") -> Iterator[S3Server]:
    """A server that answers, until the block ends; its objects go with it.

    Args:
        address: of this machine, where it listens.

    Raises:
        RuntimeError: it did not answer in time; the message has the end of its log.
    """
    binary = build_tool("versitygw")
    folder = Path(tempfile.mkdtemp(prefix="loam-s3-"))
    (folder / "objects").mkdir()
    server = _describe(folder, address)
    host = server.endpoint.removeprefix("http://")
    command = [
        str(binary),
        "--port",
        host,
        "--quiet",
        "posix",
        str(folder / "objects"),
    ]
    env = {
        "ROOT_ACCESS_KEY": server.env["AWS_ACCESS_KEY_ID"],
        "ROOT_SECRET_KEY": server.env["AWS_SECRET_ACCESS_KEY"],
    }
    with server.log.open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
    try:
        _wait_until_ready(server, process)
        yield server
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _describe(folder: Path, address: str) -> S3Server:
    endpoint = f"http://{address}:{find_free_port()}"
    env = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "loam-test",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
    }
    return S3Server(endpoint, env, folder / "log")


def _wait_until_ready(server: S3Server, process: subprocess.Popen) -> None:
    host, port = server.endpoint.removeprefix("http://").split(":")
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)  # between two polls, not for order
    raise RuntimeError(f"The S3 server did not start: {server.log.read_text()[-2000:]}")
