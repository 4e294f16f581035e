"""Looks again, while jobs run, at the GPUs that the pilot found: one may fall off the bus, or its driver stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pilot_agent.facts import known_value
from pilot_agent.hookspecs import Context
from pilot_agent.lifecycle.gpu_watch import LOST_ATTRIBUTE
from pilot_agent.model import Fact, Json
from pilot_agent.probes.gpu.gpu import probe_gpu
from pilot_agent.probes.gpu.nvml import EXCLUSIVE

DEVICES = "gpu.devices"
LONGEST = 1500


def look_again(context: Context) -> dict[str, Json]:
    """Which of the GPUs that worked at the start work no longer, each with the reason."""
    # A test that computes would take the devices from the jobs.
    again = replace(context, config={})
    found = {fact.name: fact for fact in probe_gpu(again) if isinstance(fact, Fact)}
    now = {_identity(device): device for device in _devices(found)}
    # One that fell off the bus does not tell its identity any more, only its place.
    places = {_place(device): device for device in _devices(found) if not device.get("uuid")}
    lost = []
    for device in filter(_works, _devices(context.facts)):
        there = now.get(_identity(device)) or places.get(_place(device))
        if there is None or not (_works(there) or _in_use(there)):
            name = f"{device.get('name') or 'GPU'} {_identity(device)}"
            lost.append(f"{name}: {_reason(there, found.get(DEVICES))}")
    return {LOST_ATTRIBUTE: "; ".join(lost)[:LONGEST] or None}


def _devices(facts: Mapping[str, Fact]) -> list[dict[str, Any]]:
    return list(known_value(facts, DEVICES) or ())


def _identity(device: Mapping[str, Any]) -> str:
    return str(device.get("uuid") or device.get("pci_id") or _place(device))


def _place(device: Mapping[str, Any]) -> str:
    return f"{device.get('vendor')} {device.get('index')}"


def _in_use(device: Mapping[str, Any]) -> bool:
    """Whether a job, or a service, has it for itself: it was free when the pilot began."""
    return str(device.get("reason")).startswith(EXCLUSIVE)


def _works(device: Mapping[str, Any]) -> bool:
    return device.get("state") == "usable"


def _reason(device: Mapping[str, Any] | None, fact: Fact | None) -> str:
    if device is not None:
        return str(device.get("reason") or "it works no longer")
    return (fact.detail if fact is not None else "") or "it is not there any more"
