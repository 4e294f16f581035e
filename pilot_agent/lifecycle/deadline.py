"""When a pilot must have ended: every source of a limit, why some do not count, the first that does, and from it the
moments at which no job begins any more, jobs are ended, and the pilot is gone.

All moments are seconds since 1970. Nothing here reads the node; what was said is handed in.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["batch", "walltime", "features", "token"]

BELATED_SECONDS = 3600
"""An end that passed longer ago than this when the pilot began is no end of its job: batch systems that let a job
overrun do not do so for so long."""
FAR_SECONDS = 10 * 366 * 86400
"""A moment farther away than this stands for "no limit"."""
RETIREMENT_SHARE = 10
RETIREMENT_SECONDS = (60, 1800)
"""Without a configured time, this part of the pilot's time takes no new jobs, within these bounds."""
SPREAD_SHARE = 50
SPREAD_SECONDS = 600
"""Without a configured spread, pilots that began together end within this part of their time, this long at most."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one source says: ``moment`` is None where it cannot be read, ``problem`` then says why. ``own_clock`` when
    the moment was made from this node's clock and not from another's."""

    kind: Kind
    source: str
    moment: float | None
    problem: str = ""
    own_clock: bool = False


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """One source as it was judged. ``moment`` as the source said it; ``ends`` the same by this node's clock, None when
    it does not ``count``; ``why`` says why not, or what was corrected."""

    kind: Kind
    source: str
    moment: float | None
    ends: float | None
    counts: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is kept free before the end, seconds. ``spread`` and ``retirement`` None: as the pilot's time is long."""

    margin: float
    teardown: float
    minimum: float
    spread: float | None = None
    retirement: float | None = None


@dataclass(frozen=True, slots=True)
class Deadline:
    """The decision. ``decided`` is the first limit, None when nothing bounds the pilot; then the moments are None too.

    Up to ``to_retire`` jobs may begin, up to ``to_die`` they may run, at ``leaves`` the pilot is gone, which is
    ``margin_seconds`` and the ``spread_seconds`` that this pilot drew before the limit.
    """

    limits: tuple[TimeLimit, ...] = ()
    decided: TimeLimit | None = None
    to_retire: int | None = None
    to_die: int | None = None
    leaves: int | None = None
    spread_seconds: float = 0.0
    margin_seconds: float = 0.0
    teardown_seconds: float = 0.0
    minimum_seconds: float = 0.0

    def left_seconds(self, now: float) -> float:
        """For how long jobs may still begin; infinite without a limit."""
        return math.inf if self.to_retire is None else self.to_retire - now

    def without_token(self) -> int | None:
        """When jobs would be ended if the token lived for ever; None when nothing else bounds the pilot."""
        ends = [limit.ends for limit in self.limits if limit.ends is not None and limit.kind != "token"]
        kept = self.margin_seconds + self.teardown_seconds + self.spread_seconds
        return math.floor(min(ends) - kept) if ends else None

    def behind_seconds(self) -> float:
        """By how much the node's clock was taken to be behind others."""
        return max((limit.moment - limit.ends for limit in self.limits if limit.moment and limit.ends), default=0.0)


def decide(
    said: Iterable[Said], rules: Rules, *, pilot_id: str, started: float, behind_seconds: float = 0.0
) -> Deadline:
    """The decision over what the sources say.

    ``behind_seconds`` is by how much this node's clock is behind that of others: their moments come so much earlier
    here. A clock that is ahead gains nothing, as nobody knows when it will be set right.
    """
    limits = tuple(_judged(each, started, max(0.0, behind_seconds)) for each in said)
    counting = [(limit.ends, limit) for limit in limits if limit.ends is not None]
    if not counting:
        return Deadline(limits, teardown_seconds=rules.teardown, minimum_seconds=rules.minimum)
    ends, first = min(counting, key=lambda each: each[0])
    latest = ends - rules.margin - rules.teardown
    retirement = _retirement(rules, latest - started)
    room = latest - retirement - started - rules.minimum
    spread = round(min(drawn(pilot_id) * _spread(rules, latest - started), max(0.0, room)), 1)
    to_die = math.floor(latest - spread)
    return Deadline(
        limits,
        first,
        to_retire=math.floor(to_die - retirement),
        to_die=to_die,
        leaves=math.floor(ends - rules.margin - spread),
        spread_seconds=spread,
        margin_seconds=rules.margin,
        teardown_seconds=rules.teardown,
        minimum_seconds=rules.minimum,
    )


def drawn(pilot_id: str) -> float:
    """A number from 0 up to 1 that belongs to this pilot, the same whenever it is asked for."""
    return zlib.crc32(pilot_id.encode()) / (1 << 32)


def _judged(said: Said, started: float, behind: float) -> TimeLimit:
    moment = said.moment
    if moment is None or not math.isfinite(moment):
        return _ignored(said, None, said.problem or "it tells no time")
    if moment > started + FAR_SECONDS:
        return _ignored(said, moment, "it is more than ten years away, which stands for no limit")
    belated = started - moment
    if said.kind in ("batch", "features") and belated > BELATED_SECONDS:
        why = f"it had passed {belated:.0f} s before the pilot began: it is another job's, or a clock is wrong"
        return _ignored(said, moment, why)
    if said.own_clock or behind < 1:
        return TimeLimit(said.kind, said.source, moment, moment, True, said.problem)
    why = f"this node's clock is {behind:.1f} s behind, so it comes that much earlier here"
    return TimeLimit(
        said.kind, said.source, moment, moment - behind, True, "; ".join(filter(None, (said.problem, why)))
    )


def _ignored(said: Said, moment: float | None, why: str) -> TimeLimit:
    return TimeLimit(said.kind, said.source, moment, None, False, why)


def _retirement(rules: Rules, life: float) -> float:
    if rules.retirement is not None:
        return rules.retirement
    shortest, longest = RETIREMENT_SECONDS
    return min(longest, max(shortest, life / RETIREMENT_SHARE))


def _spread(rules: Rules, life: float) -> float:
    return rules.spread if rules.spread is not None else min(SPREAD_SECONDS, max(0.0, life / SPREAD_SHARE))
