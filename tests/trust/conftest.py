"""A repository of signed artifacts that is served over HTTP, and pilots that fetch from it."""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pilot_agent.model import PilotError
from pilot_agent.trust.bundle import read_bundle
from pilot_agent.trust.repository import SignedRepository
from tests.packaging.signing import Operator
from tests.probes.servers import TLS

PATIENCE_SECONDS = 60.0
PLUGIN = "plugin/atlas/probe-1.0.whl"


class Site(SimpleHTTPRequestHandler):
    """The published directory. Below /endless/, /slow/ and /stalled/ are files that never end, below /elsewhere/ what
    another host has. The server's clock may be late, answers may come from a cache, paths that end in one way may have
    a status of their own, and artifacts may be given only once several of them were asked for."""

    late_seconds = 0.0
    age_seconds: int | None = None
    together: threading.Barrier | None = None
    over: ClassVar[threading.Event] = threading.Event()
    refusals: ClassVar[dict[str, int]] = {}

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(time.time() - self.late_seconds)

    def end_headers(self) -> None:
        if self.age_seconds is not None:
            self.send_header("Age", str(self.age_seconds))
        super().end_headers()

    def do_GET(self) -> None:
        for end, status in self.refusals.items():
            if self.path.endswith(end):
                self.send_error(status)
                return
        if self.path.startswith("/elsewhere/"):
            self.send_response(302)
            place = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
            self.send_header("Location", place + self.path.removeprefix("/elsewhere"))
            self.end_headers()
        elif self.path.startswith(("/endless/", "/slow/", "/stalled/")):
            self._never_end(self.path.split("/")[1])
        else:
            if self.together is not None and self.path.startswith("/targets/"):
                self.together.wait(PATIENCE_SECONDS)
            super().do_GET()

    def _never_end(self, how: str) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while not self.over.is_set():
                if how != "stalled":
                    self.wfile.write(b" " * 65536 if how == "endless" else b" ")
                if how != "endless":
                    self.over.wait(0.05)

    def log_message(self, *arguments: Any) -> None:
        return


class Repository:
    """What an operator published, served; and pilots that fetch from it."""

    def __init__(self, operator: Operator, address: str, site: type[Site]) -> None:
        self.operator = operator
        self.address = address
        self.site = site
        self.metadata = operator.published / "metadata"
        self.bundle = operator.place / "trust.json"

    def publish(self) -> None:
        self.operator.publish()

    def give_bundle(self) -> None:
        """What a pilot is given that is submitted now."""
        self.operator.do("bundle", self.bundle)

    def fetch(self, name: str = PLUGIN, *mirrors: str, proxies: Sequence[str] = ()) -> bytes:
        """The artifact as a new pilot gets it. Raises ``PilotError``; then nothing may be left."""
        own = self.operator.place / f"pilot-{os.urandom(4).hex()}"
        own.mkdir()
        path = own / "artifact"
        repository = SignedRepository(
            read_bundle(str(self.bundle)),
            mirrors or (self.address,),
            str(own),
            {},
            time.monotonic() + PATIENCE_SECONDS,
            proxies,
        )
        try:
            repository.fetch(name, str(path), most_bytes=1 << 20)
        except PilotError:
            assert not path.exists()
            assert not list(own.glob("download-*"))
            raise
        return path.read_bytes()

    def refused(self, *arguments: str, proxies: Sequence[str] = ()) -> PilotError:
        with pytest.raises(PilotError) as caught:
            self.fetch(*arguments, proxies=proxies)
        return caught.value

    def newest(self, role: str) -> Path:
        return max(self.metadata.glob(f"*.{role}.json"), key=lambda path: int(path.name.split(".")[0]))


@pytest.fixture
def repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Repository]:
    """One with a VO's plugin and a configuration of the factory's, and a bundle of now."""
    with served(Operator(tmp_path, capsys)) as made:
        yield made


@contextmanager
def served(operator: Operator, *, secure: bool = False) -> Iterator[Repository]:
    """What the operator publishes, over HTTP or HTTPS."""
    operator.do("init", "--threshold", "root=2")
    operator.do("delegate", "atlas", "--public", operator.key("atlas"))
    operator.do("add", "plugin", operator.file("probe-1.0.whl"), "--vo", "atlas", keys=operator.place / "atlas")
    operator.do("add", "config", operator.file("site.yaml", "a: 1"))
    operator.publish()
    site = type("OwnSite", (Site,), {"refusals": {}, "over": threading.Event()})
    handler = partial(site, directory=str(operator.published))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if secure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(TLS / "good.pem", TLS / "server_key.pem")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made = Repository(operator, f"{'https' if secure else 'http'}://localhost:{server.server_port}", site)
        made.give_bundle()
        yield made
        made.site.over.set()
        server.shutdown()
