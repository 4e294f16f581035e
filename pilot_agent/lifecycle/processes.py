"""Find and end every process below this one, also those that left by ``setsid`` or a double fork.

This works because the resident processes are subreapers: whatever loses its parent comes back to them.
"""

from __future__ import annotations

import os
import select
import time

from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.identity import PROC, identify, read_stat, still_same
from pilot_agent.light import signal
from pilot_agent.pidfd import open_pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot_agent.lifecycle.identity import Identity

FREEZE_ROUNDS = 20
POLL_SECONDS = 0.005


def descendants(root: int) -> list[int]:
    """Every process below ``root``, parents before children; zombies included."""
    found: list[int] = []
    level = [root]
    while level:
        level = [child for pid in level for child in children(pid)]
        found += level
    return found


def children(pid: int) -> list[int]:
    """The children of one process, from the lists the kernel keeps for each of its threads."""
    found: list[int] = []
    try:
        threads = os.listdir(f"{PROC}/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"{PROC}/{pid}/task/{thread}/children", encoding="utf-8") as file:
                found += [int(number) for number in file.read().split()]
        except FileNotFoundError:
            if os.path.exists(f"{PROC}/{pid}/task/{thread}"):
                return _children_by_scan(pid)  # a kernel without CONFIG_PROC_CHILDREN
        except OSError:
            continue
    return found


def _children_by_scan(parent: int) -> list[int]:
    numbers = [int(name) for name in os.listdir(PROC) if name.isdigit()]
    return [pid for pid in numbers if (stat := read_stat(pid)) is not None and stat.parent == parent]


def reap() -> dict[int, int]:
    """Collect every child that has ended: pid -> wait status."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def running(pids: list[int]) -> list[int]:
    """Those that exist and are no zombies."""
    return [pid for pid in pids if (stat := read_stat(pid)) is not None and stat.state not in "ZX"]


def named(root: int, prefix: str) -> list[int]:
    """The running descendants of ``root`` whose name (15 characters at most) begins with ``prefix``."""
    found = []
    for pid in descendants(root):
        stat = read_stat(pid)
        if stat is not None and stat.name.startswith(prefix) and stat.state not in "ZX":
            found.append(pid)
    return found


def kill_descendants(budget: Budget) -> list[dict[str, Any]]:
    """Kill everything below this process and reap it; what cannot be killed within the budget, as leftovers.

    All are stopped before any is killed, so that nothing can start a successor meanwhile.
    """
    root = os.getpid()
    _freeze(root)
    while True:
        below = descendants(root)
        for pid in below:
            _send(pid, signal.SIGKILL)
        reap()
        alive = running(descendants(root))
        if not alive and not descendants(root):
            return []
        if budget.left() <= 0:
            return [leftover(pid) for pid in alive]
        time.sleep(POLL_SECONDS)


def _freeze(root: int) -> None:
    stopped: set[int] = set()
    for _ in range(FREEZE_ROUNDS):
        fresh = [pid for pid in running(descendants(root)) if pid not in stopped]
        if not fresh:
            return
        for pid in fresh:
            _send(pid, signal.SIGSTOP)
        stopped.update(fresh)


def stop_process(identity: Identity, number: int, seconds: float) -> bool:
    """Send signal ``number`` to exactly this process and wait until it has ended; False when it has not in time.

    What it leaves in its process group is killed. A stopped process is continued, or it could not end.
    """
    try:
        descriptor = open_pidfd(identity.pid)
    except ProcessLookupError:
        return True
    try:
        if not still_same(identity):
            return True
        _send(identity.pid, number)
        _send(identity.pid, signal.SIGCONT)
        gone = _wait_gone(identity, descriptor, seconds)
        if os.path.exists(f"{PROC}/{identity.pid}") and _leads_group(identity.pid):
            _send(-identity.pid, signal.SIGKILL)
        if not gone:
            gone = _wait_gone(identity, descriptor, min(1.0, seconds + 0.1))
        _reap_one(identity.pid)
        return gone
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _wait_gone(identity: Identity, descriptor: int | None, seconds: float) -> bool:
    if descriptor is not None:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))
    end = time.monotonic() + seconds
    while still_same(identity):
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _leads_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == pid
    except OSError:
        return False


def _reap_one(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _send(pid: int, number: int) -> None:
    """A signal to a process, or to a group when ``pid`` is negative; one that is gone or not ours is left alone."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def leftover(pid: int) -> dict[str, Any]:
    """A process that could not be ended, with the cause."""
    stat = read_stat(pid)
    name = stat.name if stat else "?"
    cause = "not ours to kill"
    if stat and stat.state == "D":
        cause = f"in uninterruptible sleep ({_wait_channel(pid)})"
    elif stat and os.access(f"{PROC}/{pid}/cwd", os.F_OK):
        cause = f"still in state {stat.state} after SIGKILL"
    identity = identify(pid)
    return {"kind": "process", "pid": pid, "name": name, "cause": cause} | (
        {"start_ticks": identity.start_ticks} if identity else {}
    )


def _wait_channel(pid: int) -> str:
    try:
        with open(f"{PROC}/{pid}/wchan", encoding="utf-8") as file:
            return file.read().strip() or "unknown"
    except OSError:
        return "unknown"
