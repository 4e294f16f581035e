"""The rung ``namespace``: repositories mounted in namespaces that a child makes, and read from inside by another one
before the pilot joins them (mode 3 of cvmfsexec).

Until then a refusal costs nothing but time: the clients are ended, the copy is removed, and the next rung is tried.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import replace

from pilot_agent import CVMFS
from pilot_agent.codec import from_json, to_json
from pilot_agent.cvmfs.distribution import Distribution
from pilot_agent.cvmfs.mounting import MOUNT_SECONDS, PROOF_SECONDS, Mounted, in_order, mount, prove
from pilot_agent.cvmfs.namespace import (
    Namespaces,
    StepError,
    hand_over,
    join,
    make_room,
    obstacle,
    own_mounts,
    receive,
    seal,
    show,
)
from pilot_agent.cvmfs.own_rung import OwnRung, Wish
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.processes import POLL_SECONDS, descendants, running
from pilot_agent.model import Fact, Json

SPARE = "root"
END_SECONDS = 10.0
LOWEST_KEPT = 10


class InNamespace(OwnRung):
    """As ``OwnRung``; once it was taken, ``namespaces`` are those that the pilot joins.

    The clients are below this process, and carry the workspace in their environment: they end with everything else of
    the pilot, also where taking it is interrupted.
    """

    def __init__(self, wish: Wish, *, mount_point: str = CVMFS) -> None:
        super().__init__(wish)
        self._mount_point = mount_point
        self.namespaces: Namespaces | None = None

    def facts(self) -> tuple[Fact, ...]:
        """The same facts as of what the site mounted."""
        return self._facts(self._mount_point, source="mountrepo in a namespace, and readdir", where="inside")

    def give_back(self) -> None:
        """End the clients, with whom the mounts go, and remove the copy. What could not be is looked for again at the
        pilot's end."""
        if self.namespaces is not None:
            self.namespaces.close()
            self.namespaces = None
        if _end_clients(Budget(END_SECONDS)):
            self._remove_copy()

    def _mount(self) -> str:
        """Where nobody is but the clients."""
        return obstacle() or self._make(self._configured_copy()) or self._look_inside()

    def _where(self) -> str:
        return f"at {self._mount_point}"

    def _make(self, distribution: Distribution) -> str:
        """Make the namespaces and mount, all in a child; why there are none."""
        ours, theirs = _channel()

        def work() -> Json:
            mounted: list[Mounted] = []
            try:
                self._fill(distribution, mounted, theirs)
            except StepError as error:
                return {"mounted": to_json(mounted), "problem": f"the node refused {error}"}
            return {"mounted": to_json(mounted), "problem": ""}

        seconds = (len(in_order(distribution, self._wanted)) + 1) * (MOUNT_SECONDS + PROOF_SECONDS)
        try:
            told, ended = self._child(work, "the namespace for CVMFS", seconds, theirs.fileno())
            theirs.close()
            self.namespaces = receive(ours)
        finally:
            ours.close()
            theirs.close()
        if not told:
            return ended.explain()
        self._mounted = tuple(from_json(Mounted, one) for one in told["mounted"])
        return str(told["problem"])

    def _fill(self, distribution: Distribution, mounted: list[Mounted], channel: socket.socket) -> None:
        """In the child. Raises ``StepError``."""
        user, group = os.getuid(), os.getgid()
        spare = os.path.join(distribution.root, SPARE)
        os.mkdir(spare, 0o700)
        another_root = make_room(spare, self._mount_point)
        mounted += mount(distribution, self._wanted, environment=self._wish.environment)
        # All were mounted before the first is moved: mountrepo reads the configuration repository where it put it.
        for one in mounted:
            if one.ok:
                show(one.path, one.repository, self._mount_point)
        seal(self._mount_point, another_root=another_root)
        hand_over(channel, user, group)

    def _look_inside(self) -> str:
        """What a child that joins as the pilot would reads of each repository; why it could not join."""
        namespaces = self.namespaces
        if namespaces is None:
            return "the namespace for CVMFS was not handed over"

        def work() -> Json:
            try:
                join(namespaces)
            except StepError as error:
                return {"problem": f"the node refused {error}"}
            return {"mounted": [to_json(self._read(one)) for one in self._mounted], "problem": ""}

        keep = (namespaces.user, namespaces.mounts, namespaces.account)
        seconds = (len(self._mounted) + 1) * PROOF_SECONDS
        told, ended = self._child(work, "the look at CVMFS from inside", seconds, *keep)
        if not told:
            return ended.explain()
        self._mounted = tuple(from_json(Mounted, one) for one in told.get("mounted", ()))
        return str(told["problem"])

    def _read(self, one: Mounted) -> Mounted:
        if not one.ok:
            return one
        path = os.path.join(self._mount_point, one.repository)
        state = prove(path, one.repository)
        if state.ok:
            return replace(one, path=path, revision=state.revision)
        return replace(one, path=path, ok=False, reason=f"it does not answer at {path}: {state.reason}")


def _mounts_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:  # it ended
        return ""


def _end_clients(budget: Budget) -> bool:
    """Kill what is below this process and sees other mounts than this one; False when some of it could not be ended."""
    ours, ended = own_mounts(), set[int]()
    while True:
        clients = [pid for pid in running(descendants(os.getpid())) if _mounts_of(pid) not in ("", ours)]
        ended.update(clients)
        for pid in clients:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # One that is just ending sees no mounts any more, and has not gone yet.
        going = [pid for pid in ended if _is_going(pid)]
        if not clients and not going:
            return True
        if budget.left() <= 0:
            return False
        time.sleep(POLL_SECONDS)


def _is_going(pid: int) -> bool:
    """Reap it; True while it is a child of this process that has not ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:  # another's child until that has ended, or reaped already
        return False


def _channel() -> tuple[socket.socket, socket.socket]:
    """A pair of sockets with numbers that a forked child can keep."""
    import fcntl

    made = []
    for one in socket.socketpair():
        with one:
            number = fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, LOWEST_KEPT)
        made.append(socket.socket(fileno=number))
    return made[0], made[1]
