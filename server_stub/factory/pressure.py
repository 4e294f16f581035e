"""Whether an entry takes more pilots: its downtimes, who may use it, and each of its limits."""

from __future__ import annotations

import time

from pilot_agent.model import Failure, FailureKind, PilotError
from server_stub.factory.entry import Entry
from server_stub.factory.pilots import WAITING, PilotState
from server_stub.factory.store import Store

MINUTE_SECONDS = 60.0


def require_room(
    entry: Entry, count: int, store: Store, *, vo: str = "", frontend: str = "", now: float | None = None
) -> None:
    """Nothing, when an entry takes ``count`` more pilots of a frontend. Raises ``PilotError``: entry.closed, entry.vo,
    entry.full."""
    moment = time.time() if now is None else now
    closed = store.closed_entries().get(entry.name, "") or entry.closed(moment)
    if closed:
        message = f"the entry {entry.name} takes no pilots: {closed}"
        hint = "wait until it is open; the factory's operator must act"
        raise PilotError(Failure(FailureKind.CONFIG, "entry.closed", message, hint, retry=True))
    if entry.vos and vo not in entry.vos:
        message = f"the entry {entry.name} is for {', '.join(entry.vos)} and not for {vo or 'nobody in particular'}"
        hint = "name one of its VOs, or add this one to vos; the factory's operator must act"
        raise PilotError(Failure(FailureKind.CONFIG, "entry.vo", message, hint))
    for name, limit, used in _uses(entry, store, vo, frontend, moment):
        if used + count > limit:
            room = max(0, limit - used)
            message = f"the entry {entry.name} has room for {room} of its {limit} pilots ({name}), {count} asked"
            hint = "wait for pilots to end, or raise the limit; the factory's operator must act"
            raise PilotError(Failure(FailureKind.CONFIG, "entry.full", message, hint, retry=True))


def _uses(entry: Entry, store: Store, vo: str, frontend: str, now: float) -> list[tuple[str, int, int]]:
    """Each limit with its name and how much of it is used."""
    states, limits = store.states(entry.name), entry.limits
    uses = [
        ("limits.total", limits.total, _unfinished(states)),
        ("limits.idle", limits.idle, sum(states.get(state, 0) for state in WAITING)),
        ("limits.per_minute", limits.per_minute, store.count_submitted_since(entry.name, now - MINUTE_SECONDS)),
    ]
    held = store.states(entry.name, frontend=frontend).get(PilotState.HELD, 0)
    if held >= limits.held:  # what is held says that more would be held too; of others it may be their credentials
        uses.append(("limits.held", limits.held, held))
    if vo in limits.per_vo:
        uses.append((f"limits.per_vo.{vo}", limits.per_vo[vo], _unfinished(store.states(entry.name, vo=vo))))
    return uses


def _unfinished(states: dict[PilotState, int]) -> int:
    return sum(number for state, number in states.items() if not state.final)
