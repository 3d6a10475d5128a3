"""`loam` processes that begin with the heavy libraries in memory: their import takes seconds of CPU
time at each start.

    python warm_loam.py serve SOCKET         imports them and forks a process for each command
    python warm_loam.py SOCKET ARGUMENTS     is such a command: its output, its exit code

The command's process has the environment, folder, output and process group of its caller, who
hands signals on and ends with its exit code. For tests whose subject is no variable that these
libraries read when they are imported. Where the variable LOAM_TEST_WITHOUT_RAY is set, the command
trains in its own process: a Ray takes longer to start than all else of a tiny job.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

_PRELOADED = ("torch", "peft", "bitsandbytes", "scipy.stats", "sklearn.linear_model", "datasets")
_MESSAGE_BYTES = 2**20
_FORWARDED = (signal.SIGINT, signal.SIGTERM)


def serve(address: str) -> list[str]:
    """Fork a process for each command that comes, until it is killed.

    Returns:
        In each such process, and only there: the arguments of its command.
    """
    import importlib

    for name in _PRELOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the keepers
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                return _keep(connection)
            connection.close()


def _keep(connection: socket.socket) -> list[str]:
    """Start the command and tell its pid and exit code; returns in the command's process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, files, _, _ = socket.recv_fds(connection, _MESSAGE_BYTES, 3)
    call = json.loads(message)
    pid = os.fork()
    if pid == 0:
        connection.close()
        os.setpgid(0, call["group"])
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(call["folder"])
        os.environ.clear()
        os.environ.update(call["environment"])
        return call["arguments"]
    for file in files:
        os.close(file)
    connection.sendall(f"{pid}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    connection.sendall(f"{code}\n".encode())
    os._exit(0)


def call(address: str, arguments: list[str]) -> int:
    """Have a command run in this process's place; its exit code, or that of a shell for a kill."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)  # until there is somebody to tell
    request = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "group": os.getpgid(0),
    }
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
        answers = connection.makefile()
        pid = int(answers.readline())
        for number in _FORWARDED:
            signal.signal(number, lambda received, frame: os.kill(pid, received))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        code = int(answers.readline())
    return code if code >= 0 else 128 - code


def train_without_ray() -> None:
    """From now on the stage `train` runs the loop itself."""
    from loam_runtime.steps import train
    from loam_runtime.training.local import fit_locally
    from loam_runtime.training.rows import read_encoded

    def fit(
        config: Any,
        model_folder: Path,
        train_path: Path,
        validation_path: Path | None,
        *,
        model: Any,
        run: Any,
        **folders_and_listener: Any,
    ) -> Any:
        """As `ray_adapter.fit`."""
        rows = [read_encoded(path) if path else () for path in (train_path, validation_path)]
        return fit_locally(config, model_folder, *rows, storage=run.open(), **folders_and_listener)

    train.fit = fit


if __name__ == "__main__":
    if sys.argv[1] != "serve":
        sys.exit(call(sys.argv[1], sys.argv[2:]))
    sys.argv = ["loam", *serve(sys.argv[2])]
    if os.environ.pop("LOAM_TEST_WITHOUT_RAY", ""):
        train_without_ray()
    from loam_runtime.cli import main

    main()
