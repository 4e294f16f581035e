"""Which of a node's GPUs this job may use: what opens, what variables leave, and what the batch system gave.

Every source is told, and a device is left only where all that can be compared leave it. Rules: the CUDA programming
guide (environment variables), ROCm's and Level Zero's pages on isolating GPUs, the kernel's
``cgroup-v1/devices.rst``, and the manuals of the batch systems.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pilot_agent.probes.batch.batch_job import Allocation
from pilot_agent.probes.gpu.device import Gpu

_NAMED = r"(?:(cuda|ocl|hip)|gpu)?([0-9]{1,6})"
_MOST_TEXT = 200
# What batch systems set for jobs that asked for no GPU; no device has such a number or name.
_PLACEHOLDERS = {
    "10000": "HTCondor's number for a job without GPUs",
    "nodevfiles": "Slurm's and NVIDIA's word for no device",
    "-1": "no device",
    "na": "no device",
    "": "empty: no device",
}
_VARIABLES = {
    "nvidia": ("CUDA_VISIBLE_DEVICES",),
    # ROCm's runtime counts first, HIP what that left; CUDA's name stands in for HIP's.
    "amd": ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES|CUDA_VISIBLE_DEVICES"),
    "intel": ("ZE_AFFINITY_MASK",),
}


@dataclass(frozen=True, slots=True)
class Source:
    """What one source says: ``left`` holds the identities of the devices it leaves, None when it cannot be compared."""

    text: str
    left: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Granted:
    """The devices this job may use, those it may not with the source that keeps them, and what all sources said."""

    devices: tuple[Gpu, ...]
    hidden: tuple[tuple[Gpu, str], ...] = ()
    sources: tuple[str, ...] = ()


def grant(devices: Sequence[Gpu], sources: Sequence[Source]) -> Granted:
    """The devices that every source leaves. A source that would name none of them only tells."""
    left: list[Gpu] = []
    hidden: list[tuple[Gpu, str]] = []
    for device in devices:
        against = [source for source in sources if source.left is not None and device.identity not in source.left]
        if against:
            hidden.append((device, against[0].text))
        else:
            left.append(device)
    return Granted(tuple(left), tuple(hidden), tuple(source.text for source in sources))


def renumbered(devices: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """The devices with the places that they have among themselves; instances of one device share theirs."""
    places: dict[str, int] = {}
    return tuple(
        replace(device, index=places.setdefault(device.parent or device.identity, len(places))) for device in devices
    )


def visible_sources(devices: Sequence[Gpu], environment: Mapping[str, str]) -> list[Source]:
    """What the variables of the devices' vendors leave; ``devices`` are all of one vendor and may be opened."""
    if not devices:
        return []
    sources = []
    left = tuple(devices)
    for names in _VARIABLES[devices[0].vendor]:
        chosen, text = select(left, environment, names.split("|"))
        if text:
            sources.append(Source(text, frozenset(device.identity for device in chosen)))
        left = renumbered(chosen)
    if devices[0].vendor == "nvidia":
        sources += _container_sources(devices, environment.get("NVIDIA_VISIBLE_DEVICES"))
    return sources


def select(
    devices: Sequence[Gpu], environment: Mapping[str, str], variables: Sequence[str]
) -> tuple[tuple[Gpu, ...], str]:
    """The devices that the first set variable leaves, in the order of the devices, and what is to be said about it.

    The rules are CUDA's (programming guide, environment variables): indices or the beginnings of UUIDs; what comes
    after the first entry that fits no device is not seen either, so empty, -1 and NoDevFiles hide all. Level Zero
    leaves such an entry out, takes empty for unset, and may name a tile of a device after a point.
    """
    variable = next((name for name in variables if name in environment), None)
    if variable is None or not devices:
        return tuple(devices), ""
    text = environment[variable]
    tiles = variable == "ZE_AFFINITY_MASK"
    if tiles and not text.strip():
        return tuple(devices), ""
    chosen: list[Gpu] = []
    by_index = False
    for entry in text.split(","):
        entry = entry.strip().partition(".")[0] if tiles else entry.strip()
        device = _named(devices, entry)
        if device is None and tiles:
            continue
        if device is None:
            break
        by_index = by_index or entry.isdigit()
        if device not in chosen:
            chosen.append(device)
    detail = f"{len(chosen)} of {len(devices)} left by {variable}={text[:_MOST_TEXT]}"
    meaning = _PLACEHOLDERS.get(text.strip().lower())
    if meaning and not chosen:
        detail += f" ({meaning})"
    models = {device.name for device in devices}
    if by_index and len(models) > 1 and environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        detail += "; its numbers were read in PCI order, CUDA may count different models otherwise"
    return tuple(device for device in devices if device in chosen), detail


