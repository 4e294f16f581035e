"""Pages for people, made here and complete as they come: entries, pilots, failures, benchmarks, waste."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response

from pilot_agent.codec import to_json
from pilot_agent.report import timestamp
from server_stub.factory import overview
from server_stub.factory.api import Days, Filtered, PilotId, Text
from server_stub.factory.entry_view import EntryView, entry_views
from server_stub.factory.events import newest
from server_stub.factory.history import DAY_SECONDS
from server_stub.factory.live import Live
from server_stub.factory.pilots import PilotState
from server_stub.factory.receive import refusal
from server_stub.factory.silence import SILENT, silent_before, silent_since
from server_stub.factory.store import Store
from server_stub.factory.web.chart import parts, ranges, timeline

HERE = Path(__file__).parent
PAGE_ROWS = 100
JSON_ROWS = 1000
STATIC = {"style.css": "text/css", "factory.js": "text/javascript"}
KEPT_SECONDS = 3600


def environment() -> Environment:
    """Every value is escaped; one that is missing is an error."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"moment": moment, "duration": duration, "percent": percent, "query": query}
    return made


def moment(seconds: float | None) -> str:
    """Epoch seconds as UTC, to the second."""
    return "" if seconds is None else timestamp(seconds)[:19].replace("T", " ")


def duration(seconds: float | None) -> str:
    """Seconds in the unit that suits them."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def percent(part: float | None) -> str:
    """A part as percent."""
    return "" if part is None else f"{100 * part:.0f} %"


def query(given: Mapping[str, str], **more: str) -> str:
    """An address' question mark and what comes after it; an empty value takes a name out."""
    asked = {name: value for name, value in {**given, **more}.items() if value}
    return "?" + urlencode(asked) if asked else "?"


Show = Callable[..., HTMLResponse]


def page_routes(live: Live) -> APIRouter:
    """All pages and what they are drawn with."""
    router = APIRouter(include_in_schema=False)
    templates = environment()
    for name in templates.list_templates():
        templates.get_template(name)  # compiled now: nobody's first page waits for it

    def show(name: str, **values: Any) -> HTMLResponse:
        page = templates.get_template(name).render(factory=live.factory.name, now=time.time(), **values)
        return HTMLResponse(page)

    _add_first(router, live, show)
    _add_pilots(router, live, show)
    _add_figures(router, live.store, show)
    return router


def _add_first(router: APIRouter, live: Live, show: Show) -> None:
    @router.get("/")
    def home() -> Response:
        return RedirectResponse("/entries")

    @router.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:
            return refusal("there is no such file", 404)
        kept = {"Cache-Control": f"max-age={KEPT_SECONDS}"}
        return FileResponse(HERE / "static" / name, media_type=STATIC[name], headers=kept)

    @router.get("/entries")
    def entries(q: Text = "", only: Text = "") -> Response:
        views = [view for view in entry_views(live.factory, live.store) if _wanted(view, q, only)]
        return show("entries.html", views=views, q=q, only=only)


def _add_pilots(router: APIRouter, live: Live, show: Show) -> None:
    store = live.store

    @router.get("/pilots")
    def pilots(request: Request, chosen: Filtered, after: Text = "") -> Response:
        chosen = live.now(chosen)
        if _wants_json(request):
            found = overview.pilots(store, chosen, limit=JSON_ROWS, after=after)
            return JSONResponse([to_json(pilot) for pilot in reversed(found.pilots)])
        found = overview.pilots(store, chosen, limit=PAGE_ROWS, after=after)
        counts = overview.states(store, replace(chosen, state=""))
        states = [(state, counts.get(state, 0)) for state in (*(state.value for state in PilotState), SILENT)]
        silent = {one.id for one in found.pilots if silent_since(one, chosen.silent_before)}
        return show("pilots.html", page=found, chosen=chosen.given(), states=states, silent=silent)

    @router.get("/pilots/{pilot_id}")
    def pilot(pilot_id: PilotId, event: Text = "", q: Text = "") -> Response:
        found = store.get(pilot_id)
        if found is None:
            return refusal(f"there is no pilot {pilot_id!r}", 404)
        report = store.report(pilot_id)
        changes, words = store.changes(pilot_id), store.last_words(pilot_id)
        return show(
            "pilot.html", pilot=found, changes=changes, words=words, line=timeline(report),
            silent=silent_since(found, silent_before(live.factory)),
            events=newest(store, pilot_id, name=event, text=q), asked={"event": event, "q": q},
        )  # fmt: skip


def _add_figures(router: APIRouter, store: Store, show: Show) -> None:
    @router.get("/failures")
    def failures(chosen: Filtered, days: Days = 7) -> Response:
        causes = overview.causes(store, chosen, since=time.time() - days * DAY_SECONDS)
        return show("failures.html", causes=causes, chosen=chosen.given(), days=days)

    @router.get("/benchmarks")
    def benchmarks(request: Request, benchmark: Text = "", entry: Text = "", days: Days = 7) -> Response:
        if _wants_json(request):
            found = store.scores(benchmark=benchmark or None, entry=entry or None)
            return JSONResponse([to_json(one) | {"median": median(one.numbers)} for one in found])
        since = time.time() - days * DAY_SECONDS
        groups = ranges(overview.score_ranges(store, benchmark=benchmark, entry=entry, since=since))
        return show("benchmarks.html", groups=groups, chosen={"benchmark": benchmark, "entry": entry}, days=days)

    @router.get("/waste")
    def waste(days: Days = 7, order: Annotated[str, Query(pattern="^(wasted|entry)$")] = "wasted") -> Response:
        found = overview.spent(store, since=time.time() - days * DAY_SECONDS)
        rows = [parts(one) for one in found.values()]
        rows.sort(key=lambda row: (-(row.spent.wasted or 0.0) if order == "wasted" else 0.0, row.spent.entry))
        return show("waste.html", rows=rows, days=days, order=order)


def _wanted(view: EntryView, q: str, only: str) -> bool:
    if q and q.lower() not in f"{view.name} {view.site}".lower():
        return False
    kept = {
        "closed": bool(view.closed),
        "held": view.held > 0,
        "busy": view.unfinished > 0,
        "asked": any(one.queued for one in view.asked),
        "limited": any(one.limited_by for one in view.asked),
    }
    return kept.get(only, True)


def _wants_json(request: Request) -> bool:
    asked = request.query_params.get("format")
    return asked == "json" or (asked is None and "application/json" in request.headers.get("accept", ""))
