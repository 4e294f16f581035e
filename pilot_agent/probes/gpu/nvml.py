"""What NVML's answer means: NVIDIA's devices, those that this job may not open, and why one cannot be used.

Nothing is asked here: the answer of ``nvml_fields.py`` is judged, on the node or from a recording. Rules: NVML's API
reference (nvmlReturn_t, nvmlComputeMode_t, nvmlDeviceGetRemappedRows) and NVIDIA's page on GPU memory error management
(a row that could not be remapped means that the GPU must be replaced, a pending one that it must be reset).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pilot_agent.model import Json
from pilot_agent.probes.gpu.device import Gpu, GpuProcess, pci_address

NO_PERMISSION = 4
NOT_FOUND = 6
_FATAL = {
    15: "fell off the bus (GPU is lost); the site must reboot the node, and replace the GPU if that does not help",
    16: "must be reset before it can be used; the site runs nvidia-smi --gpu-reset{at} with nothing running on it",
}
_NOT_STARTED = {
    4: "this account may not open /dev/nvidiactl; the site must give the device nodes mode 0666 (nvidia-modprobe)",
    9: "the kernel module is not loaded; the site must load it (modprobe nvidia) or repair its installation",
    12: "the library libnvidia-ml.so.1 cannot be loaded; the site must install the libraries of its NVIDIA driver, "
    "and in a container hand them in (apptainer --nv, the NVIDIA container toolkit)",
    15: "a GPU fell off the bus; the site must reboot the node",
    18: "library and kernel module are of different releases; the site must reboot after the driver's update, or "
    "reload the module",
}
_ELSE = "the site must repair the NVIDIA driver or its libraries"
EXCLUSIVE = "its compute mode is exclusive"
"""Why a device is not usable that works, and that one process has for itself."""
_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}
# NVML_GPU_RECOVERY_ACTION_*: what the driver wants done before more work is started.
_RECOVERY = {
    1: "the driver asks for a reset of it; the site runs nvidia-smi --gpu-reset{at}",
    2: "the driver asks for a reboot of the node; the site must reboot it",
    3: "the driver asks to drain it, as its links to other GPUs failed; the site must drain the node and reset it",
    4: "the driver asks to drain and reset it; the site drains the node, then runs nvidia-smi --gpu-reset{at}",
    6: "the driver asks for a reset of its bus; the site must reset or reboot the node",
    7: "the driver asks for a reboot of the node; the site must reboot it",
}
_MPS = "nvidia-cuda-mps-server"
_WITHOUT_LIMIT = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Nvidia:
    """What NVML told: ``devices`` with MIG instances in place of a device divided into them; ``refused`` how many
    devices and instances this process may not open; ``problem`` why NVML could not be asked."""

    devices: tuple[Gpu, ...] = ()
    refused: int = 0
    driver: str | None = None
    cuda_driver: str | None = None
    version: str | None = None
    problem: str = ""


def judge_nvml(answer: Json) -> Nvidia:
    """The meaning of an answer; a damaged one gives what can be read of it."""
    if not isinstance(answer, Mapping):
        return Nvidia(problem="NVML's answer cannot be read")
    if "problem" in answer:
        number, text = _error(answer["problem"])
        return Nvidia(problem=f"NVML does not start: {text or number}: {_NOT_STARTED.get(number or -1, _ELSE)}")
    found = Nvidia(
        driver=_text(_value(answer, "driver")),
        cuda_driver=_cuda_version(_value(answer, "cuda_driver")),
        version=_text(_value(answer, "nvml")),
    )
    if _integer(_value(answer, "count")) is None:
        number, text = _error(answer.get("count"))
        return replace(found, problem=f"NVML does not list devices: {text or 'no number'}; {_ELSE}")
    devices: list[Gpu] = []
    refused = index = 0
    for item in _list(answer.get("devices")):
        if _error(_member(item, "handle"))[0] == NO_PERMISSION:
            refused += 1
            continue
        described, kept = _device(item, index)
        devices += described
        refused += kept
        index += 1
    return replace(found, devices=tuple(devices), refused=refused)


def _device(item: Json, index: int) -> tuple[list[Gpu], int]:
    """A device or its MIG instances, and how many instances may not be opened."""
    if _value(item, "handle") is None:
        number, text = _error(_member(item, "handle"))
        reason = _FATAL.get(number or -1, f"the driver gives no access to it ({text or 'no reason'}); {_ELSE}")
        return [Gpu("nvidia", index, state="unusable", reason=reason.format(at=""))], 0
    fields = _member(item, "fields")
    device = _described(fields, index)
    mode = _list(_value(fields, "mig_mode"))
    if device.state != "usable" or not mode or mode[0] != 1:
        return [device], 0
    instances = _list(_member(item, "instances"))
    errors = [_error(_member(each, "handle"))[0] for each in instances]
    made = [each for each, error in zip(instances, errors, strict=True) if error is None]
    refused = errors.count(NO_PERMISSION)
    if made or refused:
        return [_instance(_member(each, "fields"), device) for each in made], refused
    at = f" -i {device.pci_id}" if device.pci_id else ""
    reason = f"MIG is enabled, but it has no instances; the site makes them (nvidia-smi mig{at} -cgi PROFILE -C)"
    return [replace(device, state="unusable", reason=f"{reason} or turns MIG off (nvidia-smi{at} -mig 0)")], 0


def _described(fields: Json, index: int) -> Gpu:
    memory, rows, ecc = _value(fields, "memory"), _list(_value(fields, "remapped_rows")), _value(fields, "ecc_mode")
    milliwatts = _integer(_value(fields, "power"))
    uuid = _text(_value(fields, "uuid"))
    device = Gpu(
        vendor="nvidia",
        index=index,
        uuid=uuid,
        name=_text(_value(fields, "name")),
        memory_mib=_mib(_member(memory, "total")),
        memory_free_mib=_mib(_member(memory, "free")),
        capability=_capability(_value(fields, "capability")),
        pci_id=pci_address(_text(_value(fields, "pci"))),
        minor=_integer(_value(fields, "minor")),
        compute_mode=_MODES.get(_integer(_value(fields, "compute_mode")) or 0)
        if _told(fields, "compute_mode")
        else None,
        persistence=_flag(_value(fields, "persistence")),
        ecc=_flag(next(iter(_list(ecc)), None)),
        ecc_uncorrected=_integer(_value(fields, "ecc_volatile")),
        ecc_uncorrected_lifetime=_integer(_value(fields, "ecc_aggregate")),
        rows_pending=_flag(rows[2]) if len(rows) == 4 else None,
        rows_failed=_flag(rows[3]) if len(rows) == 4 else None,
        pages_pending=_flag(_value(fields, "retired_pending")),
        temperature_celsius=_integer(_value(fields, "temperature")),
        power_watts=None if milliwatts is None else round(milliwatts / 1000),
        processes=_processes(_value(fields, "processes")),
    )
    reason = _broken(device, fields)
    return replace(
        device, state="unusable" if reason else "usable", reason=reason, note="; ".join(_notes(device, fields))
    )


def _broken(device: Gpu, fields: Json) -> str:
    """Why no job can use a device; empty when nothing speaks against it."""
    at = f" -i {device.pci_id}" if device.pci_id else ""
    for name in fields if isinstance(fields, Mapping) else ():
        fatal = _FATAL.get(_error(_member(fields, name))[0] or 0)
        if fatal:
            return fatal.format(at=at)
    if device.uuid is None:
        return f"the driver does not tell its UUID ({_error(_member(fields, 'uuid'))[1] or 'no reason'}); {_ELSE}"
    if device.rows_failed:
        return "a row of its memory could not be replaced (row remapping failed); the site must have the GPU replaced"
    pending = device.rows_pending or device.pages_pending
    if pending and (device.ecc_uncorrected or _uncorrected_rows(fields)):
        return (
            "an uncorrectable error of its memory waits for the repair that a reset makes; "
            f"the site runs nvidia-smi --gpu-reset{at} with nothing running on it, or reboots the node"
        )
    action = _RECOVERY.get(_integer(_value(fields, "recovery_action")) or 0)
    if action:
        return action.format(at=at)
    if device.compute_mode == "prohibited":
        return f"its compute mode is prohibited; the site runs nvidia-smi{at} -c DEFAULT"
    holder = next((each for each in device.processes or () if each.name != _MPS), None)
    if device.compute_mode == "exclusive process" and holder:
        who = f"process {holder.pid}" + (f" ({holder.name})" if holder.name else "")
        return f"{EXCLUSIVE} and {who} holds it; whoever runs that ends it, or -c DEFAULT is set"
    return ""


def _notes(device: Gpu, fields: Json) -> Iterator[str]:
    """What is wrong with a device though jobs can use it."""
    if device.rows_pending or device.pages_pending:
        yield "a repair of its memory waits for a reset"
    if device.ecc_uncorrected:
        yield f"{device.ecc_uncorrected} uncorrectable memory errors since the driver was loaded"
    ecc = _list(_value(fields, "ecc_mode"))
    if len(ecc) == 2 and ecc[0] != ecc[1]:
        yield f"ECC will be {'on' if ecc[1] else 'off'} after a reset"
    mig = _list(_value(fields, "mig_mode"))
    if len(mig) == 2 and mig[0] != mig[1]:
        yield f"MIG will be {'on' if mig[1] else 'off'} after a reset"
    count = device.process_count
    if count:
        yield f"{count} {'process has' if count == 1 else 'processes have'} it open already"


def _instance(fields: Json, parent: Gpu) -> Gpu:
    """A MIG instance; what the driver tells of whole devices only is its parent's."""
    memory, attributes = _value(fields, "memory"), _value(fields, "attributes")
    name = _text(_value(fields, "name")) or parent.name
    size = _mib(_member(memory, "total")) or _integer(_member(attributes, "memory_mb"))
    uuid = _text(_value(fields, "uuid"))
    reason = "" if uuid else f"the driver does not tell its UUID ({_error(_member(fields, 'uuid'))[1] or 'no reason'})"
    number = _integer(_value(fields, "gpu_instance"))
    processes = _processes(_value(fields, "processes"))
    if processes is None and parent.processes == ():
        processes = ()
    return replace(
        parent,
        uuid=uuid,
        name=name,
        memory_mib=size,
        memory_free_mib=_mib(_member(memory, "free")),
        capability=_capability(_value(fields, "capability")) or parent.capability,
        parent=parent.uuid,
        mig=_profile(name, attributes),
        gpu_instance=number,
        processes=processes,
        state="unusable" if reason else "usable",
        reason=f"{reason}; {_ELSE}" if reason else "",
        # The device's own figures, and not the instance's share of them.
        temperature_celsius=None,
        power_watts=None,
        note="",
    )


