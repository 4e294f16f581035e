"""The verdict over facts on what an entry or a VO demands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from pilot_agent.model import (
    UNLIMITED,
    CheckResult,
    CheckStatus,
    Fact,
    FactStatus,
    Failure,
    FailureKind,
    Json,
    Limit,
    PilotError,
)
from pilot_agent.requirement_text import Requirement, Step
from pilot_agent.spelling import nearest, unit_of

_BATCH_SOURCE = re.compile(
    r"SLURM|scontrol|PBS|NCPUS|qstat|NSLOTS|PE_HOSTFILE|LSB_|HTCondor|MJF|allocated_cpu|affinity"
)
_UNMET: dict[str, CheckStatus] = {
    "required": CheckStatus.FAIL,
    "preferred": CheckStatus.WARN,
    "reported": CheckStatus.SKIP,
}
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_VERSION_PART = re.compile(r"[0-9]+|[^0-9]+")
_DIGITS = re.compile(r"[0-9]+")
SHOWN_CHARACTERS = 120


def evaluate(requirement: Requirement, facts: Mapping[str, Fact], level: str = "required") -> CheckResult:
    """The verdict over these facts. What is not met, or not known, fails a required one, warns for a preferred one
    and is only told for a reported one.

    Raises ``PilotError`` (requirement.level) for another level.
    """
    if level not in _UNMET:
        message = f"requirement {requirement.text!r}: level {level!r} is none of {', '.join(_UNMET)}"
        raise PilotError(Failure(FailureKind.CONFIG, "requirement.level", message, "correct the level"))
    fact, rest = _find(requirement.steps, facts)
    if fact is None:
        return _unheard_of(requirement, level, facts)
    if fact.status is FactStatus.UNKNOWN:
        return _unmet(requirement, level, fact, f"{requirement.path} is not known: {fact.detail}")
    try:
        holds, found = _holds(requirement, fact, rest)
    except _Incomparable as error:
        return _mistaken(requirement, level, f"{error}; needed {requirement.text}", error.hint)
    except _NoSuchPart as error:
        return _misspelt(requirement, level, f"{requirement.path}: {error.args[0]}")
    except LookupError as error:
        return _unmet(requirement, level, fact, f"{requirement.path} is not known: {error.args[0]}")
    unit = f" {unit_of(fact.value, fact.unit)}" if fact.unit and not rest else ""
    told = f"found {requirement.path} {found}{unit}, needed {_needed(requirement)}{_eaten(requirement, fact)}"
    if holds is not requirement.negated:
        return CheckResult(requirement.text, CheckStatus.PASS, told)
    return _unmet(requirement, level, fact, told)


def _needed(requirement: Requirement) -> str:
    """The condition without the name, which was said already."""
    text = requirement.text.removeprefix("node.")
    return text.removeprefix(requirement.path).strip() or text


def unanswerable(
    requirement: Requirement, level: str, failure: Failure, *, where: Literal["host", "image"] = "host"
) -> CheckResult:
    """The verdict where there is nothing to judge over, for the reason that ``failure`` gives."""
    message = f"{requirement.path} is not known: {failure.message}; needed {requirement.text}"
    return CheckResult(
        requirement.text, _UNMET[level], message, failure.hint, where=where, kind=failure.kind, code=failure.code
    )


class _Incomparable(Exception):  # noqa: N818 - it names what is wrong
    """A value that cannot be compared with what was found, whatever a site does; ``hint`` says what to write."""

    def __init__(self, message: str, hint: str = "a plain number in the fact's unit, or a version") -> None:
        super().__init__(message)
        self.hint = hint


class _NoSuchPart(LookupError):  # noqa: N818 - it names what is wrong
    """A path into a value that has no such part on any node."""


def _misspelt(requirement: Requirement, level: str, message: str) -> CheckResult:
    hint = "whoever wrote the requirement corrects the path; pilot-agent probe --json shows what is inside a fact"
    code = "requirement.unknown_part"
    return CheckResult(requirement.text, _UNMET[level], message, hint, kind=FailureKind.CONFIG, code=code)


def _mistaken(requirement: Requirement, level: str, message: str, better: str) -> CheckResult:
    hint = f"whoever wrote the requirement corrects it: {better}"
    code = "requirement.value"
    return CheckResult(requirement.text, _UNMET[level], message, hint, kind=FailureKind.CONFIG, code=code)


def _eaten(requirement: Requirement, fact: Fact) -> str:
    """A number is seldom asked only whether it is there: on a command line without quotes ``>`` is the shell's."""
    if requirement.operator != "exists" or isinstance(fact.value, bool) or not isinstance(fact.value, int | float):
        return ""
    return " (it has no operator; if one was written, the shell took it for a redirection: put quotes around it)"


