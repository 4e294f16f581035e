"""One GPU, whoever made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pilot_agent.model import Json

# What is always shown, so that a requirement on it is never about a missing name.
_ALWAYS = (
    *("index", "uuid", "name", "vendor", "memory_mib", "memory_free_mib", "capability", "pci_id", "state"),
    "process_count",
)
_WHERE_TOLD = (
    *("reason", "note", "parent", "mig", "gpu_instance", "compute_mode", "persistence", "ecc", "ecc_uncorrected"),
    *("ecc_uncorrected_lifetime", "rows_pending", "rows_failed", "pages_pending", "temperature_celsius"),
    *("power_watts", "tested"),
)


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that has a device open; ``name`` is its program's, ``memory_mib`` what it holds there."""

    pid: int
    memory_mib: int | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device, or one MIG instance of the device ``parent``; a field that the driver does not tell is None.

    ``index`` is its place among the devices of its vendor that this process may open; instances share their parent's.
    ``minor`` is the number of its device node (``/dev/nvidiaN``, ``/dev/dri/renderDN``), ``node`` that file. ``mig``
    is the profile of an instance, such as ``1g.10gb``. ``reason`` says why it is not usable and who must act, ``note``
    what is wrong with it though jobs can use it. ``ecc_uncorrected`` counts memory errors since the driver was loaded,
    ``..._lifetime`` since it was made; ``rows_pending`` and ``pages_pending``: a repair that waits for a reset.
    """

    vendor: Literal["nvidia", "amd", "intel"]
    index: int
    uuid: str | None = None
    name: str | None = None
    memory_mib: int | None = None
    capability: str | None = None
    state: Literal["usable", "unusable", "unknown"] = "usable"
    reason: str = ""
    parent: str | None = None
    memory_free_mib: int | None = None
    pci_id: str | None = None
    minor: int | None = None
    node: str | None = None
    mig: str | None = None
    gpu_instance: int | None = None
    compute_mode: str | None = None
    persistence: bool | None = None
    ecc: bool | None = None
    ecc_uncorrected: int | None = None
    ecc_uncorrected_lifetime: int | None = None
    rows_pending: bool | None = None
    rows_failed: bool | None = None
    pages_pending: bool | None = None
    temperature_celsius: int | None = None
    power_watts: int | None = None
    processes: tuple[GpuProcess, ...] | None = None
    note: str = ""
    tested: bool | None = None

    @property
    def identity(self) -> str:
        """What tells it from all others: its UUID, its place on the bus, or its place in the list."""
        return self.uuid or self.pci_id or f"{self.vendor} {self.index}"

    @property
    def process_count(self) -> int | None:
        """How many processes have it open already."""
        return None if self.processes is None else len(self.processes)

    def as_json(self) -> Json:
        """How the fact ``gpu.devices`` shows it."""
        shown: dict[str, Json] = {name: getattr(self, name) for name in _ALWAYS}
        for name in _WHERE_TOLD:
            value = getattr(self, name)
            if value is not None and value != "":
                shown[name] = value
        if self.processes:
            shown["processes"] = [
                {"pid": each.pid, "memory_mib": each.memory_mib, "name": each.name} for each in self.processes
            ]
        return shown


def pci_address(text: str | None) -> str | None:
    """A place on the bus as sysfs writes it (``0000:17:00.0``); NVML writes eight digits for the domain."""
    parts = (text or "").strip().lower().split(":")
    if len(parts) != 3 or not all(part and len(part) <= 8 for part in parts):
        return None
    return f"{parts[0][-4:].zfill(4)}:{parts[1].zfill(2)}:{parts[2]}"
