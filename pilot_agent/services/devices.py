"""Whether the GPUs that a service was given are still there, as far as the driver's own list tells."""

from __future__ import annotations

import os

from pilot_agent.files import read_bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

DRIVER = "proc/driver/nvidia/gpus"
LIMIT_BYTES = 4096
WHOLE = "GPU-"
"""How UUIDs of whole devices begin; those of MIG instances are in no list of the driver's."""


def gone(devices: Iterable[str], root: str = "/") -> list[str]:
    """Those of the UUIDs that the driver lists no more; none where it lists nothing, which tells nothing."""
    wanted = [device for device in devices if device.startswith(WHOLE)]
    if not wanted:
        return []
    listed = set()
    place = os.path.join(root, DRIVER)
    try:
        for name in os.listdir(place):
            content = read_bounded(f"{place}/{name}/information", limit_bytes=LIMIT_BYTES).decode("utf-8", "replace")
            listed |= {word for word in content.split() if word.startswith(WHOLE)}
    except OSError:
        return []
    return [device for device in wanted if device not in listed] if listed else []
