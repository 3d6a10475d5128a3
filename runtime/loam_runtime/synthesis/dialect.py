"""Which parameters of a request an endpoint takes, learnt from what it refuses.

Models behind one API differ: those that reason refuse `max_tokens` for `max_completion_tokens`
and any temperature but their own, and small servers know no `response_format`. Their names tell
nothing; the refusal names the parameter. It is learnt once and costs nothing.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping

_LOGGER = logging.getLogger(__name__)
_REFUSALS = (400, 422, 501)
_LIMIT, _OTHER_LIMIT = "max_tokens", "max_completion_tokens"
# Without these a request is still the same question; without its limit it would pass the budget.
_OPTIONAL = ("temperature", "top_p", "top_k", "stop")
_FORM = "response_format"
_CODES = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
# The fault is this one prompt's, whatever else was sent with it.
_PROMPT_CODES = (
    *("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"),
    *("context_length_exceeded", "string_above_max_length"),
)
# A value out of range is the user's to correct, and no reason to leave it out in silence.
_WORDS = re.compile(
    r"unsupported|not supported|does not support|not permitted|unrecognized|unknown|deprecated",
    re.IGNORECASE,
)


class Dialect:
    """What has been learnt of one endpoint and model."""

    def __init__(self) -> None:
        self._left_out: set[str] = set()
        self._limit = _LIMIT

    def write(self, body: Mapping[str, object]) -> dict[str, object]:
        """A request's body as the endpoint takes it, with `max_tokens` by the name it knows."""
        names = {_LIMIT: self._limit}
        return {
            names.get(name, name): value
            for name, value in body.items()
            if name not in self._left_out
        }

    def learn(self, status: int, reply: object, sent: Mapping[str, object]) -> bool:
        """Whether a refusal taught how to ask: then the same request goes out anew.

        Args:
            reply: the response's JSON body, or None.
            sent: the body that was refused.
        """
        if status not in _REFUSALS:
            return False
        name = _find_refused(reply, sent)
        if name == _LIMIT:
            self._limit = _OTHER_LIMIT
        elif name:
            self._leave_out(name)
        return bool(name)

    def _leave_out(self, name: str) -> None:
        if name not in self._left_out and name != _FORM:
            _LOGGER.warning("the teacher refuses %s: it goes by its own default", name)
        self._left_out.add(name)


def _find_refused(reply: object, sent: Mapping[str, object]) -> str:
    """The parameter that was refused; "" where the fault lies elsewhere.

    Many servers say nothing of a `response_format` that they do not know, so a refusal without
    another name is put down to it.
    """
    error = reply.get("error") if isinstance(reply, Mapping) else None
    details = error if isinstance(error, Mapping) else {}
    if details.get("code") in _PROMPT_CODES:
        return ""
    words = str(details.get("message") or json.dumps(error or reply))
    asked = [name for name in (_LIMIT, *_OPTIONAL, _FORM) if name in sent]
    if details.get("code") in _CODES or _WORDS.search(words):
        if details.get("param") in asked:
            return str(details["param"])
        named = [name for name in asked if re.search(rf"['\"`]{name}['\"`]|^{name}\b", words)]
        if named:
            return named[0]
    return _FORM if _FORM in sent else ""
