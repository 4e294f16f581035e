"""Speaking to one factory: authenticated, and with a deadline for all attempts together.

A request set carries its number, so that sending it twice is as sending it once.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests
import urllib3

from pilot_agent.model import Failure, FailureKind, Json, PilotError
from server_stub.factory.texts import shown
from server_stub.foreign import read_foreign
from server_stub.frontend.configuration import FactoryPlan
from server_stub.frontend.identity import Identity
from server_stub.frontend.wire import Offered, WireError, read_offered

BASE = "/api/v1/frontend"
ANSWER_LIMIT_BYTES = 64 << 20
CHUNK_BYTES = 64 << 10
CONNECT_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0
AGAIN = (429, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, and the JSON document."""

    status: int
    document: Json


class FactoryClient:
    """One factory, asked as one frontend, for one VO. For one thread at a time."""

    def __init__(
        self, plan: FactoryPlan, identity: Identity, vo: str = "", *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.plan = plan
        self._vo = vo
        self._identity = identity
        self._sleep = sleep
        self._session = requests.Session()
        # A .netrc or a proxy of the environment would change who is asked, or as whom.
        self._session.trust_env = False
        self._session.verify = plan.authorities or True

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def offers(self) -> tuple[Offered, Json]:
        """What the factory offers, and its JSON, to be kept. Raises ``PilotError`` (factory.*)."""
        answer = self.call("GET", "/offers")
        try:
            return read_offered(answer.document, self.plan.name, self._vo), answer.document
        except WireError as error:
            raise self._failed("factory.unintelligible", f"its offers make no sense: {error}") from error

    def put_requests(self, document: Mapping[str, Json]) -> Json:
        """Ask for what the document says; what was accepted and refused. Raises ``PilotError`` (factory.*),
        ``OutdatedError`` where the factory knows a newer set already."""
        answer = self.call("PUT", "/requests", document, accept=(409,))
        if answer.status == 409:
            raise OutdatedError(
                self._failed("factory.outdated", f"it knows newer requests: {_said(answer.document)}"), answer
            )
        return answer.document

    def pilots(self, parameters: Mapping[str, str]) -> Json:
        """This frontend's pilots there. Raises ``PilotError`` (factory.*)."""
        return self.call("GET", "/pilots", parameters=parameters).document

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Json] | None = None,
        *,
        parameters: Mapping[str, str] | None = None,
        accept: tuple[int, ...] = (),
    ) -> Answer:
        """One request below the frontend's part of the API, tried again while the factory is away and there is time.

        Raises ``PilotError``: factory.unreachable, factory.refused, factory.unintelligible.
        """
        content = None if body is None else json.dumps(body).encode()
        end = time.monotonic() + self.plan.most_seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            wanted = pause
            try:
                answer = self._once(method, path, content, parameters, end)
                if answer.status not in AGAIN:
                    break
                problem = f"it answers {answer.status}: {_said(answer.document)}"
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                problem = _reason(error)
            wanted *= random.uniform(0.5, 1.5)  # noqa: S311 - only so that frontends do not come back together
            if time.monotonic() + wanted >= end:
                raise self._failed("factory.unreachable", problem, network=True)
            self._sleep(wanted)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        if 200 <= answer.status < 300 or answer.status in accept:
            return answer
        raise self._refused(answer)

    def _once(
        self, method: str, path: str, content: bytes | None, parameters: Mapping[str, str] | None, end: float
    ) -> Answer:
        left = max(end - time.monotonic(), 0.1)
        # Two requests in a minute need no connection that is kept, and may have been cut meanwhile.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close"}
        headers["Authorization"] = f"Bearer {self._identity.token(self.plan.name)}"
        if content is not None:
            headers["Content-Type"] = "application/json"
        with self._session.request(
            method, f"{self.plan.url}{BASE}{path}", params=parameters, data=content, headers=headers, stream=True,
            allow_redirects=False, timeout=(min(CONNECT_SECONDS, left), left),
        ) as response:  # fmt: skip
            return Answer(response.status_code, self._document(response, end))

    def _document(self, response: requests.Response, end: float) -> Json:
        """The answer's JSON; a long one, or one that comes too slowly, is no answer."""
        read = bytearray()
        # What is there, not a whole chunk: a byte now and then must not keep anybody beyond the deadline.
        # Packed, and packed again, a few bytes could become as many as there is memory: it is read as it comes.
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
            read += chunk
            if len(read) > ANSWER_LIMIT_BYTES:
                raise self._failed("factory.unintelligible", f"it answers more than {ANSWER_LIMIT_BYTES >> 20} MiB")
            if time.monotonic() > end:
                raise requests.Timeout(f"the answer is not whole after {self.plan.most_seconds:.0f} s")
        try:
            return read_foreign(read) if read else None
        except ValueError as error:
            if response.ok:
                raise self._failed("factory.unintelligible", f"its answer is no JSON: {error}") from error
            return None

    def _refused(self, answer: Answer) -> PilotError:
        said = _said(answer.document) or "without a word"
        if answer.status in (401, 403):
            hint = (
                f"the factory's operator lists {self._identity.name} with its public key (`pilot-frontend key`) under "
                "frontends; both clocks must be right"
            )
            message = f"it refuses this frontend ({answer.status}): {said}"
            return self._failed("factory.refused", message, hint=hint, kind=FailureKind.CREDENTIAL)
        if 300 <= answer.status < 400:
            said = "it is somewhere else: give the address to which it sends as the factory's url"
        return self._failed("factory.refused", f"it refuses what was asked ({answer.status}): {said}")

    def _failed(
        self, code: str, what: str, *, hint: str = "", network: bool = False, kind: FailureKind = FailureKind.CONFIG
    ) -> PilotError:
        message = f"the factory {self.plan.name} at {self.plan.url}: {shown(what)}"
        if network:
            kind, hint = FailureKind.NETWORK, "see whether it runs and is reached from here; its operator must act"
        hint = hint or "see which versions both sides have, and the factory's log; its operator must act"
        return PilotError(Failure(kind, code, message, hint, retry=network))


class OutdatedError(PilotError):
    """The factory has a newer set of requests; ``known`` is its number, 0 where it does not tell."""

    def __init__(self, error: PilotError, answer: Answer) -> None:
        super().__init__(error.failure)
        self.known = _sequence(answer.document)


def _sequence(document: Any) -> int:
    """The number in an answer about a set that is too old, wherever in it that stands."""
    for place in (document, document.get("detail") if isinstance(document, dict) else None):
        if isinstance(place, dict):
            for key in ("sequence", "known"):
                value = place.get(key)
                if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                    return value
    return 0


def _said(document: Json) -> str:
    if isinstance(document, dict):
        for key in ("detail", "message", "error"):
            if document.get(key):
                return str(document[key])
    return "" if document is None else str(document)


def _reason(error: Exception) -> str:
    """The innermost cause in a few words, without what libraries put around it."""
    inner: BaseException = error
    while (below := inner.__cause__ or inner.__context__) is not None:
        inner = below
    return f"{type(error).__name__}: {' '.join(str(inner).split())}"
