"""What pilots send of themselves: events, signs of life, scores, last words, and the report.

A pilot proves who it is by its token and writes only its own record. All of it is bounded, judged as what a stranger
sent, stored before it is answered, and gives way to what the batch system brings home.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pilot_agent.model import Json
from server_stub.collect import REPORT_LIMIT_BYTES, ReportError, judge
from server_stub.factory.limits import BodyError, Rate, read_body
from server_stub.factory.metrics import Metrics
from server_stub.factory.pilots import Pilot
from server_stub.factory.scores import at, read_scores
from server_stub.factory.store import Store
from server_stub.factory.texts import shown
from server_stub.factory.tokens import WRITE, Claims, TokenError, Tokens
from server_stub.foreign import read_foreign

BATCH_LIMIT_BYTES = 1 << 20
EVENTS_LIMIT_BYTES = 64 << 20
SCORES_LIMIT_BYTES = 256 << 10
WORDS_LIMIT_BYTES = 64 << 10
HEARTBEAT_LIMIT_BYTES = 4 << 10
LARGEST_OFFSET = 2**53
RENEWED = "X-Pilot-Token"

Take = Callable[[Store, Pilot, Request, bytes], str]
"""Stores a body; what is wrong with it, or nothing."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A pilot that proved who it is, and is on its way."""

    pilot: Pilot
    claims: Claims


@dataclass(frozen=True, slots=True)
class Receiver:
    """Everything that judging an upload needs."""

    store: Store
    tokens: Tokens
    metrics: Metrics
    rate: Rate = field(default_factory=lambda: Rate(at_once=120, per_second=1.0))
    failures: Rate = field(default_factory=lambda: Rate(at_once=60, per_second=1.0))
    """Of wrong tokens, by the address they come from."""

    async def receive(self, request: Request, kind: str, limit_bytes: int, take: Take) -> Response:
        """Judge, store, answer."""
        with self.metrics.upload_seconds.labels(kind).time():
            answer = await self._answer(request, limit_bytes, take)
        self.metrics.uploads.labels(kind, str(answer.status_code)).inc()
        return answer

    async def admit(self, request: Request, scope: str) -> Admitted | Response:
        """The pilot that asks, if its token counts for this; else the answer to give."""
        pilot_id: str = request.path_params["pilot_id"]
        try:
            claims = await self._claims(request, pilot_id, scope)
        except TokenError as error:
            return self._refuse_token(request, error)
        wait = self.rate.wait(pilot_id)
        if wait:
            return refusal("this pilot sends too often", 429, {"Retry-After": str(int(wait) + 1)})
        pilot = await run_in_threadpool(self.store.get, pilot_id)
        if pilot is None or pilot.state.final:
            return refusal("no pilot of this name is on its way", 404)
        return Admitted(pilot, claims)

    async def _answer(self, request: Request, limit_bytes: int, take: Take) -> Response:
        found = await self.admit(request, WRITE)
        if isinstance(found, Response):
            return found
        pilot, claims = found.pilot, found.claims
        try:
            body = await read_body(request, limit_bytes)
        except BodyError as error:
            return refusal(str(error), error.status, {"Connection": "close"})
        problem = await run_in_threadpool(take, self.store, pilot, request, body)
        if problem:
            return refusal(problem, 400)
        renewed = await run_in_threadpool(self.tokens.renewal, claims)
        return Response(status_code=204, headers={RENEWED: renewed} if renewed else None)

    async def _claims(self, request: Request, pilot_id: str, scope: str) -> Claims:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise TokenError("no token: send `Authorization: Bearer` with the one that came with the pilot")
        return await run_in_threadpool(self.tokens.judge, token.strip(), pilot_id, scope)

    def _refuse_token(self, request: Request, error: TokenError) -> Response:
        wait = self.failures.wait(request.client.host if request.client else "")
        if wait:
            return refusal("too many wrong tokens from this address", 429, {"Retry-After": str(int(wait) + 1)})
        return refusal(str(error), 401, {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def upload_routes(receiver: Receiver) -> APIRouter:
    """The addresses below that of a pilot."""
    router = APIRouter(tags=["pilots report"])

    def add(name: str, media: str, limit_bytes: int, take: Take, summary: str, **more: Any) -> None:
        async def endpoint(request: Request, pilot_id: str) -> Response:
            return await receiver.receive(request, name, limit_bytes, take)

        router.add_api_route(
            f"/pilots/{{pilot_id}}/{name}",
            endpoint,
            methods=["POST"],
            name=f"upload {name}",
            operation_id=f"upload_{name.replace('-', '_')}",
            summary=summary,
            status_code=204,
            response_class=Response,
            responses=REFUSALS,
            openapi_extra={
                "requestBody": {"required": True, "content": {media: {"schema": more.pop("schema", {})}}},
                "security": [{"pilot": []}],
                **more,
            },
        )

    add("events", "application/x-ndjson", BATCH_LIMIT_BYTES, _take_events, "Lines of events.jsonl", **OFFSET)
    add("report", "application/json", REPORT_LIMIT_BYTES, _take_report, "The report", schema={"type": "object"})
    add("heartbeat", "application/json", HEARTBEAT_LIMIT_BYTES, _take_heartbeat, "A sign of life")
    add("benchmarks", "application/json", SCORES_LIMIT_BYTES, _take_scores, "Scores, as in a report", schema=SCORES)
    add("last-words", "text/plain", WORDS_LIMIT_BYTES, _take_words, "What there was to say in the end")
    return router


OFFSET = {
    "schema": {"type": "string"},
    "parameters": [
        {"in": "header", "name": "X-Pilot-Offset", "required": True, "schema": {"type": "integer", "minimum": 0},
         "description": "place in the log after the last line; what is sent twice is stored once"},
        {"in": "header", "name": "X-Pilot-Dropped", "schema": {"type": "integer", "minimum": 0, "default": 0},
         "description": "how many events were left out before"},
    ],
}  # fmt: skip
SCORES = {
    "type": "object",
    "required": ["benchmarks"],
    "properties": {"cpu_model": {"type": "string"}, "benchmarks": {"type": "array", "items": {"type": "object"}}},
}
ERROR = {
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
        }
    }
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "It is not what belongs here", **ERROR},
    401: {"description": "The token does not count for this pilot", **ERROR},
    404: {"description": "No pilot of this name is on its way", **ERROR},
    408: {"description": "It came too slowly", **ERROR},
    413: {"description": "It is too large", **ERROR},
    429: {"description": "Too often", **ERROR},
    503: {"description": "It cannot be stored now; send it again", **ERROR},
}


