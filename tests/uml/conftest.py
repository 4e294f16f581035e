"""The fixtures of the integration tests: the same grid, on another kernel."""

from __future__ import annotations

from tests.integration.conftest import (
    good_token,
    grid,
    jobs,
    nothing_is_left_behind,
    payload,
    pilot,
    testbed_machine,
)

__all__ = ["good_token", "grid", "jobs", "nothing_is_left_behind", "payload", "pilot", "testbed_machine"]
