"""What may disturb a measurement on a node, and what makes two measurements comparable."""

from __future__ import annotations

import os

from pilot_agent.files import read_bounded
from pilot_agent.lifecycle import node_list
from pilot_agent.lifecycle.owner import Owner
from pilot_agent.model import Json

CPUS = "sys/devices/system/cpu"


def conditions(cpus: frozenset[int] | set[int], workspace: str, *, root: str = "/") -> dict[str, Json]:
    """The load of the last minute, the frequency governors of ``cpus``, whether hardware threads share cores, other
    pilots of this account on the node (``workspace`` is the one that asks), and how many processors are used. None for
    what the node does not tell."""
    return {
        "load_1min": _load(root),
        "governor": _governors(cpus, root),
        "smt": _smt(root),
        "neighbours": _neighbours(workspace),
        "cores": len(cpus),
    }


def processor(root: str = "/") -> dict[str, str]:
    """The model and microcode of the first processor, and the kernel: a score holds as long as they stay. What the
    node does not tell is empty."""
    found = {"model": "", "microcode": ""}
    for line in _read(root, "proc/cpuinfo", 1 << 16).splitlines():
        name, _, value = line.partition(":")
        key = {"model name": "model", "microcode": "microcode"}.get(name.strip(), "")
        if key and not found[key]:
            found[key] = value.strip()[:200]
        elif not name.strip():
            break
    return found | {"kernel": _read(root, "proc/sys/kernel/osrelease")}


def _load(root: str) -> float | None:
    try:
        return float(_read(root, "proc/loadavg").split()[0])
    except (ValueError, IndexError):
        return None


def _governors(cpus: frozenset[int] | set[int], root: str) -> str | None:
    found = {_read(root, f"{CPUS}/cpu{number}/cpufreq/scaling_governor")[:32] for number in sorted(cpus)[:1024]}
    return ", ".join(sorted(name for name in found if name)) or None


def _smt(root: str) -> bool | None:
    return {"1": True, "0": False}.get(_read(root, f"{CPUS}/smt/active"))


def _neighbours(workspace: str) -> int:
    count = 0
    for other, owner in node_list.entries().items():
        try:
            count += other != workspace and bool(Owner(owner).alive())
        except (KeyError, TypeError, ValueError):
            continue
    return count


def _read(root: str, path: str, limit_bytes: int = 4096) -> str:
    try:
        return read_bounded(os.path.join(root, path), limit_bytes=limit_bytes).decode("utf-8", "replace").strip()
    except OSError:
        return ""
