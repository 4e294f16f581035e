"""Why a service failed for good, as a failure's kind, code and hint (design section 6): who must act decides the kind.

The resident keeper loads this module: plain words only.
"""

from __future__ import annotations

LOOK = "look at the service's log, logs/service-{name}-*; whoever declares the service must act"
CAUSES = {
    "port": (
        "node_resource",
        "service.port_taken",
        "give services.{name}.ports 0 for a free one, or the site ends the program that has it",
    ),
    "directory": ("node_resource", "disk.full", "the site frees or repairs the scratch directory"),
    "processes": (
        "node_resource",
        "process.limit",
        "the site raises the account's limit of processes (ulimit -u) or of memory, or ends what else it runs",
    ),
    "program": (
        "config",
        "service.program",
        "correct services.{name}.command, or install the program on the node; whoever declares the service must act",
    ),
    "background": ("config", "service.background", "whoever declares the service lets it run in the foreground"),
    "memory": (
        "config",
        "service.memory",
        "raise services.{name}.memory_mib, or find out why it grows; whoever declares the service must act",
    ),
    "disk": (
        "config",
        "service.disk",
        "raise services.{name}.disk_mib, or let it clear what it writes; whoever declares the service must act",
    ),
}
RETRIED = "node_resource"
"""The kind that another node, or a later hour, may not have."""


def verdict(cause: str, otherwise: str) -> tuple[str, str, str]:
    """(kind, code, hint) of a cause; the service's own fault with the code ``otherwise`` where none is known. The hint
    has a place for the service's name."""
    return CAUSES.get(cause) or ("plugin", otherwise, LOOK)
