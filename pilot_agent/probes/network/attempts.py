"""One attempt to reach an address: the name looked up, a connection made, TLS agreed, the head of an answer read.

An attempt tells what happened and judges nothing. Every step ends at the attempt's deadline, whatever the other side
sends or does not send; only a look-up cannot be cut off, so attempts run in threads that nobody needs to wait for.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pilot_agent.probes.network.connecting import Failed, connect, look_up, problem_of, remaining
from pilot_agent.probes.network.heads import head_request, parse_head, read_head, send, tunnel_request
from pilot_agent.probes.network.targets import HTTP_KINDS, Target
from pilot_agent.trust.bundled import authorities

if TYPE_CHECKING:
    import ssl

TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Attempt:
    """How far an attempt came.

    ``host`` is what was wanted, ``via`` the proxy (empty: direct). ``step`` is the last one begun (look-up, connect,
    proxy, tls, answer) or done; ``problem`` what ended it: an errno or EAI name, ``timeout``, ``closed``, ``garbage``,
    ``certificate``, or what OpenSSL calls it. ``address``, ``family`` and ``local`` are the connection's two ends,
    ``failed`` the addresses that were tried in vain. Of the answer there are ``status``, ``date``, ``age_seconds``,
    ``refused_by`` (squid's own error) and the node's time around it.
    """

    host: str = ""
    via: str = ""
    step: str = "look-up"
    problem: str = ""
    milliseconds: int = 0
    look_up_milliseconds: int | None = None
    address: str = ""
    family: int = 0
    local: str = ""
    failed: dict[str, str] = field(default_factory=dict)
    tls: str = ""
    certificate_code: int = 0
    certificate_problem: str = ""
    status: int = 0
    date: str = ""
    age_seconds: str = ""
    refused_by: str = ""
    sent: float = 0.0
    received: float = 0.0

    @property
    def answered(self) -> bool:
        """True when it came to its end: connected, or an answer in HTTP read."""
        return self.step == "done"


class Trial:
    """An attempt while it runs, in a thread of its own: ``attempt`` is what is known so far."""

    def __init__(self, target: Target, proxy: Target | None, seconds: float, authorities: Authorities) -> None:
        self.target = target
        self.proxy = proxy
        self.attempt = Attempt(host=target.host, via=proxy.shown if proxy else "")
        self._authorities = authorities
        self._started = time.monotonic()
        self.deadline = self._started + seconds

    def run(self) -> None:
        """Try it; raises nothing that the other side could cause."""
        try:
            self._try()
            self.attempt = replace(self.attempt, step="done")
        except Failed as failure:
            self.attempt = replace(self.attempt, problem=str(failure))
        except TimeoutError:
            self.attempt = replace(self.attempt, problem=TIMEOUT)
        except (OSError, ValueError) as error:
            self.attempt = replace(self.attempt, problem=problem_of(error))
        self.attempt = replace(self.attempt, milliseconds=self._milliseconds())

    def given_up(self) -> Attempt:
        """The attempt as it stands when nobody waits any longer."""
        found = self.attempt
        if found.answered or found.problem:
            return found
        return replace(found, problem=TIMEOUT, milliseconds=self._milliseconds())

    def _milliseconds(self) -> int:
        return round((time.monotonic() - self._started) * 1000)

    def _try(self) -> None:
        first = self.proxy or self.target
        addresses = look_up(first.host, first.port)
        self.attempt = replace(self.attempt, step="connect", look_up_milliseconds=self._milliseconds())
        connection, failed = connect(addresses, self.deadline)
        with connection:
            family = 6 if connection.family == socket.AF_INET6 else 4
            local, address = connection.getsockname()[0], connection.getpeername()[0]
            self.attempt = replace(self.attempt, address=address, family=family, local=local, failed=failed)
            if self.target.kind in HTTP_KINDS:
                self._fetch(connection)

    def _fetch(self, connection: socket.socket) -> None:
        if self.target.kind == "http":
            self._ask(connection)
            return
        if self.proxy:
            self.attempt = replace(self.attempt, step="proxy")
            send(connection, tunnel_request(self.target, self.proxy), self.deadline)
            head = parse_head(read_head(connection, self.deadline))
            self.attempt = replace(self.attempt, status=head.status, refused_by=head.fields.get("x-squid-error", ""))
            if not 200 <= head.status < 300:
                raise Failed("refused")
        self.attempt = replace(self.attempt, step="tls", status=0)
        secured = self._secure(connection)
        with secured:
            self._ask(secured)

    def _secure(self, connection: socket.socket) -> ssl.SSLSocket:
        import ssl

        context = self._authorities.context()
        connection.settimeout(remaining(self.deadline))
        try:
            secured = context.wrap_socket(connection, server_hostname=self.target.host)
        except ssl.SSLCertVerificationError as error:
            code, message = error.verify_code, error.verify_message
            self.attempt = replace(self.attempt, certificate_code=code, certificate_problem=message[:300])
            raise Failed("certificate") from error
        self.attempt = replace(self.attempt, tls=secured.version() or "")
        return secured

    def _ask(self, connection: socket.socket) -> None:
        tunnelled = self.target.kind == "https"
        self.attempt = replace(self.attempt, step="answer", sent=time.time())
        send(connection, head_request(self.target, None if tunnelled else self.proxy), self.deadline)
        head = parse_head(read_head(connection, self.deadline))
        self.attempt = replace(
            self.attempt,
            received=time.time(),
            status=head.status,
            date=head.fields.get("date", "")[:100],
            age_seconds=head.fields.get("age", "")[:20],
            refused_by=head.fields.get("x-squid-error", "")[:100],
        )


class Authorities:
    """The certificate authorities of the node and of the factory's bundle; loaded when first needed, by whichever
    thread needs them."""

    def __init__(self, files: tuple[str, ...], directories: tuple[str, ...]) -> None:
        import threading

        self._files = files
        self._directories = directories
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """A context that verifies certificates and host names. Raises ``Failed`` where the node has no authorities."""
        import ssl

        with self._lock:
            if self._context is None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                # Some builds of OpenSSL leave it to the system's configuration.
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                file = next((path for path in self._files if os.path.isfile(path)), None)
                directories = [path for path in self._directories if os.path.isdir(path)]
                own = authorities()
                if file is None and not directories and own is None:
                    raise Failed("no authorities")
                if own is not None:
                    context.load_verify_locations(cadata=own)
                if file is not None:
                    context.load_verify_locations(cafile=file)
                for directory in directories:
                    context.load_verify_locations(capath=directory)
                self._context = context
            return self._context
