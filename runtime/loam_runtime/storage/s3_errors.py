"""What went wrong on an S3 store, in Loam's terms."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ResponseStreamingError,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError
from s3transfer.exceptions import RetriesExceededError

from loam_runtime.errors import CredentialsError, LoamError, StorageError
from loam_runtime.storage.base import ConflictError, NotFoundError

CREDENTIALS_REMEDY = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE, or the pod's service "
    "account), and AWS_ENDPOINT_URL for a store that is not AWS."
)
_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    ProfileNotFound,
    SSOError,
)
_MISSING_KEY = {"NoSuchKey", "404", "NotFound"}
_CONFLICT = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
_DENIED = {
    "AccessDenied",
    "AllAccessDisabled",
    "ExpiredToken",
    "Forbidden",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "401",
    "403",
}


# What becomes of an answer that ends too soon. One that ends in its head is taken for a whole one
# by http.client: half a date is then a ValueError, a missing header a KeyError.
_BREAKS = (
    FlexibleChecksumError,
    IncompleteReadError,
    KeyError,
    ResponseParserError,
    ResponseStreamingError,
    ValueError,
)


class BrokenAnswerError(BotoCoreError):
    """An answer that broke off after it began: beyond botocore's own retries."""

    fmt = "the answer broke off: {reason}"


@contextlib.contextmanager
def notice_broken_answers() -> Iterator[None]:
    """Tell answers that broke off from all else that goes wrong."""
    try:
        yield
    except _BREAKS as exc:
        raise BrokenAnswerError(reason=f"{type(exc).__name__} {exc}") from exc


@contextlib.contextmanager
def translate_s3_errors(uri: str, endpoint: str) -> Iterator[None]:
    """Turn what boto3 raises about the object or prefix `uri` into Loam's errors."""
    try:
        yield
    except ClientError as exc:
        raise _from_answer(exc, uri, endpoint) from exc
    except _NO_CREDENTIALS as exc:
        raise CredentialsError(
            f"No usable credentials for {uri}: {exc}.", remedy=CREDENTIALS_REMEDY
        ) from exc
    except (BotoCoreError, RetriesExceededError) as exc:
        raise _unreachable(uri, endpoint, str(exc)) from exc


def _from_answer(exc: ClientError, uri: str, endpoint: str) -> LoamError:
    error = exc.response.get("Error", {})
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    if code == "NoSuchBucket":
        return CredentialsError(
            f"The bucket of {uri} does not exist at {endpoint}.",
            remedy="Create it, or correct the URI or AWS_ENDPOINT_URL.",
        )
    if code in _MISSING_KEY:
        return NotFoundError(f"There is no object {uri}.", remedy="Check the URI.")
    if code in _CONFLICT:
        return ConflictError(f"{uri} was written by another at the same time ({code}).")
    if code in _DENIED:
        return CredentialsError(
            f"{endpoint} refuses access to {uri} ({code}: {message}).", remedy=CREDENTIALS_REMEDY
        )
    return _unreachable(uri, endpoint, f"{code}: {message}")


def _unreachable(uri: str, endpoint: str, reason: str) -> StorageError:
    return StorageError(
        f"{uri}: the store at {endpoint} still failed after all retries ({reason}).",
        remedy="Check that AWS_ENDPOINT_URL is right and the store is up, then run again.",
    )
