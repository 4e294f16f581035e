"""Entries as a frontend knows them: what a pilot there would be, and what pilots before it found there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pilot_agent.model import Fact, FactStatus
from server_stub.frontend.jobs import Scalar

PRIOR_SUCCESSES = 4
"""As if so many pilots had gone well before the first: one bad beginning is no verdict on an entry."""


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """The facts that one pilot of the entry reported of its node, and when."""

    at: float
    facts: Mapping[str, Fact]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How pilots of an entry, and jobs in them, ended lately. ``jobs_failed`` are those that failed at once."""

    pilots: int = 0
    pilots_failed: int = 0
    jobs: int = 0
    jobs_failed: int = 0

    @property
    def failure_rate(self) -> float:
        """The larger share of failures, of pilots or of jobs; near 0 while little is known."""
        return max(
            self.pilots_failed / (self.pilots + PRIOR_SUCCESSES),
            self.jobs_failed / (self.jobs + PRIOR_SUCCESSES),
        )


@dataclass(frozen=True, slots=True)
class Offer:
    """One entry. Of several factories' entries each has its factory's name after its own: ``entry@factory``.

    Sizes are those of a whole pilot; a disk of 0 is not known and bounds nothing. ``vos`` are the VOs that it takes,
    all when empty; ``containers`` is the site's word in the negotiation. ``attributes`` are for policies and for the
    expressions of jobs, ``benchmarks`` scores by name. ``start_seconds`` is how long a pilot usually takes from the
    request until jobs begin in it.
    """

    name: str
    site: str = ""
    cores: int = 1
    memory_mib: int = 2048
    disk_mib: int = 0
    gpus: int = 0
    walltime_seconds: int = 86400
    vos: frozenset[str] = frozenset()
    containers: str = "OPTIONAL"
    downtime: bool = False
    attributes: Mapping[str, Scalar] = field(default_factory=dict)
    seen: tuple[NodeSeen, ...] = ()
    outcomes: Outcomes = field(default_factory=Outcomes)
    benchmarks: Mapping[str, float] = field(default_factory=dict)
    start_seconds: float = 600.0

    def ad(self) -> dict[str, Scalar]:
        """What expressions see of the entry, under the names that its pilots' machine ads have."""
        entry, _, factory = self.name.partition("@")
        return {
            "GLIDEIN_Entry_Name": entry,
            **({"GLIDEIN_Factory": factory} if factory else {}),
            "GLIDEIN_Site": self.site,
            "GLIDEIN_CPUS": self.cores,
            "GLIDEIN_MaxMemMBs": self.memory_mib,
            "GLIDEIN_Max_Walltime": self.walltime_seconds,
            "TotalGPUs": self.gpus,
            "FailureRate": self.outcomes.failure_rate,
            **{_benchmark_name(name): score for name, score in self.benchmarks.items()},
            **self._node(),
            **self.attributes,
        }

    def _node(self) -> dict[str, Scalar]:
        """What the newest node's facts say under the names of a machine ad."""
        if not self.seen:
            return {}
        facts = max(self.seen, key=lambda node: node.at).facts
        named = {"PilotOsId": "os.id", "PilotMicroarch": "os.microarch", "PilotOsGlibc": "os.glibc", "Arch": "os.arch"}
        found: dict[str, Scalar] = {}
        for attribute, name in named.items():
            fact = facts.get(name)
            if fact is not None and fact.status is FactStatus.KNOWN and isinstance(fact.value, str):
                found[attribute] = fact.value.upper() if attribute == "Arch" else fact.value
        return found


def _benchmark_name(name: str) -> str:
    letters = "".join(character if character.isalnum() else "_" for character in name.upper())
    return f"BENCHMARK_{letters}"
