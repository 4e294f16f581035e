"""GPUs: every device this job may use, those of the node that it may not, and why one that is there cannot be used.

A node without GPUs costs two directory listings: no library is loaded and nothing is started. On others NVML and the
device nodes are asked in a child each, at the same time, so that a driver that hangs costs its deadline and no other
vendor's facts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, FactStatus, Finding, Json
from pilot_agent.probes.answers import Answer
from pilot_agent.probes.gpu.device import Gpu
from pilot_agent.probes.node import Node

if TYPE_CHECKING:
    from pilot_agent.probes.gpu.nvidia import Found

LOOKED_FOR = (
    "neither /dev/nvidia*, /proc/driver/nvidia nor /sys/class/kfd shows a GPU, nor /sys/class/drm a discrete one"
)
NO_NVIDIA = "neither /dev/nvidia* nor /proc/driver/nvidia exists"
NVML_TEST = "nvml"
# The driver wakes devices one after the other where nothing keeps them awake (persistence mode).
NVML_SECONDS = 15.0
# Beyond the slowest start of the driver seen in reports for eight devices; all devices are tested at the same time.
TEST_SECONDS = 20.0
_MOST_TOLD = 16
# Variables that batch systems set for a job with GPUs, and what they hold for one without.
_PROMISES = (
    *("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE", "_CONDOR_AssignedGPUs", "PBS_GPUFILE"),
    *("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
)
_NOTHING = ("10000", "-1", "nodevfiles", "na", "none")


@dataclass(frozen=True, slots=True)
class _Node:
    """What was found: devices that open (or nobody knows), those kept from this job with who keeps them, how many more
    there are, and NVIDIA's own facts."""

    devices: tuple[Gpu, ...]
    kept: tuple[tuple[Gpu, str], ...]
    unseen: int
    facts: tuple[Fact, ...]
    problem: str = ""
    source: str = ""


def probe_gpu(context: Context) -> Iterator[Finding]:
    """``gpu.devices`` (a list, see ``Gpu.as_json``) and ``gpu.count`` (those usable); ``gpu.hidden``, how many more the
    node has that this job may not use, and who keeps them; ``gpu.driver`` (NVIDIA's kernel module) and
    ``gpu.cuda_driver`` (the newest CUDA that it supports).

    With ``probes.gpu_test`` every usable NVIDIA device also computes, and is unusable unless the result is right.
    """
    node = Node.of(context)
    found = _look(node, context.environment)
    if not found.devices and not found.kept and not found.unseen and not found.problem:
        yield from _nothing(node, found)
        return
    granted, hidden, told = _granted(found, node, context.environment)
    if _wants_test(context) and granted:
        granted = _tested(node, granted, context.environment)
    yield from _devices(found, granted, told)
    count = len(hidden) + found.unseen
    reasons = [f"{_name(device)}: {why}" for device, why in hidden[:_MOST_TOLD]]
    if found.unseen:
        reasons.append(f"{found.unseen} that NVML refuses (Insufficient Permissions)")
    yield Fact("gpu.hidden", count, "GPUs", source=found.source, detail="; ".join(reasons))
    yield from found.facts


def _nothing(node: Node, found: _Node) -> Iterator[Fact]:
    """No GPU; nobody knows where a recording does not hold the places that were looked at."""
    nothing = node.absence("gpu.devices", LOOKED_FOR, "/dev", "/sys/class", source=found.source)
    yield nothing
    for name in ("gpu.count", "gpu.hidden"):
        if nothing.status is FactStatus.UNKNOWN:
            yield Fact.unknown(name, nothing.detail)
        else:
            yield Fact(name, 0, "GPUs", source=found.source)
    yield from found.facts


