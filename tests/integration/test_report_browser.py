"""The report in a real browser: nothing runs, nothing is fetched, everything can be seen."""

from __future__ import annotations

import json
import re
import threading
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.tools.browser import dump_dom, find_browser, take_screenshot
from tests.unit.report.sample_report import build_sample_report, build_sample_review

from loam_runtime.report.build import build_report, build_review_page

# What a page that is not protected would do with this: run, and ask the server for files.
ATTACK = (
    "</style></title></svg><script>document.title='owned'</script>"
    "<img src='{url}/img' onerror=\"document.title='owned'\">"
    "<svg onload=\"document.title='owned'\">"
    "<link rel=stylesheet href={url}/css><iframe src={url}/frame></iframe>"
    "<meta http-equiv=refresh content='0;url={url}/refresh'>\" style=\"background:url({url}/bg)"
)
# Writes what was measured into the outer document, where --dump-dom finds it.
PROBE = """<script>
const box = node => node.getBoundingClientRect();
parent.document.body.setAttribute("data-probe", JSON.stringify({
  width: innerWidth,
  scrollWidth: document.documentElement.scrollWidth,
  charts: [...document.querySelectorAll("svg")].map(svg => [box(svg).width, box(svg).height]),
  marks: [...document.querySelectorAll("svg polyline, svg rect, svg circle")].map(
    mark => Math.max(box(mark).width, box(mark).height)),
  background: getComputedStyle(document.body).backgroundColor,
}));
</script>"""


class Site:
    """Serves pages on loopback and remembers every path that was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                page = site.pages.get(self.path)
                self.send_response(200 if page else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write((page or "").encode("utf-8"))

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def site():
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()


def attack_all_strings(value, text):
    if isinstance(value, str):
        return text
    if isinstance(value, list | tuple):
        return [attack_all_strings(item, text) for item in value]
    if isinstance(value, dict):
        return {key: attack_all_strings(item, text) for key, item in value.items()}
    return value


def measure(site: Site, *, width: int, dark: bool) -> dict:
    """What the browser makes of the page; its policy is taken off a copy, to let the probe run.

    The page is put into a frame: no window of Chromium is narrower than 500 pixels.
    """
    html = build_report(build_sample_report())
    html = re.sub(r"<meta http-equiv=.Content-Security-Policy.*?>", "", html)
    site.pages["/probe"] = html.replace("</body>", PROBE + "</body>")
    site.pages["/frame"] = f'<iframe src="/probe" width={width} height=900 frameborder=0></iframe>'
    dom = dump_dom(f"{site.url}/frame", dark=dark)
    return json.loads(unescape(re.search(r'data-probe="(.*?)"', dom)[1]))


@pytest.mark.parametrize(
    ("build", "data"),
    [(build_report, build_sample_report()), (build_review_page, build_sample_review())],
    ids=["report", "review"],
)
def test_hostile_rows_neither_run_nor_fetch(site, build, data):
    """Rows come from strangers' tickets and from a language model; the pages open them all."""
    attack = ATTACK.format(url=site.url)
    site.pages["/report"] = build(attack_all_strings(data, attack))
    dom = dump_dom(f"{site.url}/report")
    assert "<title>owned" not in dom
    assert "owned" in unescape(dom)
    assert site.asked == ["/report"]


def test_the_attack_would_succeed_without_protection(site):
    """Proof that the test above can fail: the same text, unescaped and unprotected, does it all."""
    # Without its redirection, which would swap the page for another while it is being read.
    attack = ATTACK.format(url=site.url).replace("<meta", "<x-meta")
    site.pages["/bare"] = "<title>x</title><style>" + attack
    dom = dump_dom(f"{site.url}/bare")
    assert "<title>owned" in dom
    assert {"/img", "/css"} <= set(site.asked)


def test_the_policy_alone_stops_scripts(site):
    """The second wall: were one value ever to slip past the escaping, it still would not run."""
    html = build_report(build_sample_report())
    attack = ATTACK.format(url=site.url).replace("<meta", "<x-meta")
    site.pages["/report"] = html.replace("</body>", attack + "</body>")
    dom = dump_dom(f"{site.url}/report")
    assert "<title>owned" not in dom
    assert site.asked == ["/report"]


@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (390, True)], ids=["desk-light", "phone-dark"]
)
def test_charts_are_visible_and_the_page_fits(site, width, dark):
    """An SVG without size shows nothing; a page wider than the phone cannot be read on it."""
    seen = measure(site, width=width, dark=dark)
    assert seen["width"] == width
    assert seen["scrollWidth"] <= width
    assert len(seen["charts"]) == 5
    assert all(chart[0] > 300 and chart[1] > 100 for chart in seen["charts"])
    assert len(seen["marks"]) > 20
    assert all(size > 0 for size in seen["marks"])
    assert seen["background"] == ("rgb(17, 21, 28)" if dark else "rgb(246, 247, 249)")


def test_a_screenshot_can_be_taken(tmp_path):
    """What is on the page is painted: a blank page compresses to a few kilobytes."""
    page = tmp_path / "report.html"
    page.write_text(build_report(build_sample_report()), encoding="utf-8")
    take_screenshot(page.as_uri(), tmp_path / "report.png")
    picture = (tmp_path / "report.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 100_000


def test_a_missing_browser_is_said_with_the_way_out(monkeypatch, tmp_path):
    """A newcomer without Chromium should read what to install, not a traceback of a subprocess."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get install chromium"):
        find_browser()
