"""What the readers of all batch systems hand on: a job's part of this node, with the source of every number."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

_MEMORY = r"([0-9]{1,15})([KMGTkmgt]?)[Bb]?"
_KIB = {"K": 1, "": 1 << 10, "M": 1 << 10, "G": 1 << 20, "T": 1 << 30}
_CLOCK = r"(?:([0-9]{1,6}):)?([0-9]{1,6}):([0-9]{1,6})|([0-9]{1,12})"
_MOST_NAMES = 1 << 17
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Bound:
    """What one variable, file or answer says of a quantity."""

    number: int
    source: str


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one batch system says of the job on this node.

    Times are seconds since 1970, memory and disk MiB; None and empty is what it does not say. ``nodes`` are all hosts
    of the job, ``node_index`` the place of this one among them. ``gpus`` are devices by the system's own names.
    ``ends`` are all moments at which the job will be ended. ``names_job`` is False for features that describe a job
    beside its batch system. ``problem`` says why the system's own program did not tell what only it knows; ``unread``
    names what tells a time and holds none.
    """

    system: str
    job_id: str | None = None
    job_note: str = ""
    names_job: bool = True
    ends: tuple[Bound, ...] = ()
    start_time: Bound | None = None
    walltime_seconds: Bound | None = None
    scratch: str | None = None
    cores: tuple[Bound, ...] = ()
    memory_mib: tuple[Bound, ...] = ()
    disk_mib: tuple[Bound, ...] = ()
    nodes: tuple[str, ...] = ()
    node_index: int | None = None
    queue: str | None = None
    account: str | None = None
    job_name: str | None = None
    user: str | None = None
    restarts: Bound | None = None
    gpus: tuple[str, ...] | None = None
    gpu_count: Bound | None = None
    draining: bool | None = None
    problem: str = ""
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Disbelieved:
    """Variables of a batch system that are not this process's own, and how that was seen."""

    system: str
    reason: str


def bounds(*found: tuple[int | None, str]) -> tuple[Bound, ...]:
    """The bounds that exist; zero means "all of the node" to every batch system, so it is none."""
    return tuple(Bound(number, source) for number, source in found if number)


def unread(*found: tuple[str | None, str]) -> tuple[str, ...]:
    """Those of some (text, source) that are there and no number, in words."""
    return tuple(
        f"{source} is {text[:_SHOWN]!r}, which is no number"
        for text, source in found
        if text and parse_integer(text) is None
    )


def bound(number: int | None, source: str) -> Bound | None:
    """A number with its source, zero included; None when there is none."""
    return None if number is None else Bound(number, source)


def smallest(found: tuple[Bound, ...]) -> int | None:
    """The smallest number of some bounds; None without any."""
    return min((each.number for each in found), default=None)


def host_name(node: Node) -> str:
    """This host's name without its domain, in lower case; empty when the kernel does not tell."""
    return short_name(node.read_line("/proc/sys/kernel/hostname") or "")


def short_name(host: str) -> str:
    """A host's name without its domain, in lower case."""
    return host.partition(".")[0].lower()


def place_of(host: str, hosts: tuple[str, ...]) -> int | None:
    """Where ``host`` stands in a list of hosts, domains set aside; None when it is not in it."""
    names = [short_name(name) for name in hosts]
    return names.index(short_name(host)) if host and short_name(host) in names else None


def unique(names: list[str]) -> tuple[str, ...]:
    """The names in their order, each once."""
    return tuple(dict.fromkeys(names[:_MOST_NAMES]))


def parse_memory_mib(text: str) -> int | None:
    """MiB from a number with an optional unit K, M, G or T; plain numbers are MiB (sbatch(1), ``--mem``)."""
    match = re.fullmatch(_MEMORY, text.strip())
    return int(match[1]) * _KIB[match[2].upper()] // 1024 if match else None


def parse_duration_seconds(text: str) -> int | None:
    """Seconds from ``HH:MM:SS``, ``MM:SS`` or plain seconds (pbs_resources(7B), sge_types(5)); None for other text."""
    match = re.fullmatch(_CLOCK, text.strip())
    if match is None:
        return None
    if match[4]:
        return int(match[4])
    return int(match[1] or 0) * 3600 + int(match[2]) * 60 + int(match[3])
