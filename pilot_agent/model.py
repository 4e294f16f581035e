"""Facts, limits, checks, failures and timeline: the plain frozen records that every other module speaks in.

Nothing here reads the node or starts a program, and nothing but the package itself is imported of the project.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pilot_agent import CVMFS

Json = Any
"""A value that ``json.dumps`` takes: the border between processes, and nothing else."""

Where = Literal["node", "inside"]

UNLIMITED = "unlimited"
"""The value where a number would stand if there were a limit; for a requirement it is more than any number."""


class FactStatus(enum.StrEnum):
    """What a probe can say of a thing: its value, that nobody can tell, or that it is not there."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Limit:
    """One source's bound on a resource; the smallest of all sources becomes the fact of that name."""

    resource: str
    number: float
    unit: str
    source: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing a probe found out, under a name such as ``cpu.usable``.

    ``value`` is JSON; it is None unless ``status`` is known. ``source`` says where it was read, ``detail`` why
    it is unknown or absent. ``limits`` holds every bound when several sources bound the quantity.
    """

    name: str
    value: Json = None
    unit: str | None = None
    status: FactStatus = FactStatus.KNOWN
    source: str = ""
    detail: str = ""
    where: Where = "node"
    limits: tuple[Limit, ...] = ()

    @classmethod
    def unknown(cls, name: str, detail: str, *, source: str = "") -> Fact:
        """A fact nobody could establish, with the reason."""
        return cls(name, status=FactStatus.UNKNOWN, source=source, detail=detail)

    @classmethod
    def absent(cls, name: str, detail: str, *, source: str = "") -> Fact:
        """A fact about something the node does not have, with what was looked for."""
        return cls(name, status=FactStatus.ABSENT, source=source, detail=detail)

    @property
    def known(self) -> bool:
        """True when ``value`` can be relied on."""
        return self.status is FactStatus.KNOWN


Finding = Fact | Limit
"""What a probe yields."""


class FailureKind(enum.StrEnum):
    """Who must act; the kind alone decides the exit code (design section 6)."""

    USAGE = "usage"
    NODE_RESOURCE = "node_resource"
    NETWORK = "network"
    CONFIG = "config"
    CREDENTIAL = "credential"
    CORRUPTION = "corruption"
    PLUGIN = "plugin"
    INTERNAL = "internal"
    PREEMPTED = "preempted"

    @property
    def exit_code(self) -> int:
        """The process's exit code for this kind; a signal's own number is added by ``Failure.exit_code``."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    FailureKind.USAGE: 2,
    FailureKind.NODE_RESOURCE: 64,
    FailureKind.NETWORK: 65,
    FailureKind.CONFIG: 66,
    FailureKind.CREDENTIAL: 67,
    FailureKind.CORRUPTION: 68,
    FailureKind.PLUGIN: 69,
    FailureKind.INTERNAL: 70,
    FailureKind.PREEMPTED: 143,
}

