"""A frontend between a pool and a factory that tests decide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server_stub.frontend.identity import load_identity, make_key
from tests.server_stub.frontend.factory_double import FactoryDouble
from tests.server_stub.frontend.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    make_key(str(tmp_path / "frontend.key"))
    identity = load_identity("example-vo", str(tmp_path / "frontend.key"))
    with FactoryDouble(identity.public_key()) as factory:
        yield World(tmp_path, factory)
