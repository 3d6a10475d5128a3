"""How text is cleaned when it is read, and how two texts are compared.

Cleaning keeps what the author wrote; comparing forgets case, spacing and Unicode's variants.
"""

from __future__ import annotations

import unicodedata
from hashlib import blake2b

_INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})


def clean_text(text: str) -> str:
    """The text in NFC with LF line ends, without byte order marks and outer white space."""
    unix = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", unix).strip("\ufeff").strip()


def mend_surrogates(text: str) -> str:
    """The text as Unicode: pairs of surrogates joined, lone halves replaced by U+FFFD.

    A half, which JSON can spell, cannot be written to a file.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def has_half_pair(text: str) -> bool:
    """Whether there is half a surrogate pair."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def collapse_spaces(text: str) -> str:
    """The text on one line, its words one space apart."""
    return " ".join(text.split())


def normalize_text(text: str) -> str:
    """The form in which texts are compared: NFKC, case folded, words one space apart."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Folding can undo the normal form (and the other way round): once more settles both.
    return collapse_spaces(unicodedata.normalize("NFKC", folded).casefold())


def digest_texts(*texts: str) -> bytes:
    """Sixteen bytes, the same for texts that are equal after normalisation."""
    payload = "\x1f".join(map(normalize_text, texts))
    return blake2b(payload.encode("utf-8"), digest_size=16).digest()


def has_visible_text(text: str) -> bool:
    """Whether there is more than white space, control and zero-width characters."""
    return any(unicodedata.category(character) not in _INVISIBLE for character in text)
