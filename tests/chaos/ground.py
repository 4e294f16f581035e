"""The grid of the fault suite: one user pool, a pilot that is never broken, and worker nodes that are."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.chaos.programs import ProgramFiles
from tests.testbed import condor, images, trees
from tests.testbed.cvmfs.distribution import Distribution, Server
from tests.testbed.grid import IMAGES_INSIDE, USER_POOL, Grid
from tests.testbed.hosts import Bind, Host, HostPlan
from tests.testbed.pilots import RUN_ATTRIBUTE, PilotRun, install_payload
from tests.testbed.trees import PILOT

RESCUE = "rescue"
"""The name of the pilot that runs again what a broken pilot gave back."""
RESCUE_CONFIGURATION = {
    "startd": {"attributes": {RUN_ATTRIBUTE: RESCUE}, "idle_shutdown_seconds": 7200},
}
# An access point notices within seconds that an execute node is gone, and gives it up after a minute.
SHORT_KEEP_ALIVES = "ALIVE_INTERVAL = 5\nMAX_CLAIM_ALIVES_MISSED = 3\nTCP_KEEPALIVE_INTERVAL = 5\n"
COLLECTOR_COMES_BACK = "MASTER_BACKOFF_CONSTANT = 1\nMASTER_BACKOFF_FACTOR = 1\n"
CONTROL_DIRECTORY = "/opt/chaos"
CVMFS_DIRECTORY = "/opt/cvmfs"
REPOSITORY = "data.example.org"
CLIENT = f"{CVMFS_DIRECTORY}/distribution"
RUNGS = {"pyz": "namespace", "sh": "fusermount"}
"""The way in which a pilot of each payload mounts CVMFS."""


class Ground(Grid):
    """A pool, the node of the pilot that is never broken, and `lanes` nodes that take points one at a time.

    Points that break what all share (the pool) take `alone`, all others `together`.
    """

    def __init__(self, directory: Path, payloads: Path, lanes: int) -> None:
        super().__init__(directory)
        self._payloads = payloads
        self._programs = ProgramFiles()
        self.nodes = [self._node(number) for number in range(lanes)]
        self._rescue_node = self._node(lanes)
        self._rescue: PilotRun | None = None
        self._door = threading.Condition()
        self._inside = 0
        self._waiting = 0

    @property
    def hosts(self) -> dict[str, Host]:
        """All hosts by name."""
        return {host.plan.name: host for host in (self.pool, self._rescue_node, *self.nodes)}

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rescue is not None:
            self._rescue.end_now()
        self.stop()

    def start(self) -> None:
        """Start hosts, pool and rescue pilot. Raises CommandError or PilotError with what did not come up."""
        self.network.start()
        for host in self.hosts.values():
            host.start()
        text = condor.head_configuration(USER_POOL, "pool", USER_POOL.head)
        self._configure(self.pool, text + SHORT_KEEP_ALIVES + COLLECTOR_COMES_BACK)
        self.start_condor(self.pool)
        for host in (*self.nodes, self._rescue_node):
            self.furnish(host)
        self._wait(self.pool, "its schedd and negotiator", self._pool_is_up)
        self.pilot_token = self.token()
        self._rescue = PilotRun(self._rescue_node, self.pilot_token, RESCUE_CONFIGURATION).start()
        self._rescue.wait_for("pool.joined")

    def furnish(self, host: Host) -> None:
        """Put the payloads and the suite's own programs on a node."""
        install_payload(host, self._payloads)
        directory = host.path(CONTROL_DIRECTORY)
        directory.mkdir(exist_ok=True)
        self._programs.install(directory)
        server = Server(host, f"{CVMFS_DIRECTORY}/server")
        server.publish_configuration()
        server.publish(REPOSITORY, {"new_repository": f"this is {REPOSITORY}\n"})
        host.run(["install", "-d", "-o", PILOT.name, "-g", PILOT.name, CLIENT])
        Distribution.lay_out(server, CLIENT)

    def renew(self, host: Host) -> None:
        """Give a node a new disk, after a point that left something on it."""
        host.remove()
        host.start()
        self.furnish(host)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Others may use the pool at the same time."""
        with self._door:
            self._door.wait_for(lambda: self._inside >= 0 and not self._waiting)
            self._inside += 1
        try:
            yield
        finally:
            with self._door:
                self._inside -= 1
                self._door.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else uses the pool meanwhile."""
        with self._door:
            self._waiting += 1
            self._door.wait_for(lambda: self._inside == 0)
            self._waiting -= 1
            self._inside = -1
        try:
            yield
        finally:
            with self._door:
                self._inside = 0
                self._door.notify_all()

    def pool_process(self, name: str) -> int:
        """The number, within the pool's host, of one of its daemons. Raises LookupError when it does not run."""
        for process in self.pool.processes():
            if process.argv[0].rsplit("/", 1)[-1] == name and process.state not in "ZX":
                return process.pid
        raise LookupError(f"{name} does not run in the pool")

    def wake_pool(self) -> None:
        """Let the pool's master, which was stopped, go on; the door through which it was started stopped with it."""
        os.kill(self._daemons["pool"].pid, signal.SIGCONT)
        self.signal_pool("condor_master", signal.SIGCONT)

    def signal_pool(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one of the pool's daemons."""
        self.pool.run(["kill", f"-{number.name.removeprefix('SIG')}", str(self.pool_process(name))])

    def _pool_is_up(self) -> bool:
        return all(self.pool.run(["condor_status", kind, "-af", "Name"]).stdout for kind in ("-schedd", "-negotiator"))

    def _node(self, number: int) -> Host:
        shown = (Bind(images.ensure(), IMAGES_INSIDE),)
        names = {"pool": USER_POOL.head}
        plan = HostPlan(f"node{number}", f"10.77.0.{20 + number}", trees.ensure(), "site.test", names, (), shown)
        return Host(plan, self.directory / plan.name, self.network)
