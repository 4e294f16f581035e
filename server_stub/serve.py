"""The running server: the web application, and beside it the collector, until a signal ends both."""

from __future__ import annotations

import errno
import math
import shutil
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog
import uvicorn

from pilot_agent.model import Failure, FailureKind, PilotError
from server_stub.batch import BatchSystem
from server_stub.collect import collect
from server_stub.entries import Factory
from server_stub.factory.application import application
from server_stub.factory.history import tidy
from server_stub.factory.live import Live, live
from server_stub.factory.log import tell
from server_stub.factory.patience import ImpatientProtocol
from server_stub.factory.store import Store

TIDY_SECONDS = 300.0
MOST_CONNECTIONS = 2000
FIXED = ("name", "state", "database", "address", "port", "uploads")
"""Of the configuration: what a running server cannot change."""


def serve(factory: Factory, store: Store, batch: BatchSystem, *, again: Callable[[], Factory] | None = None) -> None:
    """Publish and collect until SIGTERM or SIGINT; on SIGHUP take the configuration that ``again`` reads.

    Raises ``PilotError`` (certificate.unusable, address.unusable) before it begins.
    """
    _try_certificate(factory)
    _try_address(factory)
    running = live(factory, store)
    # uvicorn handles both while it runs and raises them again afterwards; the collector's last write comes first.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    stop, wanted = threading.Event(), threading.Event()
    signal.signal(signal.SIGHUP, lambda _number, _frame: wanted.set())
    configuration = _configuration(running)
    configuration.load()
    rounds = Rounds(running, batch, stop, wanted, again, configuration.ssl)
    collector = threading.Thread(target=rounds.run, name="collector")
    collector.start()
    log = structlog.get_logger("server_stub.serve")
    log.info("serving", factory=factory.name, address=factory.address, port=factory.port, url=factory.url)
    try:
        uvicorn.Server(configuration).run()
    finally:
        stop.set()
        wanted.set()
        collector.join()
        log.info("stopped", factory=factory.name)


def _configuration(running: Live) -> uvicorn.Config:
    factory = running.factory
    return uvicorn.Config(
        application(running),
        host=factory.address,
        port=factory.port,
        http=ImpatientProtocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=64 << 10,
        ssl_certfile=factory.certificate,
        ssl_keyfile=factory.key,
    )


def _try_certificate(factory: Factory) -> None:
    """Load certificate and key, where there are any, as the server will. Raises ``PilotError``."""
    if factory.certificate is None or factory.key is None:
        return
    for name, path in (("certificate", factory.certificate), ("key", factory.key)):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise _unusable(f"the {name} {path} cannot be read", error) from error
    try:  # without a word for the key: otherwise the terminal would be asked for it
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(factory.certificate, factory.key, "")
    except OSError as error:  # an ssl.SSLError is one
        raise _unusable(f"{factory.certificate} and {factory.key} cannot be used for HTTPS", error) from error


def _try_address(factory: Factory) -> None:
    """Bind where the server will, for a moment. Raises ``PilotError``; uvicorn alone does not say who must act."""
    try:
        found = socket.getaddrinfo(factory.address, factory.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        absent = [error for family, *_, address in found if (error := _absent(family, address)) is not None]
        if len(absent) == len(found):
            raise absent[0]
    except OSError as error:
        message = f"the server cannot listen at {factory.address}, port {factory.port}: {error.strerror or error}"
        hint = (
            "end what listens there (another serve?), or change address or port in the factory's file; "
            "the factory's operator must act"
        )
        raise PilotError(Failure(FailureKind.CONFIG, "address.unusable", message, hint)) from error


def _absent(family: int, address: tuple[Any, ...]) -> OSError | None:
    """Why this host has no such address, as ``::1`` where IPv6 is switched off: of several, one is enough. ``OSError``
    for one that it has and that cannot be used."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            tried.bind(address)
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise
        return error
    return None


def _unusable(what: str, error: OSError) -> PilotError:
    hint = "give a certificate and its key, PEM, that this account may read; the factory's operator must act"
    return PilotError(Failure(FailureKind.CONFIG, "certificate.unusable", f"{what}: {error.strerror or error}", hint))


@dataclass(frozen=True, slots=True)
class Rounds:
    """What the factory does beside answering: it asks the batch system, tidies the store, and reloads when asked to.

    Whatever goes wrong is logged and tried again: without the collector the page would go on showing old states."""

    running: Live
    batch: BatchSystem
    stop: threading.Event
    wanted: threading.Event
    again: Callable[[], Factory] | None = None
    context: ssl.SSLContext | None = None

    def run(self) -> None:
        """Until ``stop`` is set."""
        tidied = -math.inf
        while not self.stop.is_set():
            if self.wanted.wait(self.running.factory.collect_seconds):
                self.wanted.clear()
                if self.stop.is_set():
                    return
                self._guarded("reload.failed", self.reload)
            self._guarded("collector.failed", self.collect)
            if time.monotonic() - tidied >= TIDY_SECONDS:
                tidied = time.monotonic()
                self._guarded("tidy.failed", self.tidy)

    def collect(self) -> None:
        """One question to the batch system about every pilot."""
        log = structlog.get_logger("server_stub.collect")
        for pilot in collect(self.running.factory, self.running.store, self.batch):
            log.info(
                "pilot", pilot=pilot.id, entry=pilot.entry, state=pilot.state.value, host=pilot.host,
                exit_code=pilot.exit_code, outcome=pilot.outcome, message=pilot.message,
            )  # fmt: skip
        self.running.collected = time.time()
        self.running.metrics.collected.set_to_current_time()

    def tidy(self) -> None:
        """Count days, drop what is older than it is kept."""
        factory = self.running.factory
        done = tidy(self.running.store, factory.kept)
        for name in done.pilots:
            shutil.rmtree(factory.pilot_directory(name), ignore_errors=True)
        if done.pilots or done.documents:
            log = structlog.get_logger("server_stub.tidy")
            log.info("tidied", pilots=len(done.pilots), documents=done.documents)

    def reload(self) -> None:
        """Take the configuration as it is now; one that is wrong changes nothing."""
        if self.again is None:
            return
        before = self.running.factory
        try:
            newer = self.again()
            _try_certificate(newer)
            if self.context is not None and newer.certificate and newer.key:
                self.context.load_cert_chain(newer.certificate, newer.key, "")
        except Exception:
            self.running.metrics.reload_failures.inc()
            raise
        fixed = [name for name in FIXED if getattr(before, name) != getattr(newer, name)]
        self.running.factory = replace(newer, **{name: getattr(before, name) for name in FIXED})
        log = structlog.get_logger("server_stub.serve")
        log.info("reloaded", entries=len(newer.entries), needs_restart=fixed)

    def _guarded(self, event: str, act: Callable[[], None]) -> None:
        log = structlog.get_logger("server_stub.rounds")
        try:
            act()
        except PilotError as error:
            tell(log.warning, error.failure.code, message=error.failure.message)
        except Exception as error:  # noqa: BLE001 - the boundary of the thread
            tell(log.error, event, message=f"{type(error).__name__}: {error}")