def _profile(name: str | None, attributes: Json) -> str | None:
    """The profile at the end of an instance's name (``... MIG 1g.10gb``); from its slices with older drivers."""
    head, mark, profile = (name or "").rpartition(" MIG ")
    if mark and head and profile:
        return profile
    slices = _integer(_member(attributes, "gpu_slices"))
    computing = _integer(_member(attributes, "compute_slices"))
    memory = _integer(_member(attributes, "memory_mb"))
    if not slices or not memory:
        return None
    prefix = f"{computing}c." if computing and computing < slices else ""
    return f"{prefix}{slices}g.{max(1, round(memory / 1024))}gb"


def _processes(found: Json) -> tuple[GpuProcess, ...] | None:
    if not isinstance(found, list):
        return None
    processes = []
    for item in found[:64]:
        pid, memory = _integer(_member(item, "pid")), _integer(_member(item, "memory"))
        if pid is not None:
            processes.append(GpuProcess(pid, None if memory is None else memory >> 20, _text(_member(item, "name"))))
    return tuple(processes)


def _uncorrected_rows(fields: Json) -> int:
    rows = _list(_value(fields, "remapped_rows"))
    return (_integer(rows[1]) or 0) if len(rows) == 4 else 0


def _capability(value: Json) -> str | None:
    numbers = [_integer(each) for each in _list(value)]
    return f"{numbers[0]}.{numbers[1]}" if len(numbers) == 2 and None not in numbers else None


def _cuda_version(value: Json) -> str | None:
    number = _integer(value)
    return f"{number // 1000}.{number % 1000 // 10}" if number else None


def _member(value: Json, name: str) -> Json:
    return value.get(name) if isinstance(value, Mapping) else None


def _value(record: Json, name: str) -> Json:
    """The value of a field; None for one that was not told."""
    return _member(_member(record, name), "value")


def _told(record: Json, name: str) -> bool:
    return _integer(_value(record, name)) is not None


def _error(field: Json) -> tuple[int | None, str]:
    """Number and words of the error in a field; None and nothing when it has a value."""
    return _integer(_member(field, "error")), (_text(_member(field, "text")) or "")[:300]


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _integer(value: Json) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _WITHOUT_LIMIT
    return value if whole else None


def _flag(value: Json) -> bool | None:
    number = _integer(value)
    return None if number is None else number != 0


def _mib(value: Json) -> int | None:
    number = _integer(value)
    return None if number is None else number >> 20


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) and value else None
