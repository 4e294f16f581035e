"""Limits of a GlideinWMS group as limits of a frontend; the formulas behind them are the same."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pilot_agent.model import Json
from server_stub.factory.importing.xml import Part

NEVER_CYCLES = 1_000_000_000
REMOVING = ("WAIT", "IDLE", "ALL")


def limits_of(root: Part, group: Part) -> dict[str, Json]:
    """``limits``, ``tuning`` and ``patience``. What a group does not say, the whole frontend may."""
    config = group.one("config")
    running, idle = config.one("running_glideins_per_entry"), config.one("idle_glideins_per_entry")
    default = {
        "least_pilots": _whole(running.take("min")),
        "most_pilots": _whole(running.take("max")),
        "most_queued": _whole(idle.take("max")),
        "reserve": _whole(idle.take("reserve")),
        "idle_slots": _ceiling(config.one("idle_vms_per_entry")),
    }
    totals = {
        "pilots": _strictest(config, root.one("config"), "running_glideins_total"),
        "idle_slots": _strictest(config, root.one("config"), "idle_vms_total"),
    }
    ramp = config.take("ramp_up_attenuation") or root.one("config").take("ramp_up_attenuation")
    tuning = {"attenuation": _real(ramp), "relative_to_queue": _real(running.take("relative_to_queue"))}
    return {"limits": {"default": default, "totals": totals}, "tuning": tuning, "patience": _patience(config)}


def _patience(config: Part) -> dict[str, Json]:
    """When pilots are taken back: never, after so many cycles, or as usual."""
    removal = config.one("glideins_removal")
    kind, wait = removal.take("type", "NO").upper(), _whole(removal.take("wait"))
    margin = _whole(removal.take("margin")) or None
    if kind == "DISABLE":
        return {"wait_cycles": NEVER_CYCLES, "remove_cycles": NEVER_CYCLES, "margin": margin}
    if kind in REMOVING and wait:
        return {"wait_cycles": wait, "remove_cycles": max(wait, 10), "margin": margin}
    return {"margin": margin}


def _ceiling(part: Part) -> dict[str, Json]:
    most, curb = _whole(part.take("max")), _whole(part.take("curb"))
    return {"most": most, "curb": min(curb, most) if curb is not None and most is not None else curb}


def _strictest(group: Part, whole: Part, name: str) -> dict[str, Json]:
    """The smaller of what the group says and what holds for the frontend as a whole."""
    ceilings: list[Mapping[str, Json]] = [_ceiling(part.one(name)) for part in (group, whole)]
    found = {key: [one[key] for one in ceilings if one[key] is not None] for key in ("most", "curb")}
    return {key: min(numbers) if numbers else None for key, numbers in found.items()}


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _real(text: str) -> float | None:
    """A number of at least 1, as both have to be."""
    return max(1.0, float(text)) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) else None
