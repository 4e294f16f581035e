"""Fixtures shared by the tests of the end of life."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lifecycle.scenario import Pilot


@pytest.fixture
def pilot(tmp_path: Path) -> Iterator[Pilot]:
    """A pilot that is not started yet; whatever it leaves is ended after the test."""
    made = Pilot(tmp_path)
    yield made
    made.destroy()
