"""Keeps secrets out of everything that is written: by name, by known value, by shape."""

from __future__ import annotations

import logging
import math
import numbers
import os
import re
from collections.abc import Mapping

from loam_api.redaction import MASK, redact_shapes

# Short values ("test", "1") occur in ordinary text; masking them would make logs unreadable.
MIN_SECRET_LENGTH = 8

_SECRET_NAME = re.compile(
    r"(?ix) authorization | api[-_]?key | access[-_]?key | private[-_]?key | secret | passw(or)?d"
    r" | credential | (?:^|[-_])token$"
)
# Only of an environment variable: `run_key` and the like are no secrets where events name them.
_SECRET_VARIABLE = re.compile(r"(?i)_key$")


class Redactor:
    """Masks secrets in texts and in JSON-like values.

    Args:
        environment: the variables whose values are masked wherever they turn up, if their
            name reads like a key, token, secret or password. Read once, at construction.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        values = {
            value
            for name, value in variables.items()
            if (_SECRET_NAME.search(name) or _SECRET_VARIABLE.search(name))
            and len(value) >= MIN_SECRET_LENGTH
        }
        # Longest first: a secret that contains another one must go as a whole.
        self._values = sorted(values, key=len, reverse=True)

    def redact(self, text: str) -> str:
        """`text` with every secret in it masked."""
        for value in self._values:
            text = text.replace(value, MASK)
        return redact_shapes(text)

    def redact_value(self, value: object, name: str = "") -> object:
        """A value fit for strict JSON, secrets masked at any depth; what JSON lacks becomes text.

        A value under a name such as `api_key` is masked whatever it looks like.
        """
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, numbers.Real):
            return _to_json_number(value)
        if name and _SECRET_NAME.search(name):
            return MASK
        if isinstance(value, Mapping):
            return {
                self.redact(str(key)): self.redact_value(item, str(key))
                for key, item in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [self.redact_value(item) for item in value]
        return self.redact(str(value))


def _to_json_number(value: numbers.Real) -> int | float | str:
    if isinstance(value, numbers.Integral):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else str(number)


class RedactingFilter(logging.Filter):
    """Masks secrets in the records of the standard logging module, tracebacks included."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = self._redactor.redact(record.getMessage())
        record.args = None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self._redactor.redact(record.exc_text)
        return True
