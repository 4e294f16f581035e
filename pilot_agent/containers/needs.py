"""What a candidate requires of the node, and whether the node has it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pilot_agent.config_images import ALIASES, NEEDS, need_problem
from pilot_agent.model import ImageCandidate, Json
from pilot_agent.spelling import nearest

_LEVEL = re.compile(r"x86[-_]64(?:[-_]v([1-4]))?")


@dataclass(frozen=True, slots=True)
class NodeNeeds:
    """What candidates are matched with. Empty text: not known. ``cuda_driver`` is the newest CUDA version that the
    driver supports."""

    architecture: str = ""
    cpu_level: str = ""
    kernel: str = ""
    gpus: int = 0
    cuda_driver: str = ""


def architecture_named(name: str) -> str:
    """An architecture as ``uname -m`` names it."""
    return ALIASES.get(name.lower(), name.lower())


def unmet(candidate: ImageCandidate, node: NodeNeeds) -> str | None:
    """Why the node is not for the candidate, in words; None when it is. What is not known does not meet a need; only an
    unknown architecture refuses nothing."""
    if candidate.architecture:
        wanted = architecture_named(candidate.architecture)
        if node.architecture and wanted != node.architecture:
            return f"for {wanted}, and the node is {node.architecture}"
    return next((text for name, need in candidate.requires.items() if (text := _unmet(name, need, node))), None)


def _unmet(name: str, need: Json, node: NodeNeeds) -> str | None:
    if name not in NEEDS:
        known = nearest(name, NEEDS) or f"; known: {', '.join(NEEDS)}"
        return f"needs {name!r}, which this pilot does not know{known}"
    if problem := need_problem(name, need):
        return f"its need {name}: {problem}"
    match name:
        case "cpu_level":
            has = _level(node.cpu_level)
            if has is None:
                return f"needs CPU level {need}, and that of the node is not known"
            return f"needs CPU level {need}, and the node has {node.cpu_level}" if has < (_level(need) or 1) else None
        case "gpu":
            return _no_gpu(int(need), node.gpus)
        case "cuda":
            return _too_old("a driver for CUDA", str(need), node.cuda_driver)
        case _:
            return _too_old("kernel", str(need), node.kernel)


def _no_gpu(wanted: int, has: int) -> str | None:
    if has >= wanted:
        return None
    if not has:
        return "needs a GPU, and the node has none that is usable"
    return f"needs {wanted} GPUs, and the node has {has} that are usable"


def _too_old(what: str, need: str, has: str) -> str | None:
    if not has:
        return f"needs {what} {need}, and that of the node is not known"
    return f"needs {what} {need}, and the node has {has}" if _numbers(has) < _numbers(need) else None


def _level(text: str) -> int | None:
    match = _LEVEL.fullmatch(text)
    return int(match[1] or 1) if match else None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version.split("-", maxsplit=1)[0])]
