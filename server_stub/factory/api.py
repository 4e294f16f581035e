"""The factory for programs: JSON below ``/api/v1``, described by ``/openapi.json``. It only reads."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from server_stub.factory import overview
from server_stub.factory.entry_view import EntryView, entry_views
from server_stub.factory.history import DAY_SECONDS
from server_stub.factory.live import Live
from server_stub.factory.overview import MOST_PILOTS, Cause, Filters, PilotPage, Spent
from server_stub.factory.pilots import Pilot, Scores
from server_stub.factory.receive import ERROR, refusal
from server_stub.factory.silence import silent_before, silent_since

# A name of the store's; no database is asked for what it could not hold.
PilotId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,32}$")]
Text = Annotated[str, Query(max_length=300, pattern=r"^[^\x00]*$")]
MOST_DAYS = 3660


@dataclass(frozen=True, slots=True)
class Change:
    """A state and when the pilot came into it, epoch seconds."""

    at: float
    state: str


@dataclass(frozen=True, slots=True)
class PilotDetail:
    """A pilot and its story; ``silent_since`` is when one that runs and says nothing was last heard, else None."""

    pilot: Pilot
    changes: list[Change]
    last_words: str
    silent_since: float | None


def filters(
    entry: Text = "", site: Text = "", state: Text = "", outcome: Text = "", kind: Text = "", code: Text = "",
    host: Text = "", vo: Text = "", frontend: Text = "",
) -> Filters:  # fmt: skip
    """The filters of an address."""
    return Filters(entry, site, state, outcome, kind, code, host, vo, frontend)


Filtered = Annotated[Filters, Depends(filters)]
Limit = Annotated[int, Query(ge=1, le=MOST_PILOTS)]
Days = Annotated[int, Query(ge=1, le=MOST_DAYS)]
ABSENT: dict[int | str, dict[str, Any]] = {404: {"description": "There is none", **ERROR}}


def api_routes(live: Live) -> APIRouter:
    """Everything below ``/api/v1``."""
    router = APIRouter(prefix="/api/v1", tags=["read"])
    store = live.store

    @router.get("/entries")
    def entries() -> list[EntryView]:
        """Entries with what became of their pilots."""
        return entry_views(live.factory, store)

    @router.get("/pilots")
    def pilots(chosen: Filtered, limit: Limit = 100, after: Text = "") -> PilotPage:
        """Pilots, the newest first; ``after`` of one answer asks for the next. The state ``silent`` is that of pilots
        which run, as the batch system says, and have not been heard for several times as long as they should."""
        return overview.pilots(store, live.now(chosen), limit=limit, after=after)

    @router.get("/pilots/{pilot_id}", responses=ABSENT, response_model=PilotDetail)
    def pilot(pilot_id: PilotId) -> PilotDetail | Response:
        """One pilot and its changes of state."""
        found = store.get(pilot_id)
        if found is None:
            return refusal(f"there is no pilot {pilot_id!r}", 404)
        changes = [Change(at, state.value) for at, state in store.changes(pilot_id)]
        silent = silent_since(found, silent_before(live.factory))
        return PilotDetail(found, changes, store.last_words(pilot_id), silent)

    @router.get("/pilots/{pilot_id}/report", responses=ABSENT)
    async def report(pilot_id: PilotId) -> Response:
        """A pilot's report as it gave it."""
        return await report_answer(live, pilot_id)

    @router.get("/pilots/{pilot_id}/events", responses=ABSENT, response_class=StreamingResponse)
    def events(pilot_id: PilotId) -> Response:
        """The events that a pilot sent, one line of JSON each."""
        if store.get(pilot_id) is None:
            return refusal(f"there is no pilot {pilot_id!r}", 404)
        pieces: Iterator[bytes] = iter(store.events(pilot_id))
        return StreamingResponse(pieces, media_type="application/x-ndjson")

    @router.get("/failures")
    def failures(chosen: Filtered, days: Days = 7) -> list[Cause]:
        """Why pilots failed, by kind, code, entry and host, the most frequent first."""
        return overview.causes(store, chosen, since=time.time() - days * DAY_SECONDS)

    @router.get("/benchmarks")
    def benchmarks(benchmark: Text = "", entry: Text = "") -> list[Scores]:
        """What pilots scored, by benchmark, entry and processor."""
        return store.scores(benchmark=benchmark or None, entry=entry or None)

    @router.get("/waste")
    def waste(days: Days = 7) -> list[Spent]:
        """What the time of each entry's pilots went to."""
        return list(overview.spent(store, since=time.time() - days * DAY_SECONDS).values())

    return router


async def report_answer(live: Live, pilot_id: str) -> Response:
    """A pilot's report, or that there is none."""
    found = await run_in_threadpool(live.store.report, pilot_id)
    if found is None:
        return refusal(f"there is no report of a pilot {pilot_id!r}", 404)
    # ASCII: what a pilot returned may hold half of a surrogate pair, which UTF-8 cannot carry.
    return Response(json.dumps(found), media_type="application/json")
