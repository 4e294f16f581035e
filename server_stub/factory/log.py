"""One line of the log, whatever became of the place where it goes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable


def tell(say: Callable[..., object], event: str, **about: object) -> None:
    """Log one line; a log that is closed or on a full disk is no reason to stop either."""
    with contextlib.suppress(OSError, ValueError):
        say(event, **about)
