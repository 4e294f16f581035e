"""A scenario: the sites, the load, and the frontend's settings, as one YAML file says them.

Every key is the field of a class below, with the same name; all problems of a file are reported together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pilot_agent.config_read import FILE_LIMIT_BYTES, parse_document
from pilot_agent.files import read_bounded
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.spelling import nearest
from server_stub.frontend.cycle import Settings
from server_stub.frontend.matching import Vo, policy
from server_stub.frontend.pressure import Limits, Totals, Tuning
from server_stub.frontend.removal import Patience

T = TypeVar("T")
MOST_JOBS = 200_000
MOST_CYCLES = 100_000


@dataclass(frozen=True, slots=True)
class Site:
    """One entry and how its site behaves.

    At most ``most_pilots`` run at once; a pilot waits about ``queue_seconds`` before, needs ``start_seconds`` until
    jobs can begin in it, and does not get so far with a probability of ``failure``. It lives ``walltime_seconds``,
    leaves after ``idle_seconds`` without a job, and is preempted ``preempted_per_day`` times a day on average. From
    ``black_hole_from`` until ``black_hole_until`` every job that begins there fails after a minute.
    """

    name: str
    cores: int = 8
    memory_mib: int = 16000
    gpus: int = 0
    most_pilots: int = 100
    queue_seconds: float = 120.0
    start_seconds: float = 120.0
    walltime_seconds: int = 86400
    idle_seconds: float = 1200.0
    failure: float = 0.0
    preempted_per_day: float = 0.0
    black_hole_from: float = -1.0
    black_hole_until: float = -1.0
    benchmark: float = 0.0
    country: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """Jobs that come at ``at`` seconds, ``jobs`` at once, ``times`` times with ``every`` seconds between. Each runs for
    about ``seconds`` (more or less by the part ``spread``) and says that it needs up to ``walltime_seconds`` (0: as
    long as the longest of them); ``country`` is what a policy may look at."""

    jobs: int
    seconds: float
    at: float = 0.0
    times: int = 1
    every: float = 3600.0
    spread: float = 0.2
    cores: int = 1
    memory_mib: int = 2000
    gpus: int = 0
    walltime_seconds: int = 0
    country: str = ""

    @property
    def stated_seconds(self) -> int:
        """How long these jobs say that they need."""
        return self.walltime_seconds or int(self.seconds * (1 + self.spread)) + 1


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that decides what happens. Without a job left the simulation ends when the last pilot has; after
    ``most_seconds`` it ends in any case. ``lost_from`` until ``lost_until`` queries of the pool fail."""

    sites: tuple[Site, ...]
    load: tuple[Load, ...]
    seed: int = 1
    cycle_seconds: float = 60.0
    most_seconds: float = 14 * 86400.0
    match: str = "true"
    rank: str = "0"
    lost_from: float = -1.0
    lost_until: float = -1.0
    limits: Limits = field(default_factory=Limits)
    totals: Totals = field(default_factory=Totals)
    tuning: Tuning = field(default_factory=Tuning)
    patience: Patience = field(default_factory=Patience)

    def settings(self) -> Settings:
        """The frontend's settings. Raises ``PilotError`` (config.invalid)."""
        by = policy(self.match, self.rank, ["country"])
        return Settings(
            by, Vo("simulated"), self.limits, {}, self.totals, self.tuning, self.patience, stuck_seconds=7200.0
        )


def read_scenario(path: str) -> Scenario:
    """The scenario of a file. Raises ``PilotError`` (config.unreadable, config.syntax, config.invalid)."""
    try:
        content = read_bounded(path, limit_bytes=FILE_LIMIT_BYTES)
    except OSError as error:
        message = f"the scenario {path} cannot be read: {error.strerror}"
        raise PilotError(Failure(FailureKind.CONFIG, "config.unreadable", message, "name an existing file")) from error
    return parse_scenario(parse_document(content, path))


def parse_scenario(document: Mapping[str, Json]) -> Scenario:
    """The scenario of a document. Raises ``PilotError`` (config.invalid) with every problem."""
    problems: list[str] = []
    made = _made(Scenario, document, "", problems)
    problems += [] if made is None or problems else _too_large(made)
    if made is None or problems:
        message = "the scenario has problems: " + "; ".join(problems)
        raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, "correct the named keys"))
    made.settings()
    return made


def _too_large(made: Scenario) -> list[str]:
    """What would keep a machine busy for days."""
    jobs, cycles = sum(load.jobs * load.times for load in made.load), made.most_seconds / made.cycle_seconds
    found = []
    if jobs > MOST_JOBS:
        found.append(f"load: {jobs} jobs in all, at most {MOST_JOBS} can be simulated")
    if cycles > MOST_CYCLES:
        found.append(f"most_seconds: {cycles:.0f} cycles of cycle_seconds, at most {MOST_CYCLES} can be simulated")
    return found


LISTS: dict[str, type[Any]] = {"sites": Site, "load": Load}


def _made(kind: type[T], document: Json, path: str, problems: list[str]) -> T | None:
    """An object of a class from a mapping with its fields; what is wrong is added to ``problems``."""
    if not isinstance(document, Mapping):
        problems.append(f"{path.rstrip('.') or 'the file'}: expected a mapping, found {document!r}")
        return None
    known = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    problems += [f"{path}{key}: unknown key{nearest(str(key), known)}" for key in document if key not in known]
    values: dict[str, Any] = {}
    before = len(problems)
    for name, item in known.items():
        if name in document:
            values[name] = _value(item, document[name], f"{path}{name}", problems)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            problems.append(f"{path}{name}: missing")
    return kind(**values) if len(problems) == before else None


def _value(item: dataclasses.Field[Any], value: Json, path: str, problems: list[str]) -> Any:
    if item.name in LISTS:
        if not isinstance(value, list) or not value:
            problems.append(f"{path}: a list of at least one is needed")
            return ()
        return tuple(_made(LISTS[item.name], part, f"{path}[{n}].", problems) for n, part in enumerate(value))
    if item.default_factory is not dataclasses.MISSING or str(item.type) == "Ceiling":
        made: type[Any] = type(item.default if item.default_factory is dataclasses.MISSING else item.default_factory())
        return _made(made, value, f"{path}.", problems)
    kinds: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
    if isinstance(value, bool) or not isinstance(value, kinds[str(item.type)]):
        problems.append(f"{path}: expected {item.type}, found {value!r}")
    elif isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{path}: expected a finite number, found {value!r}")
    elif isinstance(value, int | float) and value < 0 and item.default != -1.0:
        problems.append(f"{path}: {value} is less than 0")
    elif item.name in POSITIVE and value == 0:
        problems.append(f"{path}: must be more than 0")
    return value


POSITIVE = {"cores", "cycle_seconds", "seconds", "walltime", "attenuation"}
"""What nothing can be without."""
