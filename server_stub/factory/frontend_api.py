"""The factory for frontends: JSON below ``/api/v1/frontend``, for those alone that the factory's file names.

Whatever is sent is bounded before it is read, its sender is proven before it is looked at, and it is stored before it
is answered.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pilot_agent.codec import to_json
from server_stub.factory import demand, overview
from server_stub.factory.api import Limit, Text
from server_stub.factory.demand import OlderSetError, Wanted
from server_stub.factory.frontends import Caller, FrontendError, judge_token
from server_stub.factory.limits import BodyError, Rate, read_body
from server_stub.factory.live import Live
from server_stub.factory.log import tell
from server_stub.factory.offers import Encryption, Offers, offers, offers_json
from server_stub.factory.overview import Filters, PilotPage
from server_stub.factory.receive import ERROR, refusal
from server_stub.factory.requests import BODY_LIMIT_BYTES, SetAnswer, SetError, digest, judge_set, read_set, set_schema

SECURITY: list[dict[str, list[str]]] = [{"frontend": []}]
REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "The token does not count; the answer says why", **ERROR},
    429: {"description": "Too often", **ERROR},
    503: {"description": "The store does not answer now; try again", **ERROR},
}
WRITE_REFUSALS: dict[int | str, dict[str, Any]] = {
    **REFUSALS,
    400: {"description": "It is not what belongs here; the answer names the place", **ERROR},
    408: {"description": "It came too slowly", **ERROR},
    413: {"description": "It is too large", **ERROR},
}


class RefusedError(Exception):
    """A request that is answered with this."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.status_code)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Door:
    """Lets in who signed a token that counts, and not too often."""

    live: Live
    rate: Rate = field(default_factory=lambda: Rate(at_once=120, per_second=4.0))
    failures: Rate = field(default_factory=lambda: Rate(at_once=60, per_second=1.0))
    """Of wrong tokens, by the address they come from."""

    async def reads(self, request: Request) -> Caller:
        """Who asks. Raises ``RefusedError``."""
        try:
            caller = judge_token(_bearer(request), self.live.factory.frontends, self.live.factory.name)
        except FrontendError as error:
            raise RefusedError(self._refuse(request, error)) from error
        wait = self.rate.wait(caller.frontend.name)
        if wait:
            said = f"{caller.frontend.name} asks too often"
            raise RefusedError(refusal(said, 429, {"Retry-After": str(int(wait) + 1)}))
        return caller

    async def writes(self, request: Request) -> Caller:
        """Who asks, with a token that was not used to write before. Raises ``RefusedError``."""
        caller = await self.reads(request)
        try:
            await run_in_threadpool(demand.spend_token, self.live.store, caller)
        except FrontendError as error:
            raise RefusedError(self._refuse(request, error)) from error
        return caller

    def _refuse(self, request: Request, error: FrontendError) -> Response:
        address = request.client.host if request.client else ""
        wait = self.failures.wait(address)
        if wait:
            return refusal("too many wrong tokens from this address", 429, {"Retry-After": str(int(wait) + 1)})
        tell(structlog.get_logger("server_stub.frontends").warning, "frontend.refused", why=str(error), address=address)
        return refusal(str(error), 401, {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise FrontendError("no token: send `Authorization: Bearer` with one that the frontend's key signed")
    return token.strip()


async def _reader(request: Request) -> Caller:
    door: Door = request.app.state.door
    return await door.reads(request)


async def _writer(request: Request) -> Caller:
    door: Door = request.app.state.door
    return await door.writes(request)


Reads = Annotated[Caller, Depends(_reader)]
"""Of an endpoint: the frontend that asks."""
Writes = Annotated[Caller, Depends(_writer)]
"""Of an endpoint that changes something: the frontend that asks, with a token that is spent by it."""


async def answer_refused(request: Request, error: Exception) -> Response:
    """What ``RefusedError`` carries."""
    if not isinstance(error, RefusedError):
        raise error
    return error.answer


async def bounded_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body. Raises ``RefusedError``."""
    try:
        return await read_body(request, limit_bytes)
    except BodyError as error:
        raise RefusedError(refusal(str(error), error.status, {"Connection": "close"})) from error


@dataclass(frozen=True, slots=True)
class KnownSet:
    """The newest set of a frontend; 0 and nothing where there was none. Times are epoch seconds."""

    sequence: int
    received: float
    expires: float
    requests: list[Wanted]


def frontend_routes(live: Live) -> APIRouter:
    """Everything below ``/api/v1/frontend`` that concerns pilots."""
    router = APIRouter(prefix="/api/v1/frontend", tags=["frontends"], responses=REFUSALS)
    secured: dict[str, Any] = {"openapi_extra": {"security": SECURITY}}

    @router.get("/offers", response_model=Offers, **secured)
    def offered(caller: Reads) -> Response:
        """The entries that this frontend may use, with all that helps to choose among them."""
        now = time.time()
        known = live.experienced.get(now=now)
        key = live.vault.keys.current(now)
        sealing = Encryption(key.id, base64.b64encode(key.public).decode("ascii"))
        found = offers(
            live.factory, live.store, caller.frontend, known, encryption=sealing, observed=live.collected, now=now
        )
        return Response(offers_json(found, known), media_type="application/json")

    @router.get("/requests", **secured)
    def requested(caller: Reads) -> KnownSet:
        """The newest set of requests, and what limits each of them now."""
        name = caller.frontend.name
        known = demand.known_sets(live.store).get(name, (0, 0.0, 0.0))
        return KnownSet(*known, demand.wanted(live.store, frontend=name))

    @router.get("/pilots", **secured)
    def pilots(caller: Reads, state: Text = "", entry: Text = "", limit: Limit = 100, after: Text = "") -> PilotPage:
        """This frontend's pilots, the newest first; ``after`` of one answer asks for the next."""
        chosen = Filters(entry=entry, state=state, frontend=caller.frontend.name)
        return overview.pilots(live.store, live.now(chosen), limit=limit, after=after)

    _add_writing(router, live)
    return router


def _add_writing(router: APIRouter, live: Live) -> None:
    body = {"required": True, "content": {"application/json": {"schema": set_schema()}}}

    @router.put(
        "/requests",
        response_model=SetAnswer,
        responses={**WRITE_REFUSALS, 409: {"description": "It is not newer than the known one", **CONFLICT}},
        openapi_extra={"security": SECURITY, "requestBody": body},
    )
    async def request_pilots(request: Request, caller: Writes) -> Response:
        """All that this frontend wants, in the place of what it wanted before; sent twice it changes nothing."""
        content = await bounded_body(request, BODY_LIMIT_BYTES)
        return await run_in_threadpool(_take, live, caller, content)


CONFLICT = {
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error", "sequence"],
                "properties": {"error": {"type": "string"}, "sequence": {"type": "integer"}},
            }
        }
    }
}


def _take(live: Live, caller: Caller, content: bytes) -> Response:
    frontend, now = caller.frontend, time.time()
    try:
        given = read_set(content, known=demand.known_sequence(live.store, frontend.name), now=now)
    except SetError as error:
        return refusal(str(error), 400)
    marked = digest(content)
    try:
        answer = demand.known_answer(live.store, frontend.name, given, marked)
        if answer is None:
            judged = judge_set(given, frontend, live.factory, now=now)
            answer = demand.take_set(live.store, frontend.name, given, marked, judged)
    except OlderSetError as error:
        return JSONResponse({"error": str(error), "sequence": error.known}, status_code=409)
    log = structlog.get_logger("server_stub.frontends")
    tell(
        log.info, "frontend.requests", frontend=frontend.name, sequence=answer.sequence,
        accepted=len(answer.accepted), refused=len(answer.refused),
        queued=sum(one.queued for one in answer.accepted), pilots=sum(one.pilots for one in answer.accepted),
    )  # fmt: skip
    return JSONResponse(to_json(answer))
