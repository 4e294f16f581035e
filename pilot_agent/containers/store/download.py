"""One file over https://, in a child: redirects, retries and resumption bounded, its size, digest and kind checked."""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urljoin, urlsplit

from pilot_agent.containers.store.authorities import verifying_context
from pilot_agent.containers.store.dates import offset_of
from pilot_agent.containers.store.errors import CONFIG, CORRUPTION, CREDENTIAL, NETWORK, StoreError, of_the_system
from pilot_agent.containers.store.magic import HEAD_BYTES, is_image, no_image
from pilot_agent.containers.store.proxies import DEFAULT_PORT as PROXY_PORT
from pilot_agent.containers.store.proxies import DIRECT, authorization, proxy_at, proxy_for

MOST_REDIRECTS = 5
MOST_ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0
SLOWEST_BYTES_PER_SECOND = 1024
CHUNK_BYTES = 1 << 20
ADMIT_EVERY_BYTES = 64 << 20
TELL_EVERY_SECONDS = 0.5
DEFAULT_PORT = 443

_REDIRECTS = (301, 302, 303, 307, 308)
_TOO_EARLY_OR_LATE = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""
_RETRIED = (408, 425, 429)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

Admit = Callable[[int, int], None]
"""Called with the bytes that the file will have at least and with those that are there; raises ``StoreError`` when
there is no room."""

Tell = Callable[[str, int, int | None, str], None]


class _AgainError(Exception):
    """This attempt failed in a way that another may not."""

    def __init__(self, error: StoreError, after_seconds: float = 0.0) -> None:
        super().__init__(error.message)
        self.error = error
        self.after_seconds = after_seconds


