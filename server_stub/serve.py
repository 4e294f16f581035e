"""The running server: the web application, and beside it the collector, until a signal ends both."""

from __future__ import annotations

import math
import resource
import shutil
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import structlog
import uvicorn

from pilot_agent import __version__
from pilot_agent.model import PilotError
from server_stub import supervisor
from server_stub.adopt import sweep
from server_stub.batch import BatchSystem
from server_stub.collect import collect
from server_stub.control import Controller
from server_stub.entries import Factory
from server_stub.factory import lending, site_keys
from server_stub.factory.application import application
from server_stub.factory.history import tidy
from server_stub.factory.listening import try_address, try_certificate
from server_stub.factory.live import Live, live
from server_stub.factory.log import tell
from server_stub.factory.patience import ImpatientProtocol
from server_stub.factory.store import Store
from server_stub.running import RunningFile

TIDY_SECONDS = 300.0
RENEW_SECONDS = 20.0
"""So often newer credentials are looked for."""
KEEP_SECONDS = 60
"""How long a connection is kept after an answer. It counts from when the kernel has the answer, all of a file of some
MiB: a client behind a full link takes long over it yet, and what a closed connection still holds may be given up."""
MOST_CONNECTIONS = 8000
MOST_FILES = 2 * MOST_CONNECTIONS + 1000
COLLECTING = "collector.failed"
FIXED = ("name", "state", "database", "address", "port", "uploads")
"""Of the configuration: what a running server cannot change."""


def serve(factory: Factory, store: Store, batch: BatchSystem, *, again: Callable[[], Factory] | None = None) -> None:
    """Publish and collect until SIGTERM or SIGINT; on SIGHUP take the configuration that ``again`` reads.

    Raises ``PilotError`` (certificate.unusable, address.unusable) before it begins.
    """
    try_certificate(factory)
    try_address(factory)
    _allow_files()
    running = live(factory, store)
    # uvicorn handles both while it runs and raises them again afterwards; the collector's last write comes first.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    stop, wanted = threading.Event(), threading.Event()
    signal.signal(signal.SIGHUP, lambda _number, _frame: wanted.set())
    configuration = _configuration(running)
    configuration.load()
    told = RunningFile(factory.state, __version__)
    told.tell()
    rounds = Rounds(running, batch, stop, wanted, again, configuration.ssl, told)
    collector = threading.Thread(target=rounds.run, name="collector")
    collector.start()
    log = structlog.get_logger("server_stub.serve")
    log.info("serving", factory=factory.name, address=factory.address, port=factory.port, url=factory.url)
    try:
        Server(configuration).run()
    finally:
        stop.set()
        wanted.set()
        collector.join()
        told.close()
        log.info("stopped", factory=factory.name)


class Server(uvicorn.Server):
    """Tells systemd when it answers, and when it begins to end."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        if self.started:
            supervisor.ready(f"answers at {self.config.host}, port {self.config.port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was asked, and end."""
        supervisor.stopping()
        await super().shutdown(sockets)


def _configuration(running: Live) -> uvicorn.Config:
    factory = running.factory
    return uvicorn.Config(
        application(running),
        host=factory.address,
        port=factory.port,
        loop="asyncio",  # the same everywhere: what else is installed decides otherwise
        http=ImpatientProtocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_SECONDS,
        timeout_graceful_shutdown=5,
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=64 << 10,
        ssl_certfile=factory.certificate,
        ssl_keyfile=factory.key,
    )


def _allow_files() -> None:
    """As many open files as this account may have: each connection is one, and each download another."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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
    told: RunningFile | None = None

    def run(self) -> None:
        """Until ``stop`` is set."""
        tidied = renewed = -math.inf
        observed: float | None = None
        controller = Controller(
            self.running.store,
            self.batch,
            lending.lend(self.running),
            stopped=self.stop.is_set,
            count=self.running.metrics.controlled,
        )
        self._guarded("sweep.failed", self.sweep)
        while not self.stop.is_set():
            if self.wanted.wait(self.running.factory.collect_seconds):
                self.wanted.clear()
                if self.stop.is_set():
                    return
                supervisor.reloading()
                self._guarded("reload.failed", self.reload)
                supervisor.ready("took its configuration again")
            asked = time.time()
            if self._guarded(COLLECTING, self.collect):
                observed = asked
            supervisor.alive(self.condition())
            self._guarded("control.failed", partial(self.control, controller, observed))
            supervisor.alive(self.condition())
            if time.monotonic() - renewed >= RENEW_SECONDS:
                renewed = time.monotonic()
                self._guarded("credentials.failed", self.renew_credentials)
            if time.monotonic() - tidied >= TIDY_SECONDS:
                tidied = time.monotonic()
                self._guarded("tidy.failed", self.tidy)

    def condition(self) -> str:
        """What whoever looks at the service is told."""
        silent = time.time() - self.running.collected
        return f"{len(self.running.factory.entries)} entries; the batch system answered {silent:.0f} s ago"

    def collect(self) -> None:
        """One question to the batch system about every pilot."""
        self.running.store.write_heard()
        log = structlog.get_logger("server_stub.collect")
        for pilot in collect(self.running.factory, self.running.store, self.batch):
            log.info(
                "pilot", pilot=pilot.id, entry=pilot.entry, state=pilot.state.value, host=pilot.host,
                exit_code=pilot.exit_code, outcome=pilot.outcome, message=pilot.message,
            )  # fmt: skip
        self.running.collected = time.time()
        if self.told is not None:
            self.told.tell(answered=self.running.collected, problem="")
        self.running.metrics.collected.set_to_current_time()

    def control(self, controller: Controller, observed: float | None) -> None:
        """Do what frontends ask for, and see what they will be told; ``observed`` is when the batch system last
        answered."""
        factory = self.running.factory
        controller.round(factory, observed=observed)
        if factory.frontends:
            self.running.experienced.refresh()

    def renew_credentials(self) -> None:
        """Bring pilots' credentials up to date, and drop what is of no more use."""
        lending.renew(self.running.vault, self.running.factory)
        lending.tidy(self.running.vault)
        pilots = (pilot.directory for pilot in self.running.store.pilots(unfinished=True))
        site_keys.tidy(self.running.factory.state, pilots)

    def sweep(self) -> None:
        """Remove what a factory that was killed began and never stored."""
        sweep(self.running.factory, self.running.store, time.time())

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
            try_certificate(newer)
            if self.context is not None and newer.certificate and newer.key:
                self.context.load_cert_chain(newer.certificate, newer.key, "")
        except Exception:
            self.running.metrics.reload_failures.inc()
            raise
        fixed = [name for name in FIXED if getattr(before, name) != getattr(newer, name)]
        self.running.factory = replace(newer, **{name: getattr(before, name) for name in FIXED})
        if self.told is not None:
            self.told.tell(reloaded=time.time())
        log = structlog.get_logger("server_stub.serve")
        log.info("reloaded", entries=len(newer.entries), needs_restart=fixed)

    def _guarded(self, event: str, act: Callable[[], None]) -> bool:
        """Whether it went well; what went wrong is logged."""
        log = structlog.get_logger("server_stub.rounds")
        try:
            act()
        except PilotError as error:
            tell(log.warning, error.failure.code, message=error.failure.message)
            if self.told is not None and event == COLLECTING:
                self.told.tell(problem=error.failure.message)
        except Exception as error:  # noqa: BLE001 - the boundary of the thread
            tell(log.error, event, message=f"{type(error).__name__}: {error}")
        else:
            return True
        return False
