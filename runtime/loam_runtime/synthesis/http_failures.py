"""What an exception of the openai package means for the next step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from loam_runtime.errors import CredentialsError, TeacherError
from loam_runtime.synthesis.faults import AttemptFailed, TeacherRefused

# The endpoint says "not now" before doing any work.
LOAD_STATUSES = frozenset({429, 503})
RETRIED_STATUSES = LOAD_STATUSES | {408, 409, 500, 502, 504}


def translate_failure(
    exc: Exception, endpoint: str, model: str
) -> AttemptFailed | TeacherRefused | Exception:
    """The failure in this package's terms; an exception that is a bug here comes back as it is."""
    import openai

    if isinstance(exc, openai.APIStatusError):
        return _translate_status(exc, endpoint, model)
    if isinstance(exc, openai.APITimeoutError):
        return AttemptFailed("no answer in time")
    if isinstance(exc, openai.APIConnectionError):
        cause = exc.__cause__
        reason = f"connection failed ({type(cause or exc).__name__})"
        is_sent = type(cause).__name__ not in ("ConnectError", "ConnectTimeout")
        return AttemptFailed(reason, is_charged=is_sent)
    if isinstance(exc, openai.APIError | ValueError):
        return AttemptFailed(f"a response that is not a completion ({type(exc).__name__})")
    return exc


def read_retry_after(headers: Mapping[str, str], now: float | None = None) -> float:
    """Seconds an endpoint asks to wait, from Retry-After (seconds or a date); 0 if it does not.

    Args:
        headers: of the response; names are looked up in lower case.
        now: seconds since the epoch, for a date.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            return max(0.0, float(value) * scale)
        except ValueError:
            pass
        try:
            moment = parsedate_to_datetime(value).timestamp()
        except ValueError:
            continue
        return max(0.0, moment - (time.time() if now is None else now))
    return 0.0


def _translate_status(exc, endpoint: str, model: str) -> AttemptFailed | TeacherRefused:
    status = exc.status_code
    if getattr(exc, "code", None) == "insufficient_quota":
        return TeacherRefused(
            TeacherError(
                f"The teacher at {endpoint} says that the account's quota is used up.",
                remedy="Add credit or raise the quota, then run again: answers so far are kept.",
            )
        )
    if status in RETRIED_STATUSES:
        is_load = status in LOAD_STATUSES
        return AttemptFailed(
            f"HTTP {status}",
            retry_after_seconds=read_retry_after(exc.response.headers),
            is_rate_limit=is_load,
            is_charged=not is_load,
        )
    return TeacherRefused(_describe_refusal(status, _shorten(exc), endpoint, model))


def _describe_refusal(
    status: int, detail: str, endpoint: str, model: str
) -> CredentialsError | TeacherError:
    if status in (401, 403):
        return CredentialsError(
            f"The teacher at {endpoint} refuses access (HTTP {status}).",
            remedy="Check the key: synthesis.teacher.openai.apiKeySecretRef or OPENAI_API_KEY.",
        )
    if status == 404:
        return TeacherError(
            f"The teacher at {endpoint} does not know the model {model!r}, or the address is "
            "wrong (HTTP 404).",
            remedy="Check synthesis.teacher.openai.model, and that baseURL ends in /v1.",
        )
    return TeacherError(
        f"The teacher at {endpoint} refuses the request (HTTP {status}): {detail}.",
        remedy="Check that the model takes chat messages and these sampling settings.",
    )


def _shorten(exc: Exception, most: int = 200) -> str:
    """The endpoint's own words, cut: a body may be a whole page."""
    body = getattr(exc, "body", None)
    words = body.get("message") if isinstance(body, dict) else None
    return str(words or exc)[:most].rstrip(".")
