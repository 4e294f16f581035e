"""The facts of an entry's nodes as the last pilots there reported them, as far as they help to choose among entries."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from pilot_agent.model import FactStatus, Json
from server_stub.factory.scores import at
from server_stub.factory.tables import NodeRow
from server_stub.factory.texts import shown

MOST_NODES = 3
"""Of each entry; those seen longest ago go first."""
FACT_BYTES = 2048
FACTS_BYTES = 16 << 10
NAME_CHARACTERS = 100
HOST_CHARACTERS = 255
USUAL = (("value", None), ("unit", None), ("status", FactStatus.KNOWN.value))
"""What a fact need not say."""
TOLD = (FactStatus.KNOWN.value, FactStatus.ABSENT.value)


def facts_of(report: Json) -> dict[str, Json]:
    """What a report says of its node: for each fact that is known or known to be absent its value, its unit where it
    has one, and its status unless it is known. What is unusually large is left out."""
    found: dict[str, Json] = {}
    room = FACTS_BYTES
    for name, fact in _facts(report):
        if at(fact, "status") not in TOLD or len(name) > NAME_CHARACTERS or not name.isprintable():
            continue
        kept = {"value": fact.get("value"), "unit": _unit(fact.get("unit")), "status": fact["status"]}
        kept = {key: told for key, told in kept.items() if (key, told) not in USUAL}
        size = len(json.dumps(kept)) + len(name)
        if size <= FACT_BYTES and size <= room:
            found[name] = kept
            room -= size
    return found


def _facts(report: Json) -> Iterator[tuple[str, Json]]:
    groups = at(report, "node")
    for group, facts in groups.items() if isinstance(groups, dict) else ():
        for name, fact in facts.items() if isinstance(facts, dict) else ():
            yield (str(group) if name == "value" else f"{group}.{name}"), fact


def _unit(value: Json) -> str | None:
    return shown(value)[:NAME_CHARACTERS] if isinstance(value, str) else None


def note_node(session: Session, entry: str, host: str, report: Json, facts: dict[str, Json]) -> None:
    """Keep what a report of a pilot of this entry says of its node; ``facts`` are what ``facts_of`` found in it."""
    name = (host or shown(at(report, "pilot", "host") or ""))[:HOST_CHARACTERS]
    if not facts or not name:
        return
    session.merge(NodeRow(entry=entry, host=name, at=time.time(), facts=facts))
    session.flush()
    newest = select(NodeRow.host).where(NodeRow.entry == entry).order_by(NodeRow.at.desc(), NodeRow.host)
    surplus = session.scalars(newest.offset(MOST_NODES)).all()
    if surplus:
        session.execute(delete(NodeRow).where(NodeRow.entry == entry, NodeRow.host.in_(surplus)))
