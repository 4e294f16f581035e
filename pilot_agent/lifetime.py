"""How long this pilot may live, from its facts, its configuration and its token; and what follows when that is too
short."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from pilot_agent.facts import known_value
from pilot_agent.lifecycle.deadline import Deadline, Rules, Said, decide
from pilot_agent.model import CheckResult, CheckStatus, Fact, Failure, FailureKind, Json, PilotError
from pilot_agent.startd.token import read_token
from pilot_agent.state import State

TOO_SHORT = "time.too_short"
"""The failure of a pilot whose batch job is nearly over. It does not hold its slot: nothing is wrong with the node."""
CLOCKS_APART_SECONDS = 3600
"""A job that began longer than this after the pilot did not begin by this node's clock."""
FEATURES = ("MACHINEFEATURES", "JOBFEATURES")


def deadline_of(state: State) -> Deadline:
    """The decision over all that is known after the probes."""
    times: Mapping[str, Json] = state.config.get("time")
    rules = Rules(
        margin=times["margin_seconds"],
        teardown=times["teardown_seconds"],
        minimum=times["minimum_seconds"],
        spread=times["spread_seconds"],
        retirement=times["retirement_seconds"],
    )
    said = [*_batch(state.facts), *_walltime(state), *_token(state)]
    return decide(said, rules, pilot_id=state.pilot_id, started=state.started, behind_seconds=_behind(state.facts))


def _batch(facts: Mapping[str, Fact]) -> Iterator[Said]:
    """The ends that batch system and features of machine and job told, and what is wrong with the others."""
    fact = facts.get("batch.end_time")
    if fact is None:
        return
    if fact.known:
        told = [(limit.number, limit.source) for limit in fact.limits] or [(float(fact.value), fact.source)]
        for moment, source in told:
            yield Said("features" if source.startswith(FEATURES) else "batch", source, float(moment))
    if fact.detail:
        yield Said("batch", fact.source or "batch system", None, fact.detail)


def _walltime(state: State) -> Iterator[Said]:
    """The configured time, counted from the batch job's start as far as that is known."""
    seconds = state.config.get("time.walltime_seconds")
    if seconds is None:
        return
    name, fact = "time.walltime_seconds", state.facts.get("batch.start_time")
    if fact is None or not fact.known:
        yield Said("walltime", f"the pilot's start + {name}", state.started + seconds, own_clock=True)
    elif not 0 < float(fact.value) <= state.started + CLOCKS_APART_SECONDS:
        problem = f"counted from the pilot's start: the batch job's ({fact.source}) would lie after it"
        yield Said("walltime", f"the pilot's start + {name}", state.started + seconds, problem, own_clock=True)
    else:
        own = fact.source.startswith("start of the ")
        yield Said("walltime", f"{fact.source} + {name}", float(fact.value) + seconds, own_clock=own)


def _token(state: State) -> Iterator[Said]:
    path = state.config.get("pool.token")
    if not path:
        return
    try:
        _, token = read_token(path)
    except PilotError as error:
        yield Said("token", "pool.token", None, error.failure.message)
        return
    if token.expires is None:
        yield Said("token", "pool.token", None, "the token never expires")
    elif not state.config.get("time.until_token_expires"):
        yield Said("token", "pool.token", None, "time.until_token_expires is false")
    else:
        yield Said("token", "expiry of pool.token", float(token.expires))


def _behind(facts: Mapping[str, Fact]) -> float:
    return max(0.0, -float(known_value(facts, "clock.offset_seconds", 0.0)))


def require_time(deadline: Deadline, *, beginning: bool, now: float | None = None) -> None:
    """Raises ``PilotError`` when jobs could not begin any more; when ``beginning``, already when they could for less
    than the configured minimum."""
    at = time.time() if now is None else now
    if deadline.left_seconds(at) < (deadline.minimum_seconds if beginning else 1):
        raise PilotError(_failure(deadline, at))


def _failure(deadline: Deadline, now: float) -> Failure:
    decided = deadline.decided
    if decided is None or decided.ends is None or deadline.to_retire is None or deadline.to_die is None:
        raise ValueError("a pilot without a limit has all the time it wants")
    message = (
        f"{_WHAT[decided.kind]} at {utc(decided.ends)} ({decided.source}), in {decided.ends - now:.0f} s: "
        f"without {decided.ends - deadline.to_die:.0f} s for the end and {deadline.to_die - deadline.to_retire} s for "
        f"jobs that run on, jobs could begin for {max(0.0, deadline.to_retire - now):.0f} s, "
        f"and {deadline.minimum_seconds:g} s are needed"
    )
    kind, code, hint = {
        "batch": (FailureKind.CONFIG, TOO_SHORT, "the factory asks the batch system for more time (Slurm: --time)"),
        "walltime": (FailureKind.CONFIG, TOO_SHORT, "the factory raises time.walltime_seconds"),
        "features": (FailureKind.NODE_RESOURCE, "time.shutdown_near", "the site sends no jobs to nodes it shuts down"),
        "token": (FailureKind.CREDENTIAL, "token.expires_soon", "the VO gives pilots tokens that are valid for longer"),
    }[decided.kind]
    hint += ", or lowers time.minimum_seconds and time.retirement_seconds" if kind is FailureKind.CONFIG else ""
    return Failure(kind, code, message, hint, retry=decided.kind != "walltime")


_WHAT = {
    "batch": "the batch job ends",
    "walltime": "the configured time ends",
    "features": "the site ends this node or job",
    "token": "the pool's token expires",
}


def check_time(deadline: Deadline, *, now: float | None = None) -> CheckResult:
    """The verdict that ``check`` shows; who looks at a node in a short job has no unfit node, so it only warns."""
    try:
        require_time(deadline, beginning=True, now=now)
    except PilotError as error:
        failure = error.failure
        return CheckResult(
            "time", CheckStatus.WARN, failure.message, failure.hint, kind=failure.kind, code=failure.code
        )
    return CheckResult("time", CheckStatus.PASS if deadline.decided else CheckStatus.SKIP, summary(deadline))


def summary(deadline: Deadline) -> str:
    """One line for people: when the pilot ends and because of what."""
    decided = deadline.decided
    if decided is None or deadline.to_retire is None or deadline.to_die is None or deadline.leaves is None:
        ignored = "; ".join(f"{limit.source}: {limit.why}" for limit in deadline.limits)
        return f"no limit is known{f' ({ignored})' if ignored else ''}: a pilot stays until it is idle or told to leave"
    return (
        f"ends at {utc(deadline.leaves)} because {_WHAT[decided.kind]} at {utc(decided.ends or 0)} ({decided.source}); "
        f"no job begins after {utc(deadline.to_retire)}, the last are ended at {utc(deadline.to_die)}"
    )


def utc(moment: float) -> str:
    """A moment for people, whole seconds."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))
    except (OverflowError, ValueError, OSError):
        return f"{moment:.0f} s after 1970"
