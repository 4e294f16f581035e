"""The plugin contract, all of it: what a plugin may declare, and the hooks it declares it with.

Plugins declare, the host runs. A hook yields small frozen records; a record names the function that does the
work as ``module:qualname``; the host runs that function in a child process of its own, with a deadline, and
takes back what it returns as data. Nothing in a plugin is ever called inside the agent.

A complete plugin::

    from pilot_agent.hookspecs import Context, Probe, hookimpl
    from pilot_agent.model import Fact

    def read_scratch_name(context: Context):
        name = context.environment.get("SITE_SCRATCH")
        yield Fact("example.scratch", name) if name else Fact.absent("example.scratch", "SITE_SCRATCH is not set")

    @hookimpl
    def pilot_probes(config):
        yield Probe(name="scratch", run=f"{__name__}:read_scratch_name", gives=("example.scratch",))

Hooks receive ``config``: the effective configuration as plain data, without secrets. A hook takes any subset of
its arguments.

Probes, setups, checks, periodic tasks and benchmarks may name a program in place of a function: ``command``, with
``{script}`` for a file that the plugin brings (``script``: its path, or its whole text, which begins with ``#!``). With
``where="image"`` it runs inside the image that jobs of ``platform`` get, with their options, binds and environment; a
function cannot, because the pilot's Python is not in the image. What such a program finds, and how it answers, is in
:data:`PROGRAM_PROTOCOL`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pluggy

from pilot_agent.facts import known_value
from pilot_agent.model import CheckResult, Fact, FailureKind, ImageCandidate, Json

PROJECT = "pilot_agent"

CONTRACT_VERSION = 1
"""The version of this contract: it changes when a plugin written for the one before may no longer work."""

PROGRAM_PROTOCOL = """
A program starts in an empty directory of its own, which is removed afterwards: /srv inside an image, where it is the
home directory and what is behind /tmp too. PILOT_CONTEXT names a file in it with facts, config, environment and
pilot_id as JSON; PILOT_ID is the last of them.
Its last words on standard output may be one JSON object; standard error is its log.

setup     exit 0 and an object with what it contributes: environment, attributes, images, binds (all optional)
check     exit 0 passes, anything else fails; an object may say more: status (pass, fail, warn, skip), message, hint,
          code. Without one the last line of its output is the message.
periodic  exit 0 and an object of attributes for the machine ad
benchmark exit 0 and an object with score and unit, also as the file that ``result`` names
probe     exit 0 and an object of facts by their names: a value, or an object with value, unit, source, or with status
          (unknown, absent) and detail; under "limits" a list of objects with resource, number, unit, source

``protocol`` chooses another way:

json      the context is on standard input too, with the record's name as "task"; all of standard output is the object
nagios    for checks: exit 0 passes, 1 warns, 2 fails, 3 is unknown, which fails what is required; the first line of
          standard output is the message, numbers after its | are metrics
