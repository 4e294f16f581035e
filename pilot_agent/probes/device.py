"""One GPU, whoever made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pilot_agent.model import Json


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device, or one MIG instance of the device ``parent``. ``index`` is its place among the devices of its
    vendor that this process may open; a field that the driver does not tell is None."""

    vendor: Literal["nvidia", "amd"]
    index: int
    uuid: str | None = None
    name: str | None = None
    memory_mib: int | None = None
    capability: str | None = None
    state: Literal["usable", "unusable", "unknown"] = "usable"
    reason: str = ""
    parent: str | None = None

    def as_json(self) -> Json:
        """How the fact ``gpu.devices`` shows it."""
        shown: dict[str, Json] = {
            "uuid": self.uuid,
            "name": self.name,
            "memory_mib": self.memory_mib,
            "capability": self.capability,
            "state": self.state,
            "vendor": self.vendor,
        }
        if self.reason:
            shown["reason"] = self.reason
        if self.parent:
            shown["parent"] = self.parent
        return shown
