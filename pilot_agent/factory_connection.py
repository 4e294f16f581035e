"""How the pilot speaks to its factory: one connection of a short-lived child, with the pilot's own token."""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
from typing import Any
from urllib.parse import urlsplit

from pilot_agent.containers.store.authorities import factory_context, trusting
from pilot_agent.files import read_bounded, write_atomically

TOKEN_LIMIT_BYTES = 64 << 10
RENEWED = "X-Pilot-Token"
"""The header in which a factory gives a newer token."""
ANSWER_SECONDS = 10.0
ANSWER_BYTES = 64 << 10
PASSING = (401, 403, 408, 425, 429)
"""Refusals that say nothing of what was sent: it may be taken another time."""


class FactoryConnection:
    """One connection to the address of the plan. No proxy of the environment and no redirection is followed: either
    would take the token elsewhere."""

    def __init__(self, plan: dict[str, Any]) -> None:
        parts = urlsplit(plan["url"])
        host, self._path = parts.hostname or "", parts.path
        self._headers = {"X-Pilot-Id": plan["pilot_id"], "User-Agent": f"pilot-agent/{plan['version']}"}
        self.heard = False
        """Whether it took anything."""
        self._token_file: str | None = plan.get("token") if parts.scheme == "https" else None
        if plan.get("token"):
            # Read each time: it may have been replaced.
            self._headers["Authorization"] = f"Bearer {_token(plan['token'])}"
        if parts.scheme == "https":
            self.connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port, timeout=ANSWER_SECONDS, context=_trust(plan.get("authorities"))
            )
        else:
            self.connection = http.client.HTTPConnection(host, parts.port, timeout=ANSWER_SECONDS)

    def post(self, name: str, content: bytes, kind: str, headers: dict[str, str]) -> None:
        """Raises ``ValueError`` for an answer that is no success."""
        _require_success(name, self._ask(name, content, kind, headers))

    def offer(self, name: str, content: bytes, kind: str) -> None:
        """The same for what a factory may do without: one that has no place for it, or refuses what it is, is asked no
        further. All of it is in the report, too, or worth nothing later."""
        status = self._ask(name, content, kind, {})
        if not 400 <= status < 500 or status in PASSING:
            _require_success(name, status)

    def fetch(self, name: str) -> bytes:
        """What the factory has for this pilot under a name, up to ``ANSWER_BYTES``; empty where it has nothing. Raises
        ``ValueError`` for an answer that is no success."""
        status, content = self._talk("GET", name, None, {})
        if status == 404:
            return b""
        _require_success(name, status)
        return content

    def _ask(self, name: str, content: bytes, kind: str, headers: dict[str, str]) -> int:
        """The status of the answer."""
        return self._talk("POST", name, content, {"Content-Type": kind, **headers})[0]

    def _talk(self, method: str, name: str, content: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and content of the answer."""
        self.connection.request(method, f"{self._path}/{name}", content, {**self._headers, **headers})
        answer = self.connection.getresponse()
        found = answer.read(ANSWER_BYTES)
        if 200 <= answer.status < 300:
            self.heard = True
            self._renew(answer.getheader(RENEWED, ""))
        if not answer.isclosed():
            self.connection.close()
        return answer.status, found

    def _renew(self, token: str) -> None:
        """Keep the newer token that a factory gave: from now on it is the one to send. Without a place for it the old
        one goes on for as long as it lasts."""
        if self._token_file is None or not _is_token(token.encode("ascii", "replace")):
            return
        with contextlib.suppress(OSError):
            write_atomically(self._token_file, f"{token}\n".encode("ascii", "replace"))
            self._headers["Authorization"] = f"Bearer {token}"


def _require_success(name: str, status: int) -> None:
    """Raises ``ValueError`` for an answer that is none."""
    if not 200 <= status < 300:
        raise ValueError(f"the factory answered {status} to {name}")


def _trust(authorities: str | None) -> ssl.SSLContext:
    """Whom to believe that it is the factory. Raises ``OSError`` and ``ValueError``."""
    context = trusting(authorities) if authorities else factory_context(os.environ)
    if context is None:
        raise ValueError("this node has no certificate authorities: upload.authorities must name a file with them")
    return context


def _token(path: str) -> str:
    """The one word in a file. Raises ``ValueError`` for anything else, in words of its own: what refuses a header says
    what stands in it."""
    token = read_bounded(path, limit_bytes=TOKEN_LIMIT_BYTES).strip()
    if not _is_token(token):
        raise ValueError(f"{path} does not hold one token and nothing else")
    return token.decode("ascii")


def _is_token(token: bytes) -> bool:
    """One word of visible ASCII."""
    return 0 < len(token) <= TOKEN_LIMIT_BYTES and all(0x21 <= byte <= 0x7E for byte in token)
