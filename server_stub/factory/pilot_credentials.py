"""What a running pilot may fetch: its own newest token for the user pool, and nothing else of anybody."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from pilot_agent.model import PilotError
from server_stub.credentials.kinds import Kind
from server_stub.factory.log import tell
from server_stub.factory.receive import ERROR, RENEWED, Receiver, refusal
from server_stub.factory.tokens import READ
from server_stub.factory.vault import Vault

NO_STORE = {"Cache-Control": "no-store", "Content-Type": "text/plain; charset=us-ascii"}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The token", "content": {"text/plain": {"schema": {"type": "string"}}}},
    401: {"description": "The token of the request does not count for this pilot", **ERROR},
    404: {"description": "No pilot of this name is on its way, or there is none for it", **ERROR},
    429: {"description": "Too often", **ERROR},
    503: {"description": "It cannot be read now; ask again", **ERROR},
}


def pilot_credential_routes(receiver: Receiver, vault: Vault) -> APIRouter:
    """The one address below that of a pilot."""
    router = APIRouter(tags=["pilots report"])

    @router.get(
        f"/pilots/{{pilot_id}}/credentials/{Kind.IDTOKEN.value}",
        response_class=Response,
        responses=ANSWERS,
        openapi_extra={"security": [{"pilot": []}]},
    )
    async def own_token(request: Request, pilot_id: str) -> Response:
        """The pilot's newest token for the user pool, as its frontend gave it."""
        found = await receiver.admit(request, READ)
        if isinstance(found, Response):
            return found
        try:
            secret = await run_in_threadpool(vault.own_token, pilot_id)
        except PilotError as error:
            log = structlog.get_logger("server_stub.credentials")
            tell(log.warning, error.failure.code, pilot=pilot_id, message=error.failure.message)
            return refusal("it cannot be read now", 503, {"Retry-After": "60"})
        if secret is None:
            return refusal("its frontend gave this pilot no token by this way", 404)
        renewed = await run_in_threadpool(receiver.tokens.renewal, found.claims)
        return Response(secret, headers={**NO_STORE, RENEWED: renewed} if renewed else NO_STORE)

    return router
