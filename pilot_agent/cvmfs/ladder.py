"""The ladder (design section 9): in which way jobs get CVMFS on a node, and for every other way why not.

From facts and configuration alone, so that a recorded node is decided as it would be on the day. The first rung that
the node allows and that the pilot can take is taken; what gives some of the repositories only does where nothing
gives all of them and nobody requires them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from pilot_agent.config_kinds import CVMFS_RUNGS
from pilot_agent.containers.restrictions import of_layers
from pilot_agent.cvmfs.rungs import (
    Grounds,
    Judged,
    judge_container,
    judge_fusermount,
    judge_namespace,
    judge_native,
)
from pilot_agent.cvmfs.wishes import Decision, Outcome, wishes_of
from pilot_agent.model import Fact, Failure, FailureKind, Json

NONE = "none"
OWN = ("namespace", "fusermount")
"""The rungs that the pilot takes itself, with a client that it brings."""
ABLE = ("native", *OWN)
"""The rungs that this version of the pilot takes. Of the others it says what the node allows."""
REASON_LIMIT = 1500
_UNABLE = (
    "the pilot does not take it: each job would have a client and a cache of its own, which nobody proves or watches"
)
_LEFT_OUT = "cvmfs.rungs allows only"

State = Literal["taken", "possible", "refused", "unknown"]

_JUDGES: dict[str, Callable[[Grounds], Judged]] = {
    "native": judge_native,
    "namespace": judge_namespace,
    "fusermount": judge_fusermount,
    "container": judge_container,
}
_MODES = {"namespace": 3, "fusermount": 1, "container": 4}


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to CVMFS.

    ``mode`` is cvmfsexec's number of it (None: it has no part). ``state``: ``taken``; ``possible``, the node allows it
    and it is not taken; ``refused``; ``unknown``, the facts do not tell. ``tried``: the pilot tries it here, and does
    not only judge it by facts. ``reason`` says what was found, and of a refusal who must change what.
    """

    name: str
    mode: int | None
    state: State
    tried: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Ladder:
    """Every rung, the best first, the last of which is to go without; ``decision``, ``cell`` and ``reason`` are what
    the wishes of VO and site mean together, ``repositories`` what is to be had."""

    decision: Decision
    cell: str
    reason: str
    repositories: tuple[str, ...]
    rungs: tuple[Rung, ...]

    @property
    def taken(self) -> Rung | None:
        """The rung that is taken; None where a pilot would end, or where it is not known."""
        return next((rung for rung in self.rungs if rung.state == "taken"), None)


def climb(
    facts: Mapping[str, Fact],
    config: Mapping[str, Json],
    *,
    workspace: str | None = None,
    able: Collection[str] = ABLE,
    tried: Mapping[str, Judged] | None = None,
) -> Ladder:
    """The ladder of a node. ``config`` is the whole configuration, ``able`` the rungs that may be taken, ``tried`` what
    became of those that were: it stands for what facts say of them."""
    outcome, grounds = wishes_of(config), Grounds(facts, config, workspace)
    if outcome.decision in ("NEVER", "FAIL"):
        rungs = [Rung(name, _MODES.get(name), "refused", False, outcome.reason) for name in CVMFS_RUNGS]
        rungs.append(Rung(NONE, None, "taken" if outcome.decision == "NEVER" else "refused", False, outcome.reason))
    else:
        excluded = {name: _excluded(name, outcome, config) for name in CVMFS_RUNGS}
        judged = {name: _judged(name, excluded[name], grounds) for name in CVMFS_RUNGS} | dict(tried or {})
        taken = _first(judged, outcome, able)
        looked_at = {name for name in CVMFS_RUNGS if name == "native" and not excluded[name]} | set(tried or ())
        rungs = [_rung(name, judged[name], taken, able, looked_at=name in looked_at) for name in CVMFS_RUNGS]
        rungs.append(_last(judged, taken, outcome, able))
    return Ladder(outcome.decision, outcome.cell, outcome.reason, grounds.wanted, tuple(rungs))