"""
"""What a program that a plugin names finds, and how it answers."""

Protocol = Literal["pilot", "json", "nagios"]
"""How a program that a plugin names is told and answers: see :data:`PROGRAM_PROTOCOL`."""

INSIDE_SCRIPT_DIRECTORY = "/srv/.pilot/plugin"
"""Where a plugin's own script is inside an image: read-only, under its own name."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True, slots=True)
class Context:
    """What a plugin's function is given.

    ``facts`` holds what earlier stages found, ``config`` the effective configuration, ``environment`` the variables of
    the site as the pilot found them, ``root`` the directory that stands for ``/`` (that of a recording's files, or
    ``/``; see ``path``), ``workspace`` a directory the function may write in (None only in tests), ``interpreter`` the
    command that starts the pilot's own Python, ``record`` the directory that keeps what is read (``probe --record``;
    None otherwise), ``pilot_id`` the pilot's own name: another one for every pilot, and the same for all that one pilot
    runs, so that what is drawn from it can be drawn again. ``task`` is the name of the declared record whose function
    this is: one function may serve several. ``services`` are the services that jobs can use now, each with its ports by
    name, whichever pilot of the node runs them: for periodic tasks only.
    """

    facts: Mapping[str, Fact] = field(default_factory=dict)
    config: Mapping[str, Json] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    root: str = "/"
    workspace: str | None = None
    interpreter: tuple[str, ...] = ()
    record: str | None = None
    pilot_id: str = ""
    task: str = ""
    services: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def path(self, name: str) -> str:
        """Where the node's file ``name`` (its absolute path there) is read: in a recording it lies below ``root``."""
        return os.path.join(self.root, name.lstrip("/"))

    def value(self, name: str, default: Any = None) -> Any:
        """The value of a known fact, else ``default``."""
        return known_value(self.facts, name, default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One configuration key of a plugin, found under ``plugins.options.<plugin>.<name>``."""

    name: str
    type: Literal["string", "integer", "number", "boolean", "list"]
    default: Json = None
    help: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A function ``(context) -> iterable of Fact or Limit``, or a program.

    It starts when every fact in ``requires`` exists (known or not) and every probe named in ``after`` has
    ended; ``before`` is the same seen from the other side. Facts named in ``gives`` become unknown, with the
    reason, when the function fails or runs out of ``timeout_seconds``. With ``again_inside`` it runs a second time
    where the pilot went into a user and mount namespace of its own, in which all that follows lives: what it finds
    there counts from then on.
    """

    name: str
    run: str = ""
    command: tuple[str, ...] = ()
    script: str | None = None
    protocol: Protocol = "pilot"
    gives: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    timeout_seconds: float = 10.0
    again_inside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A function ``(context) -> iterable of Fact`` that finds or mounts a file system."""

    name: str
    run: str
    gives: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupResult:
    """What a setup contributes: job environment, ad attributes, image candidates, binds for job containers.

    ``expressions`` are attributes of the machine ad that are ClassAd expressions and no constants. ``checks``: what it
    verified on its way, as a check would say it. One that failed is a failure of the setup, with the check's own kind
    and code.
    """

    environment: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Json] = field(default_factory=dict)
    images: tuple[ImageCandidate, ...] = ()
    binds: tuple[str, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    expressions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A function ``(context) -> SetupResult``, or a program; ``early`` before the container choice, ``late`` after it.

    ``teardown`` is the command that undoes it at the pilot's end, run where the setup ran, also after a setup that
    failed; it gets ``teardown_seconds`` of the time for the end.

    ``directory`` names a directory below ``tmp`` of the workspace in which its program and its teardown start (/srv
    inside an image), in place of an empty one of their own: it is shared by all setups that name it, and by functions,
    and stays until the pilot ends.
    """

    name: str
    run: str = ""
    stage: Literal["early", "late"] = "late"
    where: Literal["host", "image"] = "host"
    command: tuple[str, ...] = ()
    script: str | None = None
    platform: str | None = None
    protocol: Protocol = "pilot"
    teardown: tuple[str, ...] = ()
    teardown_seconds: float = 5.0
    directory: str = ""
    required: bool = True
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    timeout_seconds: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRequest:
    """What a plugin wants of every job container: binds ``source[:target[:ro]]``, environment, options of one word in
    their long form (``--nv``, ``--network=none``).

    What the configuration does not allow (``containers.allowed_binds``, ``containers.allowed_options``,
    ``startd.allowed_environment``), and a bind whose source the node lacks, is left out; the report says why. Of
    several binds to one place, and of several values of a variable, the last counts: the configuration comes first,
    then setups, then plugins. ``runtimes`` are paths of Apptainer or Singularity that the plugin brings; they are tried
    after ``containers.runtime`` and before all that are found on the node.
    """

    name: str
    binds: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A function ``(context) -> CheckResult``, or a program, which ``where="image"`` runs inside an image.

    ``kind`` decides what a failed check means for the pilot; ``required=False`` turns a failure to a warning. What is
    required inside an image fails where jobs get no such image.
    """

    name: str
    run: str = ""
    where: Literal["host", "image"] = "host"
    command: tuple[str, ...] = ()
    script: str | None = None
    platform: str | None = None
    protocol: Protocol = "pilot"
    kind: FailureKind = FailureKind.NODE_RESOURCE
    required: bool = True
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """How the host knows that a service is ready, in one way at most; with none it is ready when it is still alive
    after one second.

    ``port``: a number, or the name of one of the service's ports, that accepts TCP. ``http``: ``PORT/path``, where
    ``GET http://127.0.0.1:PORT/path`` answers 2xx. ``log``: a text that appears in what the service says. ``file``: a
    file that appears, relative to its directory. ``command`` exits 0. ``timeout_seconds`` counts from the start; None
    is 60 on the host, and 600 inside an image, which may first have to come.
    """

    port: int | str | None = None
    http: str | None = None
    log: str | None = None
    file: str | None = None
    command: tuple[str, ...] = ()
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness:
    """How the host knows that a ready service still works, in one way: ``port``, ``http`` or ``command`` as in
    ``Readiness``, every ``period_seconds`` with ``timeout_seconds`` for the answer. ``failures`` in a row: the service
    is ended and started again. With no way only its end is noticed.
    """

    port: int | str | None = None
    http: str | None = None
    command: tuple[str, ...] = ()
    period_seconds: float = 10.0
    timeout_seconds: float = 5.0
    failures: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a service tells of itself in Prometheus' text format at ``http`` (``PORT/path``), read every
    ``period_seconds``: of the families ``names`` (64 at most) the sum over all labels is in the report."""

    http: str
    names: tuple[str, ...]
    period_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A program that runs beside the jobs until the pilot ends, in the foreground.

    ``{workspace}`` in ``command`` and ``environment`` becomes the service's own directory, ``{script}`` the file that
    the plugin brings. With ``where="image"`` the service, and its commands, run inside the image of ``platform`` with
    ``binds`` (``source[:target[:ro]]``); its directory is /srv there. ``attributes`` are in the machine ad while the
    service is ready. ``stop_signal`` ends it; what is left after ``stop_seconds`` is killed. A service with
    ``required`` that does not become ready, or fails for good, ends the pilot.

    ``ports`` gives names to numbers; for 0 a free one is chosen, and another when something else took it meanwhile.
    ``{port:NAME}``, ``{port}`` where there is one, and ``{host}`` in ``command``, ``environment``, ``attributes`` and
    ``exports`` become the number and 127.0.0.1. ``exports`` are variables of jobs beside ``SERVICE_<NAME>_HOST``,
    ``_PORT`` and ``_URL``.

    It starts after the services named in ``after``, and only while those in ``needs`` are ready. ``restart`` says when
    it is started again after it ended, was hung (``liveness``) or took more than its memory: ``restart_limit`` times
    within ``restart_window_seconds``, after ``backoff_seconds``, doubled each time up to ``backoff_limit_seconds``.

    ``cores``, ``memory_mib`` and, with ``gpus_exclusive``, ``gpus`` are taken from what jobs get; ``memory_mib`` is
    also what all its processes may use together, ``disk_mib`` what they may have in the service's directory (0: no
    limit). With ``gpus_optional`` it starts also where there are
    fewer GPUs than ``gpus``, or none. What it says is kept in two files, ``log_mib`` together.
    ``per="node"``: one for all pilots of the account on the node. ``cvmfs_proxy`` names the port, a fixed one, at which
    it is an HTTP proxy that the pilot's own CVMFS client asks before those of the site.

    ``files`` gives names to signed archives (``files/VO/models-3.zip``): each is fetched, verified and unpacked before
    the service starts, and ``{files:NAME}`` in ``command``, ``environment`` and the sources of ``binds`` becomes its
    directory. One that is altered keeps the service from starting.
    """

    name: str
    command: tuple[str, ...] = ()
    where: Literal["host", "image"] = "host"
    script: str | None = None
    platform: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    binds: tuple[str, ...] = ()
    ports: dict[str, int] = field(default_factory=dict)
    readiness: Readiness = field(default_factory=Readiness)
    liveness: Liveness | None = None
    metrics: Metrics | None = None
    attributes: dict[str, Json] = field(default_factory=dict)
    exports: dict[str, str] = field(default_factory=dict)
    required: bool = True
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    restart: Literal["on_failure", "always", "never"] = "on_failure"
    restart_limit: int = 5
    restart_window_seconds: float = 3600.0
    backoff_seconds: float = 1.0
    backoff_limit_seconds: float = 60.0
    cores: float = 0
    memory_mib: int = 0
    disk_mib: int = 0
    gpus: int | Literal["all"] | None = None
    gpus_exclusive: bool = False
    gpus_optional: bool = False
    log_mib: int = 16
    per: Literal["pilot", "node"] = "pilot"
    cvmfs_proxy: str | None = None
    stop_signal: str = "SIGTERM"
    stop_seconds: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A function ``(context) -> BenchmarkScore``, or a program, that measures the node; a failure is never fatal.

    A program answers with a JSON object, as the last line of its output or in the file ``result`` of its directory:
    ``score``, ``unit``, and if it likes ``repetitions`` (numbers), ``spread``, ``conditions``, ``attributes``,
    ``message``. ``score_at`` leads to the score in a document of another form (``results.total``; a part that is a
    number picks from a list), and ``unit`` is its unit where the document has none. ``parts_at`` leads to a mapping
    whose numbers are in the ad too, each as ``BENCHMARK_<NAME>_<PART>``.

    ``cores``: the processors that it may run on: one of the pilot's, all of them, or as many as a slot has. ``when``:
    before jobs may begin, beside them at the lowest priority, or beside them every ``period_seconds``. Before the jobs
    it runs only where ``timeout_seconds`` fits what is left of ``benchmarks.budget_seconds``.

    With all its processes it may take ``memory_mib``, and write ``disk_mib`` into its directory; whatever it left is
    ended with it. A score is kept on the node for ``cache_days`` (0: not at all), for the same ``version`` of the
    benchmark, processor model, kernel, cores and image. Of one name only one runs at a time on a node.
    """

    name: str
    run: str = ""
    where: Literal["host", "image"] = "host"
    command: tuple[str, ...] = ()
    script: str | None = None
    platform: str | None = None
    result: str | None = None
    score_at: str = "score"
    parts_at: str = ""
    unit: str = ""
    cores: Literal["one", "all", "slot"] = "one"
    when: Literal["before", "beside", "periodic"] = "before"
    period_seconds: float = 86400.0
    version: str = "1"
    cache_days: float = 30.0
    memory_mib: int = 512
    disk_mib: int = 0
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    timeout_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """A ClassAd attribute of the machine ad: a literal ``value``, or the value of ``fact``."""

    name: str
    value: Json = None
    fact: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartdFragment:
    """HTCondor configuration lines, read after everything the pilot wrote; security knobs are refused."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Periodic:
    """A function ``(context) -> mapping of attributes``, or a program, run every ``period_seconds`` while jobs may run.

    The keeper runs it, one run at a time, and kills it after ``timeout_seconds``. Its attributes, 64 at most, reach the
    machine ad through the keeper's one ad channel: no task is a cron job of the startd, and none can set an attribute
    by which the pilot or HTCondor itself speaks (``Pilot...``, ``SERVICE_...``, ``Start``, ``Cpus`` and their like).

    ``on_failure`` says what a failed run means. With ``report`` it is an event, and the task's name is in the ad
    (``PilotFailingTests``); with ``stop_accepting`` also no job begins until it passes again; with ``drain`` the
    running jobs end, and then the pilot. Until a run has failed jobs may begin.
    """

    name: str
    period_seconds: float
    run: str = ""
    where: Literal["host", "image"] = "host"
    command: tuple[str, ...] = ()
    script: str | None = None
    platform: str | None = None
    timeout_seconds: float = 30.0
    on_failure: Literal["report", "stop_accepting", "drain"] = "report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened: ``name`` such as ``stage.finished``, seconds after the start, and its data."""

    name: str
    seconds: float
    data: dict[str, Json] = field(default_factory=dict)


