"""A factory's side of the API on a real socket: it judges tokens and numbers as a real one does, and can be made to be
away, slow or wrong."""

from __future__ import annotations

import gc
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt

NAME = "east"
AWAY = -1


class FactoryDouble:
    """Use as a context manager. ``plan`` are answers for the next requests: a status, or a function of the handler;
    when it is empty the requests are answered as they should be."""

    def __init__(self, public_key: str = "", frontend: str = "example-vo") -> None:
        self.public_key = public_key
        self.frontend = frontend
        self.entries: list[dict[str, Any]] = [entry("small"), entry("large", cores=32)]
        self.pilots: list[dict[str, Any]] = [{"id": "p1", "entry": "small", "state": "running", "vo": "example"}]
        self.plan: list[Any] = []
        self.asked: list[tuple[str, str]] = []
        self.known: dict[str, Any] = {"sequence": 0}
        self.used: set[str] = set()
        self.name = NAME
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_GET(self) -> None:
                double.answer(self)

            do_PUT = do_GET

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # so that closing waits for every connection
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        gc.collect()  # connections of clients that failed go with the cycles that their errors are in
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.asked.append((handler.command, handler.path))
        planned = self.plan.pop(0) if self.plan else None
        if callable(planned):
            planned(handler)
        elif planned == AWAY:
            handler.close_connection = True
        elif isinstance(planned, int):
            send(handler, planned, {"detail": f"planned {planned}"})
        else:
            send(handler, *self.judged(handler, body))

    def judged(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, Any]:
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            claims = jwt.decode(
                token, self.public_key, algorithms=["EdDSA"], audience=self.name, issuer=self.frontend,
                options={"require": ["exp", "iat", "jti"]},
            )  # fmt: skip
        except jwt.InvalidTokenError as error:
            return 401, {"detail": str(error)}
        if handler.command == "PUT" and claims["jti"] in self.used:
            return 401, {"detail": "the token was used before"}
        self.used.add(claims["jti"])
        if handler.path.startswith("/api/v1/frontend/offers"):
            return 200, {"factory": self.name, "time": time.time(), "encryption": {}, "entries": self.entries}
        if handler.path.startswith("/api/v1/frontend/pilots"):
            return 200, {"pilots": self.pilots, "after": ""}
        return self.taken(json.loads(body))

    def taken(self, document: dict[str, Any]) -> tuple[int, Any]:
        if document["sequence"] < self.known["sequence"]:
            return 409, {"detail": "older than what is known", "sequence": self.known["sequence"]}
        self.known = document
        accepted = [
            {**{key: request[key] for key in ("entry", "vo", "queued", "pilots")}, "limited_by": ""}
            for request in document["requests"]
        ]
        return 200, {"sequence": document["sequence"], "accepted": accepted, "refused": []}


def entry(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "name": name, "site": "Example_T2", "type": "local", "vos": [], "cores": 8, "memory_mib": 16000,
        "disk_mib": 0, "gpus": 0, "walltime_seconds": 86400, "containers": "optional", "closed": "",
        "attributes": {"GLIDEIN_Country": "CH"},
        "outcomes": {"pilots": 9, "pilots_failed": 1, "jobs": 5, "jobs_failed": 0},
        "benchmarks": {"db12": 20.5}, "start_seconds": 60.0, "seen": [],
        "state": {"queued": 0, "running": 0, "held": 0, "oldest_queued_seconds": 0.0},
        "limits": {"total": 100, "idle": 50}, **changed,
    }  # fmt: skip


def send(handler: BaseHTTPRequestHandler, status: int, document: Any) -> None:
    content = json.dumps(document).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
