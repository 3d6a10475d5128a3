"""Headless Chromium from the command line: a page's DOM after loading, and its picture.

Import it as `from tests.tools.browser import dump_dom, take_screenshot`.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless",
    "--no-sandbox",  # tests run as root in containers, where Chromium's sandbox cannot start
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
_DARK = "--blink-settings=preferredColorScheme=0"
_TIMEOUT_SECONDS = 120


def find_browser() -> str:
    """Path of a Chromium or Chrome.

    Raises:
        RuntimeError: there is none; says how to get one.
    """
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    raise RuntimeError(
        "The report is tested in a real browser, and none of "
        f"{', '.join(_NAMES)} is on PATH. On Debian and Ubuntu: apt-get install chromium."
    )


def dump_dom(url: str, *, width: int = 1280, dark: bool = False) -> str:
    """The document as HTML after loading and after its scripts, if any, have run."""
    return _run(["--dump-dom", f"--window-size={width},1000"], url, dark)


def take_screenshot(
    url: str, path: Path, *, width: int = 1280, height: int = 4000, dark: bool = False
) -> None:
    """Write a PNG of the page's first `height` pixels to `path`."""
    _run([f"--screenshot={path}", f"--window-size={width},{height}"], url, dark)


def _run(arguments: list[str], url: str, dark: bool) -> str:
    with tempfile.TemporaryDirectory() as profile:
        command = [find_browser(), *_FLAGS, f"--user-data-dir={profile}", *arguments]
        finished = subprocess.run(
            [*command, *([_DARK] if dark else []), url],
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    if finished.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {finished.stderr.decode(errors='replace')}")
    return finished.stdout.decode("utf-8")
