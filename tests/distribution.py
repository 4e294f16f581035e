"""How the tests are shared between the workers of pytest-xdist: by files, those that take long first."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from xdist.scheduler import LoadFileScheduling

LONGEST = (
    "tests/integration/test_time.py",
    "tests/integration/test_pilot_ends.py",
    "tests/integration/test_control.py",
    "tests/integration/test_container_faults.py",
    "tests/integration/test_token_refresh.py",
    "tests/integration/test_payload_on_nodes.py",
    "tests/integration/test_hostile_logins.py",
    "tests/integration/test_health.py",
    "tests/integration/test_pilot_refuses.py",
    "tests/integration/test_debug_commands.py",
    "tests/integration/test_setups.py",
    "tests/packaging/",
    "tests/probes/test_damage.py",
    "tests/lifecycle/test_keeper.py",
    "tests/test_docs.py",
    "tests/test_config.py",
    "tests/test_look.py",
    "tests/lifecycle/test_control.py",
)
"""The longest first: one that begins last is waited for alone."""

TOGETHER = ("tests/packaging/",)
"""Directories of which one worker runs everything: their tests share what is slow to build, and /tmp."""


def in_order(items: list[pytest.Item]) -> Iterable[pytest.Item]:
    """The tests of what takes longest, then all others as they were found."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    return sorted(items, key=lambda item: ranks.get(share(item.nodeid), len(ranks)))


def scheduler(config: pytest.Config, log: object) -> object:
    """Gives a worker one file after the other in the order of the tests, or a directory where its files belong
    together."""
    config.option.loadscopereorder = False
    made = LoadFileScheduling(config, log)
    made._split_scope = share
    return made


def share(nodeid: str) -> str:
    """What is given to one worker as a whole: a file, or a directory."""
    return next((place for place in TOGETHER if nodeid.startswith(place)), nodeid.partition("::")[0])
