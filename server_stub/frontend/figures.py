"""What Prometheus is told of the frontend: the last cycle, and how the cycles went since the start."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from server_stub.frontend.told import CycleTold

SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
ENTRY = (
    "queued",
    "running",
    "held",
    "registered",
    "busy",
    "idle_slots",
    "useless_slots",
    "asked_queued",
    "asked_pilots",
)
WHOLE = ("idle_jobs", "unmatched_jobs", "unserved_jobs", "slots", "idle_slots", "frozen_cycles")


class Figures:
    """The figures of one running frontend."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._last = _Last()
        self._registry.register(self._last)
        self._cycles = Histogram(
            "pilot_frontend_cycle_seconds", "How long whole cycles took", buckets=SECONDS, registry=self._registry
        )
        self._parts = Gauge(
            "pilot_frontend_cycle_part_seconds", "Where the last cycle's time went", ["part"], registry=self._registry
        )
        self.failures = Counter(
            "pilot_frontend_cycle_failures", "Cycles that ended with an error of our own", registry=self._registry
        )
        self.reload_failures = Counter(
            "pilot_frontend_reload_failures", "Configurations that were not taken", registry=self._registry
        )

    @property
    def last(self) -> CycleTold | None:
        """The last whole cycle."""
        return self._last.told

    def tell(self, told: CycleTold) -> None:
        """Take over what a cycle told."""
        self._last.told = told
        self._cycles.observe(told.seconds["cycle"])
        for part, seconds in told.seconds.items():
            self._parts.labels(part).set(seconds)

    def text(self) -> bytes:
        """All figures in the text format."""
        return generate_latest(self._registry)


class _Last(Collector):
    """The last cycle's numbers: entries that are gone are gone here too."""

    told: CycleTold | None = None

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Without a cycle."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Of the last cycle."""
        told = self.told
        if told is None:
            return
        yield _one("last_cycle_timestamp_seconds", "When the last whole cycle began", told.at)
        yield _one("frozen", "1 while queries fail and nothing is decided", float(bool(told.frozen)))
        yield _one("missing_sources", "What of the pool could not be asked or answered in part", len(told.missing))
        for name in WHOLE:
            yield _one(name, f"Of the last cycle: {name.replace('_', ' ')}", getattr(told, name))
        up = GaugeMetricFamily("pilot_frontend_factory_up", "1 while a factory answers", labels=["factory"])
        for factory in told.factories:
            up.add_metric([factory.name], float(factory.offers == "fresh"))
        yield up
        for name in ENTRY:
            family = GaugeMetricFamily(
                f"pilot_frontend_entry_{name}", f"Of an entry: {name.replace('_', ' ')}", labels=["entry", "factory"]
            )
            for row in told.entries:
                family.add_metric([row.entry, row.factory], getattr(row, name))
            yield family


def _one(name: str, said: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"pilot_frontend_{name}", said, value=value)
