"""What a test says of an outcome; each failed one tells what was found in its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pilot_agent.model import CheckResult, CheckStatus, Fact, FactStatus, Failure, FailureKind, Json, ServiceState
from pilot_agent.sdk.rehearsal import Outcome

_ANY: Any = object()


def assert_fact(
    outcome: Outcome,
    name: str,
    value: Json = _ANY,
    *,
    status: FactStatus | str = FactStatus.KNOWN,
    detail: str = "",
) -> Fact:
    """The fact ``name`` has this status and, where given, this value; ``detail`` is found in why it is not known."""
    fact = outcome.facts.get(name)
    if fact is None:
        family = name.partition(".")[0]
        near = [one for one in outcome.facts if one.partition(".")[0] == family]
        raise AssertionError(f"there is no fact {name}; of {family} there are: {_listed(near)}")
    if fact.status != status:
        raise AssertionError(
            f"the fact {name} is {fact.status}, not {FactStatus(status)}: {fact.value!r} {fact.detail}"
        )
    if value is not _ANY and fact.value != value:
        raise AssertionError(f"the fact {name} is {fact.value!r}, not {value!r} (source: {fact.source})")
    if not re.search(detail, fact.detail):
        raise AssertionError(f"the detail of the fact {name} is {fact.detail!r}, which {detail!r} is not found in")
    return fact


def assert_check(
    outcome: Outcome, name: str, status: CheckStatus | str = CheckStatus.PASS, *, message: str = ""
) -> CheckResult:
    """The check ``name`` came to this verdict, and ``message`` (a regular expression) is found in its message."""
    found = [check for check in outcome.checks if check.name == name]
    if not found:
        raise AssertionError(f"there is no check {name}; there are: {_listed(check.name for check in outcome.checks)}")
    check = found[0]
    if check.status != status:
        raise AssertionError(f"the check {name} says {check.status}, not {CheckStatus(status)}: {check.message}")
    if not re.search(message, check.message):
        raise AssertionError(f"the message of the check {name} is {check.message!r}; {message!r} is not found in it")
    return check


def assert_fails(outcome: Outcome, kind: FailureKind | str, code: str = "") -> Failure:
    """One of the failures is of this kind and, where given, of this code."""
    for failure in outcome.failures:
        if failure.kind == kind and code in ("", failure.code):
            return failure
    told = _listed(f"{failure.kind} {failure.code}: {failure.message}" for failure in outcome.failures)
    raise AssertionError(f"no failure is {FailureKind(kind)} {code}".rstrip() + f"; there are: {told}")


def assert_plugin_ran(outcome: Outcome, plugin: str, *names: str) -> None:
    """What was run for the plugin ended well: all of it, or with ``names`` these, which were all run."""
    ran = [entry for entry in outcome.of_plugin(plugin) if not names or entry.what in names]
    wrong = [f"{entry.what}: {entry.status} {entry.detail}" for entry in ran if entry.status not in ("ok", "ready")]
    if wrong:
        raise AssertionError(f"not all of {plugin} ended well: {_listed(wrong)}\n{outcome.log(plugin)}".rstrip())
    missing = sorted(set(names) - {entry.what for entry in ran})
    if missing or not ran:
        told = _listed(entry.what for entry in outcome.of_plugin(plugin))
        raise AssertionError(f"of {plugin} {_listed(missing) if missing else 'nothing'} was run; there was: {told}")


def assert_service(outcome: Outcome, name: str, status: str = "ready") -> ServiceState:
    """The service stood so when its stage ended."""
    found = [service for service in outcome.services if service.name == name]
    if not found:
        raise AssertionError(f"there is no service {name}; there are: {_listed(one.name for one in outcome.services)}")
    if found[0].status != status:
        raise AssertionError(f"the service {name} is {found[0].status}, not {status}: {found[0].message}")
    return found[0]


def assert_attribute(outcome: Outcome, name: str, value: Json = _ANY) -> Json:
    """The machine ad has the attribute, and it is ``value``; for runs through ``advertise``."""
    if name not in outcome.attributes:
        raise AssertionError(f"the ad has no {name}; it has: {_listed(outcome.attributes)}")
    found = outcome.attributes[name]
    if value is not _ANY and found != value:
        raise AssertionError(f"{name} is {found!r} in the ad, not {value!r}")
    return found


def assert_event(outcome: Outcome, event: str, **data: Json) -> Mapping[str, Json]:
    """``events.jsonl`` has an event of this name with these data, among others."""
    return _one_of(outcome.events, {"event": event, **data}, "event")


def assert_journaled(outcome: Outcome, **fields: Json) -> Mapping[str, Json]:
    """The journal has an entry with these fields, among others: what must be undone was written down."""
    return _one_of(outcome.journal, fields, "line of the journal")


def assert_reported(outcome: Outcome, path: str, value: Json = _ANY) -> Json:
    """The report has something at ``path`` (``node.cpu.usable.value``, ``checks.0.name``), and it is ``value``."""
    found: Json = outcome.report
    done: list[str] = []
    for part in path.split("."):
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, TypeError, ValueError):
            there = _listed(found) if isinstance(found, dict) else f"{found!r}"[:200]
            raise AssertionError(f"the report has no {path}; at {'.'.join(done) or 'its top'} is: {there}") from None
        done.append(part)
    if value is not _ANY and found != value:
        raise AssertionError(f"{path} is {found!r} in the report, not {value!r}")
    return found


def assert_nothing_left(outcome: Outcome) -> None:
    """No process, mount or file stayed behind."""
    if outcome.leftovers:
        raise AssertionError(f"something stayed behind: {_listed(map(str, outcome.leftovers))}")


def _one_of(lines: Iterable[Mapping[str, Json]], wanted: Mapping[str, Json], what: str) -> Mapping[str, Json]:
    known = list(lines)
    for line in known:
        if all(name in line and line[name] == value for name, value in wanted.items()):
            return line
    key = next(iter(wanted))
    told = _listed(f"{line.get(key)}" for line in known if key in line)
    raise AssertionError(f"no {what} has {dict(wanted)}; {key} of those that are there: {told}")


def _listed(names: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, names))) or "none"
