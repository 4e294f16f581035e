"""Locale and time zone of the site, as programs would take them from the environment and the node's files."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pilot_agent.model import Fact
from pilot_agent.probes.node import Node

LOCALE = "os.locale"
TIME_ZONE = "os.timezone"

_LOCAL_TIME = "/etc/localtime"
_ZONES = re.compile(r"(?:^|/)zoneinfo(?:-[a-z]+)?/(?:posix/|right/)?([A-Za-z0-9_+/-]{1,80})$")
_ZONE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+/-]{0,79}")
# A time zone in the form of POSIX: the standard name and its offset at least, such as CET-1CEST,M3.5.0,M10.5.0/3.
_POSIX_ZONE = re.compile(r"(?:[A-Za-z]{3,10}|<[A-Za-z0-9+-]{3,10}>)[+-]?[0-9]{1,3}[^\s]{0,80}")
_ZONE_FILE_LIMIT_BYTES = 64 << 10


def is_utf8(locale: str) -> bool:
    """True for a locale's name with the codeset UTF-8, such as ``en_US.UTF-8`` or ``C.utf8@modifier``."""
    codeset = locale.partition(".")[2].partition("@")[0]
    return codeset.lower().replace("-", "") == "utf8"


def find_locale(environment: Mapping[str, str]) -> Fact:
    """``os.locale``: ``{"name", "variable", "utf8"}`` of the variable that decides how characters are encoded
    (locale(7): LC_ALL, then LC_CTYPE, then LANG; an empty one counts as not set)."""
    variables = ("LC_ALL", "LC_CTYPE", "LANG")
    variable = next((name for name in variables if environment.get(name)), None)
    if variable is None:
        return Fact.absent(LOCALE, "none of LC_ALL, LC_CTYPE and LANG is set: the C locale, ASCII only")
    name = environment[variable][:80]
    return Fact(LOCALE, {"name": name, "variable": variable, "utf8": is_utf8(name)}, source=variable)


def parse_zone_file(content: bytes) -> str | None:
    """The rule in the last line of a time zone file (RFC 8536, section 3.3); None for a file without one."""
    if not content.startswith(b"TZif") or not content.endswith(b"\n"):
        return None
    rule = content[:-1].rpartition(b"\n")[2].decode("ascii", "replace")
    return rule if _POSIX_ZONE.fullmatch(rule) else None


def zone_of_variable(value: str) -> str | None:
    """What ``TZ`` names: a zone, the zone of a file below zoneinfo, or a rule; None for another form (tzset(3))."""
    named = value.removeprefix(":").strip()
    linked = _ZONES.search(named)
    if linked:
        return linked[1]
    return named if _ZONE_NAME.fullmatch(named) or _POSIX_ZONE.fullmatch(named) else None


def find_time_zone(node: Node, environment: Mapping[str, str]) -> Fact:
    """``os.timezone``: a name such as ``Europe/Zurich`` or, where only the rule is known, that."""
    variable = environment.get("TZ")
    # TZ=":/etc/localtime" means the file, which is what counts without a variable too.
    if variable and variable.removeprefix(":") != _LOCAL_TIME:
        zone = zone_of_variable(variable)
        if zone:
            return Fact(TIME_ZONE, zone, source="TZ")
        return Fact.unknown(TIME_ZONE, f"TZ names no time zone: {variable[:80]!r}", source="TZ")
    linked = _ZONES.search(node.link(_LOCAL_TIME) or "")
    if linked:
        return Fact(TIME_ZONE, linked[1], source=_LOCAL_TIME)
    named = node.read_line("/etc/timezone")
    if named and _ZONE_NAME.fullmatch(named):
        return Fact(TIME_ZONE, named, source="/etc/timezone")
    content = node.read_bytes(_LOCAL_TIME, limit_bytes=_ZONE_FILE_LIMIT_BYTES)
    if content is None:
        return node.absence(TIME_ZONE, f"neither TZ nor {_LOCAL_TIME} is there: UTC applies", _LOCAL_TIME)
    rule = parse_zone_file(content)
    if rule:
        return Fact(TIME_ZONE, rule, source=_LOCAL_TIME)
    return Fact.unknown(TIME_ZONE, f"{_LOCAL_TIME} is no link to a zone, and no zone file with a rule")
