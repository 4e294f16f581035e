"""How long the factory's pages take to open in a browser without a window: 1,000 entries, 100,000 pilots, a score each.

The server is started anew for each round, so that each page is opened once by the first who asks for it and once more.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import insert, select

from benchmarks.chromium import Chromium, chromium
from benchmarks.factory_server import serving, write_configuration
from benchmarks.figures import Figure, Goal, Samples
from server_stub.entries import read_factory
from server_stub.factory.store import Store
from server_stub.factory.tables import PilotRow, ScoreRow
from tests.integration import factory_pages

NAME = "factory-pages"
ENTRIES, PILOTS = 1000, 100_000
MOST_SECONDS = 1.0
PAGES = {
    "entries": "/entries",
    "pilots": "/pilots",
    "failed pilots": "/pilots?state=ended&outcome=failed",
    "one pilot": "/pilots/p000000",
    "failures": "/failures",
    "benchmarks": "/benchmarks",
    "waste": "/waste",
}
AT_ONCE = 5000


def measure(rounds: int, say: Callable[[str], None], *, entries: int = ENTRIES, pilots: int = PILOTS) -> list[Figure]:
    """The slowest page of each round, first openings included. Raises ``MeasurementError``."""
    first: dict[str, list[float]] = {name: [] for name in PAGES}
    again: dict[str, list[float]] = {name: [] for name in PAGES}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        configuration = _factory(directory, entries, pilots)
        say(f"{NAME}: {entries} entries and {pilots} pilots are there")
        with chromium(directory / "profile") as browser:
            browser.open_seconds("data:text/html,warm")
            for number in range(rounds):
                with serving(configuration) as server:
                    for seconds in (first, again):
                        _open_all(browser, server.url, seconds)
                slowest = max(PAGES, key=lambda page: max(first[page][-1], again[page][-1]))
                worst = max(first[slowest][-1], again[slowest][-1])
                say(f"{NAME}: round {number + 1}: the slowest is {slowest}, {worst:.2f} s")
    slowest_of_each = tuple(
        max(max(seconds[page][number] for page in PAGES) for seconds in (first, again)) for number in range(rounds)
    )
    parts = {f"{page}, first": statistics.median(first[page]) for page in PAGES}
    parts |= {f"{page}, again": statistics.median(again[page]) for page in PAGES}
    return [
        Figure(
            NAME,
            "s",
            Samples("the slowest page", slowest_of_each),
            goal=Goal(MOST_SECONDS),
            method=f"{entries} entries, {pilots} pilots with a score each, SQLite; headless Chromium without cache, "
            "from the start of the navigation until the page has loaded, is laid out and was painted; each page once "
            "after the server's start, and once more",
            parts=parts,
        )
    ]


def _open_all(browser: Chromium, url: str, seconds: dict[str, list[float]]) -> None:
    for page, path in PAGES.items():
        seconds[page].append(browser.open_seconds(url + path)["open"])


def _factory(directory: Path, entries: int, pilots: int) -> Path:
    """A factory's file, and a store in which there is as much."""
    listed = [
        {"name": f"site-{one:04}", "site": f"Example_T{one % 3 + 1}", "payload": "sh", "limits": {"total": 150}}
        for one in range(entries)
    ]
    configuration = write_configuration(directory, entries=listed)
    with Store(read_factory(str(configuration)).database) as store:
        factory_pages.fill(store, entries=entries, pilots=pilots)
        with store.write() as session:
            columns = (PilotRow.id, PilotRow.entry, PilotRow.submitted)
            known = [(row.id, row.entry, row.submitted) for row in session.execute(select(*columns))]
            rows = [
                {
                    "pilot_id": name, "benchmark": "hash", "entry": entry, "unit": "MB/s", "number": 400 + at % 97,
                    "cpu_model": factory_pages.MODELS[factory_pages.hash_of(entry) % 3], "at": at,
                }
                for name, entry, at in known
            ]  # fmt: skip
            for start in range(0, len(rows), AT_ONCE):
                session.execute(insert(ScoreRow), rows[start : start + AT_ONCE])
    return configuration