def _look(node: Node, environment: Mapping[str, str]) -> _Node:
    names, classes = node.names("/dev"), node.names("/sys/class")
    from_amd: tuple[Gpu, ...] = ()
    from_intel: tuple[Gpu, ...] = ()
    if "kfd" in classes:
        from pilot_agent.probes.gpu.amd import read_amd_gpus

        from_amd = read_amd_gpus(node)
    if "drm" in classes:
        from pilot_agent.probes.gpu.intel import read_intel_gpus

        from_intel = read_intel_gpus(node)
    nvidia = shows_nvidia(node, names)
    if not (nvidia or from_amd or from_intel):
        return _Node(_promised(node, environment), (), 0, _no_nvidia(), source="/sys/bus/pci")
    return _ask(node, environment, from_amd, from_intel, nvidia=nvidia)


def _promised(node: Node, environment: Mapping[str, str]) -> tuple[Gpu, ...]:
    """The GPUs without a driver, where a variable says that this job has one: else nobody misses them."""
    given = [environment.get(name, "").strip() for name in _PROMISES]
    if not any(text and text.lower() not in _NOTHING for text in given):
        return ()
    from pilot_agent.probes.gpu.driverless import driverless_gpus

    return driverless_gpus(node)


def shows_nvidia(node: Node, names: Sequence[str]) -> bool:
    """True when the node shows an NVIDIA device (``names`` are those in ``/dev``) or driver."""
    numbers = (name[6:] for name in names if name.startswith("nvidia"))
    return any(number.isascii() and number.isdigit() for number in numbers) or node.exists("/proc/driver/nvidia")


def _ask(
    node: Node, environment: Mapping[str, str], from_amd: tuple[Gpu, ...], from_intel: tuple[Gpu, ...], *, nvidia: bool
) -> _Node:
    """Ask the vendors' drivers, all at the same time."""
    from pilot_agent.probes.gpu import amd, device_nodes, intel
    from pilot_agent.probes.gpu import nvidia as nvidias
    from pilot_agent.probes.gpu.nvml_fields import ask_nvml

    listed = nvidias.listed_by_driver(node) if nvidia else ()
    paths = [*amd.amd_nodes(from_amd), *(device.node for device in from_intel if device.node)]
    if nvidia:
        paths += nvidias.nvidia_nodes(node, listed)
    trials: dict[str, Callable[[], Json]] = {device_nodes.TEST: lambda: device_nodes.open_nodes(paths)}
    if nvidia:
        trials[NVML_TEST] = lambda: ask_nvml(environment)
    answers = node.ask_all(trials, seconds=NVML_SECONDS)
    opened = answers[device_nodes.TEST]
    devices, kept = amd.judge_amd(node, amd.completed_by_smi(node, from_amd), opened)
    more, more_kept = intel.judge_intel(node, from_intel, opened)
    devices, kept, sources = (*devices, *more), (*kept, *more_kept), ["sysfs"] if from_amd or from_intel else []
    if not nvidia:
        return _Node(devices, kept, 0, _no_nvidia(), source=", ".join(sources))
    found = nvidias.judge_nvidia(node, listed, answers[NVML_TEST], opened)
    sources.insert(0, "/proc/driver/nvidia" if found.told.problem else "NVML")
    return _Node(
        (*found.devices, *devices),
        (*found.kept, *kept),
        found.unseen,
        tuple(_nvidia_facts(node, found)),
        problem=found.told.problem,
        source=", ".join(sources),
    )


def _no_nvidia() -> tuple[Fact, ...]:
    return (Fact.absent("gpu.driver", NO_NVIDIA), Fact.absent("gpu.cuda_driver", NO_NVIDIA))


def _nvidia_facts(node: Node, found: Found) -> Iterator[Fact]:
    from pilot_agent.probes.gpu.nvidia import PROC, parse_driver_version

    source = f"{PROC}/version"
    told = found.told
    driver = parse_driver_version(node.read(source) or "")
    if driver or told.driver:
        yield Fact("gpu.driver", driver or told.driver, source=source if driver else "NVML")
    else:
        yield Fact.unknown("gpu.driver", told.problem or "the kernel module does not say its version", source=source)
    if told.cuda_driver:
        version = f"NVML {told.version}" if told.version else ""
        yield Fact("gpu.cuda_driver", told.cuda_driver, source="NVML", detail=version)
    else:
        yield Fact.unknown("gpu.cuda_driver", told.problem or "NVML does not tell it", source="NVML")