@dataclass(slots=True)
class Download:
    """A file to fetch to ``path``, before ``end`` of the monotonic clock. ``digest`` may be empty.

    ``stall_seconds`` is how long the server may send (nearly) nothing, ``most_bytes`` how much it may send. ``image``
    says whether what comes must begin as an image does, ``plain`` whether http:// will do too: only for what has a
    digest, or is ``verified`` by who asks for it. ``proxy`` is the address of one, or ``direct``; None for what the
    environment says. ``elsewhere`` says whether the server may lead to other hosts,
    ``revalidate`` whether a cache on the way must ask if it has the newest.
    """

    url: str
    path: str
    digest: str
    environment: Mapping[str, str]
    end: float
    stall_seconds: float
    image: bool = True
    plain: bool = False
    verified: bool = False
    most_bytes: int | None = None
    attempts: int = MOST_ATTEMPTS
    proxy: str | None = None
    elsewhere: bool = True
    revalidate: bool = False
    clock_offset_seconds: float | None = None
    """The node's clock minus that of the server that answered last, where it told; nobody vouches for it."""
    _output: int = -1
    _received: int = 0
    _total: int | None = None
    _validator: str = ""
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)
    _context: ssl.SSLContext | None = None

    def run(self, admit: Admit, tell: Tell) -> dict[str, object]:
        """Fetch the file; its ``digest`` and ``size``. Raises ``StoreError`` and ``OSError``."""
        self._output = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._retry(admit, tell)
        finally:
            os.close(self._output)
        digest = f"sha256:{self._hash.hexdigest()}"
        if self.digest and digest != self.digest:
            message = f"{self.url} has the digest {digest}, and {self.digest} is wanted"
            hint = "the VO corrects the digest, or finds out who changed the image"
            raise StoreError("image.digest", CORRUPTION, message, hint, temporary=False)
        return {"digest": digest, "size": self._received}

    def _retry(self, admit: Admit, tell: Tell) -> None:
        pause = FIRST_PAUSE_SECONDS
        for attempt in range(1, self.attempts + 1):
            tell("connecting", self._received, self._total, "")
            try:
                self._attempt(admit, tell)
            except _AgainError as again:
                # Pilots that lost a server at one moment do not come back at one.
                wait = max(pause * random.uniform(0.5, 1.5), again.after_seconds)  # noqa: S311 - no secret
                if attempt == self.attempts or time.monotonic() + wait >= self.end:
                    raise again.error from again
                tell("retrying", self._received, self._total, f"{again.error.message}; again in {wait:.1f} s")
                time.sleep(wait)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            else:
                return

    def _attempt(self, admit: Admit, tell: Tell) -> None:
        try:
            connection, response = self._open()
            try:
                self._begin(response, admit)
                self._receive(response, admit, tell)
            finally:
                response.close()  # it holds the socket, as the connection is not to be kept
                connection.close()
        except TimeoutError as error:
            raise _AgainError(self._stalled()) from error
        except ssl.SSLCertVerificationError as error:
            raise self._certificate(error) from error
        except http.client.InvalidURL as error:
            raise _wrong("image.path", f"{self.url} is no address: {error}") from error
        except socket.gaierror as error:
            raise _AgainError(self._unreachable(f"its name cannot be looked up ({error.strerror})")) from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, _WriteError):
                raise of_the_system(error, self.url) from error
            raise _AgainError(self._unreachable(str(error) or type(error).__name__)) from error
        except ValueError as error:
            # A redirect to what is no address, a length of 5000 digits: what answers is to blame, and another may not.
            if not self.url.isascii():
                raise _wrong("image.path", f"{self.url} is no address: it has other characters than ASCII") from error
            raise _AgainError(self._unreachable(f"its answer is not understood: {error}")) from error

    def _open(self) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """The answer to a request, after its redirects."""
        url = self.url
        for _ in range(MOST_REDIRECTS + 1):
            parts = self._checked(url)
            connection = self._connection(parts)
            response: http.client.HTTPResponse | None = None
            try:
                connection.request("GET", self._target(parts), headers=self._headers())
                response = connection.getresponse()
                self.clock_offset_seconds = offset_of(response.headers, time.time())
                if response.status not in _REDIRECTS:
                    self._judge(response)
                    return connection, response
                url = self._led_to(urljoin(url, response.headers.get("Location") or ""))
            except BaseException:
                if response is not None:
                    response.close()
                connection.close()
                raise
            response.close()
            connection.close()
        raise _wrong(
            "image.redirects", f"{self.url} leads from one address to the next, more than {MOST_REDIRECTS} times"
        )

    def _led_to(self, url: str) -> str:
        """The address of a redirect, where it may be followed."""
        if not self.elsewhere and urlsplit(url).hostname != urlsplit(self.url).hostname:
            message = f"{self.url} leads to {url[:200]}, and only its own host is asked"
            hint = "the site lets pilots pass its portal, or the factory names that address itself"
            raise StoreError("image.elsewhere", NETWORK, message, hint, temporary=True)
        return url

    def _checked(self, url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            schemes = ("https", "http") if self.plain and (self.digest or self.verified) else ("https",)
            usable = parts.scheme in schemes and bool(parts.hostname) and parts.username is None
            _ = parts.port
        except ValueError:
            usable = False
        if not usable:
            via = "" if url == self.url else f", where {self.url} leads,"
            message = f"{url[:200]}{via} is no https:// address without a password; only those are fetched"
            raise _wrong("image.not_https", message)
        return parts

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": "pilot-agent", "Accept-Encoding": "identity", "Connection": "close"}
        if self.revalidate:
            headers["Cache-Control"] = "max-age=0"
        if self._received and self._validator:
            headers |= {"Range": f"bytes={self._received}-", "If-Range": self._validator}
        return headers

    def _target(self, parts: SplitResult) -> str:
        """What is asked for: a proxy for plain HTTP wants the whole address."""
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        proxied = parts.scheme == "http" and self._proxy(parts) is not None
        return f"http://{parts.netloc}{target}" if proxied else target

    def _connection(self, parts: SplitResult) -> http.client.HTTPConnection:
        host = parts.hostname or ""
        timeout = max(0.1, min(self.stall_seconds, self.end - time.monotonic()))
        proxy = self._proxy(parts)
        if parts.scheme == "http":
            if proxy is not None:
                return http.client.HTTPConnection(proxy.hostname or "", proxy.port or PROXY_PORT, timeout=timeout)
            return http.client.HTTPConnection(host, parts.port or 80, timeout=timeout)
        port = parts.port or DEFAULT_PORT
        context = self._authorities()
        if proxy is None:
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
        connection = http.client.HTTPSConnection(
            proxy.hostname or "", proxy.port or PROXY_PORT, timeout=timeout, context=context
        )
        connection.set_tunnel(host, port, authorization(proxy))
        return connection

    def _proxy(self, parts: SplitResult) -> SplitResult | None:
        if self.proxy is None:
            return proxy_for(parts, self.environment)
        return None if self.proxy == DIRECT else proxy_at(self.proxy)

    def _authorities(self) -> ssl.SSLContext:
        if self._context is None:
            problem = "this node has no certificate authorities to check the server with"
            try:
                self._context = verifying_context(self.environment)
            except OSError as error:
                problem = f"this node's certificate authorities cannot be read ({error})"
            if self._context is None:
                hint = "the site installs ca-certificates, or corrects SSL_CERT_FILE"
                raise StoreError("image.certificate", NETWORK, f"{self.url}: {problem}", hint, temporary=True)
        return self._context

    def _judge(self, response: http.client.HTTPResponse) -> None:
        """Raises for every status but those that bring the file."""
        status = response.status
        if status in (200, 206):
            return
        told = f"{self.url}: the server says {status} {response.reason[:60]}"
        if status == 416:
            self._start_over()
            raise _AgainError(self._unreachable("the rest of the file is not to be had"))
        if status >= 500 or status in _RETRIED:
            hint = "the job runs elsewhere or later; whoever runs the server looks at it"
            after = response.headers.get("Retry-After", "")
            seconds = min(float(after), 60.0) if after.isdecimal() else 0.0
            raise _AgainError(StoreError("image.server_error", NETWORK, told, hint, temporary=True), seconds)
        if status == 407:
            hint = "the site's proxy wants a password: the site lets pilots pass, or the factory names another proxy"
            raise StoreError("image.proxy_refused", NETWORK, told, hint, temporary=True)
        if status in (401, 403):
            hint = "the file is private or its name is wrong: pilots fetch without a password, so publish it for all"
            raise StoreError("image.unauthorized", CREDENTIAL, told, hint, temporary=False)
        raise _wrong("image.missing", told)

    def _begin(self, response: http.client.HTTPResponse, admit: Admit) -> None:
        """Learn how much will come, and whether it goes on where the last attempt ended."""
        length = response.headers.get("Content-Length")
        size = int(length) if length is not None and length.isdecimal() else None
        if response.status == 206:
            match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != self._received:
                self._start_over()
                raise _AgainError(self._unreachable("it sent another part of the file than it was asked for"))
            self._total = int(match[3]) if match[3] != "*" else int(match[2]) + 1
        else:
            self._start_over()
            self._total = size
            self._validator = _validator(response.headers.get("ETag"), response.headers.get("Last-Modified"))
        if self._total is None and not response.chunked and not (self.digest or self.verified):
            message = f"{self.url}: neither the server nor a digest tells whether the whole file came"
            raise _wrong("image.no_length", message)
        if self.most_bytes is not None and (self._total or 0) > self.most_bytes:
            raise self._too_large()
        admit(self._total or 0, self._received)

    def _start_over(self) -> None:
        os.ftruncate(self._output, 0)
        os.lseek(self._output, 0, os.SEEK_SET)
        self._received, self._total, self._validator = 0, None, ""
        self._hash = hashlib.sha256()

    def _receive(self, response: http.client.HTTPResponse, admit: Admit, tell: Tell) -> None:
        began, mark, told = time.monotonic(), self._received, 0.0
        next_admission = self._received + ADMIT_EVERY_BYTES
        while chunk := response.read1(CHUNK_BYTES):
            now = time.monotonic()
            self._keep(chunk, response)
            if now - began >= self.stall_seconds:
                if self._received - mark < SLOWEST_BYTES_PER_SECOND * self.stall_seconds:
                    raise TimeoutError
                began, mark = now, self._received
            if now >= self.end:
                raise self._late()
            if self._total is None and self._received >= next_admission:
                admit(self._received + ADMIT_EVERY_BYTES, self._received)
                next_admission = self._received + ADMIT_EVERY_BYTES
            if now - told >= TELL_EVERY_SECONDS:
                told = now
                tell("fetching", self._received, self._total, "")
        if self._total is not None and self._received < self._total:
            message = f"the connection ended after {self._received} of {self._total} bytes"
            raise _AgainError(StoreError("image.truncated", NETWORK, f"{self.url}: {message}", _LATER, temporary=True))
        if self.image and self._received < HEAD_BYTES:
            raise no_image(self.url, os.pread(self._output, HEAD_BYTES, 0), response.headers.get("Content-Type", ""))
        tell("fetching", self._received, self._total, "")

    def _keep(self, chunk: bytes, response: http.client.HTTPResponse) -> None:
        before = self._received
        if self.most_bytes is not None and before + len(chunk) > self.most_bytes:
            raise self._too_large()
        self._hash.update(chunk)
        view = memoryview(chunk)
        try:
            while view:
                view = view[os.write(self._output, view) :]
        except OSError as error:
            raise _WriteError(error.errno, error.strerror) from error
        self._received += len(chunk)
        if self.image and before < HEAD_BYTES <= self._received:
            head = os.pread(self._output, HEAD_BYTES, 0)
            if not is_image(head):
                raise no_image(self.url, head, response.headers.get("Content-Type", ""))

    def _stalled(self) -> StoreError:
        if time.monotonic() >= self.end:
            return self._late()
        message = f"{self.url}: less than {SLOWEST_BYTES_PER_SECOND} bytes a second came for {self.stall_seconds:g} s"
        message += f", after {self._received} bytes" + (f" of {self._total}" if self._total is not None else "")
        return StoreError("image.stalled", NETWORK, message, _LATER, temporary=True)

    def _late(self) -> StoreError:
        message = f"{self.url} was not there when the time for it was used up: {self._received} bytes came"
        message += f" of {self._total}" if self._total is not None else ""
        hint = "the job runs elsewhere or later; the VO makes the image smaller or moves it nearer"
        return StoreError("image.deadline", NETWORK, message, hint, temporary=True)

    def _too_large(self) -> StoreError:
        message = f"{self.url} is larger than the {self.most_bytes} bytes that it may have"
        hint = "whoever publishes it puts the right file there"
        return StoreError("image.too_large", CORRUPTION, message, hint, temporary=False)

    def _unreachable(self, why: str) -> StoreError:
        return StoreError("image.unreachable", NETWORK, f"{self.url}: {why[:200]}", _LATER, temporary=True)

    def _certificate(self, error: ssl.SSLCertVerificationError) -> StoreError:
        message = f"{self.url}: the server's certificate is not accepted: {error.verify_message}"
        hint = "the server's owner renews it, or the site updates the node's certificate authorities"
        if error.verify_code in _TOO_EARLY_OR_LATE:
            hint = "the server's owner renews it, or the site sets the clock of this node"
        return StoreError("image.certificate", NETWORK, message, hint, temporary=True)


class _WriteError(OSError):
    """The disk and not the network is at fault."""


_LATER = "the job runs elsewhere or later; the site looks at the node's way to the server"


def _wrong(code: str, message: str) -> StoreError:
    hint = "the VO corrects the address, or publishes the image there"
    return StoreError(code, CONFIG, message, hint, temporary=False)


def _validator(etag: str | None, modified: str | None) -> str:
    """What tells later that the file is still the same; weak tags do not (RFC 9110, 13.1.5)."""
    if etag and not etag.startswith("W/"):
        return etag
    return modified or ""