@hookspec
def pilot_options(config: Mapping[str, Json]) -> Iterable[Option]:
    """Declare the plugin's configuration keys. Called once, first; ``config`` is what was given so far.

    Yield ``Option``; a value of another type is refused with its path.

    Example::

        @hookimpl
        def pilot_options():
            yield Option(name="threshold", type="number", default=0.5, help="load above which to refuse")
    """
    raise AssertionError("a specification is never called")


@hookspec
def pilot_probes(config: Mapping[str, Json]) -> Iterable[Probe]:
    """Declare probes. Called once at the configure stage; the probes run in the probe stage, concurrently.

    Yield ``Probe``; its function gets a ``Context`` and yields ``Fact`` and ``Limit``.

    Example::

        def count_sockets(context):
            yield Fact("example.sockets", len(os.listdir(context.path("/sys/devices/system/node"))))

        @hookimpl
        def pilot_probes(config):
            yield Probe(name="sockets", run=f"{__name__}:count_sockets", gives=("example.sockets",))
    """
    raise AssertionError("a specification is never called")


@hookspec
def pilot_mounts(config: Mapping[str, Json]) -> Iterable[Mount]:
    """Declare file systems to find or mount. Called once at the configure stage; run in the mount stage.

    Yield ``Mount``; its function returns facts such as ``cvmfs.repositories``.

    Example::

        def look(context):
            yield Fact("example.mounted", os.path.ismount("/data"))

        @hookimpl
        def pilot_mounts(config):
            yield Mount(name="data", run=f"{__name__}:look", gives=("example.mounted",))
    """
    raise AssertionError("a specification is never called")


