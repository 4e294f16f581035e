"""Asking a batch system's own programs: once, with a deadline, in UTC, and with an environment that changes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pilot_agent.probes.answers import Command
from pilot_agent.probes.node import Node

# These programs try a server that does not answer for far longer themselves.
ASK_SECONDS = 3.0
_USUAL_PATH = ("/usr/bin", "/bin", "/usr/sbin", "/sbin")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
_CTIME = r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) +([0-9]{1,2}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([0-9]{4})"


def ask(
    node: Node,
    argv: tuple[str, ...],
    environment: Mapping[str, str],
    kept: tuple[str, ...],
    *,
    words: tuple[str, ...] = (),
) -> Command:
    """Run a program found by the site's search path, relative parts of it left out.

    It gets the variables in ``kept`` that hold absolute paths and those in ``words`` that hold a plain word, the C
    locale, and UTC as its time zone.
    """
    named = [part for part in environment.get("PATH", "").split(":") if part.startswith("/")]
    variables = {name: environment[name] for name in kept if environment.get(name, "").startswith("/")}
    variables |= {name: environment[name] for name in words if re.fullmatch(_WORD, environment.get(name, ""))}
    variables |= {"PATH": ":".join(dict.fromkeys([*named, *_USUAL_PATH])), "LC_ALL": "C", "TZ": "UTC"}
    return node.run(argv, environment=variables, seconds=ASK_SECONDS)


def why_not(answer: Command) -> str:
    """Why a program told nothing, for people; empty when it succeeded."""
    if answer.ok:
        return ""
    name = answer.argv[0]
    if answer.missing:
        return f"{name} is not in the search path"
    said = answer.stderr.strip().splitlines()
    return answer.problem or f"{name} ended with {answer.code}{': ' + said[-1][:200] if said else ''}"


def parse_ctime(text: str) -> int | None:
    """Seconds since 1970 from ``Sat Nov 21 05:50:25 2026`` in UTC; None for other text."""
    match = re.fullmatch(_CTIME, text.strip())
    if match is None or match[1] not in _MONTHS:
        return None
    day, hour, minute, second, year = (int(match[number]) for number in range(2, 7))
    return utc_seconds(year, _MONTHS.index(match[1]) + 1, day, hour, minute, second)


def utc_seconds(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    """Seconds since 1970 of a time in UTC; None when there is no such time."""
    import calendar

    if not (1970 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        return None
    return calendar.timegm((year, month, day, hour, minute, second))
