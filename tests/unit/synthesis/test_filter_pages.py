"""docs/filters: every filter has its page, and what it says of the fields is so."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import yaml

from loam_api.filters_block import Filters
from loam_api.finetunejob import DataSpec, Synthesis
from loam_runtime.synthesis import filters

DOCS = Path(__file__).parents[3] / "docs"
INDEX = (DOCS / "filters.md").read_text(encoding="utf-8")
PAGES = {
    path.stem: path.read_text(encoding="utf-8") for path in sorted((DOCS / "filters").glob("*.md"))
}
PARTS = ("**For** ", "**How it decides.**", "**Reports** ", "**When to switch it ", "**Source.** ")


def list_kinds() -> set[str]:
    """The names of all filters in the code, and of what is reported like one."""
    kinds = {"malformed"}
    for module in pkgutil.iter_modules(filters.__path__):
        loaded = importlib.import_module(f"{filters.__name__}.{module.name}")
        classes = [it for it in vars(loaded).values() if isinstance(it, type)]
        kinds |= {it.name for it in classes if hasattr(it, "judge") and hasattr(it, "name")}
    return kinds


def test_every_filter_has_its_page() -> None:
    """A row that was dropped by something nobody explains is a row that nobody gets back."""
    kinds = list_kinds()
    assert {"exactDuplicates", "quality", "consistency", "unsafe"} <= kinds
    assert set(PAGES) == kinds
    assert {kind for kind in kinds if f"(filters/{kind}.md)" in INDEX} == kinds


@pytest.mark.parametrize("kind", PAGES)
def test_every_page_says_what_a_reader_asks(kind: str) -> None:
    """What it is for, how it decides, what it reports, when it is in the way, where it is from."""
    assert PAGES[kind].startswith(f"# {kind}\n")
    assert [part for part in PARTS if part not in PAGES[kind]] == []


@pytest.mark.parametrize("block", [str(it.alias) for it in Filters.model_fields.values()])
def test_fields_and_defaults(block: str) -> None:
    """A default that a page gets wrong is found out by the rows that are missing."""
    defaults = Filters().model_dump(by_alias=True, mode="json")[block]
    for field, default in defaults.items():
        (line,) = re.findall(
            rf"^\| `(?:synthesis\.filters\.{block}\.)?{field}` \|.*", PAGES[block], re.M
        )
        told = line.split("|")[2].strip()
        if isinstance(default, bool | float):
            assert told == f"`{str(default).lower()}`"
        else:
            assert not default
            assert "`" not in told or "synthesis." in told


@pytest.mark.parametrize("kind", PAGES)
def test_examples_are_valid(kind: str) -> None:
    """What a reader copies is accepted as it stands."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGES[kind], re.DOTALL)
    assert blocks
    for text in blocks:
        block = yaml.safe_load(text)
        Synthesis.model_validate(block["synthesis"])
        if "data" in block:
            DataSpec.model_validate(block["data"])
