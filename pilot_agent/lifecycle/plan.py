"""What the keeper supervises, as the pipeline leaves it in ``private/keeper.json``.

An unknown or missing key is a ``PlanError``: both sides come from the same payload.
"""

from __future__ import annotations

from pilot_agent import CVMFS
from pilot_agent.lifecycle.record import PlanError, Record
from pilot_agent.light import loads
from pilot_agent.services.plan import ServicePlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


class MasterPlan(Record):
    """``condor_master`` in the foreground: absolute ``argv[0]``, its whole environment, where both outputs go; once it
    runs, its pid and the number of its entry in the journal."""

    __slots__ = ("argv", "directory", "entry", "environment", "log", "pid")

    def __init__(
        self,
        *,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: str,
        log: str,
        pid: int = 0,
        entry: int = 0,
    ) -> None:
        self.argv = tuple(argv)
        self.pid = pid
        self.entry = entry
        self.environment = dict(environment)
        self.directory = directory
        self.log = log


class JoinPlan(Record):
    """How to know that the pilot is in the pool: one of ``commands`` exits 0, the n-th asks the n-th of ``collectors``.

    Tried in turn every ``period_seconds``; after ``seconds`` in all the pilot gives up. ``clock_commands`` print
    the two times of an ad of the pilot (see ``collector_clock``).
    """

    __slots__ = ("clock_commands", "collectors", "commands", "environment", "period_seconds", "seconds")

    def __init__(
        self,
        *,
        commands: Sequence[Sequence[str]],
        collectors: Sequence[str],
        environment: Mapping[str, str],
        seconds: float,
        period_seconds: float,
        clock_commands: Sequence[Sequence[str]] = (),
    ) -> None:
        self.clock_commands = tuple(tuple(argv) for argv in clock_commands)
        self.commands = tuple(tuple(argv) for argv in commands)
        self.collectors = tuple(collectors)
        self.environment = dict(environment)
        self.seconds = seconds
        self.period_seconds = period_seconds


class ChannelPlan(Record):
    """The FIFO to the startd's cron job, how often the ad is renewed, and the attributes known at the start."""

    __slots__ = ("attributes", "path", "period_seconds")

    def __init__(self, *, path: str, period_seconds: float, attributes: Mapping[str, Any]) -> None:
        self.path = path
        self.period_seconds = period_seconds
        self.attributes = dict(attributes)


