"""The small forms that the kernel, batch systems and configuration write numbers in."""

from __future__ import annotations

from collections.abc import Mapping

from pilot_agent.model import Json

# Eighteen digits fit in every integer type that a reader of the facts may use.
_MOST_DIGITS = 18
_MOST_CPUS = 1 << 16


def parse_integer(text: str | None) -> int | None:
    """A whole number of plain digits, blanks around it allowed; None for anything else."""
    digits = (text or "").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS else None


def parse_cpu_list(text: str | None) -> frozenset[int] | None:
    """The members of a kernel list such as ``0-3,8,16-31:2/4``; None when it is damaged or empty.

    The format is that of bitmap lists in the kernel's documentation (``cpuset``, ``kernel-parameters``).
    """
    members: set[int] = set()
    for part in (text or "").strip().split(","):
        span, colon, stride = part.partition(":")
        begin, dash, end = span.partition("-")
        used, slash, group = stride.partition("/")
        numbers = [parse_integer(begin), parse_integer(end if dash else begin)]
        numbers += [parse_integer(used if colon else "1"), parse_integer(group if colon else "1")]
        first, last, taken, period = (-1 if number is None else number for number in numbers)
        if not 0 <= first <= last < _MOST_CPUS or not 0 < taken <= period or (colon and not (dash and slash)):
            return None
        members.update(cpu for cpu in range(first, last + 1) if (cpu - first) % period < taken)
    return frozenset(members)


def configured_integer(config: Mapping[str, Json], group: str, key: str) -> int | None:
    """The positive whole number configured as ``group.key``; None when there is none."""
    section = config.get(group)
    value = section.get(key) if isinstance(section, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
