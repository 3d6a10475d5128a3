"""Writes docs/states.md and docs/failures.md from the operator's tables.

python operator/write_docs.py [--check]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from loam_operator.tables import render_failures, render_states

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    is_check = parser.parse_args().check
    files = {DOCS / "states.md": render_states(), DOCS / "failures.md": render_failures()}
    stale = [file for file, text in files.items() if not file.exists() or file.read_text() != text]
    for file in stale:
        print(f"{'stale' if is_check else 'written'}: docs/{file.name}")
        if not is_check:
            file.write_text(files[file], encoding="utf-8")
    return 1 if is_check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
