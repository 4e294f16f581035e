"""The server and the runtime of the tests of the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.store.setting import Runtime, Server, https_server, make_runtime


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with a good certificate."""
    with https_server(tmp_path) as running:
        yield running


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """A runtime that pulls and unpacks."""
    return make_runtime(tmp_path)
