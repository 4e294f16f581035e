"""The whole emulated grid: a user pool, a site's batch system with its factory host, and two worker nodes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.testbed import cache, condor, images, overlays, trees
from tests.testbed.command import CommandError
from tests.testbed.condor import Pool, Site
from tests.testbed.hosts import Bind, Host, HostPlan
from tests.testbed.network import Network
from tests.testbed.progress import step

USER_POOL = Pool(domain="pool.test", head="10.77.0.2", startd_identities=("pilot",))
SITE_POOL = Pool(domain="site.test", head="10.77.0.3", startd_identities=())
ADDRESSES = {"pool": USER_POOL.head, "factory": SITE_POOL.head, "wn1": "10.77.0.11", "wn2": "10.77.0.12"}
WORKERS = ("wn1", "wn2")

# What a pilot's token may do in the user pool, and no more. DAEMON is not among them.
PILOT_IDENTITY = f"pilot@{USER_POOL.domain}"
PILOT_AUTHORIZATIONS = ("ADVERTISE_MASTER", "ADVERTISE_STARTD", "READ")

IMAGES_INSIDE = "/images"
EXTRAS_INSIDE = "/extras"
START_TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class GridPlan:
    """What may differ between grids. `binds` are seen by every host."""

    site: Site = field(default_factory=Site)
    binds: tuple[Bind, ...] = ()


class Grid:
    """Four hosts, running. `pool`, `factory`, `wn1` (Python 3.13) and `wn2` (no Python) are attributes.

    Use it as a context manager. Hosts live as long as the thread that entered it, even when that is killed.
    """

    def __init__(self, directory: Path, plan: GridPlan | None = None) -> None:
        self.directory = directory
        self.plan = plan if plan is not None else GridPlan()
        self.network = Network()
        self._daemons: dict[str, subprocess.Popen[str]] = {}
        tree = trees.ensure()
        shown = (*self.plan.binds, Bind(images.ensure(), IMAGES_INSIDE), Bind(extras(), EXTRAS_INSIDE))
        # The access point has the images too: a job with `container_image = x.sif` is sent from there.
        self.pool = self._host("pool", tree, USER_POOL, shown)
        programs = (overlays.FACTORY.ensure(),)
        self.factory = self._host("factory", tree, SITE_POOL, self.plan.binds, over=programs)
        self.wn1 = self._host("wn1", tree, SITE_POOL, shown)
        self.wn2 = self._host("wn2", tree, SITE_POOL, shown, hidden=trees.PYTHON_PATTERNS)

    @property
    def hosts(self) -> dict[str, Host]:
        """All hosts by name."""
        return {host.plan.name: host for host in (self.pool, self.factory, self.wn1, self.wn2)}

    @property
    def workers(self) -> tuple[Host, ...]:
        """The site's worker nodes."""
        return (self.wn1, self.wn2)

    def __enter__(self) -> Self:
        try:
            with step("starting the grid"):
                self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start hosts and daemons; return when both pools answer and the site has both its nodes.

        Raises CommandError that names what did not come up, with the end of its daemons' logs.
        """
        self.network.start()
        for host in self.hosts.values():
            host.start()
        self._configure(self.pool, condor.head_configuration(USER_POOL, "pool", USER_POOL.head))
        self._configure(self.factory, condor.head_configuration(SITE_POOL, "factory", SITE_POOL.head))
        for host in (self.pool, self.factory):
            self.start_condor(host)
        for host in self.workers:
            self._configure(
                host, condor.execute_configuration(SITE_POOL, host.plan.name, host.plan.address, self.plan.site)
            )
            self._give_site_token(host)
            self.start_condor(host)
        for host in (self.pool, self.factory):
            self._wait(host, "its schedd and negotiator", lambda host=host: _head_is_up(host))  # type: ignore[misc]
        self._wait(self.factory, f"{len(WORKERS)} slots", lambda: len(_names(self.factory, "-startd")) == len(WORKERS))

    def stop(self) -> None:
        """Pull every plug and delete the disks."""
        for host in self.hosts.values():
            host.remove()
        for door in self._daemons.values():
            door.wait()
        self._daemons.clear()
        self.network.stop()

    def start_condor(self, host: Host) -> None:
        """Start a host's condor_master, after `start` did or after the host was restarted."""
        log = host.directory / "condor_master.out"
        with log.open("a", encoding="utf-8") as file:
            door = host.popen(["condor_master", "-f"], stdout=file, stderr=file)
        old = self._daemons.pop(host.plan.name, None)
        if old is not None:
            old.wait()
        self._daemons[host.plan.name] = door

    def token(
        self,
        identity: str = PILOT_IDENTITY,
        *,
        authorizations: Sequence[str] = PILOT_AUTHORIZATIONS,
        lifetime_seconds: int | None = None,
    ) -> str:
        """Return a token that the user pool's central manager signed.

        `authorizations` limits what it is good for (none: all that the identity may do). For an expired token give a
        lifetime of 1 and wait. Raises CommandError when condor_token_create refuses.
        """
        return _create_token(self.pool, identity, authorizations, lifetime_seconds)

    def _host(
        self,
        name: str,
        tree: Path,
        pool: Pool,
        binds: tuple[Bind, ...],
        hidden: tuple[str, ...] = (),
        over: tuple[Path, ...] = (),
    ) -> Host:
        plan = HostPlan(name, ADDRESSES[name], tree, pool.domain, ADDRESSES, hidden, binds, over)
        return Host(plan, self.directory / name, self.network)

    def _configure(self, host: Host, text: str) -> None:
        host.path(condor.CONFIGURATION).write_text(text, encoding="utf-8")
        for directory in (condor.TOKENS, condor.KEYS):
            host.path(directory).mkdir(mode=0o700, exist_ok=True)

    def _give_site_token(self, host: Host) -> None:
        self._wait(self.factory, "its signing key", lambda: self.factory.path(condor.SIGNING_KEY).exists())
        token = _create_token(self.factory, SITE_POOL.daemon_identity, (), None)
        path = host.path(f"{condor.TOKENS}/site")
        path.write_text(token + "\n", encoding="ascii")
        path.chmod(0o600)

    def _wait(self, host: Host, what: str, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + START_TIMEOUT_SECONDS
        while not ready():
            if time.monotonic() > until:
                raise CommandError(
                    f"host {host.plan.name}: no {what} after {START_TIMEOUT_SECONDS:.0f} s\n{_logs(host)}"
                )
            time.sleep(POLL_SECONDS)


def extras() -> Path:
    """The directory of what only some tests need: hosts that run already see what is built there."""
    directory = cache.directory() / "extras"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _create_token(host: Host, identity: str, authorizations: Sequence[str], lifetime_seconds: int | None) -> str:
    words = ["condor_token_create", "-identity", identity]
    for name in authorizations:
        words += ["-authz", name]
    if lifetime_seconds is not None:
        words += ["-lifetime", str(lifetime_seconds)]
    done = host.run(words)
    if done.returncode != 0:
        raise CommandError(f"{' '.join(words)} on {host.plan.name}: {done.stderr.strip()}")
    return done.stdout.strip()


def _head_is_up(host: Host) -> bool:
    return bool(_names(host, "-schedd")) and bool(_names(host, "-negotiator"))


def _names(host: Host, kind: str) -> list[str]:
    return host.run(["condor_status", kind, "-af", "Name"]).stdout.split()


def _logs(host: Host) -> str:
    logs = sorted(host.path("/var/log/condor").glob("*Log"))
    return "\n".join(f"--- {log.name}\n" + "\n".join(_tail(log)) for log in logs)


def _tail(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
