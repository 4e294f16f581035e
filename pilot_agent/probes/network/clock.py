"""The clock: how far it is from that of a server, and whether the kernel believes that it is kept right.

Tokens and certificates are valid between two moments; on a node whose clock is wrong they are not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding, Json
from pilot_agent.probes.network.targets import candidate_proxies, clock_targets, configured_targets
from pilot_agent.probes.network.untried import idle_answer
from pilot_agent.probes.node import Node

if TYPE_CHECKING:
    from pilot_agent.probes.network.attempts import Attempt
    from pilot_agent.probes.network.endpoints import Connections, Tried

_TEST = "clock of servers"
_OFFSET = "clock.offset_seconds"
_SYNCHRONISED = "clock.synchronised"
_NO_SERVER = (
    "no server tells the time: name one as probes.clock_url, or an http or https address among probes.endpoints"
)
# sys/timex.h: the state "clock not synchronised", and its flag.
_TIME_ERROR, _STA_UNSYNC = 5, 0x40
_TIMESYNCD = "/run/systemd/timesync/synchronized"
# systemd-timesyncd(8) touches the file.
_UNSYNCHRONISED = (
    "the kernel's flag says that nothing keeps the clock right: the site starts chronyd or systemd-timesyncd "
    "(chronyd sets the flag only with the line rtcsync in chrony.conf; hosts of virtual machines may do it unseen)"
)

_DATE = r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Offset:
    """The node's clock minus a server's, and by how much that may be wrong, seconds."""

    seconds: float
    uncertainty: float


def probe_clock(context: Context) -> Iterator[Finding]:
    """``clock.offset_seconds`` and ``clock.source`` (from the Date of servers), ``clock.synchronised`` (from the
    kernel) and ``clock.collector_offset_seconds``."""
    node = Node.of(context)
    yield _synchronised(node)
    yield _collector(context)
    targets = clock_targets(context.config)
    if node.live and not targets:
        node.ask(_TEST, lambda: idle_answer(()), here=True)
        yield from _no_offset(_NO_SERVER)
        return
    from pilot_agent.probes.network.endpoints import ask_connections

    proxies = candidate_proxies(context.config, context.environment, node)
    found, problem = ask_connections(node, _TEST, targets, proxies, context.environment)
    yield from offset_facts(found, problem)


def _no_offset(why: str) -> Iterator[Fact]:
    for name in (_OFFSET, "clock.source"):
        yield Fact.unknown(name, why)


def parse_date(text: str) -> float | None:
    """The seconds since 1970 of a Date in the form of RFC 9110, section 5.6.7; None for anything else."""
    from datetime import UTC, datetime

    match = re.fullmatch(_DATE, text.strip(), re.ASCII)
    if match is None or match[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(match[place]) for place in (1, 3, 4, 5, 6))
    try:
        # A leap second is the second before it.
        moment = datetime(year, _MONTHS.index(match[2]) + 1, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    return moment.timestamp()


def offset_of(attempt: Attempt) -> Offset | None:
    """The offset that an answer shows: halfway between request and answer the server's clock showed its Date, of which
    only whole seconds are told. None without a Date, or with one that a cache kept."""
    date = parse_date(attempt.date)
    kept = attempt.age_seconds.strip() not in ("", "0")
    times = (attempt.sent, attempt.received)
    if date is None or kept or not all(math.isfinite(moment) and 0 < moment < 1e11 for moment in times):
        return None
    taken = max(0.0, attempt.received - attempt.sent)
    seconds = (attempt.sent + attempt.received) / 2 - (date + 0.5)
    return Offset(round(seconds, 1), round(0.5 + taken / 2, 1))


def offset_facts(found: Connections | None, problem: str) -> Iterator[Fact]:
    """``clock.offset_seconds`` and ``clock.source``: of the answers the one that is known best, TLS before none."""
    from pilot_agent.probes.network.reachability import reached

    if found is None or not found.targets:
        yield from _no_offset(problem or _NO_SERVER)
        return
    told = []
    for target in found.targets:
        for attempt in target.attempts:
            offset = offset_of(attempt) if reached(attempt) else None
            if offset is not None:
                told.append((not attempt.tls, offset.uncertainty, target, attempt, offset))
    if not told:
        yield from _no_offset("; ".join(_why_silent(target) for target in found.targets))
        return
    _, _, target, attempt, offset = min(told, key=lambda entry: entry[:2])
    source = f"Date of {target.shown}" + (f" through {attempt.via}" if attempt.via else "")
    yield Fact(_OFFSET, offset.seconds, "s", source=source, detail=_explain(attempt, offset, [e[4] for e in told]))
    yield Fact("clock.source", target.shown, source=target.source)


def _explain(attempt: Attempt, offset: Offset, others: Sequence[Offset]) -> str:
    said = [f"known to {offset.uncertainty} s"]
    if not attempt.tls:
        said.append("not authenticated, as it came without TLS")
    if abs(offset.seconds) > offset.uncertainty + 1:
        direction = "ahead of" if offset.seconds > 0 else "behind"
        said.append(f"the node is {direction} the server: the site sets its clock, best with chronyd")
    spread = max(other.seconds for other in others) - min(other.seconds for other in others)
    if spread > 2 * max(other.uncertainty for other in others) + 1:
        said.append(f"servers differ by {spread:.1f} s")
    return "; ".join(said)


def _why_silent(target: Tried) -> str:
    """Why a server told no time; what its certificate suggests is a hint at the clock and no more."""
    from pilot_agent.probes.network.reachability import explain, reached

    if target.problem or not target.attempts:
        return f"{target.shown}: {target.problem or 'it was not tried'}"
    answered = [attempt for attempt in target.attempts if reached(attempt)]
    if not answered:
        return f"{target.shown}: {explain(target.attempts[0], target.host, target.port)}"
    kept = any(attempt.age_seconds.strip() not in ("", "0") for attempt in answered)
    return f"{target.shown}: " + ("a cache answered with an old Date" if kept else "its answer has no Date")


def _collector(context: Context) -> Fact:
    name = "clock.collector_offset_seconds"
    if not any(target.source == "pool.collectors" for target in configured_targets(context.config, context.pilot_id)):
        return Fact.absent(name, "no pool is configured (pool.collectors)")
    why = "a collector tells its time only in the ads of a pilot that has joined it"
    return Fact.unknown(name, why)


def _synchronised(node: Node) -> Fact:
    """What the kernel says of its clock (adjtimex(2)), which every time daemon can tell it; else timesyncd's file."""
    answer = node.ask("adjtimex", _ask_kernel, here=True)
    value = answer.value if isinstance(answer.value, dict) else {}
    state, status, error = (value.get(key) for key in ("state", "status", "maximum_error_us"))
    told = isinstance(state, int) and isinstance(status, int)
    if isinstance(status, int) and told and state != _TIME_ERROR and not status & _STA_UNSYNC:
        detail = f"the error is at most {error / 1e6:.3f} s" if isinstance(error, int) and 0 <= error < 1 << 60 else ""
        return Fact(_SYNCHRONISED, True, source="adjtimex", detail=detail)
    if node.exists(_TIMESYNCD):
        return Fact(_SYNCHRONISED, True, source=_TIMESYNCD)
    if told:
        return Fact(_SYNCHRONISED, False, source="adjtimex", detail=_UNSYNCHRONISED)
    why = answer.problem or "its answer is damaged"
    return Fact.unknown(_SYNCHRONISED, f"the kernel does not tell: {why}", source="adjtimex")


def _ask_kernel() -> Json:
    """``adjtimex`` without anything to adjust, which every account may (adjtimex(2)). Raises ``OSError``."""
    import ctypes
    import os

    class Timex(ctypes.Structure):
        """The beginning of struct timex; the rest is room."""

        _fields_ = (
            ("modes", ctypes.c_uint),
            ("offset", ctypes.c_long),
            ("frequency", ctypes.c_long),
            ("maximum_error", ctypes.c_long),
            ("estimated_error", ctypes.c_long),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_char * 256),
        )

    found = Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(found))
    if state < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return {"state": state, "status": found.status, "maximum_error_us": found.maximum_error}