@hookspec
def pilot_setups(config: Mapping[str, Json]) -> Iterable[Setup]:
    """Declare customisation. Called once at the configure stage; run in the early or late setup stage.

    Yield ``Setup``; its function returns a ``SetupResult``.

    Example::

        def environment(context):
            return SetupResult(environment={"EXAMPLE_SITE": context.config["site"]["name"]})

        @hookimpl
        def pilot_setups(config):
            yield Setup(name="environment", run=f"{__name__}:environment", stage="early")
    """
    raise AssertionError("a specification is never called")


@hookspec
def pilot_images(config: Mapping[str, Json]) -> Iterable[ImageCandidate]:
    """Offer image candidates beside those of the configuration. Called once at the configure stage.

    Yield ``ImageCandidate``, best first.

    Example::

        @hookimpl
        def pilot_images(config):
            yield ImageCandidate("el9", "/cvmfs/images.example.org/el9", origin="example")
    """
    raise AssertionError("a specification is never called")


@hookspec
def pilot_containers(config: Mapping[str, Json]) -> Iterable[ContainerRequest]:
    """Contribute binds, environment and options of job containers. Called once at the configure stage.

    Yield ``ContainerRequest``; the site's limits apply after all of them and the report names who asked.

    Example::

        @hookimpl
        def pilot_containers(config):
            yield ContainerRequest(name="calibration", binds=("/data/calibration:/calibration:ro",))
    """
    raise AssertionError("a specification is never called")


