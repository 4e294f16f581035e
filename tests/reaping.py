"""Whether a test's process adopts orphans (prctl(2)), which must end with the test that needs it."""

from __future__ import annotations

import ctypes

from pilot_agent.lifecycle.subreaper import PR_SET_CHILD_SUBREAPER

PR_GET_CHILD_SUBREAPER = 37


def no_subreaper() -> None:
    """Adopt no orphans any more."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


def is_subreaper() -> bool:
    """Whether this process adopts orphans: then each later test finds children that are not its own."""
    found = ctypes.c_int()
    assert ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0) == 0
    return bool(found.value)
