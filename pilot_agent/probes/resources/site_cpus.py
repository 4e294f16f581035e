"""What the site's configuration says of cores: a number that bounds them, or whose part of the node counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pilot_agent.model import Json
from pilot_agent.probes.parsing import configured_integer


@dataclass(frozen=True, slots=True)
class SiteCpus:
    """``number`` bounds the cores (None: it does not). ``batch`` is False only for the word ``node``: then all that
    the kernel allows counts, whatever the batch system says of this job."""

    number: int | None = None
    batch: bool = True


def site_cpus(config: Mapping[str, Json]) -> SiteCpus:
    """The meaning of ``site.cpus``; ``auto``, ``slot`` and nothing are the same: the job's part of the node."""
    site = config.get("site")
    value = site.get("cpus") if isinstance(site, Mapping) else None
    word = value.lower() if isinstance(value, str) else ""
    return SiteCpus(configured_integer(config, "site", "cpus"), batch=word != "node")
