"""What a report says of the pilot's HTCondor in words: which one was taken, slots, conditions, control groups of jobs,
transfer plugins, and when the pilot ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pilot_agent.model import Json
from pilot_agent.output.words import clipped, finite, one_line, size_text, value_text

FIELDS = ("condor", "startd", "time")
"""The parts of a report that are shown here."""
LONGEST = 300
Row = tuple[str, str]


def startd_rows(report: Json) -> list[Row]:
    """Names and texts, each text on one line; nothing for what the report does not say, whatever JSON it is."""
    data = _mapping(report)
    startd = _mapping(data.get("startd"))
    rows = [
        *_condor(_mapping(data.get("condor"))),
        *(("Slots", _slots(group)) for group in _mappings(startd.get("slots"))),
        *(("Condition", _policy(policy)) for policy in _mappings(startd.get("policies"))),
        ("Cgroups", _cgroups(_mapping(startd.get("job_cgroups")))),
        *(("Transfers", _plugin(plugin)) for plugin in _mappings(startd.get("transfer_plugins"))),
        ("End", _text(_mapping(data.get("time")), "summary")),
    ]
    return [(name, clipped(one_line(text), LONGEST)) for name, text in rows if text]


def _condor(condor: dict[str, Any]) -> Iterator[Row]:
    version, source, place = (_text(condor, name) for name in ("version", "source", "place"))
    if version:
        yield "HTCondor", ", ".join(filter(None, (version, source, place)))


def _slots(group: dict[str, Any]) -> str:
    """``2 slots, each 4 cores, 7.8 GiB memory, 50 % of the disk, 1 GPU, partitionable``."""
    count = _number(group, "count")
    words = [_counted(count, "slot") + (", each" if count > 1 else ":")]
    parts = [_counted(_number(group, "cores"), "core"), f"{size_text(_number(group, 'memory_mib'))} memory"]
    if disk := _number(group, "disk"):
        parts.append(f"{disk:g} % of the disk")
    if gpus := _number(group, "gpus"):
        parts.append(_counted(gpus, "GPU"))
    parts += [f"{value_text(number)} {value_text(name)}" for name, number in _mapping(group.get("resources")).items()]
    if group.get("partitionable") is True:
        parts.append("partitionable")
    if only := _text(group, "only_for"):
        parts.append(f"only for {only}")
    return f"{words[0]} {', '.join(parts)}"


def _policy(policy: dict[str, Any]) -> str:
    return f"{_text(policy, 'key')} of {_text(policy, 'layer')}: {_text(policy, 'expression')}"


def _cgroups(groups: dict[str, Any]) -> str:
    """Nothing where jobs have none, as on most nodes: the report says why."""
    if groups.get("used") is not True:
        return ""
    end = "a job ends at its slot's memory" if groups.get("memory_limit") == "hard" else "nothing is limited"
    return f"one for each job below {_text(groups, 'group')}: {_text(groups, 'controllers')}; {end}"


def _plugin(plugin: dict[str, Any]) -> str:
    name = _text(plugin, "path").rpartition("/")[2]
    if problem := _text(plugin, "problem"):
        return f"{name} is left out: {problem}"
    return f"{name} takes {value_text(plugin.get('schemes') or 'nothing')}"


def _counted(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"


def _number(data: dict[str, Any], key: str) -> float:
    return finite(data.get(key)) or 0.0


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    return "" if value is None or value == "" else value_text(value)


def _mapping(value: Json) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: Json) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