class ServiceVariablesPlan(Record):
    """Service -> the variables that jobs get of it, with places for its ports; ``directory`` is where HTCondor's
    configuration has the file with them."""

    __slots__ = ("directory", "variables")

    def __init__(self, *, directory: str = "", variables: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self.directory = directory
        self.variables = {name: dict(own) for name, own in (variables or {}).items()}


class PeriodicPlan(Record):
    """A command whose standard output is a JSON mapping of attributes; ``on_failure`` as in ``hookspecs.Periodic``. As
    one of the benchmarks it tells a score, and a period of 0 means once."""

    __slots__ = ("argv", "environment", "name", "on_failure", "period_seconds", "timeout_seconds")

    def __init__(
        self,
        *,
        name: str,
        argv: Sequence[str],
        environment: Mapping[str, str],
        period_seconds: float,
        timeout_seconds: float,
        on_failure: str = "report",
    ) -> None:
        self.name = name
        self.argv = tuple(argv)
        self.environment = dict(environment)
        self.period_seconds = period_seconds
        self.timeout_seconds = timeout_seconds
        self.on_failure = on_failure


class TokenPlan(Record):
    """The pool's token: the file it came from and the one that HTCondor reads, when it expires (seconds since the
    epoch, None for never), how often to look for a newer one and how long before its end to warn, and the command that
    checks and installs what is in ``source``. ``renewal`` fetches a newer one from the factory and installs
    it; empty where nobody is to be asked."""

    __slots__ = ("command", "environment", "expires", "installed", "period_seconds", "renewal", "source",
                 "warning_seconds")  # fmt: skip

    def __init__(
        self,
        *,
        source: str,
        installed: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        expires: float | None = None,
        period_seconds: float = 60.0,
        warning_seconds: float = 3600.0,
        renewal: Sequence[str] = (),
    ) -> None:
        self.renewal = tuple(renewal)
        self.source = source
        self.installed = installed
        self.command = tuple(command)
        self.environment = dict(environment)
        self.expires = expires
        self.period_seconds = period_seconds
        self.warning_seconds = warning_seconds


class TimePlan(Record):
    """When no job begins any more (``retire``), when jobs are ended (``deadline``) and when the pilot is gone
    (``leaves``), in seconds since the epoch, or None; the teardown's budget, and what jobs get of it to end; how long
    a pilot that failed keeps its slot, counted from the hand-off; what is kept free before an end that is announced
    later. ``other_deadline`` is the deadline without the token's expiry, ``token_lead_seconds`` how long before that
    expiry jobs are ended, None when it bounds nothing."""

    __slots__ = ("budget_seconds", "deadline", "hold_seconds", "leaves", "margin_seconds", "other_deadline", "retire",
                 "token_lead_seconds", "vacate_seconds")  # fmt: skip

    def __init__(
        self,
        *,
        retire: float | None = None,
        deadline: float | None = None,
        leaves: float | None = None,
        budget_seconds: float = 25.0,
        vacate_seconds: float = 10.0,
        hold_seconds: float = 0.0,
        margin_seconds: float = 0.0,
        other_deadline: float | None = None,
        token_lead_seconds: float | None = None,
    ) -> None:
        self.margin_seconds = margin_seconds
        self.other_deadline = other_deadline
        self.token_lead_seconds = token_lead_seconds
        self.retire = retire
        self.deadline = deadline
        self.leaves = leaves
        self.budget_seconds = budget_seconds
        self.vacate_seconds = vacate_seconds
        self.hold_seconds = hold_seconds


class DiskPlan(Record):
    """The directories whose free space is looked at every ``period_seconds``: with less than ``floor_mib`` no job is
    taken, with less than ``hard_floor_mib`` the pilot drains; 0 for no floor. None is taken either where one does not
    answer within ``answer_seconds``."""

    __slots__ = ("answer_seconds", "floor_mib", "hard_floor_mib", "paths", "period_seconds")

    def __init__(
        self,
        *,
        paths: Sequence[str] = (),
        floor_mib: int = 0,
        hard_floor_mib: int = 0,
        period_seconds: float = 30.0,
        answer_seconds: float = 20.0,
    ) -> None:
        self.paths = tuple(paths)
        self.floor_mib = floor_mib
        self.hard_floor_mib = hard_floor_mib
        self.period_seconds = period_seconds
        self.answer_seconds = answer_seconds


class CvmfsPlan(Record):
    """The repositories that answered, with their ``revisions`` then, and the command that looks at one: its path below
    ``mount_point`` is added. ``absent`` are those that were wanted and did not answer; without ``required`` ones no job
    at all is taken. ``advertised``: every job sees them at /cvmfs, so that attributes may say that they are there.
    ``remount`` is the command that mounts again, to which names are added; where it is empty ``repair`` says who must
    do it. ``compare`` is the command that asks for the published revision, to which the path is added; where it is
    empty nobody is asked."""

    __slots__ = ("absent", "advertised", "command", "compare", "compare_seconds", "environment", "mount_point",
                 "period_seconds", "remount", "remount_seconds", "repair", "repositories", "required", "revisions",
                 "timeout_seconds")  # fmt: skip

    def __init__(
        self,
        *,
        repositories: Sequence[str] = (),
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        mount_point: str = CVMFS,
        period_seconds: float = 60.0,
        timeout_seconds: float = 20.0,
        revisions: Mapping[str, int] | None = None,
        absent: Sequence[str] = (),
        required: Sequence[str] = (),
        advertised: bool = True,
        remount: Sequence[str] = (),
        remount_seconds: float = 120.0,
        repair: str = "the site mounts it again",
        compare: Sequence[str] = (),
        compare_seconds: float = 900.0,
    ) -> None:
        self.repositories = tuple(repositories)
        self.command = tuple(command)
        self.environment = dict(environment or {})
        self.mount_point = mount_point
        self.period_seconds = period_seconds
        self.timeout_seconds = timeout_seconds
        self.revisions = dict(revisions or {})
        self.absent = tuple(absent)
        self.required = tuple(required)
        self.advertised = advertised
        self.remount = tuple(remount)
        self.remount_seconds = remount_seconds
        self.repair = repair
        self.compare = tuple(compare)
        self.compare_seconds = compare_seconds


class BlackHolePlan(Record):
    """How many jobs (0: any number) of how many clusters may fail in less than ``seconds``, and what share of those
    that ended within ``window_seconds``, before the node is to blame."""

    __slots__ = ("clusters", "jobs", "seconds", "share", "window_seconds")

    def __init__(
        self,
        *,
        jobs: int = 0,
        clusters: int = 3,
        seconds: float = 30.0,
        share: float = 0.9,
        window_seconds: float = 900.0,
    ) -> None:
        self.jobs = jobs
        self.clusters = clusters
        self.seconds = seconds
        self.share = share
        self.window_seconds = window_seconds


class KeeperPlan(Record):
    """Everything the keeper needs; ``started`` is the pilot's start in seconds since the epoch, ``history`` the
    file in which the startd writes an ad for each job that ended, ``join`` None when nothing is to be checked,
    ``token`` None when there is none to be watched."""

    __slots__ = ("benchmarks", "black_hole", "channel", "cvmfs", "disk", "history", "join", "master", "output",
                 "periodics", "pilot_id", "service_variables", "services", "started", "time", "token",
                 "workspace")  # fmt: skip

    def __init__(
        self,
        *,
        workspace: str,
        output: str | None,
        pilot_id: str,
        started: float,
        master: MasterPlan,
        join: JoinPlan | None,
        channel: ChannelPlan,
        services: Sequence[ServicePlan] = (),
        service_variables: ServiceVariablesPlan | None = None,
        periodics: Sequence[PeriodicPlan] = (),
        benchmarks: Sequence[PeriodicPlan] = (),
        time: TimePlan | None = None,
        history: str | None = None,
        token: TokenPlan | None = None,
        disk: DiskPlan | None = None,
        cvmfs: CvmfsPlan | None = None,
        black_hole: BlackHolePlan | None = None,
    ) -> None:
        self.workspace = workspace
        self.output = output
        self.pilot_id = pilot_id
        self.started = started
        self.master = master
        self.join = join
        self.channel = channel
        self.services = tuple(services)
        self.service_variables = service_variables or ServiceVariablesPlan()
        self.periodics = tuple(periodics)
        self.benchmarks = tuple(benchmarks)
        self.time = time or TimePlan()
        self.history = history
        self.token = token
        self.disk = disk or DiskPlan()
        self.cvmfs = cvmfs or CvmfsPlan()
        self.black_hole = black_hole or BlackHolePlan()

    @classmethod
    def from_json(cls, data: Any) -> KeeperPlan:
        """The plan of that JSON form. Raises ``PlanError``."""
        if not isinstance(data, dict):
            raise PlanError(f"KeeperPlan: expected a mapping, found {type(data).__name__}")
        values = dict(data)
        try:
            values["master"] = MasterPlan.from_json(values["master"])
            values["channel"] = ChannelPlan.from_json(values["channel"])
            values["join"] = None if values["join"] is None else JoinPlan.from_json(values["join"])
            values["services"] = [ServicePlan.from_json(item) for item in values.get("services", ())]
            values["service_variables"] = ServiceVariablesPlan.from_json(values.get("service_variables") or {})
            values["periodics"] = [PeriodicPlan.from_json(item) for item in values.get("periodics", ())]
            values["benchmarks"] = [PeriodicPlan.from_json(item) for item in values.get("benchmarks", ())]
            values["time"] = TimePlan.from_json(values.get("time") or {})
            values["token"] = TokenPlan.from_json(values["token"]) if values.get("token") else None
            values["disk"] = DiskPlan.from_json(values.get("disk") or {})
            values["cvmfs"] = CvmfsPlan.from_json(values.get("cvmfs") or {})
            values["black_hole"] = BlackHolePlan.from_json(values.get("black_hole") or {})
            return cls(**values)
        except KeyError as error:
            raise PlanError(f"KeeperPlan: {error} is missing") from None
        except TypeError as error:
            raise PlanError(f"KeeperPlan: {error}") from None


def to_json(plan: KeeperPlan) -> dict[str, Any]:
    """The JSON form of a plan, for ``private/keeper.json``."""
    return plan.to_json()


def read_plan(path: str) -> KeeperPlan:
    """The plan at ``path``. Raises ``OSError`` and ``PlanError``."""
    with open(path, encoding="utf-8") as file:
        content = file.read()
    try:
        return KeeperPlan.from_json(loads(content))
    except ValueError as error:
        raise PlanError(f"{path}: {error}") from None
