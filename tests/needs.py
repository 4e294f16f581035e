"""What a test needs of the machine beside the testbed's own prerequisites. Nothing is skipped silently."""

from __future__ import annotations

import pytest

from tests.testbed import prerequisites


def need(name: str, present: bool, remedy: str) -> None:
    """Let a test go on when ``name`` is there. Otherwise it fails with what would change that, or is skipped when
    ``PILOT_TEST_SKIP`` names it."""
    if present:
        return
    if name in prerequisites.skipped():
        pytest.skip(f"{prerequisites.SKIP_VARIABLE} names {name}, missing here")
    pytest.fail(f"{name} is missing: {remedy}, or name it in {prerequisites.SKIP_VARIABLE} to leave this test out")
