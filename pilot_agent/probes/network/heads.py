"""Requests in HTTP that ask for nothing but a head, and the heads of their answers, read to a limit and a deadline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_agent.probes.network.connecting import Failed, remaining
from pilot_agent.probes.network.targets import Target

if TYPE_CHECKING:
    import socket

HEAD_LIMIT_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Head:
    """Status and fields of an answer in HTTP; names in lower case, the first of each counts."""

    status: int
    fields: dict[str, str]


def send(connection: socket.socket, content: bytes, deadline: float) -> None:
    """Send all of it. Raises ``OSError``."""
    connection.settimeout(remaining(deadline))
    connection.sendall(content)


def read_head(connection: socket.socket, deadline: float) -> bytes:
    """What comes up to the first empty line. Raises ``Failed`` when it is too long or ends before, ``TimeoutError``
    when it does not end in time, however slowly it drips."""
    content = b""
    while b"\r\n\r\n" not in content and b"\n\n" not in content:
        if len(content) > HEAD_LIMIT_BYTES:
            raise Failed("garbage: its head does not end")
        connection.settimeout(remaining(deadline))
        chunk = connection.recv(4096)
        if not chunk:
            raise Failed("closed" if not content else "garbage: its head is cut off")
        if not content and not chunk.startswith(b"HTTP/"[: len(chunk)]):
            raise Failed("garbage: it does not speak HTTP")
        content += chunk
    return content


def parse_head(content: bytes) -> Head:
    """The head of an answer (RFC 9112, sections 4 and 5). Raises ``Failed`` when it has not that form."""
    lines = content.decode("iso-8859-1").replace("\r\n", "\n").partition("\n\n")[0].split("\n")
    words = lines[0].split(None, 2)
    code = words[1] if len(words) > 1 and words[0].startswith("HTTP/") else ""
    if len(code) != 3 or not code.isascii() or not code.isdigit():
        raise Failed("garbage: it does not speak HTTP")
    fields: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return Head(int(code), fields)


def head_request(target: Target, proxy: Target | None) -> bytes:
    """A HEAD request, in the form for a proxy when there is one (RFC 9112, section 3.2.2)."""
    wanted = f"http://{target.authority}{target.path}" if proxy else target.path
    lines = [f"HEAD {wanted} HTTP/1.1", f"Host: {target.authority}", "User-Agent: pilot-agent", "Accept: */*"]
    lines += ["Cache-Control: no-cache", "Connection: close", *_authorization("Authorization", target)]
    lines += _authorization("Proxy-Authorization", proxy)
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def tunnel_request(target: Target, proxy: Target) -> bytes:
    """A request for a tunnel to an https address (RFC 9110, section 9.3.6)."""
    lines = [f"CONNECT {target.authority} HTTP/1.1", f"Host: {target.authority}", "User-Agent: pilot-agent"]
    return "\r\n".join([*lines, *_authorization("Proxy-Authorization", proxy), "", ""]).encode("ascii")


def _authorization(name: str, target: Target | None) -> list[str]:
    if target is None or not target.credentials:
        return []
    from base64 import b64encode
    from urllib.parse import unquote

    return [f"{name}: Basic {b64encode(unquote(target.credentials).encode()).decode()}"]