def _named(devices: Sequence[Gpu], entry: str) -> Gpu | None:
    """The device an entry names: for a device divided into MIG instances the first one, as CUDA does."""
    if entry.isascii() and entry.isdigit():
        matches = [device for device in devices if device.index == int(entry[:9])]
    elif entry.upper().startswith(("GPU-", "MIG-")):
        beginning = entry.lower()
        matches = [device for device in devices if (device.uuid or "").lower().startswith(beginning)]
        if not matches:
            matches = [device for device in devices if (device.parent or "").lower().startswith(beginning)]
        if len({device.index for device in matches}) > 1 or (len(matches) > 1 and beginning.startswith("mig-")):
            return None
    else:
        return None
    return matches[0] if matches else None


def _container_sources(devices: Sequence[Gpu], text: str | None) -> list[Source]:
    """What the container runtime was told. ``all``, ``none``, ``void``, numbers and paths have had their effect when
    the container was made, and images set them for themselves; only UUIDs say which device is meant."""
    if text is None:
        return []
    entries = [entry.strip() for entry in text.split(",")]
    told = f"NVIDIA_VISIBLE_DEVICES={text[:_MOST_TEXT]}"
    if not all(entry.upper().startswith(("GPU-", "MIG-")) for entry in entries):
        return [Source(f"{told} (not compared: it speaks of the container's outside)", None)]
    return [_batch_source(devices, entries, told, complete=True)]


def batch_sources(
    devices: Sequence[Gpu], allocations: Sequence[Allocation], environment: Mapping[str, str], *, complete: bool
) -> list[Source]:
    """What batch systems gave. ``complete`` is False when some devices of the node are not among ``devices``, so that
    places in the list mean nothing."""
    sources = []
    for each in allocations:
        if each.gpu_count is not None and each.gpu_count.number == 0:
            sources.append(Source(f"0 given by {each.gpu_count.source}", frozenset()))
        elif each.gpus is not None:
            sources.append(_batch_source(devices, each.gpus, f"{each.system} gave {_listed(each.gpus)}", complete))
        elif each.gpu_count is not None:
            count, here = each.gpu_count.number, len(devices)
            told = f"{count} given by {each.gpu_count.source}"
            sources.append(Source(told if here <= count else f"{told}, which does not say which of the {here}", None))
    for name in ("SLURM_STEP_GPUS", "_CONDOR_AssignedGPUs"):
        entries = [entry for entry in re.split(r"[,\s]+", environment.get(name, "")) if entry]
        if entries and not (name == "SLURM_STEP_GPUS" and not environment.get("SLURM_JOB_GPUS")):
            told = f"{name}={environment[name][:_MOST_TEXT]}"
            sources.append(_batch_source(devices, entries[:1024], told, complete))
    return sources


def _batch_source(devices: Sequence[Gpu], entries: Sequence[str], told: str, complete: bool) -> Source:
    """The devices that a batch system's names mean: UUIDs or their beginnings, or numbers of device nodes.

    Numbers are not compared where they could mean several things: with MIG instances, with GPUs of several vendors,
    or where a device's own number is not known.
    """
    left: set[str] = set()
    for entry in entries:
        matches = _matching(devices, entry, complete)
        if matches is None:
            return Source(f"{told} (not compared: {entry[:40]} may mean several devices)", None)
        left.update(matches)
    if not left:
        return Source(f"{told}, which names none of the devices here", None)
    return Source(told, frozenset(left))


def _matching(devices: Sequence[Gpu], entry: str, complete: bool) -> list[str] | None:
    beginning = entry.lower()
    if beginning.startswith(("gpu-", "mig-")):
        own = [device.identity for device in devices if (device.uuid or "").lower().startswith(beginning)]
        return own or [device.identity for device in devices if (device.parent or "").lower().startswith(beginning)]
    match = re.fullmatch(_NAMED, beginning)
    if match is None:
        return []
    if len({device.vendor for device in devices}) > 1 or any(device.mig or device.parent for device in devices):
        return None
    number = int(match[2])
    # /dev/dri counts from 128 and with other devices between, so batch systems count AMD's and Intel's by place.
    numbers = {
        device.identity: device.minor if device.vendor == "nvidia" and not match[1] else None for device in devices
    }
    if all(own is not None for own in numbers.values()):
        return [identity for identity, own in numbers.items() if own == number]
    return [device.identity for device in devices if device.index == number] if complete else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)[:_MOST_TEXT] or "none"
