"""HTCondor's Python bindings, loaded when they are first needed and without a trace in the environment."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

_CONFIG = "CONDOR_CONFIG"


@cache
def classad2() -> Any:
    """The module ``classad2`` with HTCondor's own functions (such as ``stringListMember``), which it knows only once
    ``htcondor2`` is loaded. On a machine without HTCondor that sets a variable, which no child should inherit."""
    before = os.environ.get(_CONFIG)
    import classad2 as module
    import htcondor2  # noqa: F401

    if before is None:
        os.environ.pop(_CONFIG, None)
    return module
