"""What Prometheus is told: uploads as they come, and pilots by entry and state as the store counts them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from server_stub.factory import overview
from server_stub.factory.store import Store

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)


class Metrics:
    """The figures of one running factory."""

    def __init__(self, store: Store) -> None:
        self._registry = CollectorRegistry()
        self.uploads = Counter(
            "pilot_factory_uploads", "What pilots sent, by what it was and how it was answered", ["kind", "status"],
            registry=self._registry,
        )  # fmt: skip
        self.upload_seconds = Histogram(
            "pilot_factory_upload_seconds", "From the head of an upload to its answer", ["kind"], buckets=SECONDS,
            registry=self._registry,
        )  # fmt: skip
        self.collected = Gauge(
            "pilot_factory_collected_timestamp_seconds", "When the batch system last answered", registry=self._registry
        )
        self._controlled = Counter(
            "pilot_factory_controlled_pilots", "Pilots that frontends' requests had submitted, removed or refused",
            ["frontend", "what"], registry=self._registry,
        )  # fmt: skip
        self.reload_failures = Counter(
            "pilot_factory_reload_failures", "Configurations that were not taken", registry=self._registry
        )
        self._registry.register(_Pilots(store))

    def controlled(self, frontend: str, what: str, pilots: int) -> None:
        """So many pilots of a frontend were submitted, removed or refused."""
        self._controlled.labels(frontend, what).inc(pilots)

    def text(self) -> bytes:
        """All figures in the text format."""
        return generate_latest(self._registry)


class _Pilots(Collector):
    """Counted anew each time they are asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Without the store being asked."""
        yield self._family()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Pilots that the store keeps."""
        family = self._family()
        for entry, counts in overview.entry_states(self._store).items():
            for state, number in counts.items():
                family.add_metric([entry, state.value], number)
        yield family

    @staticmethod
    def _family() -> GaugeMetricFamily:
        return GaugeMetricFamily("pilot_factory_pilots", "Pilots by entry and state", labels=["entry", "state"])
