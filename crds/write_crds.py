"""Writes crds/*.yaml, the chart's copies and docs/api.md from the models of `loam_api`, or checks
that they are fresh.

python crds/write_crds.py [--check]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from loam_api.crd import KINDS, build_crd
from loam_api.reference import build_reference

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Written by crds/write_crds.py from crds/loam_api; do not edit.\n"


class _PlainDumper(yaml.SafeDumper):
    """Writes equal parts in full: anchors and aliases are hard to read in a diff."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def render_files() -> dict[Path, str]:
    """Every generated file with the content it should have."""
    files = {ROOT / "docs" / "api.md": build_reference()}
    for crd in map(build_crd, KINDS):
        name = f"{crd['spec']['names']['plural']}.yaml"
        files[ROOT / "crds" / name] = HEADER + _dump(crd)
        files[ROOT / "charts/loam/templates/crds" / name] = _render_template(crd)
    return files


def _dump(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_PlainDumper, sort_keys=False, width=100, allow_unicode=True)


def _render_template(crd: dict[str, Any]) -> str:
    """The CRD as part of the chart: upgraded with it, and left behind when it is uninstalled,
    because all jobs would go with their definition."""
    kept = {**crd["metadata"], "annotations": {"helm.sh/resource-policy": "keep"}}
    body = _dump({**crd, "metadata": kept})
    assert "{{" not in body, "Helm would read this as a template"
    return f"{HEADER}{{{{- if .Values.crds.install }}}}\n{body}{{{{- end }}}}\n"


def find_stale(files: dict[Path, str]) -> list[Path]:
    """The files whose content on disk is not what it should be."""
    return [
        path
        for path, text in files.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    is_check = parser.parse_args().check
    files = render_files()
    stale = find_stale(files)
    for path in stale:
        print(f"{'stale' if is_check else 'written'}: {path.relative_to(ROOT)}")
        if not is_check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
    return 1 if is_check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
