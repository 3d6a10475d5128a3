"""Formats and styles that a text has or has not, and how many of the rows have them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

MIN_SHARE = 0.8  # a trait counts as a convention where this many rows have it
MIN_ROWS = 4  # fewer rows establish no convention


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


FORMATS: dict[str, Callable[[str], bool]] = {
    "is a JSON value": _is_json,
    "is a single number": lambda text: bool(re.fullmatch(r"[-+$€£]?[\d.,]+ ?%?", text.strip())),
    "is a single word": lambda text: len(text.split()) == 1,
    "is one line": lambda text: "\n" not in text,
    "ends with a question mark": lambda text: text.rstrip().endswith("?"),
    "ends with a full stop": lambda text: text.rstrip().endswith("."),
    "ends without punctuation": lambda text: text.rstrip()[-1:].isalnum(),
    "is all lower case": lambda text: text == text.lower() and text != text.upper(),
    "is written in capitals": lambda text: text == text.upper() and text != text.lower(),
    "starts with a capital letter": lambda text: text[:1].isupper(),
    "is written as tokens, with a space before punctuation": lambda text: bool(
        re.search(r"\w [.,?!;](\s|$)", text)
    ),
    "consists of several lines": lambda text: "\n" in text.strip(),
    "is written as a bulleted list": lambda text: bool(re.match(r"\s*[-*•]\s", text)),
}
# A trait that follows from another says nothing.
_IMPLIED = {
    "is a JSON value": {"ends without punctuation", "is one line"},
    "is a single number": {"is a single word", "is one line", "ends without punctuation"},
    "is a single word": {"is one line", "ends without punctuation"},
    "is written in capitals": {"starts with a capital letter"},
}
STYLES: dict[str, Callable[[str], bool]] = {
    "asks a question": lambda text: "?" in text,
    "exclaims": lambda text: "!" in text,
    "holds a number": lambda text: any(character.isdigit() for character in text),
    "speaks of the writer (I, we, my, our)": lambda text: bool(
        re.search(r"\b(I|we|my|our|us)\b", text)
    ),
    "has several sentences": lambda text: len(re.findall(r"[.!?](?:\s|$)", text)) > 1,
}


def measure_shares(
    texts: Sequence[str], traits: Mapping[str, Callable[[str], bool]]
) -> dict[str, float]:
    """The share of texts that have each trait; traits that none has are left out."""
    counts = {trait: sum(map(holds, texts)) for trait, holds in traits.items()}
    return {trait: round(count / len(texts), 3) for trait, count in counts.items() if count}


def find_conventions(texts: Sequence[str]) -> tuple[str, ...]:
    """Formats that most texts share, as predicates ("ends with a full stop")."""
    if len(texts) < MIN_ROWS:
        return ()
    shares = measure_shares(texts, FORMATS)
    found = [trait for trait, share in shares.items() if share >= MIN_SHARE]
    implied = {name for trait in found for name in _IMPLIED.get(trait, ())}
    keys = _find_common_keys(texts) if "is a JSON value" in found else ()
    named = (f"has the JSON keys {', '.join(keys)}",) if keys else ()
    return (*(trait for trait in found if trait not in implied), *named)


def _find_common_keys(texts: Sequence[str]) -> tuple[str, ...]:
    """Keys that every text has that is a JSON object, in the order of the first one."""
    objects = [
        value for text in texts if _is_json(text) and isinstance(value := json.loads(text), dict)
    ]
    if len(objects) < MIN_SHARE * len(texts):
        return ()
    return tuple(key for key in objects[0] if all(key in value for value in objects))
