"""The lock of a run: who may write under its prefix, and how it changes hands.

The lock is one object. Its token only ever grows; whoever wrote the highest token owns the
run, and every earlier owner is fenced out. It is never deleted, so tokens never repeat.

A held lock is taken over only
- by a later attempt of the same owner: whoever starts an attempt has given up the earlier;
- in a cluster, by the same attempt when its pods are others than before (a queue took the first
  ones away), and by a job that was created anew under the owner's name;
- on the same host, when the process that holds it no longer runs (or is this one).
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass, replace

from loam_runtime.errors import FencedError, RunTakenError, StorageError
from loam_runtime.storage.processes import is_running, read_start


@dataclass(frozen=True, slots=True)
class LockRecord:
    """The content of a lock object.

    Attributes:
        token: the fencing token, from 1.
        owner: the job; its attempts share it.
        attempt: number of the try, growing.
        host, pid, started: the process that holds the lock; `started` tells two processes
            apart that were given the same pid.
        nonce: tells two writers of equal content apart.
        held: False once the owner has let go.
        uid: of the job's object in a cluster; "" on a laptop.
        incarnation: of the attempt's pods in a cluster; "" on a laptop.
    """

    token: int
    owner: str
    attempt: int
    host: str
    pid: int
    started: str
    nonce: str
    held: bool = True
    uid: str = ""
    incarnation: str = ""

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    def release(self) -> LockRecord:
        return replace(self, held=False)


def parse_lock(data: bytes) -> LockRecord:
    """The record in a lock object.

    Raises:
        StorageError: it is not one; something else wrote there.
    """
    try:
        return LockRecord(**json.loads(data))
    except (TypeError, ValueError) as exc:
        raise StorageError(
            "The run's lock.json is not one that Loam wrote.",
            remedy="Remove it if nothing else writes to this output.",
        ) from exc


def claim_lock(
    current: LockRecord | None,
    owner: str,
    attempt: int,
    *,
    uid: str = "",
    incarnation: str = "",
) -> LockRecord:
    """The record to write in place of `current`.

    Raises:
        RunTakenError: the holder is another job, and may still be writing.
        FencedError: it is another process of this one, and may.
    """
    claim = LockRecord(
        token=current.token + 1 if current else 1,
        owner=owner,
        attempt=attempt,
        host=socket.gethostname(),
        pid=os.getpid(),
        started=read_start(os.getpid()) or "",
        nonce=uuid.uuid4().hex,
        uid=uid,
        incarnation=incarnation,
    )
    if current is not None and not _may_take(current, claim):
        raise _build_refusal(current, claim)
    return claim


def _build_refusal(current: LockRecord, claim: LockRecord) -> FencedError:
    words = (
        f"The run is being written by attempt {current.attempt} of {current.owner} "
        f"(process {current.pid} on {current.host})."
    )
    gone = "if its machine is gone, remove the run's lock.json."
    if current.owner == claim.owner:
        return FencedError(words, remedy=f"Wait until it ends, or stop it; {gone}")
    if current.uid:  # two objects of one name never exist at a time: its own name is let in
        gone = "if that job was deleted and its pods are gone, apply it again under its own name."
    remedy = f"It makes the same, in the same place: wait until {current.owner} ends; {gone}"
    return RunTakenError(words, remedy=remedy)


def _may_take(current: LockRecord, claim: LockRecord) -> bool:
    if not current.held or (current.owner == claim.owner and _is_later(current, claim)):
        return True
    if current.host != socket.gethostname():
        return False
    return current.pid == os.getpid() or not is_running(current.pid, current.started)


def _is_later(current: LockRecord, claim: LockRecord) -> bool:
    if claim.uid and current.uid and claim.uid != current.uid:
        return True  # two objects of one name never exist at a time: the holder's is gone
    if claim.incarnation != current.incarnation and claim.attempt == current.attempt:
        return bool(claim.incarnation and current.incarnation)
    return claim.attempt > current.attempt
