"""/health and /metrics of a running frontend, on a port of this machine, in a thread of their own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pilot_agent.model import Failure, FailureKind, PilotError
from server_stub.factory.patience import ImpatientProtocol
from server_stub.frontend.figures import Figures

LATE_CYCLES = 3
LATE_SECONDS = 60.0
MOST_CONNECTIONS = 64
JOIN_SECONDS = 10.0


def application(figures: Figures, *, frozen_cycles: int, began: float) -> Starlette:
    """The ASGI application; ready is who ended a cycle lately, and is not frozen for longer than ``frozen_cycles``."""

    async def alive(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        problems = _problems(figures, frozen_cycles, began, time.time())
        body = {"status": "failing" if problems else "ok", "problems": problems}
        return JSONResponse(body, 503 if problems else 200)

    async def metrics(request: Request) -> Response:
        return Response(figures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    routes = [Route("/health/live", alive), Route("/health/ready", ready), Route("/metrics", metrics)]
    return Starlette(routes=routes)


def _problems(figures: Figures, frozen_cycles: int, began: float, now: float) -> list[str]:
    told = figures.last
    if told is None:
        return ["no cycle has ended yet"] if now - began > LATE_SECONDS else []
    problems = []
    if now - told.at > LATE_CYCLES * told.cycle_seconds + LATE_SECONDS:
        problems.append(f"the last cycle began {now - told.at:.0f} s ago")
    if told.frozen and told.frozen_cycles > frozen_cycles:
        problems.append(f"nothing is decided for {told.frozen_cycles} cycles: {told.frozen}")
    if all(factory.offers == "none" for factory in told.factories):
        problems.append("no factory has offered anything for long")
    return problems


@contextmanager
def doors(address: str, port: int, app: Starlette) -> Iterator[int]:
    """Answers there meanwhile; the port (for 0 any). Raises ``PilotError`` (address.unusable)."""
    try:
        listening = socket.create_server((address, port), family=_family(address), reuse_port=False)
    except OSError as error:
        message = f"the frontend cannot listen at {address}, port {port}: {error.strerror or error}"
        hint = "end what listens there, or change listen in the frontend's file; the VO's operator must act"
        raise PilotError(Failure(FailureKind.CONFIG, "address.unusable", message, hint)) from error
    server = uvicorn.Server(
        uvicorn.Config(
            app, loop="asyncio", http=ImpatientProtocol, ws="none", lifespan="off", log_level="warning",
            access_log=False, server_header=False, timeout_keep_alive=5, timeout_graceful_shutdown=2,
            limit_concurrency=MOST_CONNECTIONS,
        )
    )  # fmt: skip
    thread = threading.Thread(target=server.run, args=([listening],), name="doors", daemon=True)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(JOIN_SECONDS)
        listening.close()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
