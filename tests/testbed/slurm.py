"""A real Slurm: munged, slurmctld and slurmd in a host of its own, more hosts with slurmd, jobs of an ordinary user.
With a head of its own the controller runs no jobs, and other machines can be made ones from which jobs are submitted.

Cores are bound by the affinity plugin; the cgroup plugins need control groups that a host may write, which it may not.
Memory is handed out but not enforced, beyond the limit of resident memory that slurmd sets.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.testbed import trees
from tests.testbed.command import CommandError
from tests.testbed.grid import ADDRESSES, Grid
from tests.testbed.hosts import Bind, Host, HostPlan
from tests.testbed.network import Network
from tests.testbed.progress import step

NAME = "slurm1"
ADDRESS = "10.77.0.31"
PARTITION = "grid"
CONFIGURATION = "/etc/slurm/slurm.conf"
LOGS = "/var/log/slurm"
USER = "pilot"
HOME = "/home/pilot"
START_TIMEOUT_SECONDS = 60.0
JOB_TIMEOUT_SECONDS = 120.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """How many nodes there are, what each offers, and the time between SIGTERM and SIGKILL. The controller is a node
    too, unless it is `head_alone`."""

    cores: int = 2
    memory_mib: int = 2000
    nodes: int = 1
    kill_wait_seconds: int = 5
    head_alone: bool = False

    @property
    def addresses(self) -> dict[str, str]:
        """Names and addresses of all hosts; the first is the controller."""
        first, _, last = ADDRESS.rpartition(".")
        number_of_hosts = self.nodes + (1 if self.head_alone else 0)
        return {f"slurm{number + 1}": f"{first}.{int(last) + number}" for number in range(number_of_hosts)}

    @property
    def workers(self) -> dict[str, str]:
        """Names and addresses of the nodes."""
        return {name: at for name, at in self.addresses.items() if not (self.head_alone and name == NAME)}


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """A job that ended: its number and what it wrote."""

    number: str
    stdout: str
    stderr: str


def configuration(plan: ClusterPlan) -> str:
    """Return slurm.conf(5)."""
    settings = {
        "ClusterName": "testbed",
        "SlurmctldHost": f"{NAME}({ADDRESS})",
        "SlurmUser": "root",
        "AuthType": "auth/munge",
        "StateSaveLocation": "/var/lib/slurm/slurmctld",
        "SlurmdSpoolDir": "/var/lib/slurm/slurmd",
        "SlurmctldPidFile": "/run/slurmctld.pid",
        "SlurmdPidFile": "/run/slurmd.pid",
        "SlurmctldLogFile": f"{LOGS}/slurmctld.log",
        "SlurmdLogFile": f"{LOGS}/slurmd.log",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/affinity",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU_Memory",
        # Jobs are looked at as they come, and not every half minute.
        "SchedulerType": "sched/builtin",
        "SchedulerParameters": "sched_interval=1,batch_sched_delay=0",
        "KillWait": str(plan.kill_wait_seconds),
        "ReturnToService": "2",
        "MailProg": "/bin/true",
        # A machine with another number of cores still has the node that the tests know.
        "SlurmdParameters": "config_overrides",
    }
    nodes = "".join(
        f"NodeName={name} NodeAddr={address} CPUs={plan.cores} RealMemory={plan.memory_mib} State=UNKNOWN\n"
        for name, address in plan.workers.items()
    )
    partition = f"PartitionName={PARTITION} Nodes={','.join(plan.workers)} Default=YES MaxTime=60 State=UP"
    return "".join(f"{name}={value}\n" for name, value in settings.items()) + f"{nodes}{partition}\n"


class SlurmCluster:
    """One host that is controller and node of a cluster, and `others` that are nodes. Use it as a context manager.

    The hosts live as long as the thread that entered it, even when that is killed.
    """

    def __init__(
        self,
        directory: Path,
        plan: ClusterPlan | None = None,
        *,
        beside: Grid | None = None,
        binds: tuple[Bind, ...] = (),
        hidden_on_head: tuple[str, ...] = (),
    ) -> None:
        """With `beside` it is in that grid's network, and its pilots find HTCondor. All hosts see `binds`, which may be
        the homes that a site shares among its machines; the first lacks what is `hidden_on_head`."""
        self.plan = plan if plan is not None else ClusterPlan()
        self.network = beside.network if beside is not None else Network()
        self._own_network = beside is None
        tree = trees.ensure(trees.SLURM if beside is None else trees.SLURM_WITH_HTCONDOR)
        addresses = self.plan.addresses
        names = ({} if beside is None else dict(ADDRESSES)) | (addresses if len(addresses) > 1 else {})
        self.host, *self.others = (
            Host(
                HostPlan(name, address, tree, "slurm.test", names, hidden_on_head if name == NAME else (), binds),
                directory / name,
                self.network,
            )
            for name, address in self.plan.addresses.items()
        )
        self._scripts = 0

    def __enter__(self) -> Self:
        try:
            with step("starting Slurm"):
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
        """Start the daemons; return when the node is idle. Raises CommandError with the end of their logs."""
        if self._own_network:
            self.network.start()
        for host in (self.host, *self.others):
            host.start()
            self.admit(host)
        self._must("slurmctld")
        for host in self.workers:
            self._must("slurmd", host=host)
        idle = ["idle"] * self.plan.nodes
        self._wait("idle nodes", lambda: self.host.run(["sinfo", "-h", "-N", "-o", "%T"]).stdout.split() == idle)

    @property
    def workers(self) -> list[Host]:
        """The hosts that run jobs."""
        return self.others if self.plan.head_alone else [self.host, *self.others]

    def admit(self, host: Host) -> None:
        """Make a host one from which jobs are submitted: it knows the cluster and is believed who its users are."""
        host.path(CONFIGURATION).write_text(configuration(self.plan), encoding="utf-8")
        host.path("/etc/slurm/cgroup.conf").write_text("CgroupPlugin=disabled\n", encoding="utf-8")
        self._must("install", "--directory", "--owner=munge", "--group=munge", "/run/munge", host=host)
        self._must("setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged", host=host)

    def stop(self) -> None:
        """Pull the plug and delete the disk."""
        for host in (*self.others, self.host):
            host.remove()
        if self._own_network:
            self.network.stop()

    def run(
        self,
        script: str,
        *options: str,
        environment: Mapping[str, str] | None = None,
        seconds: float = JOB_TIMEOUT_SECONDS,
    ) -> SlurmJob:
        """Submit a shell script as an ordinary user and wait for the job's end.

        `options` are sbatch's; the submitter's environment goes with the job, as is Slurm's habit. Raises CommandError
        when the job is refused or has not ended after `seconds`.
        """
        number, name = self.submit(script, *options, environment=environment)
        # sbatch's own way to wait looks at ever longer intervals.
        self._wait(f"end of job {number}", lambda: self.over(number), seconds)
        return SlurmJob(number, self._output(f"{name}.out"), self._output(f"{name}.err"))

    def submit(
        self, script: str, *options: str, environment: Mapping[str, str] | None = None, directory: str = HOME
    ) -> tuple[str, str]:
        """Submit as `run` does, and do not wait: the number of the job, and where its script and output are, without
        their suffixes `.sh`, `.out` and `.err`; that is below `directory`, where the job begins too."""
        self._scripts += 1
        name = f"{directory}/job-{self._scripts}"
        self.host.path(f"{name}.sh").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        words = ["sbatch", "--parsable", f"--output={name}.out", f"--error={name}.err", *options, f"{name}.sh"]
        done = self.host.run(words, user=USER, cwd=directory, env=environment)
        number = done.stdout.split(";")[0].strip()
        if not re.fullmatch("[0-9]+", number):
            raise CommandError(f"{shlex.join(words)}: {done.stderr.strip()}\n{self._logs()}")
        return number, name

    def over(self, number: str) -> bool:
        """Whether the queue has done with a job."""
        return not self._squeue(number)

    def told(self, number: str) -> dict[str, str]:
        """What the controller says of a job."""
        done = self.host.run(["scontrol", "--oneliner", "show", "job", number])
        return dict(re.findall(r"(\w+)=(\S*)", done.stdout))

    def set_node(self, state: str) -> None:
        """Change the node's state, as its administrator would: `drain` or `resume`."""
        self._must("scontrol", "update", f"NodeName={NAME}", f"State={state}", "Reason=test")

    def _output(self, path: str) -> str:
        file = self.host.path(path)
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def _must(self, *argv: str, host: Host | None = None) -> None:
        host = host or self.host
        done = host.run(argv)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise CommandError(
                f"{shlex.join(argv)} on {host.plan.name}: exit status {done.returncode}\n{said}\n{self._logs()}"
            )

    def _squeue(self, number: str) -> str:
        """What the queue lists of a job: nothing once it ended."""
        done = self.host.run(["squeue", "-h", "-j", number])
        return done.stdout if done.returncode == 0 or "Invalid job id" in done.stderr else done.stderr

    def _wait(self, what: str, ready: Callable[[], bool], seconds: float = START_TIMEOUT_SECONDS) -> None:
        until = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > until:
                raise CommandError(f"host {NAME}: no {what} after {seconds:.0f} s\n{self._logs()}")
            time.sleep(POLL_SECONDS)

    def _logs(self) -> str:
        logs = sorted(self.host.path(LOGS).glob("*.log")) if self.host.running else []
        tails = (log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:] for log in logs)
        return "\n".join(f"--- {log.name}\n" + "\n".join(tail) for log, tail in zip(logs, tails, strict=True))
