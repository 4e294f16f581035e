"""One entry: a site's queue, what its pilots ask for, who may use it, and how many of them there may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from pilot_agent.model import Json
from server_stub.factory.entry_submit import CLOUDS, SubmitOptions, read_submit
from server_stub.factory.entry_tending import Tending, read_tending
from server_stub.factory.reader import WORD, Reader

PayloadKind = Literal["pyz", "sh"]
PAYLOADS: tuple[PayloadKind, ...] = ("pyz", "sh")
LOCAL = "local"
TYPES = (LOCAL, "batch slurm", "batch pbs", "batch lsf", "batch sge", "batch condor", "condor", "arc", *CLOUDS)
"""HTCondor's grid types, and ``local`` for the pool whose access point runs beside the factory."""
LOGIN = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?")
ABSOLUTE = re.compile(r"/[A-Za-z0-9_./+-]{0,254}")
PROXY = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?/?")
LONGEST_SECONDS = 366 * 86400


@dataclass(frozen=True, slots=True)
class Limits:
    """How many pilots of an entry there may be: not ended, waiting, held (of one frontend), of each VO, and
    submitted in a minute."""

    total: int = 10
    idle: int = 2000
    held: int = 50
    per_vo: Mapping[str, int] = field(default_factory=dict)
    per_minute: int = 100


@dataclass(frozen=True, slots=True)
class Downtime:
    """From one moment to another, epoch seconds, with the reason that everybody sees."""

    begins: float
    ends: float
    reason: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One site queue.

    ``requirements`` is the HTCondor expression that chooses the site's nodes. ``tokens`` is a directory with one
    token file for each pilot to come, of which a submission takes one. ``cores`` and ``memory_mib`` are None where the
    batch system decides (``auto``), and the pilot finds out. ``pilot`` is the pilot's configuration, layer ``entry``.
    """

    name: str
    site: str
    payload: PayloadKind
    requirements: str = "True"
    limits: Limits = field(default_factory=Limits)
    cores: int | None = 1
    memory_mib: int | None = 1024
    tokens: str | None = None
    pilot: Mapping[str, Json] = field(default_factory=dict)
    enabled: bool = True
    type: str = LOCAL
    contact: str = ""
    queue: str = ""
    gpus: int = 0
    walltime_seconds: int | None = None
    vos: tuple[str, ...] = ()
    downtimes: tuple[Downtime, ...] = ()
    start_directory: str = ""
    proxies: tuple[str, ...] = ()
    submit: SubmitOptions = field(default_factory=SubmitOptions)
    tending: Tending = field(default_factory=Tending)

    @property
    def payload_file(self) -> str:
        """Name of the payload in the directory that the factory publishes."""
        return f"pilot.{self.payload}"

    @property
    def max_pilots(self) -> int:
        """How many pilots may wait or run."""
        return self.limits.total

    def closed(self, now: float) -> str:
        """Why nothing is submitted at a moment; empty while something may be."""
        if not self.enabled:
            return "not enabled"
        for downtime in self.downtimes:
            if downtime.begins <= now < downtime.ends:
                return f"downtime: {downtime.reason}" if downtime.reason else "downtime"
        return ""


def read_entry(reader: Reader) -> Entry:
    """The entry that a mapping describes; what is wrong is noted by the reader."""
    kind = reader.choice("type", TYPES, default=LOCAL)
    entry = Entry(
        name=reader.name("name"),
        site=reader.name("site"),
        payload=cast("PayloadKind", reader.choice("payload", PAYLOADS)),
        requirements=reader.expression("requirements", default="True"),
        limits=_limits(reader),
        cores=reader.quantity("cores", default=1),
        memory_mib=reader.quantity("memory_mib", default=1024),
        tokens=reader.path("tokens", default="") or None,
        pilot=reader.pilot("pilot", "entry"),
        enabled=reader.boolean("enabled", default=True),
        type=kind,
        contact=reader.text("contact", WORD, default=""),
        queue=reader.text("queue", WORD, default=""),
        gpus=reader.integer("gpus", default=0, minimum=0, maximum=1000),
        walltime_seconds=reader.quantity("walltime_seconds", default=None, maximum=LONGEST_SECONDS),
        vos=reader.words("vos"),
        downtimes=tuple(_downtime(one) for one in reader.mappings("downtimes")),
        start_directory=reader.text("start_directory", ABSOLUTE, default=""),
        proxies=reader.words("proxies", PROXY),
        submit=read_submit(reader, kind),
        tending=read_tending(reader),
    )
    _judge_contact(reader, entry)
    for vo in entry.limits.per_vo:
        if entry.vos and vo not in entry.vos:
            reader.note("limits.per_vo", f"{vo!r} is none of the entry's vos")
    reader.refuse_others()
    return entry


def _judge_contact(reader: Reader, entry: Entry) -> None:
    if entry.type.startswith("batch "):  # without one the batch system's commands are on this machine
        if entry.contact and not LOGIN.fullmatch(entry.contact):
            reader.note("contact", f"{entry.contact!r} is no login node; expected [USER@]HOST[:PORT]")
    elif entry.type != LOCAL and not entry.contact and entry.name:
        reader.note("contact", f"missing; an entry of the type {entry.type!r} is reached at one")


def _limits(reader: Reader) -> Limits:
    simple = reader.integer("max_pilots", default=-1, minimum=0)
    nested = reader.below("limits")
    limits = Limits(
        total=nested.integer("total", default=10 if simple < 0 else simple, minimum=0),
        idle=nested.integer("idle", default=2000, minimum=0),
        held=nested.integer("held", default=50, minimum=0),
        per_vo=nested.numbers("per_vo"),
        per_minute=nested.integer("per_minute", default=100, minimum=1),
    )
    if simple >= 0 and nested.has("total"):
        reader.note("max_pilots", "is the same as limits.total; give one of the two")
    nested.refuse_others()
    return limits


def _downtime(reader: Reader) -> Downtime:
    begins, ends = reader.moment("from"), reader.moment("until")
    reason = reader.text("reason", default="")
    if ends <= begins and begins:
        reader.note("until", "must be later than from")
    reader.refuse_others()
    return Downtime(begins, ends, reason)
