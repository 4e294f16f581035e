"""NVIDIA GPUs through NVML, field by field: what one device does not tell never hides the others.

Loaded only on nodes that show such a device, and only in a probe's child: the library may hang.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from pilot_agent.probes.device import Gpu

T = TypeVar("T")

_MIG_ENABLED = 1  # NVML_DEVICE_MIG_ENABLE


def read_nvidia_gpus() -> tuple[tuple[Gpu, ...], str]:
    """Every device that this process may open, and why NVML could not be asked (empty when it could)."""
    try:
        import pynvml
    except ImportError as error:
        return (), f"the library nvidia-ml-py cannot be loaded: {error}"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return (), f"NVML does not start: {error}; the site must repair the NVIDIA driver or its libraries"
    try:
        return tuple(list_devices(pynvml)), ""
    except pynvml.NVMLError as error:
        return (), f"NVML does not list devices: {error}"
    finally:
        pynvml.nvmlShutdown()


def list_devices(nvml: Any) -> Iterator[Gpu]:
    """The devices of an initialised NVML, MIG instances in place of a device divided into them.

    Devices that the batch system keeps from this process are left out and not counted, as CUDA does.
    Raises ``NVMLError`` when not even their number is told.
    """
    index = 0
    for position in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(position)
        except nvml.NVMLError as error:
            if getattr(error, "value", None) == nvml.NVML_ERROR_NO_PERMISSION:
                continue
            yield Gpu("nvidia", index, state="unusable", reason=f"NVML gives no handle: {error}")
            index += 1
            continue
        yield from _device_or_instances(nvml, handle, index)
        index += 1


def _device_or_instances(nvml: Any, handle: Any, index: int) -> Iterator[Gpu]:
    device = _describe(nvml, handle, index)
    mode, _ = _field(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle))
    if device.state != "usable" or not mode or mode[0] != _MIG_ENABLED:
        yield device
        return
    instances = list(_instances(nvml, handle, device))
    yield from instances
    if not instances:
        yield replace(device, state="unusable", reason="MIG is enabled, but it has no instances; the site must act")


def _instances(nvml: Any, handle: Any, parent: Gpu) -> Iterator[Gpu]:
    most, _ = _field(nvml, lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle))
    for number in range(most or 0):
        instance, problem = _field(nvml, lambda n=number: nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, n))  # type: ignore[misc]
        # The places of instances that were not made answer "Not Found".
        if not problem:
            described = _describe(nvml, instance, parent.index)
            yield replace(
                described,
                parent=parent.uuid,
                name=described.name or parent.name,
                capability=described.capability or parent.capability,
            )


def _describe(nvml: Any, handle: Any, index: int) -> Gpu:
    uuid, no_uuid = _field(nvml, lambda: nvml.nvmlDeviceGetUUID(handle))
    name, no_name = _field(nvml, lambda: nvml.nvmlDeviceGetName(handle))
    memory, no_memory = _field(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
    capability, no_capability = _field(nvml, lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle))
    broken = {nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED}
    problems = [problem for problem in (no_uuid, no_name, no_memory, no_capability) if problem]
    fatal = next((problem for problem in problems if problem.value in broken), no_uuid)
    return Gpu(
        vendor="nvidia",
        index=index,
        uuid=_text(uuid),
        name=_text(name),
        memory_mib=int(memory.total) >> 20 if memory is not None else None,
        capability=f"{capability[0]}.{capability[1]}" if capability is not None else None,
        state="unusable" if fatal else "usable",
        reason=f"NVML: {fatal}; the site must act" if fatal else "",
    )


def _field(nvml: Any, call: Callable[[], T]) -> tuple[T | None, Any]:
    """A field's value, or None and NVML's error: "Not Supported" and "Insufficient Permissions" are common."""
    try:
        return call(), None
    except nvml.NVMLError as error:
        return None, error


def _text(value: Any) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