def _unheard_of(requirement: Requirement, level: str, facts: Mapping[str, Fact]) -> CheckResult:
    """The verdict where no probe gives such a fact: whoever wrote the requirement must act, not the site."""
    message = f"{requirement.path} is no fact that a probe gives{nearest(requirement.path, facts)}"
    hint = "whoever wrote the requirement corrects the name, or loads the plugin that gives it; see pilot-agent probe"
    code = "requirement.unknown_fact"
    return CheckResult(requirement.text, _UNMET[level], message, hint, kind=FailureKind.CONFIG, code=code)


def _unmet(requirement: Requirement, level: str, fact: Fact, message: str) -> CheckResult:
    """The verdict with what would change it: what the probe says of that, else who bounds the resource."""
    if ", needed " not in message:
        message += f"; needed {requirement.text}"
    if fact.detail and fact.status is not FactStatus.UNKNOWN:
        hint = fact.detail
    elif fact.limits:
        # The reserve for the pilot follows from another limit: that one can be changed.
        own = [limit for limit in fact.limits if "site.memory_reserve_mib" not in limit.source] or fact.limits
        deciding = min(own, key=lambda limit: limit.number)
        hint = _change_of(deciding, requirement.path)
    else:
        hint = f"the site offers it, or whoever requires {requirement.path} (factory entry or VO) asks for less"
    code = f"requirement.{requirement.path}"
    return CheckResult(requirement.text, _UNMET[level], message, hint, kind=FailureKind.NODE_RESOURCE, code=code)


def _change_of(limit: Limit, path: str) -> str:
    """Who changes the limit that decides, by where it comes from."""
    source, less = limit.source, f"or whoever requires {path} asks for less"
    if source.startswith(("online", "/proc/cpuinfo", "MemTotal")):
        where = "online" if source.startswith("online") else f"({source})"
        has = f"{limit.number:.10g} {unit_of(limit.number, limit.unit)} {where}"
        return f"the node has only {has}; send the pilot to a larger one, {less}"
    if _BATCH_SOURCE.match(source):
        return (
            f"{source} decides: whoever submits the pilot (the factory's entry) asks the batch system for more, {less}"
        )
    if source.startswith(("statvfs", "quota")):
        return f"{source} decides: the site frees space there or names another directory in site.scratch, {less}"
    return f"{source} decides: the site raises it, {less}"


def _find(steps: tuple[Step, ...], facts: Mapping[str, Fact]) -> tuple[Fact | None, tuple[Step, ...]]:
    """The fact with the longest name that the path begins with, and the rest of the path."""
    names = next((index for index, step in enumerate(steps) if step == "*" or isinstance(step, int)), len(steps))
    for length in range(names, 0, -1):
        fact = facts.get(".".join(str(step) for step in steps[:length]))
        if fact is not None:
            return fact, steps[length:]
    return None, ()


def _holds(requirement: Requirement, fact: Fact, rest: tuple[Step, ...]) -> tuple[bool, str]:
    """Whether the condition holds, and what was found. Raises ``LookupError`` when the value has no such part, or it
    cannot be compared."""
    if fact.status is FactStatus.ABSENT:
        return False, f"absent ({fact.detail})"
    values = _select(fact.value, rest)
    if "*" in rest and not values:
        return False, "no element"
    met = all(_compare(requirement, value) for value in values)
    if requirement.operator == "contains":
        return met, f"{'with' if met else 'without'} {requirement.values[0]}"
    return met, _shown(values) if "*" in rest else _shown(values[0])


