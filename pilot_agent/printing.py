"""Standard output for results; what is not the result goes elsewhere."""

from __future__ import annotations

import os
import sys


def print_text(text: str) -> None:
    """Write to standard output; a closed pipe or a full disk is not worth a word, the exit code still tells."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
