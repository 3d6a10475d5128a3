"""What secrets look like in a text; for whoever writes logs, and whoever keeps lines of them."""

from __future__ import annotations

import re

MASK = "[redacted]"

_SECRET_SHAPES = (
    # Each keeps what names the secret (group 1) and masks what follows.
    re.compile(r"(?i)(\bauthorization\b['\"]?\s*[:=]\s*['\"]?)(?:(?:bearer|basic)\s+)?[^\s'\",;]+"),
    re.compile(r"(?i)(\bbearer\s+)[\w.~+/-]{8,}=*"),
    re.compile(
        r"(?i)(\b[\w-]*(?:secret|api[-_]?key|password)[\w-]*['\"]?\s*[:=]\s*['\"]?)[^\s'\",;&]+"
    ),
    re.compile(
        r"(?i)([?&](?:x-amz-(?:signature|credential|security-token)|signature|token)=)[^&\s]+"
    ),
    re.compile(r"(\w+://[^/\s:@]*:)[^/\s@]+(?=@)"),
    re.compile(r"()\b(?:sk|rk|pk)-[\w-]{8,}"),
    re.compile(r"()\bhf_[A-Za-z0-9]{16,}"),
    re.compile(r"()\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
)


def redact_shapes(text: str) -> str:
    """`text` with everything masked that is shaped like a key, token or password."""
    for shape in _SECRET_SHAPES:
        text = shape.sub(rf"\g<1>{MASK}", text)
    return text
