"""The report as the output formats use it: typed, complete and clean, whatever the JSON holds.

A report may come from another version, a damaged file or a hostile node. What is missing or of the wrong type becomes
empty here, and every text is cleaned, so that no format has to ask again. Escaping is the business of each format.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pilot_agent.model import Json
from pilot_agent.output.words import finite

WHO_ACTS = {
    "usage": "whoever called the check",
    "node_resource": "the site",
    "network": "the site",
    "config": "the factory or the VO",
    "credential": "the VO",
    "corruption": "the factory",
    "plugin": "the author of the plugin",
    "internal": "the developers of pilot-agent",
    "preempted": "nobody: it was told to end",
}
"""Design section 6: the kind of a failure says who must act."""
NOT_THE_NODE = frozenset({"usage", "corruption", "plugin", "internal", "preempted"})
"""Kinds of failures after which nobody knows whether the node is fit: the check failed, not the node."""
CHECK_STATUSES = ("pass", "warn", "fail", "skip")


@dataclass(frozen=True, slots=True)
class Problem:
    """A failure: its kind says who must act, ``hint`` what would change it."""

    kind: str
    code: str
    message: str
    hint: str
    stage: str
    plugin: str

    @property
    def who(self) -> str:
        """Who must act; empty for a kind that nobody knows."""
        return WHO_ACTS.get(self.kind, "")


@dataclass(frozen=True, slots=True)
class CheckRow:
    """The verdict of one check; ``vo`` is empty for a check that concerns every one, ``status`` is a known one."""

    name: str
    status: str
    message: str
    hint: str
    where: str
    kind: str
    code: str
    vo: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """One place where an image was looked for, and what became of it."""

    path: str
    platform: str
    taken: bool
    proven: bool
    reason: str
    seconds: float
    seen: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """One bind, option or variable that somebody asked for in jobs' containers; ``reason`` is why it is not given."""

    kind: str
    what: str
    asked_by: str
    given: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Containers:
    """How jobs would be contained; ``runtime`` is one line, empty without one."""

    decision: str
    cell: str
    reason: str
    runtime: str
    default: str
    candidates: tuple[Candidate, ...]
    wishes: tuple[Wish, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """One way to CVMFS; ``mode`` is cvmfsexec's number of it, empty without one."""

    name: str
    mode: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ways:
    """By which way jobs would get CVMFS, the best first."""

    decision: str
    cell: str
    reason: str
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True)
class FitFor:
    """Whether the node is fit for a VO (empty: for whoever asked); ``problem`` decides when it is not."""

    vo: str
    fit: bool
    problem: Problem | None
    containers: Containers | None
    cvmfs: Ways | None = None

    @property
    def name(self) -> str:
        """How a text calls it."""
        return f"VO {self.vo}" if self.vo else "this node"


@dataclass(frozen=True, slots=True)
class Bound:
    """One source's limit of a quantity; the one that ``decides`` is its value."""

    source: str
    number: float
    decides: bool


@dataclass(frozen=True, slots=True)
class FactRow:
    """One fact; ``value`` is JSON as it came, only its texts are not clean."""

    group: str
    name: str
    value: Json
    unit: str
    status: str
    source: str
    detail: str
    where: str
    bounds: tuple[Bound, ...]

    @property
    def full_name(self) -> str:
        """``cpu.usable``."""
        return f"{self.group}.{self.name}"

    @property
    def number(self) -> float | None:
        """The value as a finite number (a boolean as 0 or 1); None when it is no number or not known."""
        return finite(self.value) if self.status == "known" else None


@dataclass(frozen=True, slots=True)
class Span:
    """One entry of the timeline; ``start`` is in seconds after the pilot's start."""

    stage: str
    plugin: str
    what: str
    start: float
    seconds: float
    status: str
    detail: str

    @property
    def is_stage(self) -> bool:
        """True for the entry that spans a whole stage."""
        return self.plugin == "agent" and self.what == "stage"


@dataclass(frozen=True, slots=True)
class Told:
    """A service, benchmark, plugin, leftover or count of jobs: a name, a status, and the rest as words in order."""

    name: str
    status: str
    words: tuple[tuple[str, str], ...]
    number: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """The whole report."""

    host: str
    user: str
    version: str
    pilot_id: str
    started: str
    finished: str
    layers: tuple[str, ...]
    status: str
    problem: Problem | None
    problems: tuple[Problem, ...]
    fit: tuple[FitFor, ...]
    checks: tuple[CheckRow, ...]
    containers: Containers | None
    cvmfs: Ways | None
    facts: tuple[FactRow, ...]
    spans: tuple[Span, ...]
    jobs: tuple[Told, ...]
    services: tuple[Told, ...]
    benchmarks: tuple[Told, ...]
    plugins: tuple[Told, ...]
    leftovers: tuple[Told, ...]
    attributes: tuple[tuple[str, str], ...]

    def fact(self, full_name: str) -> FactRow | None:
        """The fact of this name, if there is one."""
        return next((fact for fact in self.facts if fact.full_name == full_name), None)

    def checks_of(self, vo: str) -> list[CheckRow]:
        """The checks that count for a VO: its own and those for every one."""
        return [check for check in self.checks if check.vo in ("", vo)]

    def checks_together(self) -> list[CheckRow]:
        """The checks, those with which several VOs end alike as one; its ``vo`` names them all, or is empty when
        these are all there are."""
        alike: dict[CheckRow, list[str]] = {}
        for check in self.checks:
            alike.setdefault(replace(check, vo=""), []).append(check.vo)
        everyone = {fit.vo for fit in self.fit}
        return [
            replace(check, vo="" if "" in vos or (everyone <= set(vos) and len(vos) > 1) else ", ".join(vos))
            for check, vos in alike.items()
        ]

    @property
    def seconds(self) -> float:
        """From the pilot's start to the end of the last thing in the timeline."""
        return max((span.start + span.seconds for span in self.spans), default=0.0)
