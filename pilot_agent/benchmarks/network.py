"""The way to a server: how long a connection takes, and how fast a bounded download is."""

from __future__ import annotations

import http.client
import socket
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from pilot_agent.containers.store.authorities import verifying_context
from pilot_agent.containers.store.proxies import DEFAULT_PORT as PROXY_PORT
from pilot_agent.containers.store.proxies import authorization, proxy_for

CONNECTIONS = 5
MOST_REDIRECTS = 3
LEAST_BYTES = 1 << 20
"""A shorter download tells how long an answer takes, and no rate."""
CHUNK_BYTES = 1 << 16
PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)


class NetworkError(RuntimeError):
    """The server, or the way to it, did not give what a measurement needs; the message says what."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What one server gave: ``connect_ms`` is the median of several connections, to ``proxy`` where there is one;
    ``rates`` are MB/s of each download, from the request to its last byte."""

    url: str
    connect_ms: float
    rates: tuple[float, ...]
    received_bytes: int
    proxy: str = ""

    @property
    def rate(self) -> float:
        """The median of the downloads."""
        return statistics.median(self.rates)


def shown(url: str) -> str:
    """An address as it may be written down: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return "an address that is none"
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}"


def measure(url: str, environment: Mapping[str, str], *, limit_bytes: int, rounds: int, seconds: float) -> Transfer:
    """Connect several times, then download at most ``limit_bytes`` in each of ``rounds``, all in about ``seconds``.

    A round that time cuts counts with what came until then. Raises ``NetworkError``.
    """
    end = time.monotonic() + seconds
    try:
        parts = _checked(url)
        proxy = proxy_for(parts, environment)
        connect_ms = _connect_ms(parts, proxy, end)
        rates: list[float] = []
        received = 0
        while len(rates) < rounds and (not rates or time.monotonic() < end):
            received, took = _download(url, environment, limit_bytes, end)
            if received < LEAST_BYTES:
                message = f"{received} bytes came: for a rate {LEAST_BYTES} are needed, so name a larger file"
                raise NetworkError(message if time.monotonic() < end else f"{message}, or allow more time")
            rates.append(received / 1e6 / took)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NetworkError(f"{shown(url)}: {str(error)[:200] or type(error).__name__}") from error
    except NetworkError as error:
        raise NetworkError(f"{shown(url)}: {error}") from error
    return Transfer(shown(url), connect_ms, tuple(rates), received, _place(proxy) if proxy is not None else "")


def _checked(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname or parts.username is not None:
        raise NetworkError("no address of http:// or https:// without a user and a password")
    _ = parts.port  # raises ValueError for one that is no number
    return parts


def _place(parts: SplitResult) -> str:
    return f"{parts.hostname or ''}:{parts.port or PROXY_PORT}"


def _connect_ms(parts: SplitResult, proxy: SplitResult | None, end: float) -> float:
    if proxy is None:
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    else:
        host, port = proxy.hostname or "", proxy.port or PROXY_PORT
    # Looked up once: this is how far the server is, and not how fast its name is found.
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    refused = ""
    for family, kind, protocol, _, address in found:
        took = []
        try:
            for _ in range(CONNECTIONS):
                with socket.socket(family, kind, protocol) as connection:
                    connection.settimeout(_left(end))
                    began = time.perf_counter()
                    connection.connect(address)
                    took.append(time.perf_counter() - began)
        except OSError as error:
            refused = f"no connection to {host} port {port}: {error.strerror or error}"
            continue
        return statistics.median(took) * 1e3
    raise NetworkError(refused or f"{host} has no address")


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise NetworkError("the time for it is used up")
    return left


def _download(url: str, environment: Mapping[str, str], limit_bytes: int, end: float) -> tuple[int, float]:
    """Bytes, and seconds from the request to the last of them. A redirect begins anew."""
    for _ in range(MOST_REDIRECTS + 1):
        parts = _checked(url)
        connection, target, headers = _connection(parts, environment, end)
        try:
            connection.connect()
            channel = connection.sock  # which the connection forgets when the server is to close it
            began = time.perf_counter()
            connection.request("GET", target, headers=headers)
            with connection.getresponse() as response:
                if response.status == http.client.OK:
                    received = _receive(channel, response, limit_bytes, end)
                    return received, max(time.perf_counter() - began, 1e-9)
                if response.status not in _REDIRECTS:
                    raise NetworkError(f"the server says {response.status} {response.reason[:60]}")
            url = urljoin(url, response.headers.get("Location") or "")
        finally:
            connection.close()
    raise NetworkError(f"it leads from one address to the next, more than {MOST_REDIRECTS} times")


def _receive(channel: socket.socket, response: http.client.HTTPResponse, limit_bytes: int, end: float) -> int:
    received = 0
    try:
        # After the last byte the response closes the connection, on newer Pythons at once.
        while received < limit_bytes and (left := end - time.monotonic()) > 0 and not response.isclosed():
            channel.settimeout(left)
            chunk = response.read1(min(CHUNK_BYTES, limit_bytes - received))
            if not chunk:
                break
            received += len(chunk)
    except TimeoutError:
        pass  # what came until then is what there is
    return received


def _connection(
    parts: SplitResult, environment: Mapping[str, str], end: float
) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
    """A connection that is not made yet, what is asked for on it, and with which headers."""
    headers = {"User-Agent": "pilot-agent", "Accept-Encoding": "identity", "Connection": "close"}
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    proxy = proxy_for(parts, environment)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    seconds = _left(end)
    if parts.scheme == "http":
        if proxy is None:
            return http.client.HTTPConnection(host, port, timeout=seconds), target, headers
        proxied = http.client.HTTPConnection(proxy.hostname or "", proxy.port or PROXY_PORT, timeout=seconds)
        return proxied, f"http://{parts.netloc}{target}", headers | authorization(proxy)
    context = verifying_context(environment)
    if context is None:
        raise NetworkError("this node has no certificate authorities to check the server with")
    if proxy is None:
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=context), target, headers
    tunnel = http.client.HTTPSConnection(
        proxy.hostname or "", proxy.port or PROXY_PORT, timeout=seconds, context=context
    )
    tunnel.set_tunnel(host, port, authorization(proxy))
    return tunnel, target, headers
