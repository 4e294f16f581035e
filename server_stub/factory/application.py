"""The factory's HTTP side: payloads for nodes, uploads of pilots, JSON for programs, pages for people."""

from __future__ import annotations

import os
import time

import structlog
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server_stub.factory.api import PilotId, api_routes, report_answer
from server_stub.factory.artifacts import PREFIX, Artifacts
from server_stub.factory.credential_api import credential_routes
from server_stub.factory.entry import PAYLOADS
from server_stub.factory.frontend_api import Door, RefusedError, answer_refused, frontend_routes
from server_stub.factory.live import Live
from server_stub.factory.log import tell
from server_stub.factory.pilot_credentials import pilot_credential_routes
from server_stub.factory.receive import refusal, upload_routes
from server_stub.factory.web.pages import page_routes

PAYLOAD_FILES = frozenset(f"pilot.{kind}" for kind in PAYLOADS)
SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Nothing from elsewhere, and nothing that stands in a page, is run: even where a stranger's text became markup."""
SILENT_SECONDS = 300.0


def application(live: Live, door: Door | None = None) -> FastAPI:
    """The ASGI application of a factory; frontends come through the ``door``. It does not close the store."""
    app = FastAPI(
        title=f"{live.factory.name}: a factory of pilots",
        version="1",
        docs_url=None,
        redoc_url=None,
        description="What became of the pilots, and what they send of themselves.",
    )
    app.state.door = door or Door(live)
    app.add_middleware(Safely)
    app.add_exception_handler(SQLAlchemyError, _store_failed)
    app.add_exception_handler(RefusedError, answer_refused)
    app.mount(PREFIX, Artifacts(live))  # first: of these many pilots ask at a time
    app.include_router(frontend_routes(live))
    app.include_router(credential_routes(live))
    app.include_router(api_routes(live))
    if live.factory.uploads:
        app.include_router(upload_routes(live.receiver))
        app.include_router(pilot_credential_routes(live.receiver, live.vault))
    _add_files(app, live)
    _add_health(app, live)
    app.include_router(page_routes(live))
    _declare_security(app)
    return app


class Safely:
    """Puts ``SAFE_HEADERS`` on every answer that has none of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, safely)


async def _store_failed(request: Request, error: Exception) -> Response:
    """Nothing was stored; who sent it sends it again."""
    said = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    log = structlog.get_logger("server_stub.store")
    tell(log.error, "store.failed", path=request.url.path, message=said)
    return refusal("the store does not answer; nothing was stored", 503, {"Retry-After": "30"})


def _add_files(app: FastAPI, live: Live) -> None:
    @app.get("/payload/{name}", tags=["files"], response_class=FileResponse, include_in_schema=False)
    async def payload(name: str) -> Response:
        """A payload for worker nodes."""
        path = os.path.join(live.factory.payloads, name)
        # Only the names that entries can ask for: whatever else lies in that directory is not published.
        if name not in PAYLOAD_FILES or not os.path.isfile(path):
            return refusal(f"there is no payload {name!r}; known: {', '.join(sorted(PAYLOAD_FILES))}", 404)
        return FileResponse(path, media_type="application/octet-stream")

    @app.get("/pilots/{pilot_id}/report", include_in_schema=False)
    async def report(pilot_id: PilotId) -> Response:
        return await report_answer(live, pilot_id)


def _add_health(app: FastAPI, live: Live) -> None:
    @app.get("/health/live", tags=["health"])
    async def alive() -> dict[str, str]:
        """The server answers."""
        return {"status": "ok"}

    @app.get("/health/ready", tags=["health"], responses={503: {"description": "It cannot do its work now"}})
    async def ready() -> JSONResponse:
        """The store answers, and the batch system did lately."""
        problems = await run_in_threadpool(_problems, live)
        body = {"status": "failing" if problems else "ok", "problems": problems}
        return JSONResponse(body, status_code=503 if problems else 200)

    @app.get("/metrics", tags=["health"], response_class=Response)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        told = await run_in_threadpool(live.metrics.text)
        return Response(told, media_type="text/plain; version=0.0.4; charset=utf-8")


def _problems(live: Live) -> list[str]:
    problems = []
    try:
        with live.store.read() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        problems.append(f"the store does not answer: {type(error).__name__}")
    silent = time.time() - live.collected
    if silent > SILENT_SECONDS + live.factory.collect_seconds:
        problems.append(f"the batch system has not answered for {silent:.0f} s")
    return problems


def _declare_security(app: FastAPI) -> None:
    """Say in the description how pilots and frontends prove who they are."""
    make = app.openapi

    def described() -> dict[str, object]:
        schema = make()
        schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
        for name in ("pilot", "frontend"):
            schemes[name] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        return schema

    app.openapi = described  # type: ignore[method-assign]
