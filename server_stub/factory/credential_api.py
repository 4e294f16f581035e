"""Credentials below ``/api/v1/frontend``: taken sealed, listed without content, given to no frontend again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Path
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pilot_agent.codec import to_json
from server_stub.credentials.kinds import IDENTIFIER
from server_stub.factory.bodies import schema_of
from server_stub.factory.credential_bodies import (
    BODY_LIMIT_BYTES,
    CredentialError,
    CredentialSet,
    SealedCredential,
    offered,
    read_one,
    read_several,
)
from server_stub.factory.frontend_api import SECURITY, WRITE_REFUSALS, Reads, Writes, bounded_body
from server_stub.factory.frontends import Caller
from server_stub.factory.live import Live
from server_stub.factory.log import tell
from server_stub.factory.receive import ERROR, refusal
from server_stub.factory.vault import Known, VaultError

REFUSALS: dict[int | str, dict[str, Any]] = {
    **WRITE_REFUSALS,
    409: {"description": "It is sealed with an old key, or its name is another credential's", **ERROR},
}
CredentialName = Annotated[str, Path(pattern=f"^{IDENTIFIER.pattern}$")]


@dataclass(frozen=True, slots=True)
class KnownCredentials:
    """What the factory has of a frontend. ``now`` is the factory's clock, epoch seconds."""

    now: float
    credentials: list[Known]


@dataclass(frozen=True, slots=True)
class RefusedCredential:
    """One of several that was not taken, and why."""

    id: str
    why: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of several."""

    taken: list[str] = field(default_factory=list)
    refused: list[RefusedCredential] = field(default_factory=list)


def credential_routes(live: Live) -> APIRouter:
    """List, put, delete."""
    router = APIRouter(prefix="/api/v1/frontend", tags=["credentials"])
    secured: dict[str, Any] = {"security": SECURITY}

    @router.get("/credentials", responses=WRITE_REFUSALS, openapi_extra=secured)
    def known(caller: Reads) -> KnownCredentials:
        """What there is of this frontend: names, kinds, ends, and whose each is. Never a content."""
        return KnownCredentials(time.time(), live.vault.known(caller.frontend.name))

    @router.put(
        "/credentials", response_model=Taken, responses=REFUSALS, openapi_extra={**secured, **_body(CredentialSet)}
    )
    async def put_several(request: Request, caller: Writes) -> Response:
        """Keep several; each is taken or refused by itself."""
        content = await bounded_body(request, BODY_LIMIT_BYTES)
        return await run_in_threadpool(_put_several, live, caller, content)

    @router.put(
        "/credentials/{name}",
        status_code=204,
        response_class=Response,
        responses=REFUSALS,
        openapi_extra={**secured, **_body(SealedCredential)},
    )
    async def put_one(request: Request, caller: Writes, name: CredentialName) -> Response:
        """Keep one, in the place of the one of this name: pilots that have that get this one."""
        content = await bounded_body(request, BODY_LIMIT_BYTES)
        return await run_in_threadpool(_put_one, live, caller, name, content)

    @router.delete(
        "/credentials/{name}",
        status_code=204,
        response_class=Response,
        responses={**WRITE_REFUSALS, 404: {"description": "There is none of this name", **ERROR}},
        openapi_extra=secured,
    )
    def drop(caller: Writes, name: CredentialName) -> Response:
        """Keep one no longer; no further pilot gets it, and those that have it get no newer one."""
        if not live.vault.delete(caller.frontend.name, name):
            return refusal(f"this frontend has no credential {name!r} here", 404)
        _log("credential.deleted", caller, id=name)
        return Response(status_code=204)

    return router


def _body(model: type[SealedCredential | CredentialSet]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema_of(model)}}}}


def _put_one(live: Live, caller: Caller, name: str, content: bytes) -> Response:
    try:
        given = read_one(content)
        _keep(live, caller, name, given)
    except CredentialError as error:
        return refusal(str(error), 400)
    except VaultError as error:
        return refusal(str(error), error.status)
    _log("credential.taken", caller, id=name, kind=given.kind.value, entry=given.entry, expires=given.expires)
    return Response(status_code=204)


def _put_several(live: Live, caller: Caller, content: bytes) -> Response:
    try:
        given = read_several(content)
    except CredentialError as error:
        return refusal(str(error), 400)
    told = Taken()
    for one in given.credentials:
        try:
            _keep(live, caller, one.id, one)
            told.taken.append(one.id)
        except (CredentialError, VaultError) as error:
            told.refused.append(RefusedCredential(one.id, str(error)))
    _log("credentials.taken", caller, taken=len(told.taken), refused=len(told.refused))
    return JSONResponse(to_json(told))


def _keep(live: Live, caller: Caller, name: str, given: SealedCredential) -> None:
    """Raises ``CredentialError``, ``VaultError``."""
    found = offered(given, name, frontend=caller.frontend.name, factory=live.factory.name)
    if found.label.entry and not caller.frontend.may_use(found.label.entry):
        raise CredentialError(f"entry: this frontend may not use {found.label.entry!r}")
    live.vault.put(found.label, found.encryption, found.sealed)


def _log(event: str, caller: Caller, **about: object) -> None:
    log = structlog.get_logger("server_stub.credentials")
    tell(log.info, event, frontend=caller.frontend.name, **about)
