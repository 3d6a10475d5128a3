"""The folder of one run in the output store: one writer, and readers that see whole artifacts.

    <output>/runs/<run key>/   lock.json, manifest.json, artifacts of the stages, _SUCCESS
    <output>/latest.json       the run that was published last; written last

A run is finished when `_SUCCESS` is there, and `_SUCCESS` is written after everything else
of the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loam_runtime.errors import FencedError
from loam_runtime.storage.base import (
    ConflictError,
    NotFoundError,
    ObjectInfo,
    ObjectStore,
    check_key,
    check_prefix,
    join_key,
)
from loam_runtime.storage.conditions import supports_conditions
from loam_runtime.storage.run_lease import PERIODS_TO_EXPIRE, RENEW_SECONDS, Renewal, outlasts
from loam_runtime.storage.run_lock import (
    LockRecord,
    build_claim,
    build_refusal,
    judge_claim,
    parse_lock,
)
from loam_runtime.storage.transfer import download_folder, upload_folder

LATEST_KEY = "latest.json"
LOCK_KEY = "lock.json"
MANIFEST_KEY = "manifest.json"
SUCCESS_KEY = "_SUCCESS"
FENCE_CHECK_SECONDS = 5  # between two looks at the lock; publication looks every time
MAX_CLAIMS = 5  # lost races for the lock before giving up

logger = logging.getLogger(__name__)


class RunStore:
    """One run's folder. Writing needs the lock; reading does not.

    Keys are relative to the run's folder. A write looks at the lock at most every
    `FENCE_CHECK_SECONDS`, publication before each of its steps: a fenced-out writer may leave
    a stray object behind, but publishes nothing.

    Args:
        renew_seconds: how often the lock is renewed while this process holds it.
    """

    def __init__(
        self, store: ObjectStore, run_key: str, *, renew_seconds: float = RENEW_SECONDS
    ) -> None:
        self._store = store
        self._run_key = run_key
        self._prefix = check_key(f"runs/{run_key}")
        self.uri = f"{store.uri}/{self._prefix}"
        self.has_conditions: bool | None = None  # None: not tried yet
        self._token = 0  # 0: the lock is not ours
        self._checked_at = -math.inf
        self._mutex = threading.Lock()
        self._renew_seconds = renew_seconds
        self._renewal: Renewal | None = None

    @property
    def token(self) -> int:
        """The fencing token, for `attach` in another process; 0 without the lock."""
        return self._token

    def acquire(
        self,
        owner: str,
        attempt: int,
        *,
        uid: str = "",
        incarnation: str = "",
    ) -> None:
        """Become the run's one writer, by the rules of `run_lock`; it is renewed until `release`.

        Waits, for three periods of the lease at most, where it is not known whether the holder
        still lives. Where the store does not honour conditional puts, two writers that begin in
        the same instant may both believe to hold the lock until their next look, and there is no
        lease; a warning says so.

        Args:
            owner: the job, the same in all its attempts.
            attempt: number of this try; a later attempt takes over from an earlier one.
            uid, incarnation: as in `LockRecord`.

        Raises:
            FencedError: another writer holds it and may still be running.
        """
        self._find_conditions()
        renew_seconds = self._renew_seconds if self.has_conditions else 0.0
        for _ in range(MAX_CLAIMS):
            current, etag = self._read_lock()
            claim = build_claim(
                current,
                owner,
                attempt,
                uid=uid,
                incarnation=incarnation,
                renew_seconds=renew_seconds,
            )
            if not self._await_turn(current, etag, claim):
                continue
            with contextlib.suppress(ConflictError):
                self._write_lock(claim, etag)
                self._token = claim.token
                self.check_fence()
                self._keep_renewing()
                return
        raise FencedError(f"Other writers kept taking the lock of {self.uri}.")

    def _find_conditions(self) -> None:
        self.has_conditions = supports_conditions(self._store, self._prefix)
        if not self.has_conditions:
            logger.warning(
                "%s does not honour conditional puts: nothing keeps two runs of the same job "
                "that start at the same moment from both writing.",
                self._store.uri,
            )

    def _await_turn(self, current: LockRecord | None, etag: str, claim: LockRecord) -> bool:
        """Whether the claim may be written; False where the lock has changed hands meanwhile.

        Raises:
            FencedError: the holder lives, or nobody could tell.
        """
        verdict = judge_claim(current, claim)
        if current is None or verdict == "take":
            return True
        if verdict == "refuse":
            raise build_refusal(current, claim)
        logger.warning(
            "The run is held by attempt %d of %s on %s: taken over if it is not renewed in %.0f s.",
            *(current.attempt, current.owner, current.host),
            PERIODS_TO_EXPIRE * current.renew_seconds,
        )
        if outlasts(lambda: self._read_lock()[1], etag, current.renew_seconds):
            return True
        later, _ = self._read_lock()
        if later is not None and later.held and later.token == current.token:
            raise build_refusal(current, claim)
        return False

    def renew(self) -> None:
        """Show that the holder lives; does nothing if the lock has passed on."""
        current, etag = self._read_lock()
        if current is not None and current.held and current.token == self._token:
            with contextlib.suppress(ConflictError):  # it passes on just now
                self._write_lock(current.renew(), etag)

    def _keep_renewing(self) -> None:
        if self._renewal is None and self.has_conditions:
            self._renewal = Renewal(self.renew, self._renew_seconds)

    def attach(self, token: int) -> None:
        """Write in the name of the process that acquired the lock (a training worker does).

        Raises:
            FencedError: the lock has passed on since.
        """
        self._token = token
        self.check_fence()

    def check_fence(self) -> None:
        """Look at the lock now.

        Raises:
            FencedError: it is not, or no longer, this writer's.
        """
        current, _ = self._read_lock()
        if not self._token or current is None or current.token != self._token or not current.held:
            holder = f"attempt {current.attempt} of {current.owner}" if current else "nobody"
            raise FencedError(
                f"This process may not write to {self.uri}: the lock is with {holder}.",
                remedy="Let the holder finish, or run the job again.",
            )
        self._checked_at = time.monotonic()

    def release(self) -> None:
        """Let the next writer in; does nothing if the lock has passed on already."""
        if self._renewal is not None:
            self._renewal.stop()
            self._renewal = None
        for _ in range(2):  # a renewal that was under way may come between
            current, etag = self._read_lock()
            if current is None or current.token != self._token:
                break
            with contextlib.suppress(ConflictError):
                self._write_lock(current.release(), etag)
                break
        self._token = 0
        self._checked_at = -math.inf

    def put(
        self, key: str, data: bytes, *, if_none_match: bool = False, if_match: str | None = None
    ) -> str:
        self._check_fence_now_and_then()
        return self._store.put(
            self._locate(key), data, if_none_match=if_none_match, if_match=if_match
        )

    def get(self, key: str) -> bytes:
        return self._store.get(self._locate(key))

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        return self._store.get_with_etag(self._locate(key))

    def stat(self, key: str) -> ObjectInfo:
        return replace(self._store.stat(self._locate(key)), key=key)

    def exists(self, key: str) -> bool:
        return self._store.exists(self._locate(key))

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        found = self._store.list(join_key(self._prefix, check_prefix(prefix)))
        return [replace(info, key=info.key.removeprefix(f"{self._prefix}/")) for info in found]

    def delete(self, key: str) -> None:
        self._check_fence_now_and_then()
        self._store.delete(self._locate(key))

    def upload_file(self, path: Path, key: str) -> str:
        self._check_fence_now_and_then()
        return self._store.upload_file(path, self._locate(key))

    def download_file(self, key: str, path: Path) -> str:
        return self._store.download_file(self._locate(key), path)

    def upload_folder(self, local: Path, prefix: str) -> dict[str, str]:
        """Upload every file of a folder; returns SHA-256 by key, for the manifest."""
        return upload_folder(local, self, prefix)

    def download_folder(self, prefix: str, local: Path) -> dict[str, str]:
        """Download a folder of the run; returns SHA-256 by path inside it."""
        return download_folder(self, prefix, local)

    def is_finished(self) -> bool:
        """Whether the run was published."""
        return self.exists(SUCCESS_KEY)

    def publish(self, manifest: dict[str, Any]) -> None:
        """Declare the run finished, after all its artifacts were uploaded.

        Raises:
            FencedError: the lock has passed on; what was not written yet stays unwritten.
        """
        data = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False).encode()
        success = {
            "publishedAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "manifestSha256": hashlib.sha256(data).hexdigest(),
        }
        for key, content in ((MANIFEST_KEY, data), (SUCCESS_KEY, json.dumps(success).encode())):
            self.check_fence()
            self.put(key, content)
        self.check_fence()
        self.ensure_latest()

    def ensure_latest(self) -> None:
        """Point `latest.json` to this finished run unless it names one published later.

        Ends a publication that was killed between `_SUCCESS` and `latest.json`.
        """
        published_at = json.loads(self.get(SUCCESS_KEY))["publishedAt"]
        latest = {
            "runKey": self._run_key,
            "publishedAt": published_at,
            "manifest": self._locate(MANIFEST_KEY),
        }
        for _ in range(MAX_CLAIMS):
            named, etag = self._read(LATEST_KEY)
            if etag and json.loads(named)["publishedAt"] >= published_at:
                return
            with contextlib.suppress(ConflictError):  # another run was published just now
                self._put_over(LATEST_KEY, json.dumps(latest, indent=1).encode(), etag)
                return
        raise ConflictError(
            f"Other runs kept taking {LATEST_KEY} of {self._store.uri}.",
            remedy="Run the job again: it is finished, and only this file is still to be written.",
        )

    def _locate(self, key: str) -> str:
        return f"{self._prefix}/{check_key(key)}"

    def _check_fence_now_and_then(self) -> None:
        with self._mutex:
            if time.monotonic() - self._checked_at > FENCE_CHECK_SECONDS:
                self.check_fence()

    def _read_lock(self) -> tuple[LockRecord | None, str]:
        data, etag = self._read(self._locate(LOCK_KEY))
        return (parse_lock(data) if etag else None), etag

    def _write_lock(self, record: LockRecord, etag: str) -> None:
        self._put_over(self._locate(LOCK_KEY), record.to_bytes(), etag)

    def _read(self, key: str) -> tuple[bytes, str]:
        """An object of the store and its etag; both empty where there is none."""
        try:
            return self._store.get_with_etag(key)
        except NotFoundError:
            return b"", ""

    def _put_over(self, key: str, data: bytes, etag: str) -> None:
        """Replace an object that was read with this etag, or make the first, where "" says so.

        Raises:
            ConflictError: it has changed since; never where the store has no conditional puts.
        """
        if self.has_conditions is None:
            self.has_conditions = supports_conditions(self._store, self._prefix)
        condition: dict[str, Any] = {"if_match": etag} if etag else {"if_none_match": True}
        self._store.put(key, data, **condition if self.has_conditions else {})
