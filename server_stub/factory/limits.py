"""Bounds on what others may ask of the factory: how often, how much, and how slowly."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

BODY_SECONDS = 30.0
MOST_BUCKETS = 200_000


class BodyError(Exception):
    """A body that is not taken, with the status to answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def read_body(request: Request, limit_bytes: int, seconds: float = BODY_SECONDS) -> bytes:
    """The whole body. Raises ``BodyError`` for one that is too long, comes too slowly, or not to its end."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise BodyError(413, f"more than {limit_bytes} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit_bytes:
                    raise BodyError(413, f"more than {limit_bytes} bytes")
    except TimeoutError as error:
        raise BodyError(408, f"it took longer than {seconds:g} s to arrive") from error
    except ClientDisconnect as error:
        raise BodyError(400, "it was not sent to its end") from error
    return bytes(body)


@dataclass(slots=True)
class _Bucket:
    left: float
    filled: float


class Rate:
    """So many at once, and so many a second after that, for each name."""

    def __init__(self, at_once: int, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._at_once = float(at_once)
        self._per_second = per_second
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait(self, name: str) -> float:
        """0.0 when one more is within the rate, and it is counted; otherwise the seconds until one will be."""
        now = self._clock()
        bucket = self._buckets.setdefault(name, _Bucket(self._at_once, now))
        self._buckets.move_to_end(name)
        while len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        bucket.left = min(self._at_once, bucket.left + (now - bucket.filled) * self._per_second)
        bucket.filled = now
        if bucket.left < 1.0:
            return (1.0 - bucket.left) / self._per_second
        bucket.left -= 1.0
        return 0.0
