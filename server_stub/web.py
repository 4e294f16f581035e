"""The factory's HTTP side: the payload for worker nodes, and what became of the pilots for people and programs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from html import escape
from statistics import median

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from pilot_agent.codec import to_json
from pilot_agent.report import timestamp
from server_stub.entries import PAYLOADS, Factory
from server_stub.factory.pilots import Pilot, Scores
from server_stub.factory.store import Store
from server_stub.uploads import upload_routes

PAYLOAD_FILES = frozenset(f"pilot.{kind}" for kind in PAYLOADS)
COLUMNS = ("pilot", "entry", "site", "state", "job", "host", "submitted", "exit", "jobs", "outcome", "message")

SCORE_COLUMNS = ("benchmark", "entry", "processor", "pilots", "median", "smallest", "largest", "unit")

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title} of {factory}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2em; }} table {{ border-collapse: collapse; }}
th, td {{ text-align: left; padding: .3em .8em .3em 0; border-bottom: 1px solid #ccc; vertical-align: top; }}
</style></head><body><h1>{title} of {factory}</h1>
<p><a href="/pilots">Pilots</a> · <a href="/benchmarks">Benchmarks</a></p>
<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></body></html>
"""


def application(factory: Factory, store: Store) -> Starlette:
    """The ASGI application of a factory. It only reads, but for uploads where it takes them; it does not close the
    store."""

    async def payload(request: Request) -> Response:
        name: str = request.path_params["name"]
        path = os.path.join(factory.payloads, name)
        # Only the names that entries can ask for: whatever else lies in that directory is not published.
        if name not in PAYLOAD_FILES or not os.path.isfile(path):
            return _absent(f"there is no payload {name!r}; known: {', '.join(sorted(PAYLOAD_FILES))}")
        return FileResponse(path, media_type="application/octet-stream")

    async def pilots(request: Request) -> Response:
        listed = await run_in_threadpool(store.pilots)
        if _wants_json(request):
            return JSONResponse([to_json(pilot) for pilot in listed])
        return HTMLResponse(page(factory, listed))

    async def report(request: Request) -> Response:
        pilot_id: str = request.path_params["pilot_id"]
        found = await run_in_threadpool(store.report, pilot_id)
        if found is None:
            return _absent(f"there is no report of a pilot {pilot_id!r}")
        # ASCII: what a pilot returned may hold half of a surrogate pair, which UTF-8 cannot carry.
        return Response(json.dumps(found), media_type="application/json")

    async def benchmarks(request: Request) -> Response:
        found = await run_in_threadpool(store.scores)
        if _wants_json(request):
            return JSONResponse([to_json(one) | {"median": median(one.numbers)} for one in found])
        return HTMLResponse(_page(factory, "Benchmarks", SCORE_COLUMNS, map(_score_cells, found)))

    async def home(request: Request) -> Response:
        return RedirectResponse("/pilots")

    return Starlette(
        routes=[
            Route("/", home),
            Route("/payload/{name}", payload),
            Route("/pilots", pilots),
            Route("/benchmarks", benchmarks),
            *(upload_routes(store) if factory.uploads else ()),
            Route("/pilots/{pilot_id}/report", report),
        ]
    )


def page(factory: Factory, pilots: list[Pilot]) -> str:
    """The table of pilots, HTML."""
    return _page(factory, "Pilots", COLUMNS, map(_cells, pilots))


def _page(factory: Factory, title: str, columns: Iterable[str], rows: Iterable[list[str]]) -> str:
    """A table; the cells are HTML."""
    head = "".join(f"<th>{name}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" for cells in rows)
    return PAGE.format(title=title, factory=escape(factory.name), head=head, rows=body)


def _score_cells(one: Scores) -> list[str]:
    numbers = [median(one.numbers), one.numbers[0], one.numbers[-1]]
    texts = [one.benchmark, one.entry, one.cpu_model, str(len(one.numbers)), *(f"{n:g}" for n in numbers), one.unit]
    return [escape(text) for text in texts]


def _cells(pilot: Pilot) -> list[str]:
    name = escape(pilot.id)
    link = f'<a href="/pilots/{name}/report">{name}</a>' if pilot.report else name
    return [link, *(escape(text) for text in row(pilot)[1:])]


def row(pilot: Pilot) -> list[str]:
    """A pilot as the texts of ``COLUMNS``."""
    shown: Callable[[object], str] = lambda value: "" if value is None else str(value)  # noqa: E731
    return [
        pilot.id,
        pilot.entry,
        pilot.site,
        pilot.state.value,
        shown(pilot.job),
        pilot.host,
        timestamp(pilot.submitted),
        shown(pilot.exit_code),
        shown(pilot.jobs_started),
        pilot.outcome,
        pilot.message,
    ]


def _wants_json(request: Request) -> bool:
    asked = request.query_params.get("format")
    return asked == "json" or (asked is None and "application/json" in request.headers.get("accept", ""))


def _absent(message: str) -> Response:
    return JSONResponse({"error": message}, status_code=404)