# The order in which several failures are judged: the first present decides (design section 6).
_PRECEDENCE = (
    FailureKind.PREEMPTED,
    FailureKind.USAGE,
    FailureKind.INTERNAL,
    FailureKind.CORRUPTION,
    FailureKind.CONFIG,
    FailureKind.CREDENTIAL,
    FailureKind.NODE_RESOURCE,
    FailureKind.NETWORK,
    FailureKind.PLUGIN,
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a pilot, a stage or a check failed, in words a person can act on.

    ``message`` says what was found and what was needed; ``hint`` what would change it and who must act;
    ``retry`` whether the same pilot could succeed elsewhere or later. ``signal`` is set for a preemption.
    """

    kind: FailureKind
    code: str
    message: str
    hint: str = ""
    stage: str = ""
    plugin: str = ""
    retry: bool = False
    signal: int | None = None

    @property
    def exit_code(self) -> int:
        """The exit code the pilot leaves with; 128+N when signal N ended it."""
        if self.signal is not None:
            return 128 + self.signal
        return self.kind.exit_code


def worst_failure(failures: list[Failure]) -> Failure | None:
    """The failure that decides the exit code, by the order of design section 6; None when there is none."""
    return min(failures, key=lambda failure: _PRECEDENCE.index(failure.kind), default=None)


class PilotError(Exception):
    """A failure on its way to whoever reports it; ``failure`` is the whole of it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure

    def at(self, *, stage: str = "", plugin: str = "") -> PilotError:
        """The same error with the stage and plugin filled in where they were not known yet."""
        failure = self.failure
        return PilotError(replace(failure, stage=failure.stage or stage, plugin=failure.plugin or plugin))


class CheckStatus(enum.StrEnum):
    """A verdict over facts."""

    PASS = "pass"  # noqa: S105 - a verdict, not a secret
    FAIL = "fail"
    WARN = "warn"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The verdict of one check or requirement; ``kind`` and ``code`` say what a fail means for the pilot, ``vo`` whose
    demand it is where a node is checked for several (empty: everyone's), ``metrics`` what it measured, by name."""

    name: str
    status: CheckStatus
    message: str = ""
    hint: str = ""
    where: Literal["host", "image"] = "host"
    kind: FailureKind = FailureKind.NODE_RESOURCE
    code: str = ""
    vo: str = ""
    metrics: dict[str, Json] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One thing the host ran for a plugin: when it began (seconds after the pilot's start) and how it ended."""

    stage: str
    plugin: str
    what: str
    start: float
    seconds: float
    status: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ImageCandidate:
    """One place where the image of a platform may be found.

    ``path`` is a directory, a SIF file, or a remote reference (docker://, oras://, https://); ``requires`` holds needs
    such as ``cpu_level``; ``origin`` says which layer or plugin offered it. ``digest`` (``sha256:...``) is what its
    content must be: of the file, for docker:// and oras:// of the manifest.
    """

    platform: str
    path: str
    architecture: str = ""
    requires: dict[str, Json] = field(default_factory=dict)
    origin: str = "configuration"
    digest: str = ""


@dataclass(frozen=True, slots=True)
class ImageVerdict:
    """What became of one candidate: taken or not, and why; ``proven`` when a program really ran in it.

    ``source`` is cvmfs, directory, file, docker, oras or https (empty: none of them). For the last three ``path`` is
    the reference; what is taken is fetched and proven at the first use, with the content that ``digest`` says.
    """

    platform: str
    path: str
    taken: bool
    proven: bool
    reason: str
    seconds: float = 0.0
    facts: dict[str, Json] = field(default_factory=dict)
    source: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Ability:
    """Whether a container runtime can do one thing here, established by running it: yes, no, or (None) not known.
    ``reason`` says how it was established, or why it was not."""

    value: bool | None = None
    reason: str = "not tried"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeAbilities:
    """What a container runtime can do on this node.

    ``pid_namespace``: processes of their own numbering. ``directories`` and ``sif``: which forms of images it runs
    without unpacking them. ``binds``: users may bind, ``bind_anywhere``: also to a path that the image lacks.
    ``nv`` and ``rocm``: it brings NVIDIA's or AMD's libraries in. ``nested``: a runtime can run inside its containers.
    ``cgroup_limits``: it takes ``--memory`` and ``--cpus``.
    """

    pid_namespace: Ability = Ability()
    directories: Ability = Ability()
    sif: Ability = Ability()
    binds: Ability = Ability()
    bind_anywhere: Ability = Ability()
    nv: Ability = Ability()
    rocm: Ability = Ability()
    nested: Ability = Ability()
    cgroup_limits: Ability = Ability()


@dataclass(frozen=True, slots=True)
class RuntimeVerdict:
    """What became of one container runtime that was looked at; ``origin`` is where it was found."""

    path: str
    origin: str
    version: str
    taken: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Runtime:
    """The container runtime that was accepted, and what was established by running it."""

    path: str
    version: str
    mode: Literal["userns", "setuid"]
    pid_namespace: bool
    sif: bool
    flavour: Literal["apptainer", "singularity-ce", "singularity"] = "apptainer"
    origin: str = ""
    full_version: str = ""
    abilities: RuntimeAbilities = RuntimeAbilities()


@dataclass(frozen=True, slots=True)
class BindVerdict:
    """What became of one bind that somebody asked for in jobs' containers, and why it is not given."""

    source: str
    destination: str
    read_only: bool
    asked_by: str
    given: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OptionVerdict:
    """What became of one option of the runtime that somebody asked for; ``with_gpus``: only jobs with GPUs get it."""

    option: str
    asked_by: str
    given: bool
    reason: str = ""
    with_gpus: bool = False


@dataclass(frozen=True, slots=True)
class VariableVerdict:
    """What became of one variable that somebody asked for in jobs' environment. Its value is in no report.

    With ``of_service``, the name of a service, the value has places for the service's ports, and jobs get it from when
    that service is ready.
    """

    name: str
    value: str
    asked_by: str
    given: bool
    reason: str = ""
    of_service: str = ""


@dataclass(frozen=True, slots=True)
class JobSurroundings:
    """What all jobs get beside their image, in the order in which it was asked for, and what they do not get."""

    binds: tuple[BindVerdict, ...] = ()
    options: tuple[OptionVerdict, ...] = ()
    environment: tuple[VariableVerdict, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerDecision:
    """How jobs will be contained: the negotiated decision and its cell, the runtime and the proven images, what
    became of every image and every runtime that was looked at, and what jobs get beside their image. ``cvmfs`` is where
    the node has what is below /cvmfs."""

    decision: Literal["DISABLE", "NEVER", "PREFERRED", "REQUIRED", "FAIL"]
    cell: str
    reason: str
    runtime: Runtime | None = None
    default_platform: str | None = None
    verdicts: tuple[ImageVerdict, ...] = ()
    runtimes: tuple[RuntimeVerdict, ...] = ()
    surroundings: JobSurroundings = JobSurroundings()
    cvmfs: str = CVMFS

    @property
    def images(self) -> dict[str, str]:
        """Platform name -> path of the candidate taken for it, in dictionary order."""
        return {verdict.platform: verdict.path for verdict in self.verdicts if verdict.taken}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the node is fit for one VO (empty name: for whoever asked), and if not, the failure that decides."""

    vo: str
    fit: bool
    failure: Failure | None = None
    container: ContainerDecision | None = None
    cvmfs: Json = None


ServiceStatus = Literal["waiting", "starting", "ready", "unhealthy", "backoff", "failed", "stopped", "shared"]
"""How a service stands: not begun yet, started, ready, ready once but its liveness test failed, to be started again
later, failed for good, stopped, or run and kept ready by another pilot of this account on this node."""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A service beside the jobs as the report shows it; ``attributes`` go to the machine ad while it is ready.

    ``ready_after_seconds`` is how long its last start took, ``ready_seconds`` how long it was ready in all; ``ends``
    are its last five ends in words, ``metrics`` the sums of the families that were asked for, ``image`` the path of the
    image it runs in, ``memory_limit`` by what its memory is bounded: a control group, or by being measured.
    """

    name: str
    status: ServiceStatus
    pid: int | None = None
    ready_after_seconds: float | None = None
    message: str = ""
    attributes: dict[str, Json] = field(default_factory=dict)
    host: str = ""
    ports: dict[str, int] = field(default_factory=dict)
    starts: int = 0
    restarts: int = 0
    ends: tuple[str, ...] = ()
    ready_seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    image: str = ""
    memory_limit: Literal["", "control group", "measured"] = ""


@dataclass(frozen=True, slots=True)
class BenchmarkScore:
    """One benchmark's number, or why there is none; ``attributes`` go to the machine ad.

    ``seconds`` is how long it took. ``repetitions`` are the scores of its rounds and ``spread`` their range as a share
    of the median. ``conditions``: what may have disturbed it (``load_1min``, ``governor``, ``smt``, ``cores``, and as
    ``neighbours`` other pilots of the account on the node), and what the benchmark itself says of how it measured.
    ``measured`` is when, in seconds since 1970.
    """

    name: str
    score: float | None
    unit: str
    seconds: float
    cached: bool = False
    attributes: dict[str, Json] = field(default_factory=dict)
    version: str = ""
    repetitions: tuple[float, ...] = ()
    spread: float | None = None
    conditions: dict[str, Json] = field(default_factory=dict)
    image: str | None = None
    status: Literal["ok", "failed", "timeout", "skipped"] = "ok"
    message: str = ""
    measured: float | None = None
