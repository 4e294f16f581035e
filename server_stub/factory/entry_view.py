"""Entries as they are configured, beside what became of their pilots."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from sqlalchemy import select

from server_stub.entries import Factory
from server_stub.factory import overview
from server_stub.factory.history import DAY_SECONDS
from server_stub.factory.overview import Spent
from server_stub.factory.pilots import WAITING, PilotState
from server_stub.factory.store import Store
from server_stub.factory.tables import FrontendRow, RequestRow

VIEW_DAYS = 7


@dataclass(frozen=True, slots=True)
class Asked:
    """What a frontend wants here for a VO: so many pilots in the queue, at most so many in all; ``limited_by`` is what
    it lacks some for, empty where nothing."""

    frontend: str
    vo: str
    queued: int
    pilots: int
    limited_by: str


@dataclass(frozen=True, slots=True)
class EntryView:
    """One entry. ``closed`` is why nothing is submitted, empty while something may be; ``limit`` how many pilots may
    wait or run; ``failed`` and ``wasted`` are parts of the pilots and of the time of the last seven days, None where
    there were none. An entry that is configured no more has no limit."""

    name: str
    site: str
    closed: str
    limit: int
    waiting: int
    running: int
    held: int
    ended: int
    failed: float | None
    wasted: float | None
    asked: tuple[Asked, ...] = ()

    @property
    def unfinished(self) -> int:
        """Pilots of which more is to come."""
        return self.waiting + self.running + self.held

    @property
    def pressure(self) -> float:
        """How much of its limit is used, 0 to 1."""
        return min(1.0, self.unfinished / self.limit) if self.limit else 0.0


def entry_views(factory: Factory, store: Store, *, now: float | None = None) -> list[EntryView]:
    """Every entry that is configured or has pilots, by name."""
    moment = time.time() if now is None else now
    counted = overview.entry_states(store)
    spent = overview.spent(store, since=moment - VIEW_DAYS * DAY_SECONDS)
    closed = store.closed_entries()
    asked = _asked(store, moment)
    views = []
    for entry in factory.entries:
        counts = counted.pop(entry.name, {})
        why = closed.get(entry.name, "") or entry.closed(moment)
        view = _view(entry.name, entry.site, why, entry.max_pilots, counts, spent.get(entry.name))
        views.append(replace(view, asked=tuple(asked.get(entry.name, ()))))
    for name, counts in counted.items():
        views.append(_view(name, "", "configured no more", 0, counts, spent.get(name)))
    return sorted(views, key=lambda view: view.name)


def _asked(store: Store, now: float) -> dict[str, list[Asked]]:
    """What frontends want now, by entry; an expired set wants nothing."""
    columns = (RequestRow.frontend, RequestRow.vo, RequestRow.queued, RequestRow.pilots, RequestRow.limited_by)
    query = select(RequestRow.entry, *columns).join(FrontendRow, FrontendRow.name == RequestRow.frontend)
    query = query.where(FrontendRow.expires > now).order_by(RequestRow.entry, RequestRow.frontend, RequestRow.vo)
    found: dict[str, list[Asked]] = {}
    with store.read() as session:
        for entry, frontend, vo, queued, pilots, limited_by in session.execute(query):
            found.setdefault(entry, []).append(Asked(frontend, vo, queued, pilots, limited_by))
    return found


def _view(
    name: str, site: str, closed: str, limit: int, counts: dict[PilotState, int], spent: Spent | None
) -> EntryView:
    ended = sum(number for state, number in counts.items() if state.final)
    return EntryView(
        name,
        site,
        closed,
        limit,
        waiting=sum(counts.get(state, 0) for state in WAITING),
        running=counts.get(PilotState.RUNNING, 0),
        held=counts.get(PilotState.HELD, 0),
        ended=ended,
        failed=spent.failed / spent.pilots if spent is not None and spent.pilots else None,
        wasted=spent.wasted if spent is not None else None,
    )
