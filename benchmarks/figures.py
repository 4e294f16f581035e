"""A figure: what was measured, beside what, and whether its goal is met; kept as JSON and shown as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.estimate import Estimate, estimate, ratios


@dataclass(frozen=True, slots=True)
class Goal:
    """The most that a figure may be: its ratio to the peer, or its own value in its unit."""

    limit: float
    of: Literal["ratio", "value"] = "value"
    note: str = ""

    def met(self, measured: Estimate) -> bool:
        """A goal is missed only when the whole interval misses it."""
        return measured.low <= self.limit


@dataclass(frozen=True, slots=True)
class Samples:
    """One side's values, one for each round, in the figure's unit."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `peer` was measured in the same rounds; `beside` are medians that say how fast the machine was."""

    name: str
    unit: str
    ours: Samples
    peer: Samples | None = None
    goal: Goal | None = None
    method: str = ""
    beside: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[str, float] = field(default_factory=dict)

    def value(self) -> Estimate:
        """Our side's estimate. A value that cannot vary (a size) is its own interval."""
        values = self.ours.values
        return Estimate(values[0], values[0], values[0]) if len(values) == 1 else estimate(values)

    def ratio(self) -> Estimate | None:
        """The estimate of the per-round ratios, or None without a peer."""
        return estimate(ratios(self.ours.values, self.peer.values)) if self.peer else None

    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        measured = self.ratio() if self.goal.of == "ratio" else self.value()
        if measured is None:
            raise ValueError(f"{self.name}: its goal is a ratio, and it has no peer")
        return self.goal.met(measured)

    def document(self, commit: str, machine: Mapping[str, object]) -> dict[str, object]:
        """What `build/bench/NAME.json` holds."""
        value, ratio, peer = self.value(), self.ratio(), None
        if self.peer:
            other = estimate(self.peer.values)
            peer = {"name": self.peer.name, "median": other.median, "interval": [other.low, other.high]}
        return {
            "name": self.name,
            "unit": self.unit,
            "median": value.median,
            "interval": [value.low, value.high],
            "rounds": len(self.ours.values),
            "peer": peer,
            "ratio": {"median": ratio.median, "interval": [ratio.low, ratio.high]} if ratio else None,
            "commit": commit,
            "goal": asdict(self.goal) | {"met": self.met()} if self.goal else None,
            "method": self.method,
            "beside": dict(self.beside),
            "parts": dict(self.parts),
            "samples": list(self.ours.values),
            "peer_samples": list(self.peer.values) if self.peer else [],
            "machine": dict(machine),
        }


def write(figure: Figure, directory: Path, commit: str, machine: Mapping[str, object]) -> Path:
    """Write the figure's JSON file and return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{figure.name}.json"
    path.write_text(json.dumps(figure.document(commit, machine), indent=1) + "\n", encoding="utf-8")
    return path


HEADINGS = ("figure", "median", "95 % interval", "peer", "ratio", "goal", "")


def table(figures: Sequence[Figure]) -> str:
    """All figures, one line each, and below them how fast the machine was meanwhile."""
    rows = [HEADINGS, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    beside = {name: value for figure in figures for name, value in figure.beside.items()}
    lines += [f"beside: {name}: {_number(value)} s" for name, value in beside.items()]
    lines += [_parts_text(figure) for figure in figures if figure.parts]
    return "\n".join(lines)


def _row(figure: Figure) -> tuple[str, ...]:
    value, ratio, goal = figure.value(), figure.ratio(), figure.goal
    unit = figure.unit
    varied = value.low != value.high
    peer = f"{_number(estimate(figure.peer.values).median)} {unit} ({figure.peer.name})" if figure.peer else "-"
    return (
        figure.name,
        f"{_number(value.median)} {unit}",
        f"{_number(value.low)} .. {_number(value.high)}" if varied else "-",
        peer,
        f"{ratio.median:.2f} ({ratio.low:.2f} .. {ratio.high:.2f})" if ratio else "-",
        _goal_text(goal, unit) if goal else "-",
        {True: "met", False: "MISSED", None: ""}[figure.met()],
    )


def _parts_text(figure: Figure) -> str:
    return f"{figure.name}: " + ", ".join(f"{name} {_number(value)}" for name, value in figure.parts.items())


def _goal_text(goal: Goal, unit: str) -> str:
    return f"<= {goal.limit:g}{'x' if goal.of == 'ratio' else ' ' + unit}{goal.note}"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
