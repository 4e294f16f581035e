"""The report for Prometheus: a file for the node exporter's textfile collector (text exposition format 0.0.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pilot_agent.model import Json
from pilot_agent.output.read import read
from pilot_agent.output.reading import CHECK_STATUSES, FactRow, Reading
from pilot_agent.output.words import finite, one_line, shortened, value_text

PREFIX = "pilot_agent_"
MIB = 1024 * 1024
UNITS = {
    "mib": ("bytes", MIB),
    "gib": ("bytes", 1024 * MIB),
    "kib": ("bytes", 1024),
    "bytes": ("bytes", 1),
    "b": ("bytes", 1),
    "s": ("seconds", 1),
    "seconds": ("seconds", 1),
    "ms": ("seconds", 0.001),
    "cores": ("cores", 1),
}
"""Units of facts as Prometheus' conventions want them: base units, in the name's end."""
MOST_SERIES = 500
"""Series of one metric; a time series database suffers from more."""
LABEL_CHARACTERS = 200


@dataclass(slots=True)
class _Family:
    """One metric: gauges only, as a check has no memory."""

    name: str
    help: str
    samples: dict[tuple[tuple[str, str], ...], float] = field(default_factory=dict)

    def add(self, number: float, labels: Mapping[str, str] | None = None) -> None:
        """Another series; the first of several with the same labels stays."""
        key = tuple((name, shortened(one_line(value), LABEL_CHARACTERS)) for name, value in (labels or {}).items())
        if len(self.samples) < MOST_SERIES:
            self.samples.setdefault(key, number)


def prometheus(report: Json) -> str:
    """The report as exposition text. Names begin with ``pilot_agent_``; sizes are bytes and durations seconds; there
    are no time stamps on samples (the textfile collector refuses them), but one metric that holds it."""
    found = read(report)
    families: dict[str, _Family] = {}
    for family in (*_fixed(found), *_gpus(found), *_numbers(found)):
        if family.samples:
            families.setdefault(family.name, family)
    return "".join(_text(family) for family in families.values())


def _fixed(found: Reading) -> Iterator[_Family]:
    info = _Family("info", "The pilot-agent that wrote this and the account that it ran as.")
    info.add(1, {"version": found.version, "user": found.user})
    yield info
    fit = _Family("node_fit", "Whether the node is fit for a VO (empty: for whoever asked).")
    reason = _Family("node_unfit_info", "Why the node is not fit: the kind says who must act.")
    for verdict in found.fit:
        fit.add(verdict.fit, {"vo": verdict.vo})
        if not verdict.fit and verdict.problem:
            reason.add(1, {"vo": verdict.vo, "kind": verdict.problem.kind, "code": verdict.problem.code})
    yield fit
    yield reason
    state = _Family("check_status", "1 for the status that a check has, 0 for the others.")
    for check in found.checks:
        labels = {"check": check.name, "vo": check.vo, "where": check.where}
        for status in CHECK_STATUSES:
            state.add(check.status == status, {**labels, "status": status})
    yield state
    yield from _durations(found)
    yield from _others(found)


def _durations(found: Reading) -> Iterator[_Family]:
    stage = _Family("stage_duration_seconds", "How long a stage took.")
    probe = _Family("probe_duration_seconds", "How long a probe took.")
    good = _Family("probe_success", "Whether a probe ended well.")
    for span in found.spans:
        if span.is_stage:
            stage.add(span.seconds, {"stage": span.stage})
        elif span.stage == "probe":
            labels = {"probe": span.what, "plugin": span.plugin}
            probe.add(span.seconds, labels)
            good.add(span.status == "ok", labels)
    yield from (stage, probe, good)


def _others(found: Reading) -> Iterator[_Family]:
    ready = _Family("service_ready", "Whether a service is ready.")
    for service in found.services:
        ready.add(service.status == "ready", {"service": service.name})
    yield ready
    score = _Family("benchmark_score", "What the node scored, in the unit of the benchmark.")
    for benchmark in found.benchmarks:
        if benchmark.number is not None:
            score.add(benchmark.number, {"benchmark": benchmark.name, "unit": benchmark.unit})
    yield score
    left = _Family("leftovers", "Things that could not be removed after the check.")
    left.add(len(found.leftovers))
    yield left
    taken = _Family("check_duration_seconds", "How long the whole check took.")
    taken.add(found.seconds)
    yield taken
    moment = _Family("check_timestamp_seconds", "When the check ended, in seconds since 1970.")
    if (when := _moment(found.finished or found.started)) is not None:
        moment.add(when)
    yield moment


def _moment(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text.endswith("Z") else None
    except (ValueError, OverflowError):
        return None


def _gpus(found: Reading) -> Iterator[_Family]:
    """What is known of each GPU, by its number, UUID and model."""
    usable = _Family("gpu_usable", "Whether jobs can use a GPU.")
    total = _Family("gpu_memory_bytes", "Memory of a GPU.")
    free = _Family("gpu_memory_free_bytes", "Free memory of a GPU.")
    devices = found.fact("gpu.devices")
    items = devices.value if devices and devices.status == "known" and isinstance(devices.value, list) else []
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            continue
        words = {name: "" if item.get(name) is None else value_text(item[name]) for name in ("uuid", "name", "state")}
        labels = {"gpu": str(number), "uuid": words["uuid"], "name": words["name"]}
        usable.add(words["state"] == "usable", labels)
        for family, key in ((total, "memory_mib"), (free, "memory_free_mib")):
            if (size := finite(item.get(key))) is not None:
                family.add(size * MIB, labels)
    yield from (usable, total, free)


def _numbers(found: Reading) -> Iterator[_Family]:
    """Every fact that is known and a number or yes and no."""
    for fact in found.facts:
        if fact.number is not None:
            name, factor, unit = _named(fact)
            words = f"Fact {one_line(shortened(fact.full_name, 100))}"
            family = _Family(name, f"{words} in {unit}." if unit else f"{words}.")
            family.add(fact.number * factor)
            yield family


def _named(fact: FactRow) -> tuple[str, float, str]:
    """Name, factor and unit of a fact's metric: ``memory.usable_mib`` in MiB is ``memory_usable_bytes``."""
    stem = re.sub(r"[^a-z0-9]+", "_", fact.full_name.lower()).strip("_")
    head, _, last = stem.rpartition("_")
    unit = last if last in UNITS and last not in ("b", "s") else fact.unit.lower()
    if fact.value is True or fact.value is False or unit not in UNITS:
        return stem[:120], 1, ""
    base, factor = UNITS[unit]
    stem = head if last == unit else stem
    if stem.endswith("_time") and base == "seconds":
        stem, base = stem.removesuffix("_time"), "timestamp_seconds"
    return f"{stem[:100]}_{base}", factor, base.replace("timestamp_seconds", "seconds since 1970")


def _text(family: _Family) -> str:
    name = PREFIX + family.name
    words = family.help.replace("\\", r"\\").replace("\n", r"\n")
    lines = [f"# HELP {name} {words}", f"# TYPE {name} gauge"]
    for labels, number in family.samples.items():
        inside = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels)
        lines.append(f"{name}{{{inside}}} {_number(number)}" if inside else f"{name} {_number(number)}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(number: float) -> str:
    """A number as Go's ParseFloat reads it."""
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else repr(float(number))
