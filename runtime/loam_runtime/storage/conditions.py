"""Which stores keep what they were asked for: conditional puts, on which one writer rests."""

from __future__ import annotations

import uuid
from typing import Any

from loam_runtime.errors import StorageError
from loam_runtime.storage.base import ConflictError, ObjectStore, join_key


def supports_conditions(store: ObjectStore, prefix: str = "") -> bool:
    """Whether the store honours conditional puts, found out by trying under `prefix`."""
    key = join_key(prefix, f"probe-{uuid.uuid4().hex}")
    stale_etag = store.put(key, b"first")
    store.put(key, b"second")
    try:
        return all(
            _is_refused(store, key, **condition)
            for condition in ({"if_none_match": True}, {"if_match": stale_etag})
        )
    finally:
        store.delete(key)


def _is_refused(store: ObjectStore, key: str, **condition: Any) -> bool:
    try:
        store.put(key, b"third", **condition)
    except ConflictError:
        return True
    except StorageError:  # some stores answer that they have no such thing
        return False
    return False
