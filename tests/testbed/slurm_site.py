"""A site with a real Slurm as a factory reaches it: through HTCondor's blahp, directly and over ssh to a login node.

`gate` is the factory's host. Its schedd speaks through the blahp to the cluster, whose programs and shared home it has;
over ssh to the cluster's head, where it has nothing but an account, and to the head of the site's HTCondor pool; and to
the schedd of that pool, with a token. The cluster's head runs sshd and no HTCondor; its nodes are hosts of their own.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.testbed import condor, trees, unit_tests
from tests.testbed.command import CommandError
from tests.testbed.condor import Pool
from tests.testbed.grid import ADDRESSES, SITE_POOL, Grid
from tests.testbed.hosts import Bind, Host, HostPlan
from tests.testbed.progress import step
from tests.testbed.slurm import NAME as HEAD
from tests.testbed.slurm import ClusterPlan, SlurmCluster
from tests.testbed.trees import FACTORY, PILOT, Account

GATE = "gate"
GATE_POOL = Pool(domain="gate.test", head="10.77.0.21", startd_identities=())
NODES = 2
START_TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.2

SSH_KEY = f"{FACTORY.home}/.ssh/id_ed25519"
KNOWN_HOSTS = f"{FACTORY.home}/.ssh/known_hosts"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
LOGIN = f"{PILOT.name}@{HEAD}"
POOL_LOGIN = f"{PILOT.name}@factory"
TOKENS = f"{FACTORY.home}/.condor/tokens.d"
SITE_IDENTITY = f"{PILOT.name}@{SITE_POOL.domain}"
GATE_IDENTITY = f"{FACTORY.name}@{GATE_POOL.domain}"

# The head has no HTCondor of its own.
HTCONDOR_PATTERNS = (
    "usr/bin/condor_*", "usr/sbin/condor_*", "usr/bin/blahpd", "usr/sbin/blah*", "usr/sbin/*gahp*", "usr/libexec/blahp",
    "usr/libexec/condor", "usr/lib/libcondor*", "usr/lib/libclassad*", "etc/blah*",
)  # fmt: skip

# The defaults are for sites with thousands of jobs, of which each look costs the batch system something.
QUICK = {
    "GRIDMANAGER_JOB_PROBE_INTERVAL": "2",
    "GRIDMANAGER_RESOURCE_PROBE_INTERVAL": "5",
    "GRIDMANAGER_CONTACT_SCHEDD_DELAY": "1",
    "GRIDMANAGER_EMPTY_RESOURCE_DELAY": "1",
    "C_GAHP_CONTACT_SCHEDD_DELAY": "1",
    "CGAHP_SCHEDD_INTERACTION_TIME": "1",
}
CACHE_SECONDS = 2


class SlurmSite:
    """A cluster with a head and two nodes, and the factory's host. Use it as a context manager."""

    def __init__(self, directory: Path, grid: Grid) -> None:
        self.directory = directory
        self.grid = grid
        plan = ClusterPlan(cores=4, memory_mib=4000, nodes=NODES, head_alone=True)
        homes = tuple(Bind(_home(directory / "homes", one), one.home, False) for one in (FACTORY, PILOT))
        self.cluster = SlurmCluster(
            directory / "cluster", plan, beside=grid, binds=homes, hidden_on_head=HTCONDOR_PATTERNS
        )
        names = {**ADDRESSES, **plan.addresses}
        tree = trees.ensure(trees.SLURM_WITH_HTCONDOR)
        # The login node's home is the site's own.
        binds = (homes[0], Bind(unit_tests.libraries(), unit_tests.SITE))
        gate = HostPlan(GATE, GATE_POOL.head, tree, GATE_POOL.domain, names, binds=binds)
        self.gate = Host(gate, directory / GATE, grid.network)
        self._daemons: list[subprocess.Popen[str]] = []

    @property
    def head(self) -> Host:
        """Controller and login node of the cluster."""
        return self.cluster.host

    @property
    def login_nodes(self) -> tuple[Host, ...]:
        """Where the factory has an account: the cluster's head, and that of the site's HTCondor pool."""
        return (self.head, self.grid.factory)

    @property
    def nodes(self) -> list[Host]:
        """The cluster's worker nodes."""
        return self.cluster.workers

    def __enter__(self) -> Self:
        try:
            self.cluster.start()
            with step("starting the factory's host"):
                self._start_login_nodes()
                self._start_gate()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Pull every plug and delete the disks."""
        self._stop_login_nodes()
        self.gate.remove()
        self.cluster.stop()
        for door in self._daemons:
            door.kill()
            door.wait()
        self._daemons.clear()

    def queue(self) -> str:
        """What Slurm has in its queue: a line for each job."""
        return self.head.run(["squeue", "-h", "-o", "%i %u %T"]).stdout

    def pool_queue(self) -> str:
        """What the schedd of the site's HTCondor pool has still to do for the pilots' account: a line for each job. It
        remembers for days those that ended, for whoever asks over the blahp."""
        words = ["condor_q", PILOT.name, "-constraint", "JobStatus < 3", "-af", "ClusterId", "JobStatus"]
        return _must(self.grid.factory, *words)

    def wait(self, what: str, ready: Callable[[], bool], seconds: float = START_TIMEOUT_SECONDS) -> None:
        """Wait for a condition. Raises CommandError, with the gridmanager's log, when it does not come."""
        until = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > until:
                raise CommandError(f"site: no {what} after {seconds:.0f} s\n{self.log()}")
            time.sleep(POLL_SECONDS)

    def log(self) -> str:
        """The end of what the gridmanager wrote, and of the queue."""
        path = self.gate.path(f"/var/log/condor/GridmanagerLog.{FACTORY.name}")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        held = self.gate.run(
            ["condor_q", "-all", "-af", "ClusterId", "JobStatus", "GridJobStatus", "HoldReason"]
        ).stdout
        return "\n".join([*lines[-40:], held, self.queue()])

    def _start_login_nodes(self) -> None:
        """A sshd each that takes keys and no passwords, and an account that is open: one without password is locked."""
        for host in self.login_nodes:
            _must(host, "ssh-keygen", "-q", "-A")
            _must(host, "usermod", "--password", "*", PILOT.name)
            with (self.directory / f"sshd-{host.plan.name}").open("w", encoding="utf-8") as log:
                words = ["/usr/sbin/sshd", "-D", "-e", "-o", "UsePAM=no", "-o", "PasswordAuthentication=no"]
                self._daemons.append(host.popen(words, stdout=log, stderr=log))

    def _stop_login_nodes(self) -> None:
        """The grid's own host goes on living: it is left as it was."""
        host = self.grid.factory
        if host.running:
            host.run(["usermod", "--password", "!", PILOT.name])
            host.run(["rm", "-rf", f"{PILOT.home}/.ssh", f"{PILOT.home}/bosco"])
            host.run(["condor_rm", "-forcex", "-constraint", "JobStatus > 2"], user=PILOT.name)

    def _start_gate(self) -> None:
        self.gate.start()
        self.cluster.admit(self.gate)
        mend_blahp(self.gate)
        self._let_in_over_ssh()
        text = condor.head_configuration(GATE_POOL, GATE, GATE_POOL.head)
        text += "".join(f"{name} = {value}\n" for name, value in QUICK.items())
        self.gate.path(condor.CONFIGURATION).write_text(text, encoding="utf-8")
        for name in (condor.TOKENS, condor.KEYS):
            self.gate.path(name).mkdir(mode=0o700, exist_ok=True)
        with (self.directory / "condor_master.out").open("a", encoding="utf-8") as file:
            self._daemons.append(self.gate.popen(["condor_master", "-f"], stdout=file, stderr=file))
        self.wait("schedd of the gate", lambda: bool(_said(self.gate, "condor_status", "-schedd", "-af", "Name")))
        # Bindings of 25.x and daemons of 23.9 do not agree on how the file system proves an account: a token does.
        for issuer, identity in ((self.grid.factory, SITE_IDENTITY), (self.gate, GATE_IDENTITY)):
            words = ["condor_token_create", "-identity", identity, "-authz", "READ", "-authz", "WRITE"]
            give(self.gate, f"{TOKENS}/{identity}", _must(issuer, *words), mode=0o600)

    def _let_in_over_ssh(self) -> None:
        """The factory's key is in the account's list, and the login nodes' own are known, as the sites told them."""
        self.gate.path(f"{FACTORY.home}/.ssh").mkdir(mode=0o700)
        os.chown(self.gate.path(f"{FACTORY.home}/.ssh"), FACTORY.uid, FACTORY.uid)
        _must(self.gate, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", SSH_KEY, user=FACTORY.name)
        public = self.gate.path(f"{SSH_KEY}.pub").read_text(encoding="ascii")
        known = ""
        for host in self.login_nodes:
            give(host, f"{PILOT.home}/.ssh/authorized_keys", public, mode=0o600, account=PILOT)
            key = host.path(f"{HOST_KEY}.pub").read_text(encoding="ascii").split()
            known += f"{host.plan.name} {key[0]} {key[1]}\n"
        give(self.gate, KNOWN_HOSTS, known, mode=0o600)


def give(host: Host, inside: str, text: str, *, mode: int = 0o644, account: Account = FACTORY) -> Path:
    """Put a file of an account's into a host; directories that are missing are its own and nobody else's."""
    path = host.path(inside)
    for directory in (path.parent.parent, path.parent):
        if not directory.exists():
            directory.mkdir(mode=0o700)
            os.chown(directory, account.uid, account.uid)
    path.touch(mode=mode)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    os.chown(path, account.uid, account.uid)
    return path


def mend_blahp(host: Host) -> None:
    """What an administrator changes of HTCondor 23.9's blahp where Python is 3.12 or newer: `readfp` is gone. What it
    learnt it keeps for a minute: here for less."""
    for name, old, new in (
        ("blah.py", ".readfp(", ".read_file("),
        ("slurm_status.py", "cache_timeout = 60", f"cache_timeout = {CACHE_SECONDS}"),
    ):
        path = host.path(f"/usr/libexec/blahp/{name}")
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def _home(below: Path, account: Account) -> Path:
    """A home that several hosts see, as over NFS."""
    home = below / account.name
    home.mkdir(parents=True)
    home.chmod(0o755)
    os.chown(home, account.uid, account.uid)
    return home


def _must(host: Host, *argv: str, user: str | None = None) -> str:
    done = host.run(argv, user=user)
    if done.returncode != 0:
        raise CommandError(f"{' '.join(argv)} on {host.plan.name}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _said(host: Host, *argv: str) -> str:
    return host.run(argv).stdout.strip()