def _granted(
    found: _Node, node: Node, environment: Mapping[str, str]
) -> tuple[tuple[Gpu, ...], tuple[tuple[Gpu, str], ...], str]:
    """The devices that variables and batch system leave, all those that are hidden and by what, and what was said."""
    if not found.devices and not found.kept:
        return (), (), ""
    from pilot_agent.probes.batch.allocation import read_allocations
    from pilot_agent.probes.gpu.gpu_access import batch_sources, grant, renumbered, visible_sources

    complete = not found.kept and not found.unseen
    everywhere: list[Gpu] = []
    sources = []
    for vendor in ("nvidia", "amd", "intel"):
        devices = renumbered([device for device in found.devices if device.vendor == vendor])
        everywhere += devices
        sources += [(vendor, source) for source in visible_sources(devices, environment)]
    allocations = read_allocations(node, environment)
    from_batch = batch_sources(everywhere, allocations, environment, complete=complete)
    left: list[Gpu] = []
    hidden = list(found.kept)
    for vendor in ("nvidia", "amd", "intel"):
        devices = tuple(device for device in everywhere if device.vendor == vendor)
        granted = grant(devices, [source for owner, source in sources if owner == vendor] + from_batch)
        left += granted.devices
        hidden += granted.hidden
    told = [source.text for _, source in sources] + [source.text for source in from_batch]
    return tuple(left), tuple(hidden), "; ".join(told)


def _wants_test(context: Context) -> bool:
    section = context.config.get("probes")
    return isinstance(section, Mapping) and section.get("gpu_test") is True


def _tested(node: Node, devices: Sequence[Gpu], environment: Mapping[str, str]) -> tuple[Gpu, ...]:
    """The devices with the outcome of their tests; only NVIDIA's usable ones are tested."""
    from pilot_agent.probes.gpu.cuda import judge_test, try_device

    chosen = [device for device in devices if device.vendor == "nvidia" and device.state == "usable"]

    def trial(identity: str) -> Callable[[], Json]:
        return lambda: try_device(identity, environment)

    names = {device.identity: f"cuda {device.identity}" for device in chosen}
    answers = node.ask_all({name: trial(identity) for identity, name in names.items()}, seconds=TEST_SECONDS)

    def judged(device: Gpu) -> Gpu:
        if device.identity not in names:
            return replace(device, tested=False)
        answer: Answer = answers[names[device.identity]]
        if not answer.recorded:
            return replace(device, state="unknown", reason=answer.problem, tested=False)
        reason = judge_test(answer)
        return replace(device, state="unusable" if reason else "usable", reason=reason, tested=True)

    return tuple(judged(device) for device in devices)


def _devices(found: _Node, granted: Sequence[Gpu], told: str) -> Iterator[Fact]:
    detail = "; ".join(part for part in (told, found.problem) if part)
    source = found.source
    if found.problem and not granted and not found.kept:
        yield Fact.unknown("gpu.devices", detail, source=source)
        yield Fact.unknown("gpu.count", detail, source=source)
        return
    if granted:
        yield Fact("gpu.devices", [device.as_json() for device in granted], source=source, detail=detail)
    else:
        kept = f"all {len(found.kept) + found.unseen} are kept from this job" if found.kept or found.unseen else ""
        yield Fact.absent("gpu.devices", detail or kept or LOOKED_FOR, source=source)
    usable = [device for device in granted if device.state == "usable"]
    unknown = [device for device in granted if device.state == "unknown"]
    if unknown and not usable:
        yield Fact.unknown("gpu.count", unknown[0].reason, source=source)
    else:
        yield Fact("gpu.count", len(usable), "GPUs", source=source, detail=detail)


def _name(device: Gpu) -> str:
    return f"{device.name or 'GPU'} {device.identity}"
