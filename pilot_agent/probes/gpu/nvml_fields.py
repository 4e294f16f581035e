"""NVIDIA GPUs asked through NVML, field by field: what one device does not tell never hides the others.

Called only in a child with a deadline, on nodes that show such a device: the library hangs with a broken driver. What
it answers is kept as it is, with NVML's own error numbers and words; ``nvml.py`` judges it.

The answer::

    {"problem": {"error": 18, "text": "..."}                     when NVML does not start, and then nothing else
     "driver": F, "cuda_driver": F, "nvml": F, "count": F,       F: {"value": ...} or {"error": 3, "text": "..."}
     "devices": [{"handle": F, "fields": {NAME: F, ...}, "instances": [{"handle": F, "fields": {...}}, ...]}, ...]}
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from pilot_agent.model import Json
from pilot_agent.probes.gpu.driver_library import load_library

LIBRARY = "libnvidia-ml.so.1"
LIBRARY_NOT_FOUND = 12
_MOST_DEVICES = 256
_MOST_PROCESSES = 64
_RECOVERY_ACTION = 230  # NVML_FI_DEV_GET_GPU_RECOVERY_ACTION

Getter = Callable[[Any, Any], Json]


def ask_nvml(environment: Mapping[str, str]) -> Json:
    """The whole answer of this node's NVML. Raises ``OSError`` where the Python library is missing."""
    try:
        import pynvml
    except ImportError as error:
        raise OSError(f"the Python library nvidia-ml-py cannot be loaded: {error}") from error
    try:
        if pynvml.nvmlLib is None:
            pynvml.nvmlLib = load_library(LIBRARY, environment)
    except OSError as error:
        return {"problem": {"error": LIBRARY_NOT_FOUND, "text": str(error)}}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return {"problem": _error(error)}
    # No shutdown: the process ends now, and shutting down is one more call that a broken driver may not return from.
    return _read_all(pynvml)


def _read_all(nvml: Any) -> Json:
    count = _field(nvml, nvml.nvmlDeviceGetCount)
    return {
        "driver": _field(nvml, nvml.nvmlSystemGetDriverVersion),
        "cuda_driver": _field(nvml, nvml.nvmlSystemGetCudaDriverVersion),
        "nvml": _field(nvml, nvml.nvmlSystemGetNVMLVersion),
        "count": count,
        "devices": [_device(nvml, index) for index in range(min(count.get("value") or 0, _MOST_DEVICES))],
    }


def _device(nvml: Any, index: int) -> Json:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        return {"handle": _error(error), "fields": {}, "instances": []}
    fields = {name: _field(nvml, getter, nvml, handle) for name, getter in _DEVICE_FIELDS.items()}
    instances = []
    mode = fields["mig_mode"].get("value")
    if mode and mode[0] == nvml.NVML_DEVICE_MIG_ENABLE:
        most = _field(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle).get("value") or 0
        instances = [_instance(nvml, handle, number) for number in range(min(most, _MOST_DEVICES))]
    return {"handle": {"value": index}, "fields": fields, "instances": instances}


def _instance(nvml: Any, parent: Any, number: int) -> Json:
    try:
        handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, number)
    except nvml.NVMLError as error:
        return {"handle": _error(error), "fields": {}}
    fields = {name: _field(nvml, getter, nvml, handle) for name, getter in _INSTANCE_FIELDS.items()}
    return {"handle": {"value": number}, "fields": fields}


def _field(nvml: Any, call: Callable[..., Any], *arguments: Any) -> dict[str, Json]:
    """A field's value, or NVML's error: "Not Supported" and "Insufficient Permissions" are common."""
    try:
        value = call(*arguments)
    except nvml.NVMLError as error:
        return _error(error)
    except (AttributeError, ValueError, TypeError) as error:
        # An older release of the Python library, or text that is none.
        return {"error": -1, "text": f"{type(error).__name__}: {error}"}
    return {"value": value.decode("utf-8", "replace") if isinstance(value, bytes) else value}


def _error(error: Any) -> dict[str, Json]:
    return {"error": int(getattr(error, "value", -1)), "text": str(error)}


