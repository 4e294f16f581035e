"""Pilots that run, as the batch system says, and say nothing themselves.

A factory that takes uploads hears of each of its pilots from time to time. Of one that fell silent the node may be cut
off or dead: until the batch system notices, nobody else knows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from sqlalchemy import ColumnElement, false, func

from pilot_agent.config_keys import KEYS
from pilot_agent.model import Json
from server_stub.entries import Factory
from server_stub.factory.pilots import Pilot, PilotState
from server_stub.factory.tables import PilotRow

SILENT = "silent"
"""Beside the states that the batch system tells."""
MISSED = 3
"""How many signs of life in a row are missing."""
HEARTBEAT, PERIOD = "heartbeat_seconds", "period_seconds"
DEFAULTS = {
    name: float(next(key.default for key in KEYS if key.path == f"upload.{name}")) for name in (HEARTBEAT, PERIOD)
}


def silent_seconds(factory: Factory) -> float | None:
    """After how long a running pilot of which nothing came is silent: as long as the most patient of the entries needs.
    None where pilots send nothing at all."""
    if not factory.uploads:
        return None
    return max(_patience(factory.pilot, entry.pilot) for entry in factory.entries)


def _patience(*layers: Mapping[str, Json]) -> float:
    """Of one entry; a value of the later layer counts."""
    told = dict(DEFAULTS)
    for layer in layers:
        given = layer.get("upload") or {}
        told |= {name: float(given[name]) for name in told if given.get(name) is not None}
    return MISSED * told[HEARTBEAT] + told[PERIOD]


def silent_before(factory: Factory, now: float | None = None) -> float | None:
    """The moment since which a pilot that is not silent has been heard, epoch seconds; None where pilots send
    nothing."""
    seconds = silent_seconds(factory)
    return None if seconds is None else (time.time() if now is None else now) - seconds


def is_silent(before: float | None) -> ColumnElement[bool]:
    """The same as ``silent_since`` as a condition."""
    if before is None:
        return false()
    heard = func.coalesce(PilotRow.seen, PilotRow.started)
    return (PilotRow.state == PilotState.RUNNING.value) & ~PilotRow.report & (heard < before)


def silent_since(pilot: Pilot, before: float | None) -> float | None:
    """When a pilot that should be heard last was, or began if it never was; None for one that is not silent. One whose
    report came has said all there is: it holds its slot."""
    if before is None or pilot.state is not PilotState.RUNNING or pilot.report:
        return None
    heard = pilot.seen if pilot.seen is not None else pilot.started
    return heard if heard is not None and heard < before else None
