"""What the pilot's HTCondor will be: one frozen record, from which the configuration is written and checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pilot_agent import CVMFS
from pilot_agent.startd.slots import Sizes, SlotGroup, SlotWish, plan_slots

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilot_agent.hookspecs import StartdFragment
    from pilot_agent.model import ContainerDecision, Json
    from pilot_agent.startd.confinement import Confinement

MASTER_ARGUMENTS = ("-f",)

Subject = Literal["start", "rank", "preempt"]

AD_TIME_ATTRIBUTE = "PilotAdTime"
"""Epoch seconds; the keeper sends it every period. START is closed without it."""

ACCEPTING_ATTRIBUTE = "PilotAccepting"
"""False closes START; the keeper sends it when the pilot drains."""

FAILING_IMAGES_ATTRIBUTE = "PilotFailingImages"
"""Images that could not be had lately, separated by blanks; the keeper sends it. START is closed for their jobs."""

TIME_ATTRIBUTES = ("GLIDEIN_ToRetire", "GLIDEIN_ToDie")
"""Epoch seconds, sent by the keeper, which may change them: a constant of that name would hide them."""

SENT_ATTRIBUTES = (*TIME_ATTRIBUTES, "GLIDEIN_Expire")
"""What the keeper alone sends, the token's expiry too."""

MISSED_PERIODS = 3
"""START closes when this many messages of the ad channel are missing."""

UNIT_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600}
"""The units in which jobs say how long they take."""

ORPHAN_SECONDS = 600
"""Without a message of the ad channel for so long nobody supervises the daemons any more: they end themselves."""


@dataclass(frozen=True, slots=True)
class CondorPaths:
    """Where the node's HTCondor lies. ``version`` is as the binaries say, or "unknown"; ``plugins`` are the
    file transfer plugins that need no interpreter.
    """

    release: str
    bin: str
    sbin: str
    libexec: str
    lib: str
    version: str = "unknown"
    plugins: tuple[str, ...] = ()

    @property
    def master(self) -> str:
        """The program that the keeper starts."""
        return f"{self.sbin}/condor_master"

    def tool(self, name: str) -> str:
        """A command-line tool such as ``condor_ping``."""
        return f"{self.bin}/{name}"


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """One GPU that jobs may get: its identifier as CUDA_VISIBLE_DEVICES takes it, and what its ad says."""

    uuid: str
    properties: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """How HTCondor starts the jobs' containers.

    ``images`` maps a platform to an image, in dictionary order; ``binds`` are ``source[:target[:ro]]``;
    ``target_directory`` is where the job's scratch directory appears inside; ``required`` refuses jobs without an
    image; ``test_before_job`` lets HTCondor test each image before each job, which is needed while an image on
    offer is not proven. ``gpu_libraries`` and ``opencl`` let pass what HTCondor adds for jobs with GPUs, ``--nv`` and a
    bind of OpenCL's vendors. ``allowed_paths`` are directories of the node whose images a job may name, beside /cvmfs
    and the dictionary. Jobs that name others are held, or, with ``forbidden_fifo``, given back and told of there.
    ``confinement`` is what jobs' starters are kept from. ``proven`` spares HTCondor its own test of the runtime at its
    start, and ``full_version`` is the line that the runtime said of its version.
    ``cvmfs`` is where the node has what is below /cvmfs: elsewhere only jobs in containers see it.
    ``fetcher`` is the beginning of the command that brings a remote image to the node, and ``fetched`` are the schemes
    of the images that jobs may have brought.
    """

    runtime: str
    images: Mapping[str, str]
    default_platform: str | None
    required: bool
    pid_namespace: bool
    sif: bool
    test_before_job: bool
    proven: bool = True
    version: str = ""
    full_version: str = ""
    mode: str = ""
    binds: tuple[str, ...] = ()
    extra_arguments: tuple[str, ...] = ()
    gpu_libraries: bool = True
    opencl: bool = True
    allowed_paths: tuple[str, ...] = ()
    forbidden_fifo: str = ""
    cvmfs: str = CVMFS
    target_directory: str = "/srv"
    confinement: Confinement | None = None
    fetcher: tuple[str, ...] = ()
    fetched: tuple[str, ...] = ("docker", "oras", "https")


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """How the daemons name this host; ``domain`` is appended to names when no name server is asked."""

    no_dns: bool
    domain: str
    ccb: bool


