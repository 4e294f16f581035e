"""Whose a workspace is: the machine, its boot, and the processes that live for it."""

from __future__ import annotations

import os

from pilot_agent.lifecycle.identity import Identity, boot_id, identify, own_pid_namespace, still_same, whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RUNTIME_VARIABLE = "PILOT_AGENT_RUNTIME_CLEAN"
GUARDIAN_FD_VARIABLE = "PILOT_AGENT_GUARDIAN_FD"
NO_NAMES = ("", "(none)", "localhost", "localhost.localdomain")
"""What many machines are called at the same time."""


class Owner:
    """What a pilot wrote of itself. ``locked`` is False where its file system has no locks; ``runtime`` is the
    directory of an interpreter that was unpacked for it, or empty."""

    __slots__ = ("boot_id", "host", "locked", "pid_namespace", "processes", "runtime")

    def __init__(self, data: Any) -> None:
        """From what ``own_record`` gave. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        self.host = str(data["host"])
        self.boot_id = str(data["boot_id"])
        self.pid_namespace = whole(data["pid_namespace"])
        self.locked = data["locked"] is True
        self.runtime = str(data["runtime"])
        self.processes = [Identity.from_json(each) for each in data["processes"]]

    def of_this_boot(self) -> bool:
        """Whether it was written since this machine was started: then the kernel knows who holds a lock."""
        return bool(self.boot_id) and self.boot_id == boot_id()

    def of_this_machine(self) -> bool:
        """Whether it was written on this machine, now or before it was started anew. Of two machines that share a
        directory and a meaningless name nobody can tell, so then it was not."""
        return self.of_this_boot() or (self.host == os.uname().nodename and self.host not in NO_NAMES)

    def alive(self) -> list[int]:
        """The processes that are there still, as far as they can be seen from this PID namespace."""
        return [identity.pid for identity in self.processes if still_same(identity)]

    def judged_from_here(self) -> bool:
        """Whether ``alive`` tells all: the pids count in this PID namespace, or in a boot that is over."""
        return not self.of_this_boot() or self.pid_namespace == own_pid_namespace()


def own_record(*, locked: bool = True) -> dict[str, Any]:
    """What the process that runs the stages says of itself and of its parent, the guardian (a person's command has
    none)."""
    guardian = (os.getppid(),) if os.environ.get(GUARDIAN_FD_VARIABLE) else ()
    found = [identify(pid) for pid in (*guardian, os.getpid())]
    return {
        "host": os.uname().nodename,
        "boot_id": boot_id(),
        "pid_namespace": own_pid_namespace(),
        "locked": locked,
        "runtime": os.environ.get(RUNTIME_VARIABLE, ""),
        "processes": [identity.to_json() for identity in found if identity is not None],
    }
