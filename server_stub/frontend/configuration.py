"""The frontend's own file: whose jobs these are, which pool and factories it speaks to, and how it decides.

All problems of the file are reported together, each with its path, as in the factory's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

from pilot_agent.config_check import Problem
from pilot_agent.config_collectors import COLLECTORS, collectors_problem
from pilot_agent.config_read import parse_document
from pilot_agent.containers.negotiation import TABLE
from pilot_agent.files import read_bounded
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.requirement_text import Requirement, parse
from server_stub.factory.reader import Reader
from server_stub.frontend.configured_limits import read_limits, read_patience, read_totals, read_tuning
from server_stub.frontend.credential_plans import CredentialPlans, read_credentials
from server_stub.frontend.cycle import Settings
from server_stub.frontend.expressions import parse_expression
from server_stub.frontend.jobs import SECONDS_OF, job_lengths
from server_stub.frontend.matching import Policy, Vo, policy
from server_stub.frontend.pressure import Limits

T = TypeVar("T")
LEAST_CYCLES = 2
"""A set of requests counts for so many cycles at least: one that comes late must not end it."""
FILE_LIMIT_BYTES = 4 << 20
URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")
ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
SCHEDD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,254}")
REQUIREMENT = re.compile(r".{1,1000}")
LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """How the user pool is asked. ``tokens`` is the directory of the IDTOKENs by which the frontend proves itself;
    ``condor_config`` a configuration of HTCondor to be read instead of none; ``parameters`` are put over it. ``slots``
    is the ClassAd expression for the machine ads that belong to this frontend. ``most_seconds`` is how long one query
    may take."""

    collectors: tuple[str, ...]
    tokens: str = ""
    condor_config: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    slots: str = "IS_GLIDEIN =?= true"
    most_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class AccessPointPlan:
    """Whose jobs count: ``names``, or every access point of the pool that fits ``constraint``; of their idle jobs those
    that fit ``jobs``. One that does not answer, or is not seen any more, counts as missing for ``forget_seconds`` and
    then as without jobs. So many are asked ``at_once``."""

    names: tuple[str, ...] = ()
    constraint: str = "true"
    jobs: str = "true"
    forget_seconds: float = 1800.0
    at_once: int = 4


@dataclass(frozen=True, slots=True)
class FactoryPlan:
    """A factory to ask. ``authorities`` is a file with the certificates that may have signed the factory's, else those
    of the system. What it last offered counts for ``keep_seconds`` while it is away, and it may count on what it was
    asked for as long as ``lifetime_seconds``."""

    name: str
    url: str
    authorities: str = ""
    most_seconds: float = 30.0
    keep_seconds: float = 3600.0
    lifetime_seconds: int = 3600


@dataclass(frozen=True, slots=True)
class Frontend:
    """The whole file. Paths are absolute; ``port`` 0 is no door for /health and /metrics at all. ``limits`` has what
    differs by entry, named as ``entry`` or ``entry@factory``."""

    name: str
    state: str
    key: str
    pool: PoolPlan
    factories: tuple[FactoryPlan, ...]
    settings: Settings
    access_points: AccessPointPlan = field(default_factory=AccessPointPlan)
    limits: Mapping[str, Limits] = field(default_factory=dict)
    lengths: tuple[tuple[str, str], ...] = ()
    job_seconds: float | None = None
    cycle_seconds: float = 60.0
    address: str = "127.0.0.1"
    port: int = 0
    credentials: CredentialPlans = field(default_factory=CredentialPlans)

    def factory(self, name: str) -> FactoryPlan | None:
        """The factory of that name."""
        return next((factory for factory in self.factories if factory.name == name), None)


def read_frontend(path: str) -> Frontend:
    """The frontend that a YAML or JSON file describes; relative paths in it start at the file's directory.

    Raises ``PilotError`` (config.unreadable, config.syntax, config.invalid), the last with every problem.
    """
    try:
        content = read_bounded(path, limit_bytes=FILE_LIMIT_BYTES)
    except OSError as error:
        message = f"the frontend's file {path} cannot be read: {error.strerror}"
        hint = "name an existing file with --config, or make one with `frontend init`; the VO's operator must act"
        raise PilotError(Failure(FailureKind.CONFIG, "config.unreadable", message, hint)) from error
    return parse_frontend(parse_document(content, path), os.path.dirname(os.path.abspath(path)))


def parse_frontend(document: Mapping[str, Json], directory: str) -> Frontend:
    """The frontend that ``document`` describes. Raises ``PilotError`` (config.invalid) with every problem."""
    problems: list[Problem] = []
    reader = Reader(document, "", directory, problems)
    limits = reader.below("limits")
    default = read_limits(limits.below("default"), Limits())
    jobs = reader.below("jobs")
    doors = reader.below("listen")
    frontend = Frontend(
        name=reader.name("name"),
        state=reader.path("state", default="state"),
        key=reader.path("key", default="frontend.key"),
        pool=_pool(reader.below("pool")),
        factories=_factories(reader),
        settings=_settings(reader, limits, default, jobs),
        access_points=_access_points(reader.below("access_points")),
        limits={name: read_limits(one, default) for name, one in limits.named("entries").items()},
        lengths=_lengths(jobs),
        job_seconds=jobs.number("usual_seconds", default=0, minimum=1) or None,
        cycle_seconds=reader.number("cycle_seconds", default=60, minimum=1, maximum=300),
        address=doors.text("address", default="127.0.0.1"),
        port=doors.integer("port", default=0, minimum=0, maximum=65535),
        credentials=read_credentials(reader.below("credentials")),
    )
    for place, plan in enumerate(frontend.factories):
        if plan.lifetime_seconds < LEAST_CYCLES * frontend.cycle_seconds:
            least = f"cycle_seconds are {frontend.cycle_seconds:g}: at least {LEAST_CYCLES * frontend.cycle_seconds:g}"
            reader.note(f"factories[{place}].lifetime_seconds", f"what is asked for ends before it is renewed; {least}")
    for inner in (limits, jobs, doors, reader):
        inner.refuse_others()
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        message = f"the frontend's file has {count}: " + "; ".join(f"{p.path}: {p.message}" for p in problems)
        hint = "correct the named keys; the VO's operator must act"
        raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, hint))
    return frontend


def _pool(reader: Reader) -> PoolPlan:
    plan = PoolPlan(
        collectors=reader.words("collectors", re.compile(COLLECTORS)),
        tokens=reader.path("tokens", default=""),
        condor_config=reader.path("condor_config", default=""),
        parameters=reader.texts("parameters"),
        slots=_constraint(reader, "slots", "IS_GLIDEIN =?= true"),
        most_seconds=reader.number("most_seconds", default=120, minimum=1, maximum=300),
    )
    if not plan.collectors:
        reader.note("collectors", "missing; name the user pool's collectors, such as cm.example.org:9618")
    for number, text in enumerate(plan.collectors):
        if problem := collectors_problem(text):
            reader.note(f"collectors[{number}]", problem)
    for name, value in plan.parameters.items():
        if not re.fullmatch(r"[A-Z][A-Z0-9_.]{0,127}", name) or not value.isprintable():
            reader.note(f"parameters.{name}", "expected the name of one of HTCondor's knobs, and a value of one line")
    reader.refuse_others()
    return plan


def _access_points(reader: Reader) -> AccessPointPlan:
    plan = AccessPointPlan(
        names=reader.words("names", SCHEDD),
        constraint=_constraint(reader, "constraint"),
        jobs=_constraint(reader, "jobs"),
        forget_seconds=reader.number("forget_seconds", default=1800, minimum=0, maximum=30 * 86400),
        at_once=reader.integer("at_once", default=4, minimum=1, maximum=64),
    )
    reader.refuse_others()
    return plan


def _factories(reader: Reader) -> tuple[FactoryPlan, ...]:
    plans: list[FactoryPlan] = []
    if not reader.has("factories"):
        reader.note("factories", "missing; name at least one, with its url")
    for one in reader.mappings("factories"):
        plan = FactoryPlan(
            name=one.name("name"),
            url=one.text("url", URL).rstrip("/"),
            authorities=one.path("authorities", default=""),
            most_seconds=one.number("most_seconds", default=30, minimum=1, maximum=600),
            keep_seconds=one.number("keep_seconds", default=3600, minimum=0, maximum=7 * 86400),
            lifetime_seconds=one.integer("lifetime_seconds", default=3600, minimum=60, maximum=86400),
        )
        if plan.url.startswith("http://") and urlsplit(plan.url).hostname not in LOCAL:
            one.note("url", "must begin with https://, as the frontend proves by a token who it is")
        if plan.name and any(plan.name == other.name for other in plans):
            one.note("name", f"{plan.name!r} is the name of an earlier factory too")
        one.refuse_others()
        plans.append(plan)
    return tuple(plans)


def _settings(reader: Reader, limits: Reader, default: Limits, jobs: Reader) -> Settings:
    return Settings(
        policy=_policy(reader.below("policy")),
        vo=_vo(reader.below("vo")),
        default_limits=default,
        totals=read_totals(limits.below("totals")),
        tuning=read_tuning(reader.below("tuning")),
        patience=read_patience(reader.below("patience")),
        old_seconds=jobs.integer("old_seconds", default=600, minimum=0),
        drain_seconds=jobs.number("drain_seconds", default=3600, minimum=0),
        stuck_seconds=jobs.number("stuck_seconds", default=3600, minimum=0),
        frozen_cycles=reader.integer("frozen_cycles", default=10, minimum=0),
        most_groups=jobs.integer("most_groups", default=5000, minimum=1, maximum=1_000_000),
    )


def _vo(reader: Reader) -> Vo:
    requirements = []
    for place, text in enumerate(reader.words("requirements", REQUIREMENT)):
        found = _noting(reader, f"requirements[{place}]", lambda text=text: parse(text))  # type: ignore[misc]
        if isinstance(found, Requirement):
            requirements.append(found)
    containers = reader.text("containers", default="OPTIONAL").upper()
    if containers not in TABLE:
        reader.note("containers", f"{containers!r} is none of {', '.join(TABLE)}")
    vo = Vo(reader.name("name"), containers, tuple(requirements))
    reader.refuse_others()
    return vo


def _policy(reader: Reader) -> Policy:
    match, rank = reader.text("match", default="true"), reader.text("rank", default="0")
    more = reader.words("attributes", ATTRIBUTE)
    for key, text in (("match", match), ("rank", rank)):
        _noting(reader, key, lambda key=key, text=text: parse_expression(text, key))  # type: ignore[misc]
    reader.refuse_others()
    return _noting(reader, "", lambda: policy(match, rank, more), tell=False) or policy()


def _constraint(reader: Reader, key: str, default: str = "true") -> str:
    text = reader.text(key, default=default)
    _noting(reader, key, lambda: parse_expression(text, key))
    return text


def _lengths(reader: Reader) -> tuple[tuple[str, str], ...]:
    if not reader.has("lengths"):
        return job_lengths()
    found = reader.texts("lengths")
    for name, unit in found.items():
        if not ATTRIBUTE.fullmatch(name) or unit not in SECONDS_OF:
            reader.note(f"lengths.{name}", f"expected an attribute of jobs and one of {', '.join(SECONDS_OF)}")
    return tuple(found.items())


def _noting(reader: Reader, key: str, make: Callable[[], T], *, tell: bool = True) -> T | None:
    """What ``make`` makes; None where it cannot, which is noted."""
    try:
        return make()
    except PilotError as error:
        if tell:
            reader.note(key, error.failure.message)
        return None


def entry_limits(frontend: Frontend, offer_name: str) -> Limits:
    """The limits that the file gives an entry, which is named ``entry@factory``."""
    entry = offer_name.partition("@")[0]
    found = frontend.limits.get(offer_name) or frontend.limits.get(entry)
    return found or frontend.settings.default_limits