def _memory(nvml: Any, handle: Any) -> Json:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return {"total": int(memory.total), "free": int(memory.free)}


def _pci(nvml: Any, handle: Any) -> Json:
    bus = nvml.nvmlDeviceGetPciInfo(handle).busId
    return bus.decode("ascii", "replace") if isinstance(bus, bytes) else bus


def _processes(nvml: Any, handle: Any) -> Json:
    """Those that compute; the second form for drivers before 510."""
    try:
        found = nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
    except nvml.NVMLError as error:
        if getattr(error, "value", None) != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        found = nvml.nvmlDeviceGetComputeRunningProcesses_v2(handle)
    return [
        {"pid": int(each.pid), "memory": each.usedGpuMemory, "name": _process_name(nvml, int(each.pid))}
        for each in found[:_MOST_PROCESSES]
    ]


def _process_name(nvml: Any, pid: int) -> str | None:
    """The program's file name only: its place and arguments are the business of whoever runs it."""
    name = _field(nvml, nvml.nvmlSystemGetProcessName, pid).get("value")
    return os.path.basename((name.split() or [""])[0])[:64] if isinstance(name, str) else None


def _recovery(nvml: Any, handle: Any) -> Json:
    """What the driver (from 565 on) says must be done before the device can be used again; 0 for nothing."""
    (value,) = nvml.nvmlDeviceGetFieldValues(handle, [_RECOVERY_ACTION])
    if value.nvmlReturn != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(value.nvmlReturn)
    return int(value.value.uiVal)


def _uncorrected(counter: str) -> Getter:
    return lambda nvml, handle: nvml.nvmlDeviceGetTotalEccErrors(
        handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, getattr(nvml, counter)
    )


def _attributes(nvml: Any, handle: Any) -> Json:
    found = nvml.nvmlDeviceGetAttributes(handle)
    return {
        "gpu_slices": int(found.gpuInstanceSliceCount),
        "compute_slices": int(found.computeInstanceSliceCount),
        "memory_mb": int(found.memorySizeMB),
    }


_INSTANCE_FIELDS: dict[str, Getter] = {
    "uuid": lambda nvml, handle: nvml.nvmlDeviceGetUUID(handle),
    "name": lambda nvml, handle: nvml.nvmlDeviceGetName(handle),
    "memory": _memory,
    "capability": lambda nvml, handle: list(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
    "gpu_instance": lambda nvml, handle: nvml.nvmlDeviceGetGpuInstanceId(handle),
    "compute_instance": lambda nvml, handle: nvml.nvmlDeviceGetComputeInstanceId(handle),
    "attributes": _attributes,
    "processes": _processes,
}
_DEVICE_FIELDS: dict[str, Getter] = {
    "uuid": lambda nvml, handle: nvml.nvmlDeviceGetUUID(handle),
    "name": lambda nvml, handle: nvml.nvmlDeviceGetName(handle),
    "memory": _memory,
    "capability": lambda nvml, handle: list(nvml.nvmlDeviceGetCudaComputeCapability(handle)),
    "pci": _pci,
    "minor": lambda nvml, handle: nvml.nvmlDeviceGetMinorNumber(handle),
    "mig_mode": lambda nvml, handle: list(nvml.nvmlDeviceGetMigMode(handle)),
    "compute_mode": lambda nvml, handle: nvml.nvmlDeviceGetComputeMode(handle),
    "persistence": lambda nvml, handle: nvml.nvmlDeviceGetPersistenceMode(handle),
    "ecc_mode": lambda nvml, handle: list(nvml.nvmlDeviceGetEccMode(handle)),
    "ecc_volatile": _uncorrected("NVML_VOLATILE_ECC"),
    "ecc_aggregate": _uncorrected("NVML_AGGREGATE_ECC"),
    "remapped_rows": lambda nvml, handle: list(nvml.nvmlDeviceGetRemappedRows(handle)),
    "retired_pending": lambda nvml, handle: nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle),
    "recovery_action": _recovery,
    "processes": _processes,
    "temperature": lambda nvml, handle: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
    "power": lambda nvml, handle: nvml.nvmlDeviceGetPowerUsage(handle),
}
