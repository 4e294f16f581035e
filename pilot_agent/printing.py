"""Standard output for results; what is not the result goes elsewhere."""

from __future__ import annotations

import os
import sys

from pilot_agent import colour
from pilot_agent.output.words import clean


def print_text(text: str) -> None:
    """Write to standard output; a closed pipe or a full disk is not worth a word, the exit code still tells."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def print_page(text: str) -> None:
    """The same for a page that people read: what a node or a recording put into it cannot steer the terminal. Coloured
    where colour is wanted."""
    page = clean(text)
    print_text(colour.coloured(page) if colour.wanted(sys.stdout, os.environ) else page)
