"""Colour for people's eyes: only on a terminal that can show it and whose owner does not mind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TextIO

GREEN, YELLOW, RED, DIM, BOLD = "32", "33", "31", "2", "1"
_MARKS = {"ok": GREEN, "warn": YELLOW, "FAIL": RED, "skip": DIM, "taken": GREEN, "not": DIM}
_LINE = re.compile(r"^(  )(ok|warn|FAIL|skip|taken|not)(?= )|^(.*\bis fit\b.*)$|^(.*\bis NOT fit\b.*)$", re.MULTILINE)


def wanted(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """True for a terminal, unless ``NO_COLOR`` is set to anything (no-color.org) or the terminal is a dumb one."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM", "dumb") != "dumb"


def coloured(text: str) -> str:
    """A page of checks with its marks and verdicts coloured; the words stay: nothing is told by colour alone."""

    def paint(match: re.Match[str]) -> str:
        indent, mark, fit, unfit = match.groups()
        if mark:
            return f"{indent}\x1b[{_MARKS[mark]}m{mark}\x1b[0m"
        return f"\x1b[{BOLD};{GREEN if fit else RED}m{fit or unfit}\x1b[0m"

    return _LINE.sub(paint, text)