def _take_events(store: Store, pilot: Pilot, request: Request, body: bytes) -> str:
    upto, dropped = (_count(request.headers.get(name, "")) for name in ("x-pilot-offset", "x-pilot-dropped"))
    if upto is None:
        return "X-Pilot-Offset is missing: the place in the log after the last line"
    if not body.endswith(b"\n") or not all(isinstance(_parsed(line), dict) for line in body[:-1].split(b"\n")):
        return "the events are not lines that are each a JSON object"
    if not store.add_events(pilot.id, body, upto=upto, dropped=dropped or 0, limit_bytes=EVENTS_LIMIT_BYTES):
        return f"this pilot sent more than {EVENTS_LIMIT_BYTES} bytes of events"
    return ""


def _take_report(store: Store, pilot: Pilot, request: Request, body: bytes) -> str:
    report = _parsed(body)
    if report is None:
        return "the report is no JSON"
    try:
        said = judge(report)
    except ReportError as error:
        return str(error)
    store.save(replace(said.of(pilot), seen=time.time()), known=pilot, report=report)
    return ""


def _take_heartbeat(store: Store, pilot: Pilot, request: Request, body: bytes) -> str:
    store.heard(pilot.id)
    return ""


def _take_scores(store: Store, pilot: Pilot, request: Request, body: bytes) -> str:
    document = _parsed(body)
    listed = at(document, "benchmarks")
    if not isinstance(listed, list):
        return "a JSON object with a list `benchmarks` belongs here"
    store.add_scores(pilot, read_scores(listed, shown(at(document, "cpu_model") or "unknown")))
    return ""


def _take_words(store: Store, pilot: Pilot, request: Request, body: bytes) -> str:
    lines = body.decode("utf-8", "replace").splitlines()
    store.add_last_words(pilot.id, "\n".join("".join(c if c.isprintable() else " " for c in line) for line in lines))
    return ""


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 17 and int(text) <= LARGEST_OFFSET else None


def _parsed(content: bytes) -> Json:
    """The document; None for what is none."""
    try:
        return read_foreign(content)
    except ValueError:
        return None


def refusal(message: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """An answer that says what is wrong."""
    return JSONResponse({"error": message}, status_code=status, headers=headers)