@dataclass(frozen=True, slots=True)
class LayerExpression:
    """One layer's expression for START, RANK or PREEMPT."""

    subject: Subject
    layer: str
    text: str

    @property
    def key(self) -> str:
        """The key of the configuration that has it."""
        return f"startd.{self.subject}"


@dataclass(frozen=True, slots=True)
class HoldPolicy:
    """Whether jobs are held that use more memory or disk than their slot has."""

    memory: bool = False
    disk: bool = False


@dataclass(frozen=True, slots=True)
class JobCgroups:
    """Whether each job has a control group of its own, or the ``reason`` why not. ``group`` is the directory of the
    group that was divided for them, ``controllers`` what the jobs' groups have."""

    used: bool = False
    reason: str = ""
    group: str = ""
    controllers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PluginFragment:
    """A plugin's raw configuration lines, with the plugin that is to blame for them."""

    plugin: str
    fragment: StartdFragment


@dataclass(frozen=True, slots=True)
class StartdPlan:
    """Everything that decides the configuration; nothing else does.

    ``workspace`` is the pilot's root directory. ``job_length`` maps attributes in which jobs say how long they
    take to their unit, a key of ``UNIT_SECONDS``; ``services_attribute`` and ``cvmfs_attribute`` are those in which
    they name the services and repositories that they need. ``attributes`` are constant; ``channel_command`` is the
    program whose output carries the changing ones. ``decision`` is advertised, and decides nothing here.
    ``execute_directory`` is where jobs' scratch directories are made. ``wish`` is how the node is to be divided into
    ``slot_groups``. ``expressions`` are those of the layers, ``ad_expressions`` attributes that are no constants,
    ``setup_expressions`` those that setups gave.
    ``tail_shutdown_seconds`` None: as ``idle_shutdown_seconds``. ``ccb_brokers`` empty: the collectors.
    ``shared_port``: all daemons listen at one port, which is the pilot's own. ``service_environment`` are the variables
    that jobs get of services, which change while the pilot runs; None where no service gives any. ``sent_attributes``
    maps attributes that the keeper alone sends to the service that gives them.
    """

    name: str
    workspace: str
    execute_directory: str
    collectors: tuple[str, ...]
    token_directory: str
    condor: CondorPaths
    network: NetworkPlan
    cores: int
    memory_mib: int
    disk_mib: int
    channel_command: tuple[str, ...]
    gpus: tuple[GpuDevice, ...] = ()
    ssh_to_job: bool = True
    wish: SlotWish = field(default_factory=SlotWish)
    expressions: tuple[LayerExpression, ...] = ()
    hold: HoldPolicy = field(default_factory=HoldPolicy)
    claim_worklife_seconds: int = 3600
    idle_shutdown_seconds: int = 1200
    tail_shutdown_seconds: int | None = None
    ccb_brokers: tuple[str, ...] = ()
    shared_port: bool = False
    job_cgroups: JobCgroups = JobCgroups()
    ad_expressions: Mapping[str, str] = field(default_factory=dict)
    setup_expressions: Mapping[str, str] = field(default_factory=dict)
    vacate_seconds: int = 10
    channel_period_seconds: int = 20
    orphan_seconds: int = ORPHAN_SECONDS
    container: ContainerPlan | None = None
    decision: ContainerDecision | None = None
    job_environment: Mapping[str, str] = field(default_factory=dict)
    service_environment: Mapping[str, str] | None = None
    attributes: Mapping[str, Json] = field(default_factory=dict)
    fragments: tuple[PluginFragment, ...] = ()
    job_length: Mapping[str, str] = field(default_factory=dict)
    services_attribute: str = "WantServices"
    cvmfs_attribute: str = "WantCvmfs"
    sent_attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def slot_groups(self) -> tuple[SlotGroup, ...]:
        """The types of slots, the main ones first. Raises ``PilotError`` where the node is too small for them."""
        return plan_slots(Sizes(self.cores, self.memory_mib, self.disk_mib, len(self.gpus)), self.wish)

    @property
    def holds_at_next_start(self) -> bool:
        """Whether a job that uses too much is held only when it comes again: a confined starter takes no commands."""
        confined = self.container is not None and self.container.confinement is not None
        return confined and (self.hold.memory or self.hold.disk)
