"""The running server: the web application, and beside it the collector, until a signal ends both."""

from __future__ import annotations

import contextlib
import signal
import ssl
import threading
from collections.abc import Callable

import structlog
import uvicorn

from pilot_agent.model import Failure, FailureKind, PilotError
from server_stub.batch import BatchSystem
from server_stub.collect import collect
from server_stub.entries import Factory
from server_stub.factory.store import Store
from server_stub.web import application


def serve(factory: Factory, store: Store, batch: BatchSystem) -> None:
    """Publish and collect until SIGTERM or SIGINT. Raises ``PilotError`` (certificate.unusable) before it begins."""
    _try_certificate(factory)
    # uvicorn handles both while it runs and raises them again afterwards; the collector's last write comes first.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    stop = threading.Event()
    collector = threading.Thread(target=collect_until, args=(stop, factory, store, batch), name="collector")
    collector.start()
    log = structlog.get_logger("server_stub.serve")
    log.info("serving", factory=factory.name, address=factory.address, port=factory.port, url=factory.url)
    try:
        uvicorn.run(
            application(factory, store),
            host=factory.address,
            port=factory.port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=5,
            ssl_certfile=factory.certificate,
            ssl_keyfile=factory.key,
        )
    finally:
        stop.set()
        collector.join()
        log.info("stopped", factory=factory.name)


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


def _unusable(what: str, error: OSError) -> PilotError:
    hint = "give a certificate and its key, PEM, that this account may read; the factory's operator must act"
    return PilotError(Failure(FailureKind.CONFIG, "certificate.unusable", f"{what}: {error.strerror or error}", hint))


def collect_until(stop: threading.Event, factory: Factory, store: Store, batch: BatchSystem) -> None:
    """Collect every ``collect_seconds`` until ``stop`` is set; a batch system that does not answer is asked again.

    Whatever goes wrong is logged and tried again: without the collector the page would go on showing old states."""
    log = structlog.get_logger("server_stub.collect")
    while not stop.wait(factory.collect_seconds):
        try:
            for pilot in collect(factory, store, batch):
                log.info(
                    "pilot", pilot=pilot.id, entry=pilot.entry, state=pilot.state.value, host=pilot.host,
                    exit_code=pilot.exit_code, outcome=pilot.outcome, message=pilot.message,
                )  # fmt: skip
        except PilotError as error:
            _tell(log.warning, error.failure.code, error.failure.message)
        except Exception as error:  # noqa: BLE001 - the boundary of the thread
            _tell(log.error, "collector.failed", f"{type(error).__name__}: {error}")


def _tell(say: Callable[..., object], event: str, message: str) -> None:
    """Log one line; a log that is closed or on a full disk is no reason to stop either."""
    with contextlib.suppress(OSError, ValueError):
        say(event, message=message)
