"""Rows with data that may point to a person."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from loam_runtime.data.examples import Example
from loam_runtime.synthesis.filters.base import Verdict

_EMAIL = re.compile(r"\b[\w.+-]{1,64}@((?:[\w-]{1,63}\.)+[A-Za-z]{2,24})\b")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
_PHONE = re.compile(
    r"(?<![\w.-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){6,11}"
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}[ .-]\d{3}[ .-]\d{4})(?![\w-])"
)
# RFC 2606 and RFC 6761: addresses that can belong to nobody.
_RESERVED_HOST = re.compile(
    r"(?:^|\.)(?:example(?:\.com|\.net|\.org)?|test|invalid|localhost)$", re.I
)


class PersonalDataFilter:
    """Drops a row with an e-mail address, phone number, payment card number or IBAN.

    Cards pass the check of Luhn and IBANs that of ISO 7064 (mod 97), so that order numbers stay;
    phone numbers are those with a country code, or in the North American grouping. Addresses that
    are reserved for examples stay. Names and postal addresses are not looked for.
    """

    name = "personalData"

    def judge(self, rows: Sequence[Example]) -> list[Verdict]:
        """See `Filter`. The reason names the kind, never the value."""
        return [Verdict(self._find(row)) for row in rows]

    def describe(self) -> dict[str, object]:
        """See `Filter`."""
        return {"kinds": list(_FINDERS)}

    def _find(self, row: Example) -> str:
        kind = find_personal_data(f"{row.input}\n{row.target}")
        return f"holds {kind}" if kind else ""


def find_personal_data(text: str) -> str:
    """The first kind of personal data in a text; "" for none."""
    return next((kind for kind, holds in _FINDERS.items() if holds(text)), "")


def _has_email(text: str) -> bool:
    return any(not _RESERVED_HOST.search(match[1]) for match in _EMAIL.finditer(text))


def _has_card(text: str) -> bool:
    return any(_passes_luhn(re.sub(r"\D", "", match[0])) for match in _CARD.finditer(text))


def _has_iban(text: str) -> bool:
    return any(_passes_mod97(match[0].replace(" ", "")) for match in _IBAN.finditer(text))


def _has_phone(text: str) -> bool:
    return _PHONE.search(text) is not None


def _passes_luhn(digits: str) -> bool:
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0 and len(set(digits)) > 1


def _passes_mod97(iban: str) -> bool:
    """Account number first, letters as 10 to 35: the remainder by 97 is 1 (ISO 13616)."""
    return int("".join(str(int(letter, 36)) for letter in iban[4:] + iban[:4])) % 97 == 1


_FINDERS: dict[str, Callable[[str], bool]] = {
    "an e-mail address": _has_email,
    "an IBAN": _has_iban,
    "a payment card number": _has_card,
    "a phone number": _has_phone,
}
