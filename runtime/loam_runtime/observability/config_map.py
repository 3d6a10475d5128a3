"""Progress for the operator: one small document in the job's ConfigMap, under the attempt's key.

A thread of its own writes it, so that a slow API server never holds up the work. It is told
seldom; the result is told at once, and again until the API server has it.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from loam_api.progress_document import ProgressDocument, ResultDocument, name_progress_key
from loam_runtime.observability.monitor import WaitReason
from loam_runtime.observability.work import Work

if TYPE_CHECKING:
    from loam_runtime.observability.progress import Progress

WRITE_INTERVAL_SECONDS = 10.0
RESULT_TIMEOUT_SECONDS = 120.0
_REQUEST_SECONDS = 10
_RETRY_SECONDS = 2.0

logger = logging.getLogger(__name__)


class ConfigMapWriter:
    """Writes the document with the pod's own token.

    Args:
        server: address of the API server.
        name: namespace and name of the ConfigMap, with a "/" between.
        account_dir: folder with the files `token`, which the kubelet renews, and `ca.crt`.
    """

    def __init__(self, server: str, name: str, account_dir: Path) -> None:
        namespace, _, map_name = name.partition("/")
        self._url = f"{server}/api/v1/namespaces/{namespace}/configmaps/{map_name}"
        self._token = account_dir / "token"
        self._context = ssl.create_default_context(cafile=str(account_dir / "ca.crt"))

    def write(self, document: ProgressDocument) -> None:
        """Put the document there.

        Raises:
            OSError: the API server did not take it.
        """
        key = name_progress_key(document.attempt)
        request = urllib.request.Request(
            self._url,
            method="PATCH",
            data=json.dumps({"data": {key: document.to_json()}}).encode(),
            headers={
                "Authorization": f"Bearer {self._token.read_text().strip()}",
                "Content-Type": "application/merge-patch+json",
            },
        )
        with urllib.request.urlopen(request, timeout=_REQUEST_SECONDS, context=self._context):
            pass


class ConfigMapProgress:
    """A `Progress` that tells another one everything and the operator the gist of it.

    Args:
        inner: shows the stages to people.
        write: puts a document where the operator reads it; may raise OSError.
        attempt: number of the attempt.
        job_id: Ray's name for this submission of it.
    """

    def __init__(
        self,
        inner: Progress,
        write: Callable[[ProgressDocument], None],
        attempt: int,
        job_id: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._write = write
        self._clock = clock
        self._document = ProgressDocument(attempt=attempt, job_id=job_id)
        self._work: Work | None = None
        self._lock = threading.Lock()
        self._is_new = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="progress", daemon=True)
        self._thread.start()

    def start_stage(self, stage: str) -> None:
        self._inner.start_stage(stage)
        with self._lock:
            self._work = None
        self._tell(stage, stage, 0)

    def start_work(self, stage: str, total: int | None, unit: str) -> None:
        self._inner.start_work(stage, total, unit)
        with self._lock:
            self._work = Work(total, unit, self._clock)

    def advance(self, stage: str, n: int, fields: Mapping[str, object]) -> None:
        self._inner.advance(stage, n, fields)
        with self._lock:
            work = self._work
            if work is None:
                return
            work.advance(n, {name: fields[name] for name in ("loss",) if name in fields})
            summary = f"{stage} {_describe(work)}"
            seconds = work.estimate_seconds_left()
        self._tell(stage, summary, seconds)

    def note_wait(self, reason: WaitReason, seconds: float) -> None:
        self._inner.note_wait(reason, seconds)
        name = f"{reason}_seconds"
        with self._lock:
            total = getattr(self._document, name) + seconds
            self._document = self._document.model_copy(update={name: total})
        self._is_new.set()

    def end_stage(self, stage: str, state: str, seconds: float) -> None:
        self._inner.end_stage(stage, state, seconds)

    def close(self) -> None:
        self._inner.close()

    def finish(self, result: ResultDocument) -> None:
        """Tell the result; returns when the API server has it, or after two minutes."""
        with self._lock:
            self._document = self._document.model_copy(update={"result": result})
        self._is_over.set()
        self._is_new.set()
        self._thread.join(RESULT_TIMEOUT_SECONDS)

    def _tell(self, stage: str, summary: str, eta_seconds: int) -> None:
        told = {"stage": stage, "summary": summary[:64], "eta_seconds": eta_seconds}
        with self._lock:
            self._document = self._document.model_copy(update=told)
        self._is_new.set()

    def _keep_writing(self) -> None:
        deadline = 0.0
        while True:
            self._is_new.wait()
            self._is_new.clear()
            is_last = self._is_over.is_set()
            deadline = deadline or (time.monotonic() + RESULT_TIMEOUT_SECONDS if is_last else 0.0)
            with self._lock:
                document = self._document
            try:
                self._write(document)
                if is_last:
                    return
                self._is_over.wait(WRITE_INTERVAL_SECONDS)
            except OSError as error:
                logger.warning("Progress could not be told to the operator: %s", error)
                if is_last and time.monotonic() > deadline:
                    return
                time.sleep(_RETRY_SECONDS)
                self._is_new.set()


def _describe(work: Work) -> str:
    """The share that is done; of training also the step and the latest loss."""
    if not work.total:
        return str(work.num_done)
    share = f"{work.num_done / work.total:.0%}"
    loss = work.fields.get("loss")
    if not isinstance(loss, float):
        return share
    return f"{share}, step {work.num_done} of {work.total}, loss {loss:.3g}"