@hookspec
def pilot_checks(config: Mapping[str, Json]) -> Iterable[Check]:
    """Declare checks of the node. Called once at the configure stage; run in the validate stage.

    Yield ``Check``; its function returns a ``CheckResult``.

    Example::

        def enough_shm(context):
            free = shutil.disk_usage("/dev/shm").free // 2**20
            status = CheckStatus.PASS if free >= 64 else CheckStatus.FAIL
            return CheckResult("shm", status, f"{free} MiB free in /dev/shm, 64 needed")

        @hookimpl
        def pilot_checks(config):
            yield Check(name="shm", run=f"{__name__}:enough_shm")
    """
    raise AssertionError("a specification is never called")


@hookspec
def pilot_services(config: Mapping[str, Json]) -> Iterable[Service]:
    """Declare programs that run beside the jobs. Called once at the configure stage; started in the service stage.

    Yield ``Service``.

    Example::

        @hookimpl
        def pilot_services(config):
            yield Service(name="cache", command=("/usr/bin/squid", "-N"), readiness=Readiness(port=3128))
    """
    raise AssertionError("a specification is never called")


@hookspec
def pilot_benchmarks(config: Mapping[str, Json]) -> Iterable[Benchmark]:
    """Declare benchmarks. Called once at the configure stage; run in the benchmark stage.

    Yield ``Benchmark``; its function returns a ``BenchmarkScore``.

    Example::

        def hash_rate(context):
            return BenchmarkScore("hash", score=123.0, unit="MB/s", seconds=0.2)

        @hookimpl
        def pilot_benchmarks(config):
            yield Benchmark(name="hash", run=f"{__name__}:hash_rate", timeout_seconds=5)
    """
    raise AssertionError("a specification is never called")


