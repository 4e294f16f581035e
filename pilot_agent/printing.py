"""Standard output for results; what is not the result goes elsewhere."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

from pilot_agent import colour
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.output.words import clean

UNWRITTEN = "output.unwritten"
"""The code of the failure of an answer that cannot be written."""


def print_text(text: str) -> None:
    """Write to standard output; a reader that went away is not worth a word. Raises ``PilotError`` (usage) where the
    text cannot be written: whoever called must not believe what is there."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        # What is still in the buffer would raise again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if error.errno != errno.EPIPE:
            message = f"standard output cannot be written: {error.strerror}"
            hint = "free space where it goes, or let it go elsewhere"
            raise PilotError(Failure(FailureKind.USAGE, UNWRITTEN, message, hint)) from error


def warn(text: str) -> None:
    """Write to standard error, where it can be written."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())


def print_page(text: str) -> None:
    """The same for a page that people read: what a node or a recording put into it cannot steer the terminal. Coloured
    where colour is wanted."""
    page = clean(text)
    print_text(colour.coloured(page) if colour.wanted(sys.stdout, os.environ) else page)
