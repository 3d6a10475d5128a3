"""The process in which vLLM runs, with an interpreter of its own.

vLLM asks for one exact version of torch, and not for Loam's: so it has an environment of its own,
and speaks with Loam through pipes. When it ends, all GPU memory is free.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from loam_runtime.errors import LoamError
from loam_runtime.models.pool import ReplicaLost

_SCRIPT = Path(__file__).with_name("vllm_worker.py")
_LOG_CHARS = 1500
# It needs no secret, so it gets none: of the environment only what finds programs and devices.
_PASSED = ("PATH", "HOME", "USER", "TMPDIR", "LANG", "LD_", "CC")
_PASSED += ("CUDA_", "NVIDIA_", "HIP_", "ROCR_", "VLLM_", "TRITON_", "TORCH")
_SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # which requests share a step is then no race
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_PLUGINS": "",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


class VllmProcess:
    """One process of `vllm_worker.py`; `stop` may come from another thread than `ask`.

    Args:
        python: the interpreter that has vLLM.
        num_threads: on a CPU.
    """

    def __init__(self, python: str, num_threads: int) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        self._process = subprocess.Popen(
            [python, "-P", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_build_environment(num_threads),
            encoding="utf-8",
        )

    def ask(self, operation: str, **fields: Any) -> Any:
        """The process's answer.

        Raises:
            ReplicaLost: it has ended.
            LoamError: vLLM refuses.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"operation": operation, **fields}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (OSError, ValueError) as exc:  # ValueError: `stop` has closed the pipe
            raise ReplicaLost(self._describe_end()) from exc
        if not line.endswith("\n"):
            raise ReplicaLost(self._describe_end())
        reply = json.loads(line)
        if "error" in reply:
            raise LoamError(
                f"vLLM refuses to {operation}: {reply['error'][:_LOG_CHARS]}",
                remedy="Unset LOAM_VLLM_PYTHON to let transformers write the rows.",
            )
        return reply["result"]

    def stop(self) -> None:
        """End it. A second time does nothing."""
        self._process.kill()
        self._process.wait()

    def _describe_end(self) -> str:
        code = self._process.wait()
        start = max(0, os.fstat(self._log.fileno()).st_size - _LOG_CHARS)
        tail = os.pread(self._log.fileno(), _LOG_CHARS, start).decode(errors="replace")
        return f"the process of vLLM ended with {code}: {tail.strip()}"


def _build_environment(num_threads: int) -> dict[str, str]:
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED)}
    threads = {
        "OMP_NUM_THREADS": str(num_threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # several workers share a machine's cores
        "VLLM_CPU_KVCACHE_SPACE": passed.get("VLLM_CPU_KVCACHE_SPACE", "2"),  # GiB
    }
    return {**passed, **threads, **_SETTINGS}
