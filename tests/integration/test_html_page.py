"""The page of ``check`` in a real browser: whole, quiet, and as wide as the window on every screen and on paper."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pilot_agent.output.html import html_page
from tests.integration.browser import Browser
from tests.output import hostile
from tests.output.reports import full, of_node, span

WIDTHS = {"telephone": 360, "tablet": 768, "desktop": 1280}
SMALLEST_PICTURE_BYTES = 15_000
"""A picture of an empty page of this size has less than half."""


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    """Chromium with a profile of its own."""
    return Browser(tmp_path)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of this machine, of a report in which everything occurs, of a hostile one, and of a long one."""
    directory = tmp_path_factory.mktemp("pages")
    long = full()
    long["timeline"] = [span(f"stage{n % 7}", f"probe_{n}_with_a_long_name", n / 9, 0.3) for n in range(390)]
    reports = {
        "this machine": of_node(""),
        "everything": full(),
        "hostile": hostile.everywhere("x" * 5000 + f"<{hostile.MARK}><script>document.title='run'</script>"),
        "long": long,
    }
    for name, report in reports.items():
        (directory / f"{name}.html").write_text(html_page(report), encoding="utf-8")
    return {name: directory / f"{name}.html" for name in reports}


NAMES = pytest.mark.parametrize("name", ["this machine", "everything", "hostile", "long"])


@NAMES
def test_the_page_opens_without_a_complaint_and_fetches_nothing(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    shown = browser.open(pages[name], "--dump-dom")
    assert shown.console == ()
    assert shown.addresses == frozenset()
    assert "</footer></body></html>" in "".join(shown.output.split("\n"))
    assert "<title>run</title>" not in shown.output


@NAMES
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_nobody_has_to_scroll_sideways(browser: Browser, pages: dict[str, Path], name: str, width: int) -> None:
    page, window = browser.widths(pages[name], width)
    assert window == width
    assert page <= window


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_a_picture_can_be_taken(browser: Browser, pages: dict[str, Path], tmp_path: Path, width: int) -> None:
    picture = tmp_path / "page.png"
    browser.open(pages["everything"], f"--screenshot={picture}", f"--window-size={width},1200")
    content = picture.read_bytes()
    assert struct.unpack(">II", content[16:24]) == (width, 1200)
    assert len(content) > SMALLEST_PICTURE_BYTES


def test_the_page_can_be_printed(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    paper = tmp_path / "page.pdf"
    browser.open(pages["everything"], f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    assert paper.read_bytes().startswith(b"%PDF-")


def test_these_tests_would_see_what_a_page_fetches_and_complains_of(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text('<!DOCTYPE html><img src="http://192.0.2.1:9/x.png"><script>console.error("bad")</script>')
    shown = browser.open(page, "--dump-dom", "--timeout=2000")
    assert shown.addresses >= {"http://192.0.2.1:9/x.png"}
    assert shown.console


def test_these_tests_would_see_a_page_that_is_too_wide(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "wide.html"
    page.write_text('<!DOCTYPE html><div style="width:900px">wide</div>')
    found, window = browser.widths(page, 360)
    assert found > window
