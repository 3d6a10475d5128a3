"""The licence of a base model, as far as its own files say it."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

_LICENSE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")
_MAX_BYTES = 1 << 20


def find_base_license(folder: Path) -> str:
    """A licence identifier ("apache-2.0") or the title of the licence file; "" if none is found.

    Looked for in the front matter of README.md, then in config.json, then in a licence file.
    """
    return _read_card(folder) or _read_config(folder) or _read_title(folder)


def _read_card(folder: Path) -> str:
    text = _read(folder / "README.md")
    if not text.startswith("---\n"):
        return ""
    try:
        values = yaml.safe_load(text[4:].partition("\n---")[0])
    except yaml.YAMLError:
        return ""
    if not isinstance(values, dict):
        return ""
    license_id = values.get("license", "")
    # "other" only says that license_name has it.
    return str(values.get("license_name", "") if license_id == "other" else license_id)


def _read_config(folder: Path) -> str:
    try:
        return str(json.loads(_read(folder / "config.json") or "{}").get("license", ""))
    except (ValueError, AttributeError):
        return ""


def _read_title(folder: Path) -> str:
    for name in _LICENSE_FILES:
        lines = (line.strip("# \t") for line in _read(folder / name).splitlines())
        if title := next((line for line in lines if line), ""):
            return title[:100]
    return ""


def _read(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")