def failure_of(ladder: Ladder) -> Failure | None:
    """Why a pilot with this ladder would end: contradicting wishes, or CVMFS that is required and cannot be had."""
    if ladder.decision == "FAIL":
        hint = "the VO changes cvmfs.use, or the site site.cvmfs"
        message = f"VO and site contradict each other about CVMFS ({ladder.cell})"
        return Failure(FailureKind.CONFIG, "cvmfs.conflict", message, hint)
    if ladder.rungs[-1].state != "refused" or ladder.taken is not None:
        return None
    message = f"CVMFS is required ({ladder.cell}), and this node has no way to it"
    ways = "; ".join(f"{rung.name}: {rung.reason}" for rung in ladder.rungs if rung.name in ABLE)
    hint = f"{_way_made(ladder)}, or {_less_wanted(ladder.cell)}"
    return Failure(FailureKind.NODE_RESOURCE, "cvmfs.broken", f"{message}: {ways}"[:REASON_LIMIT], hint, retry=True)


def _way_made(ladder: Ladder) -> str:
    left_out = [rung.name for rung in ladder.rungs if rung.name in ABLE and rung.reason.startswith(_LEFT_OUT)]
    if len(left_out) == len(ABLE):
        return f"whoever set cvmfs.rungs adds {' or '.join(left_out)}"
    return "the site makes one of the ways possible"


def _less_wanted(cell: str) -> str:
    """What those who require CVMFS do to go without."""
    words = zip(("the VO sets cvmfs.use", "the site sets site.cvmfs"), cell.split(" x "), strict=True)
    return " and ".join(f"{change} to preferred" for change, word in words if word == "REQUIRED")


def _excluded(name: str, outcome: Outcome, config: Mapping[str, Json]) -> str:
    """Which part of the configuration leaves this rung out; empty when none does."""
    for entry in of_layers(config["cvmfs"]["rungs"]):
        if name not in (word.lower() for word in entry.allowed):
            return f"{_LEFT_OUT} {entry}"
    if outcome.decision == "OPTIONAL" and name != "native":
        return f"{outcome.reason}; one of them says preferred where it shall mount"
    return ""


def _judged(name: str, excluded: str, grounds: Grounds) -> Judged:
    return Judged(False, excluded) if excluded else _JUDGES[name](grounds)


def _first(judged: Mapping[str, Judged], outcome: Outcome, able: Collection[str]) -> str | None:
    whole = next((name for name, one in judged.items() if one.allowed and name in able), None)
    if whole is not None or outcome.decision == "REQUIRED":
        return whole
    some = [name for name, one in judged.items() if one.partial and name in able]
    # Of several that give some, the one that gives most; the first of those.
    return max(some, key=lambda name: judged[name].answering, default=None)


def _rung(name: str, judged: Judged, taken: str | None, able: Collection[str], *, looked_at: bool) -> Rung:
    state: State = "unknown" if judged.allowed is None else "possible" if judged.allowed else "refused"
    reason = judged.reason
    if name == taken:
        state = "taken"
    elif judged.allowed:
        not_so = f"not needed beside {taken}" if name in able else _UNABLE
        reason = f"the node allows it: {reason}; {not_so}"
    return Rung(name, _MODES.get(name), state, name == taken or looked_at, reason[:REASON_LIMIT])


def _last(judged: Mapping[str, Judged], taken: str | None, outcome: Outcome, able: Collection[str]) -> Rung:
    """To go without."""
    required = outcome.decision == "REQUIRED"
    if taken is not None:
        some = "some of CVMFS" if judged[taken].partial else "CVMFS"
        why = f"CVMFS is required ({outcome.cell})" if required else f"not needed: jobs get {some} by {taken}"
        return Rung(NONE, None, "refused" if required else "possible", False, why)
    unknown = [name for name in able if name in judged and judged[name].allowed is None]
    if unknown:
        return Rung(NONE, None, "unknown", False, f"it depends on {', '.join(unknown)}")
    if required:
        return Rung(NONE, None, "refused", False, f"CVMFS is required ({outcome.cell}): a pilot ends here")
    return Rung(NONE, None, "taken", True, "jobs run without CVMFS")
