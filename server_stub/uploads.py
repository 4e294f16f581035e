"""What pilots send of themselves while their jobs run: events into a file of the pilot's, the report into the store.

Nobody proves who he is here: only pilots that have not ended may send, what they send is bounded, judged like every
report, and gives way to what the batch system brings home.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pilot_agent.model import Json
from server_stub.collect import REPORT_LIMIT_BYTES, ReportError, judge
from server_stub.factory.pilots import Pilot
from server_stub.factory.store import Store

EVENTS_FILE = "uploaded-events.jsonl"
BATCH_LIMIT_BYTES = 1 << 20
EVENTS_LIMIT_BYTES = 64 << 20


def upload_routes(store: Store) -> list[Route]:
    """The two addresses below that of a pilot."""

    async def events(request: Request) -> Response:
        return await _received(request, store, BATCH_LIMIT_BYTES, _take_events)

    async def report(request: Request) -> Response:
        return await _received(request, store, REPORT_LIMIT_BYTES, _take_report)

    return [
        Route("/pilots/{pilot_id}/events", events, methods=["POST"]),
        Route("/pilots/{pilot_id}/report", report, methods=["POST"]),
    ]


async def _received(
    request: Request, store: Store, limit_bytes: int, take: Callable[[Store, Pilot, bytes], str]
) -> Response:
    pilot = await run_in_threadpool(store.get, request.path_params["pilot_id"])
    if pilot is None or pilot.state.final:
        return _refusal("no pilot of this name is on its way", 404)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit_bytes:
                return _refusal(f"more than {limit_bytes} bytes", 413)
    except ClientDisconnect:
        return _refusal("it was not sent to its end", 400)
    problem = await run_in_threadpool(take, store, pilot, bytes(body))
    return _refusal(problem, 400) if problem else Response(status_code=204)


def _take_events(store: Store, pilot: Pilot, body: bytes) -> str:
    """Append; what is wrong, or nothing."""
    path = os.path.join(pilot.directory, EVENTS_FILE)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
        try:
            if os.fstat(descriptor).st_size + len(body) > EVENTS_LIMIT_BYTES:
                return f"this pilot sent more than {EVENTS_LIMIT_BYTES} bytes of events"
            os.write(descriptor, body)
        finally:
            os.close(descriptor)
    except OSError as error:
        return f"it cannot be written: {error.strerror}"
    return ""


def _take_report(store: Store, pilot: Pilot, body: bytes) -> str:
    """Store the report; what is wrong, or nothing."""
    try:
        report: Json = json.loads(body, parse_constant=_refuse_constant)
        said = judge(report)
    except ReportError as error:
        return str(error)
    except (ValueError, RecursionError):
        return "the report is no JSON"
    store.save(said.of(pilot), known=pilot, report=report)
    return ""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _refusal(message: str, status: int) -> Response:
    return JSONResponse({"error": message}, status_code=status)
