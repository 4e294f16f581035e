"""How long a connection may take over the head of a request: the server itself waits for it without end."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0


class ImpatientProtocol(H11Protocol):
    """Closes a connection on which the head of a request was begun, or nothing came, and ``head_seconds`` passed."""

    head_seconds: ClassVar[float] = HEAD_SECONDS
    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Someone connected."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._begin_limit()

    def data_received(self, data: bytes) -> None:
        """Something came; a whole head makes a cycle of request and answer."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._end_limit()
        elif self._limit is None:
            self._begin_limit()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._end_limit()
        super().connection_lost(exc)

    def _begin_limit(self) -> None:
        self._limit = self.loop.call_later(self.head_seconds, self._give_up)

    def _end_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _give_up(self) -> None:
        self._limit = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
