"""A pilot's events as a page shows them: the newest of those that fit. A node said all of it: it may be anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from pilot_agent.model import Json
from server_stub.factory.scores import is_number
from server_stub.factory.store import Store
from server_stub.factory.texts import shown

MOST_EVENTS = 200
MOST_BYTES = 8 << 20
"""Of events that one page looks through."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event, ``seconds`` after the pilot's start; ``text`` is the rest of it."""

    seconds: float | None
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Events:
    """Events of a pilot, oldest first; ``more`` says that there are earlier ones, or may be."""

    listed: tuple[Event, ...]
    more: bool


def newest(store: Store, pilot_id: str, *, name: str = "", text: str = "", limit: int = MOST_EVENTS) -> Events:
    """The newest events of a pilot whose name begins with ``name`` and in which ``text`` stands, in any case."""
    found: list[Event] = []
    for event in _backwards(store, pilot_id):
        if event is None:
            return Events(tuple(reversed(found)), more=True)
        if event.name.startswith(name) and text.lower() in f"{event.name} {event.text}".lower():
            if len(found) == limit:
                return Events(tuple(reversed(found)), more=True)
            found.append(event)
    return Events(tuple(reversed(found)), more=False)


def _backwards(store: Store, pilot_id: str) -> Iterator[Event | None]:
    """The newest first; None where there were too many to look at."""
    left = MOST_BYTES
    for piece in store.events(pilot_id, newest_first=True):
        for line in reversed(piece.splitlines()):
            yield _event(line)
        left -= len(piece)
        if left <= 0:
            yield None


def _event(line: bytes) -> Event:
    try:
        told: Json = json.loads(line)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        return Event(None, "", shown(line.decode("utf-8", "replace")))
    seconds = told.pop("seconds", None)
    name = shown(told.pop("event", ""))
    rest = shown(json.dumps(told, ensure_ascii=False)) if told else ""
    return Event(float(seconds) if is_number(seconds) else None, name, rest)
