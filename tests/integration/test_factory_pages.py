"""The factory's pages in a real browser: complete, legible on a phone and at night, and with nothing from elsewhere."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from server_stub.factory.store import Store
from tests.integration.browser import Browser
from tests.integration.factory_pages import factory, fill, served

PAGES = {
    "entries": "/entries",
    "pilots": "/pilots?state=ended&outcome=failed",
    "pilot": "/pilots/p000000",
    "failures": "/failures",
    "benchmarks": "/benchmarks",
    "waste": "/waste",
}
SIZES = {"entries": "1280,900", "pilot": "1280,1500"}
DARK = "--blink-settings=preferredColorScheme=0"
KEPT = os.environ.get("PILOT_TEST_SCREENSHOTS")
"""A directory for the pictures, for who wants to look at them."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A factory with 40 entries and 4000 pilots."""
    directory = tmp_path_factory.mktemp("factory")
    (directory / "state").mkdir()
    made = factory(directory, 40)
    with Store(made.database) as store:
        fill(store, entries=40, pilots=4000)
        with served(made, store) as running:
            yield running


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    return Browser(tmp_path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return Path(KEPT) if KEPT else tmp_path


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_without_anything_from_elsewhere(address: str, browser: Browser, name: str) -> None:
    seen = browser.open(f"{address}{PAGES[name]}", "--dump-dom")
    assert seen.console == ()
    assert all(one.startswith(address) for one in seen.addresses), seen.addresses
    assert "<h1>" in seen.output
    assert "</html>" in seen.output


@pytest.mark.parametrize("name", PAGES)
def test_on_a_phone_no_page_is_wider_than_its_window(address: str, browser: Browser, name: str) -> None:
    measured = f"{address}/measure?width=390&address={PAGES[name].replace('&', '%26')}"
    output = browser.open(measured, "--dump-dom", "--virtual-time-budget=5000").output
    found = re.search(r"<title>(\d+) (\d+)</title>", output)
    assert found, output[:2000]
    assert int(found[1]) <= int(found[2])


def test_by_night_a_page_is_dark_and_by_day_it_is_light(address: str, browser: Browser, pictures: Path) -> None:
    sizes = {}
    for mode, options in (("light", ()), ("dark", (DARK,))):
        for name in ("entries", "pilot"):
            picture = pictures / f"factory-{name}-{mode}.png"
            browser.open(f"{address}{PAGES[name]}", f"--screenshot={picture}", f"--window-size={SIZES[name]}", *options)
            sizes[name, mode] = corner(picture)
    assert min(sizes["entries", "light"]) > 200 > 100 > max(sizes["entries", "dark"])
    assert min(sizes["pilot", "light"]) > 200 > 100 > max(sizes["pilot", "dark"])


def corner(picture: Path) -> tuple[int, int, int]:
    """The colour of the last pixel in the first row of a PNG, which may have any filter but the average."""
    data, place, compressed, width, channels = picture.read_bytes(), 8, b"", 0, 3
    while place < len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        body = data[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            width, channels = int.from_bytes(body[:4], "big"), {2: 3, 6: 4}[body[9]]
        compressed += body if kind == b"IDAT" else b""
        place += 12 + length
    row = bytearray(zlib.decompress(compressed)[: 1 + width * channels])
    assert row[0] in {0, 1, 2, 4}, f"a filter of the kind {row[0]}"
    if row[0] in {1, 4}:  # in a first row both add the byte of the pixel before
        for index in range(1 + channels, len(row)):
            row[index] = (row[index] + row[index - channels]) % 256
    red, green, blue = row[-channels:][:3]
    return red, green, blue


@pytest.mark.parametrize(("only", "names"), [("asked", ["1", "3", "7"]), ("limited", ["3", "7"])])
def test_entries_are_shown_with_who_asks_for_what_and_why_it_gets_no_more(
    address: str, browser: Browser, only: str, names: list[str]
) -> None:
    output = browser.open(f"{address}/entries?only={only}", "--dump-dom").output
    assert re.findall(r">site-000(\d)</a>", output) == names
    assert "other-vo (other) asks for 8 queued, 40 in all: limits.per_vo.other<" in output
    assert "example-vo (example) asks for 12 queued, 90 in all<" in output  # why it is closed stands there already


def test_the_table_is_narrowed_while_one_types_and_the_address_keeps_it(address: str, browser: Browser) -> None:
    output = browser.open(f"{address}/entries?q=site-0003", "--dump-dom").output
    assert 'value="site-0003"' in output
    assert ">site-0003</a>" in output
    assert ">site-0004</a>" not in output
