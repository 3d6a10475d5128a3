"""What a refusal of an OpenAI-compatible endpoint means for the next step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from loam_runtime.errors import CredentialsError, TeacherError
from loam_runtime.synthesis.faults import AttemptFailed, TeacherRefused

# The endpoint says "not now" before doing any work.
LOAD_STATUSES = frozenset({429, 503})
RETRIED_STATUSES = LOAD_STATUSES | {408, 409, 500, 502, 504}
FIRST_OF_PROXIES = 520  # gateways in front of an endpoint count on from here
# Of the key, the account or the address. Any other 4xx may be of one prompt alone: it is too long,
# or a content filter stops it.
FINAL_STATUSES = frozenset({401, 402, 403, 404, 405, 407})


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


def translate_status(
    status: int, headers: Mapping[str, str], body: object, endpoint: str, model: str
) -> AttemptFailed | TeacherRefused:
    """What a response other than 200 means.

    Args:
        headers: looked up in lower case.
        body: the JSON body, or None where there was none.
    """
    error = body.get("error") if isinstance(body, dict) else None
    details = error if isinstance(error, dict) else {}
    if details.get("code") == "insufficient_quota":
        return TeacherRefused(
            TeacherError(
                f"The endpoint {endpoint} says that the account's quota is used up.",
                remedy="Add credit or raise the quota, then run again: answers so far are kept.",
            )
        )
    if status in RETRIED_STATUSES or status >= FIRST_OF_PROXIES:
        is_load = status in LOAD_STATUSES
        return AttemptFailed(
            f"HTTP {status}",
            retry_after_seconds=read_retry_after(headers),
            is_rate_limit=is_load,
            is_charged=not is_load,
        )
    words = details.get("message") or error or "no reason given"
    return TeacherRefused(
        _describe_refusal(status, _shorten(str(words)), endpoint, model),
        is_final=status in FINAL_STATUSES or not 400 <= status < 500,
    )


def _describe_refusal(
    status: int, detail: str, endpoint: str, model: str
) -> CredentialsError | TeacherError:
    if status in (401, 403):
        return CredentialsError(
            f"The endpoint {endpoint} refuses access (HTTP {status}).",
            remedy="Check its key: openai.apiKeySecretRef of teacher or judge. OPENAI_API_KEY is "
            "sent to OPENAI_BASE_URL alone (by default OpenAI's own).",
        )
    if status == 404:
        return TeacherError(
            f"The endpoint {endpoint} does not know the model {model!r}, or the address is "
            "wrong (HTTP 404).",
            remedy="Check openai.model of teacher or judge, and that baseURL ends in /v1.",
        )
    return TeacherError(
        f"The endpoint {endpoint} refuses the request (HTTP {status}): {detail}.",
        remedy="Check that the model takes chat messages and these sampling settings.",
    )


def _shorten(words: str, most: int = 200) -> str:
    """The endpoint's own words, cut: a body may be a whole page."""
    return words[:most].rstrip(".")
