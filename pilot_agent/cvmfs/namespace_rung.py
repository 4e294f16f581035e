"""The rung ``namespace``: repositories mounted in namespaces that a child makes, and read from inside by another one
before the pilot joins them (mode 3 of cvmfsexec).

Until then a refusal costs nothing but time: the clients are ended, the copy is removed, and the next rung is tried.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pilot_agent.codec import from_json, to_json
from pilot_agent.cvmfs.distribution import Distribution, lay_out
from pilot_agent.cvmfs.mounting import MOUNT_SECONDS, PROOF_SECONDS, Mounted, in_order, mount, prove
from pilot_agent.cvmfs.namespace import (
    MOUNT_POINT,
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
from pilot_agent.cvmfs.rungs import Judged, by_reason
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.processes import POLL_SECONDS, descendants, running
from pilot_agent.lifecycle.removal import NotOurs, remove_tree
from pilot_agent.light import dumps, loads
from pilot_agent.model import Fact, Json, PilotError
from pilot_agent.process import Result, Runner

if TYPE_CHECKING:
    from pilot_agent.process import WakeUp

NAME = "cvmfs"
"""The directory of the distribution's copy in the workspace, or what it begins with."""
SPARE = "root"
LAYOUT_SECONDS = 120.0
END_SECONDS = 10.0
MOST_PLACES = 64
LOWEST_KEPT = 10

Tell = Callable[..., None]
"""Writes an event: (name, **data)."""


class InNamespace:
    """The rung for these repositories, with the distribution that lies at ``source``; ``configure`` writes the settings
    of its client (raises ``PilotError``).

    Once it was taken, ``namespaces`` are those that the pilot joins. The clients are below this process, and carry the
    workspace in their environment: they end with everything else of the pilot.
    """

    def __init__(
        self,
        source: str,
        workspace: str,
        repositories: Sequence[str],
        *,
        configure: Callable[[Distribution], None],
        environment: Mapping[str, str],
        tell: Tell,
        wake: WakeUp | None = None,
        mount_point: str = MOUNT_POINT,
    ) -> None:
        self._source = source
        self._workspace = workspace
        self._wanted = tuple(dict.fromkeys(repositories))
        self._configure = configure
        self._environment = environment
        self._tell = tell
        self._wake = wake
        self._mount_point = mount_point
        self._place = ""
        self._mounted: tuple[Mounted, ...] = ()
        self._problem = ""
        self.namespaces: Namespaces | None = None

    def take(self) -> Judged:
        """Mount what is wanted where nobody is but the clients; what came of it. Raises ``Interrupted``: what was begun
        is below this process then."""
        self._problem = obstacle() or self._lay_out() or self._configured() or self._make() or self._look_inside()
        if self._problem:
            self.give_back()
            return Judged(False, self._problem)
        for one in self._mounted:
            data = {"repository": one.repository, "path": one.path, "seconds": one.seconds}
            if one.ok:
                self._tell("cvmfs.mounted", revision=one.revision, **data)
            else:
                self._tell("cvmfs.not_mounted", reason=one.reason, code=one.code, **data)
        return self._judged()

    def facts(self) -> tuple[Fact, ...]:
        """The same facts as of what the site mounted."""
        source = "mountrepo in a namespace, and readdir"
        wanted = [one for one in self._mounted if one.repository in self._wanted]
        refused: list[Json] = [{"repository": one.repository, "reason": one.reason} for one in wanted if not one.ok]
        revisions = {one.repository: one.revision for one in wanted if one.ok and one.revision is not None}
        return (
            Fact("cvmfs.repositories", [one.repository for one in wanted if one.ok], source=source, where="inside"),
            Fact("cvmfs.refused", refused, source=source, where="inside"),
            Fact("cvmfs.revisions", revisions, source="extended attribute user.revision", where="inside"),
            Fact("cvmfs.mount_point", self._mount_point, source=source, where="inside"),
        )

    def refused(self) -> Mapping[str, str]:
        """Why each repository does not answer."""
        if not self._mounted:
            return dict.fromkeys(self._wanted, self._problem)
        return {one.repository: one.reason for one in self._mounted if not one.ok}

    def give_back(self) -> None:
        """End the clients, with whom the mounts go, and remove the copy. What could not be is looked for again at the
        pilot's end."""
        if self.namespaces is not None:
            self.namespaces.close()
            self.namespaces = None
        if _end_clients(Budget(END_SECONDS)) and self._place:
            try:
                remove_tree(self._place, Budget(END_SECONDS), prefix=NAME)
            except NotOurs:  # somebody put something else there: the workspace's own removal tells
                return

    def _lay_out(self) -> str:
        """Make the copy in a child, as the source may lie on a file system that hangs; why it could not be made."""
        names = [NAME, *(f"{NAME}.{number}" for number in range(2, MOST_PLACES))]
        places = [os.path.join(os.path.realpath(self._workspace), name) for name in names]
        self._place = next((place for place in places if not os.path.lexists(place)), places[-1])

        def work() -> Json:
            try:
                lay_out(self._source, self._place)
                os.mkdir(os.path.join(self._place, SPARE), 0o700)
            except PilotError as error:
                return {"problem": f"{error.failure.message}; {error.failure.hint}"}
            return {"problem": ""}

        told, ended = self._child(work, f"the copy of {self._source}", LAYOUT_SECONDS)
        return str(told["problem"]) if told else ended.explain()

    def _configured(self) -> str:
        """Here and not in a child: this process keeps the cache."""
        try:
            self._configure(Distribution(self._place))
        except PilotError as error:
            return f"{error.failure.message}; {error.failure.hint}"
        return ""

    def _make(self) -> str:
        """Make the namespaces and mount, all in a child; why there are none."""
        distribution = Distribution(self._place)
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
        another_root = make_room(os.path.join(distribution.root, SPARE), self._mount_point)
        mounted += mount(distribution, self._wanted, environment=self._environment)
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

    def _judged(self) -> Judged:
        there = [one.repository for one in self._mounted if one.ok and one.repository in self._wanted]
        if len(there) == len(self._wanted):
            names = ", ".join(there)
            return Judged(True, f"all of {names} were mounted at {self._mount_point}", answering=len(there))
        missing = {name: reason for name, reason in self.refused().items() if name in self._wanted}
        count = f"{len(there)} of {len(self._wanted)} were mounted"
        return Judged(False, f"{count}; {by_reason(missing)}", partial=bool(there), answering=len(there))

    def _child(self, work: Callable[[], Json], name: str, seconds: float, *keep: int) -> tuple[dict[str, Any], Result]:
        """What ``work`` gives in a child that has the descriptors ``keep``; empty where it gave nothing."""
        with Runner(self._wake) as runner:
            handle = runner.start_call(lambda: dumps(work()).encode(), name=name, deadline_seconds=seconds, keep=keep)
            ended = runner.wait(handle)
        try:
            told = loads(ended.answer) if ended.ok else None
        except ValueError:
            told = None
        return (told if isinstance(told, dict) else {}), ended


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
        for pid in ended:
            with suppress(ChildProcessError):  # another's child until that has ended, or reaped already
                os.waitpid(pid, os.WNOHANG)
        if not clients:
            return True
        if budget.left() <= 0:
            return False
        time.sleep(POLL_SECONDS)


def _channel() -> tuple[socket.socket, socket.socket]:
    """A pair of sockets with numbers that a forked child can keep."""
    import fcntl

    made = []
    for one in socket.socketpair():
        with one:
            number = fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, LOWEST_KEPT)
        made.append(socket.socket(fileno=number))
    return made[0], made[1]
