"""The licence of a base model, as far as its own files say it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loam_runtime.errors import InputError
from loam_runtime.models.files import ModelFiles, open_local_model
from loam_runtime.models.gguf_header import read_gguf_header

_LICENSE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")
_MAX_BYTES = 1 << 20
_OTHER = "other"  # how hubs and .gguf files say that the licence's name is elsewhere


@dataclass(frozen=True, slots=True)
class License:
    """What a model's files say.

    Attributes:
        name: an identifier ("apache-2.0") or a title; "" where none is stated.
        source: where it is stated, or what was looked at in vain.
        link: the address of its text, "" where none is given.
    """

    name: str
    source: str
    link: str = ""

    def __str__(self) -> str:
        link = f", {self.link}" if self.link else ""
        return f"{self.name or 'not stated'} ({self.source}{link})"


def find_base_license(model: Path) -> License:
    """The licence of the model at `model`, a folder or a .gguf file.

    Looked for in the header of the .gguf, then in the front matter of README.md, in config.json,
    and in a licence file. A damaged file states nothing.
    """
    files = open_local_model(model)
    looked_at = []
    if gguf := files.find_gguf():
        if found := _read_header(files, gguf):
            return found
        looked_at.append(f"the header of {gguf}")
    if files.is_folder:
        found = _read_card(model) or _read_config(model) or _read_title(model)
        if found:
            return found
        looked_at.append("README.md, config.json or a licence file beside it")
    return License("", f"no licence in {' nor in '.join(looked_at)}")


def _read_header(files: ModelFiles, name: str) -> License | None:
    """As the GGUF specification has it: general.license, with .name and .link for others."""
    try:
        metadata = read_gguf_header(files, name).metadata
    except InputError:
        return None
    key = "general.license"
    values = {part: metadata.get(f"{key}.{part}", "") for part in ("name", "link")}
    return _build(metadata.get(key, ""), values, f"{key} in the header of {name}")


def _read_card(folder: Path) -> License | None:
    text = _read(folder / "README.md")
    if not text.startswith("---\n"):
        return None
    try:
        front = yaml.safe_load(text[4:].partition("\n---")[0])
    except yaml.YAMLError:
        return None
    if not isinstance(front, dict):
        return None
    values = {part: front.get(f"license_{part}", "") for part in ("name", "link")}
    return _build(front.get("license", ""), values, "its README.md")


def _build(stated: Any, more: Mapping[str, Any], source: str) -> License | None:
    name = ", ".join(map(str, stated)) if isinstance(stated, list) else str(stated or "")
    if name.lower() == _OTHER:
        name = str(more["name"] or "")
    return License(name, source, str(more["link"] or "")) if name else None


def _read_config(folder: Path) -> License | None:
    try:
        stated = json.loads(_read(folder / "config.json") or "{}").get("license", "")
    except (ValueError, AttributeError):
        return None
    return License(str(stated), "its config.json") if stated else None


def _read_title(folder: Path) -> License | None:
    for name in _LICENSE_FILES:
        lines = (line.strip("# \t") for line in _read(folder / name).splitlines())
        if title := next((line for line in lines if line), ""):
            return License(title[:100], f"the title of its {name}")
    return None


def _read(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")
