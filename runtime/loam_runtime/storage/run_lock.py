"""The lock of a run: who may write under its prefix, and how it changes hands.

The lock is one object. Its token only ever grows; whoever wrote the highest token owns the
run, and every earlier owner is fenced out. It is never deleted, so tokens never repeat.

A held lock is taken over at once only
- by a later attempt of the same owner: whoever starts an attempt has given up the earlier;
- in a cluster, by the same attempt when its pods are others than before (a queue took the first
  ones away), and by a job that was created anew under the owner's name;
- on the same host, when the process that holds it no longer runs (or is this one).

Else it is a lease (`run_lease`), which another may take over when it was not renewed.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass, replace
from typing import Literal

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
        renew_seconds: how often the holder writes it anew; 0 for one that does not: its store has
            no conditional puts, or its Loam is an older one.
        num_renewals: tells two writes of one holder apart.
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
    renew_seconds: float = 0.0
    num_renewals: int = 0

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    def release(self) -> LockRecord:
        return replace(self, held=False)

    def renew(self) -> LockRecord:
        return replace(self, num_renewals=self.num_renewals + 1)


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


def build_claim(
    current: LockRecord | None,
    owner: str,
    attempt: int,
    *,
    uid: str = "",
    incarnation: str = "",
    renew_seconds: float = 0.0,
) -> LockRecord:
    """The record by which this process would take over from `current`."""
    return LockRecord(
        token=current.token + 1 if current else 1,
        owner=owner,
        attempt=attempt,
        host=socket.gethostname(),
        pid=os.getpid(),
        started=read_start(os.getpid()) or "",
        nonce=uuid.uuid4().hex,
        uid=uid,
        incarnation=incarnation,
        renew_seconds=renew_seconds,
    )


def judge_claim(
    current: LockRecord | None, claim: LockRecord
) -> Literal["take", "watch", "refuse"]:
    """Whether the claim may be written, at once or when nobody renews the lock."""
    if current is None or not current.held:
        return "take"
    if current.owner == claim.owner and _is_later(current, claim):
        return "take"
    if current.host == claim.host:
        is_free = current.pid == claim.pid or not is_running(current.pid, current.started)
        return "take" if is_free else "refuse"
    is_outdated = current.owner == claim.owner and claim.attempt < current.attempt
    return "watch" if current.renew_seconds and not is_outdated else "refuse"


def build_refusal(current: LockRecord, claim: LockRecord) -> FencedError:
    """What whoever may not take the lock is told.

    A `RunTakenError` where the holder is another job; else it is another process of this one.
    """
    words = (
        f"The run is being written by attempt {current.attempt} of {current.owner} "
        f"(process {current.pid} on {current.host})."
    )
    if current.owner == claim.owner:
        return FencedError(words, remedy=f"Wait until it ends, or stop it{_say_gone(current)}")
    remedy = f"It makes the same, in the same place: wait until {current.owner} ends"
    return RunTakenError(words, remedy=remedy + _say_gone(current))


def _say_gone(current: LockRecord) -> str:
    if current.renew_seconds:  # then it has just shown that it lives
        return "."
    if current.uid:  # two objects of one name never exist at a time: its own name is let in
        return "; if that job was deleted and its pods are gone, apply it again under its own name."
    return "; if its machine is gone, remove the run's lock.json."


def _is_later(current: LockRecord, claim: LockRecord) -> bool:
    if claim.uid and current.uid and claim.uid != current.uid:
        return True  # two objects of one name never exist at a time: the holder's is gone
    if claim.incarnation != current.incarnation and claim.attempt == current.attempt:
        return bool(claim.incarnation and current.incarnation)
    return claim.attempt > current.attempt