def _select(value: Json, steps: tuple[Step, ...]) -> list[Json]:
    if not steps:
        return [value]
    step, rest = steps[0], steps[1:]
    if step == "*":
        if not isinstance(value, list):
            raise _NoSuchPart(f"it is no list but {_shown(value)}")
        return [selected for item in value for selected in _select(item, rest)]
    if isinstance(step, int):
        if not isinstance(value, list) or step >= len(value):
            raise LookupError(f"it has no element {step}")
        return _select(value[step], rest)
    if not isinstance(value, dict) or step not in value:
        raise _no_part(step, value)
    return _select(value[step], rest)


def _no_part(step: str, value: Json) -> LookupError:
    """Why there is no such part. Where it can only be misspelt that is an error of whoever wrote it; else another node
    may have it."""
    if not isinstance(value, dict):
        return _NoSuchPart(f"it has no part {step!r}, it is {_shown(value)}")
    near = nearest(step, value)
    told = f"it has no part {step!r}, only {_shown(list(value))}{near}"
    return _NoSuchPart(told) if near else LookupError(told)


def _compare(requirement: Requirement, found: Json) -> bool:
    operator, values = requirement.operator, requirement.values
    if operator == "exists":
        return bool(found)
    if operator == "contains":
        if not isinstance(found, list):
            message = f"{requirement.path} is {_shown(found)}, and only a list contains anything"
            raise _Incomparable(message, f"{requirement.path} == {values[0]}")
        return any(_order(item, values[0]) == 0 for item in found)
    if isinstance(found, list):
        better = f"{requirement.path} contains {values[0]}"
        raise _Incomparable(f"{requirement.path} is a list of {len(found)} elements", better)
    if operator == "in":
        return any(_order(found, value) == 0 for value in values)
    if operator in ("==", "!="):
        return (_order(found, values[0]) == 0) is (operator == "==")
    order = _order(found, values[0])
    if order is None:
        raise _Incomparable(f"{requirement.path} is {_shown(found)}, which has no order with {values[0]}")
    return {">=": order >= 0, "<=": order <= 0, ">": order > 0, "<": order < 0}[operator]


def _order(found: Json, value: str | float | bool) -> int | None:
    """-1, 0 or 1 for found before, equal to or after the value; None when they have no order and are not equal."""
    if isinstance(found, bool) or isinstance(value, bool):
        return 0 if found is value else None
    if isinstance(found, int | float):
        if not _NUMBER.fullmatch(str(value)):
            return None
        number = float(value)
        return (found > number) - (found < number)
    if found == UNLIMITED and _NUMBER.fullmatch(str(value)):
        return 1
    if not isinstance(found, str):
        return None
    found, text = _spelt(found), _spelt(str(value))
    if found == text:
        return 0
    left, right = _VERSION_PART.findall(found), _VERSION_PART.findall(text)
    if not any(_DIGITS.fullmatch(part) for part in (*left, *right)):
        return None
    return _version_order(left, right)


def _version_order(left: list[str], right: list[str]) -> int | None:
    """Numbers by size, the text between them must be the same; a longer version comes after its beginning."""
    for ours, theirs in zip(left, right, strict=False):
        if _DIGITS.fullmatch(ours) and _DIGITS.fullmatch(theirs):
            # By length first: a number of thousands of digits is not for int().
            sizes = [(len(part.lstrip("0")), part.lstrip("0")) for part in (ours, theirs)]
            if sizes[0] != sizes[1]:
                return -1 if sizes[0] < sizes[1] else 1
        elif ours != theirs:
            return None
    return (len(left) > len(right)) - (len(left) < len(right))


def _spelt(text: str) -> str:
    """CPU levels are written x86_64-v3 by some and x86-64-v3 by others."""
    return text.replace("x86_64", "x86-64") if text.startswith("x86_64") else text


def _shown(value: Json) -> str:
    """The value in words; of many elements the first few and how many more there are."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return _few([f"{name} {_shown(item)}" for name, item in value.items()])
    if isinstance(value, list):
        return _few([_shown(item) for item in value])
    return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _few(items: Sequence[str]) -> str:
    count = 1
    while count < len(items) and len(", ".join(items[: count + 1])) <= SHOWN_CHARACTERS:
        count += 1
    more = f" and {len(items) - count} more" if len(items) > count else ""
    return (_cut(", ".join(items[:count])) or "none") + more