@hookspec
def pilot_attributes(config: Mapping[str, Json]) -> Iterable[Attribute]:
    """Declare attributes of the machine ad. Called once at the configure stage; used in the advertise stage.

    Yield ``Attribute`` with a literal value or the name of a fact; an unknown fact gives no attribute.

    Example::

        @hookimpl
        def pilot_attributes(config):
            yield Attribute(name="ExampleSockets", fact="example.sockets")
    """
    raise AssertionError("a specification is never called")


@hookspec
def pilot_startd(config: Mapping[str, Json]) -> Iterable[StartdFragment]:
    """Add raw HTCondor configuration. Called once at the configure stage; used in the handoff stage.

    Yield ``StartdFragment``; a fragment that sets a security knob is refused with its name.

    Example::

        @hookimpl
        def pilot_startd(config):
            yield StartdFragment(name="rank", text='RANK = (TARGET.Owner == "example") * 10')
    """
    raise AssertionError("a specification is never called")


@hookspec
def pilot_periodics(config: Mapping[str, Json]) -> Iterable[Periodic]:
    """Declare tasks repeated while jobs may run. Called once at the configure stage; run by the keeper.

    Yield ``Periodic``; the attributes its function returns reach the machine ad.

    Example::

        def load(context):
            return {"ExampleLoad": os.getloadavg()[0]}

        @hookimpl
        def pilot_periodics(config):
            yield Periodic(name="load", run=f"{__name__}:load", period_seconds=60)
    """
    raise AssertionError("a specification is never called")


@hookspec
def pilot_event(events: list[Event]) -> None:
    """Observe what happened. Called in a child of its own after every stage, with the stage's events in order.

    Nothing is returned; a failure is recorded and changes nothing.

    Example::

        @hookimpl
        def pilot_event(events):
            for event in events:
                print(event.name, event.data)
    """
    raise AssertionError("a specification is never called")


DECLARATIONS: dict[str, type] = {
    "pilot_options": Option,
    "pilot_probes": Probe,
    "pilot_mounts": Mount,
    "pilot_setups": Setup,
    "pilot_images": ImageCandidate,
    "pilot_containers": ContainerRequest,
    "pilot_checks": Check,
    "pilot_services": Service,
    "pilot_benchmarks": Benchmark,
    "pilot_attributes": Attribute,
    "pilot_startd": StartdFragment,
    "pilot_periodics": Periodic,
}
"""Declaring hook -> the record it yields; ``pilot_event`` yields nothing."""
