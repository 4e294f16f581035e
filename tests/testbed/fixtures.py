"""Pytest fixtures and the one place where testbed tests are skipped, and only when the caller asked for it.

A conftest takes them over with `from tests.testbed.fixtures import grid, pytest_collection_modifyitems`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testbed import prerequisites
from tests.testbed.grid import Grid
from tests.testbed.runs import run_directory

TESTBED_FIXTURES = frozenset({"grid", "testbed_machine"})


@pytest.fixture(scope="session")
def testbed_machine() -> None:
    """This machine can hold the testbed. Fails, naming everything that is missing, when it cannot."""
    prerequisites.require()


@pytest.fixture(scope="session")
def grid(testbed_machine: None) -> Iterator[Grid]:
    """A running grid that all tests of the session share. A test leaves it as it found it."""
    with run_directory() as directory, Grid(directory) as running:
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests of the testbed as skipped when every missing prerequisite is named in PILOT_TEST_SKIP, and only then.

    Anything missing that is not named there is left to fail in `testbed_machine`.
    """
    users = [item for item in items if TESTBED_FIXTURES & set(getattr(item, "fixturenames", ()))]
    excused = prerequisites.skipped()
    if not users or not excused:
        return
    names = {item.name for item in prerequisites.missing()}
    if names and names <= excused:
        reason = f"{prerequisites.SKIP_VARIABLE} names {', '.join(sorted(names))}, missing here"
        for item in users:
            item.add_marker(pytest.mark.skip(reason=reason))
