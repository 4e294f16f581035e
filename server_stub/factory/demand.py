"""What frontends want, and what there is of it, as the store keeps both."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from server_stub.factory.frontends import LEEWAY_SECONDS, Caller, FrontendError
from server_stub.factory.pilots import FINAL, WAITING, Pilot, PilotState
from server_stub.factory.requests import Accepted, Refused, RequestSet, SetAnswer
from server_stub.factory.store import Store, pilot_of, values
from server_stub.factory.tables import FrontendRow, PilotRow, RequestRow, UsedTokenRow
from server_stub.frontend.removal import Removal

Key = tuple[str, str, str]
"""Entry, frontend, VO."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request as it is kept; ``expires`` is that of its set, and ``limited_by`` what kept the factory from giving all
    of it when that was last decided."""

    frontend: str
    entry: str
    vo: str
    queued: int
    pilots: int
    remove: Removal = Removal.NO
    idle: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    expires: float = 0.0
    limited_by: str = ""

    @property
    def key(self) -> Key:
        """Where, whose, and for whom."""
        return self.entry, self.frontend, self.vo


@dataclass(frozen=True, slots=True)
class Held:
    """Pilots that have not ended, by their state. ``oldest`` is when the first of the waiting ones was submitted."""

    waiting: int = 0
    running: int = 0
    held: int = 0
    oldest: float | None = None

    @property
    def all(self) -> int:
        """Every one of them."""
        return self.waiting + self.running + self.held


class OlderSetError(ValueError):
    """A set of requests that is not newer than the known one, whose sequence is ``known``."""

    def __init__(self, known: int, message: str) -> None:
        super().__init__(message)
        self.known = known


def spend_token(store: Store, caller: Caller) -> None:
    """Let a token write once. Raises ``FrontendError`` when it did before."""
    try:
        with store.write() as session:
            session.execute(delete(UsedTokenRow).where(UsedTokenRow.expires < time.time()))
            row = UsedTokenRow(
                frontend=caller.frontend.name, jti=caller.jti, expires=caller.expires + 2 * LEEWAY_SECONDS
            )
            session.add(row)
    except IntegrityError as error:
        raise FrontendError("the token was used already; sign one for each request that changes something") from error


def known_answer(store: Store, frontend: str, given: RequestSet, digest: str) -> SetAnswer | None:
    """What was answered to this very set before; None for a newer one. Raises ``OlderSetError``."""
    with store.read() as session:
        row = session.get(FrontendRow, frontend)
        return _answer_again(row, given, digest) if row is not None else None


def _answer_again(row: FrontendRow, given: RequestSet, digest: str) -> SetAnswer | None:
    if given.sequence > row.sequence:
        return None
    if given.sequence == row.sequence and digest == row.digest:
        return _answer_of(row.answer)
    what = "older than the known one" if given.sequence < row.sequence else "known with other content"
    raise OlderSetError(row.sequence, f"the set {given.sequence} is {what}, which is {row.sequence}")


def _answer_of(document: Any) -> SetAnswer:
    accepted = [Accepted(**one) for one in document["accepted"]]
    refused = [Refused(**one) for one in document["refused"]]
    return SetAnswer(document["sequence"], document["expires"], accepted, refused)


def take_set(store: Store, frontend: str, given: RequestSet, digest: str, answer: SetAnswer) -> SetAnswer:
    """Keep a set in the place of the one before; what is to be answered. Raises ``OlderSetError``."""
    limits = {(one.entry, one.vo): one.limited_by for one in answer.accepted}
    # What limits a request is decided in the next round; until then it is what limited it before.
    limits |= {one.key[::2]: one.limited_by for one in wanted(store, frontend=frontend) if one.key[::2] in limits}
    rows = [
        {
            "frontend": frontend, "entry": one.entry, "vo": one.vo, "queued": one.queued, "pilots": one.pilots,
            "remove": one.remove.value, "idle": one.idle, "credentials": one.credentials,
            "limited_by": limits[one.key],
        }
        for one in given.requests
        if one.key in limits
    ]  # fmt: skip
    with store.write() as session:
        row = session.get(FrontendRow, frontend, with_for_update=True)
        if row is None:
            row = FrontendRow(name=frontend)
            session.add(row)
        elif (before := _answer_again(row, given, digest)) is not None:  # another copy of it was quicker
            return before
        row.sequence, row.digest, row.answer = given.sequence, digest, asdict(answer)
        row.received, row.expires = time.time(), answer.expires
        session.flush()
        session.execute(delete(RequestRow).where(RequestRow.frontend == frontend))
        if rows:
            session.execute(insert(RequestRow), rows)
    return answer


def wanted(store: Store, *, frontend: str | None = None, entry: str | None = None) -> list[Wanted]:
    """Every request of every frontend's newest set, of which the lifetime may be over."""
    query = select(RequestRow, FrontendRow.expires).join(FrontendRow, FrontendRow.name == RequestRow.frontend)
    if frontend is not None:
        query = query.where(RequestRow.frontend == frontend)
    if entry is not None:
        query = query.where(RequestRow.entry == entry)
    query = query.order_by(RequestRow.entry, RequestRow.frontend, RequestRow.vo)
    with store.read() as session:
        return [
            Wanted(
                row.frontend, row.entry, row.vo, row.queued, row.pilots, Removal(row.remove), tuple(row.idle),
                tuple(row.credentials), expires, row.limited_by,
            )
            for row, expires in session.execute(query)
        ]  # fmt: skip


def known_sets(store: Store) -> dict[str, tuple[int, float, float]]:
    """Of each frontend the newest set's sequence, and when it was received and ends (epoch seconds)."""
    with store.read() as session:
        return {row.name: (row.sequence, row.received, row.expires) for row in session.scalars(select(FrontendRow))}


def known_sequence(store: Store, frontend: str) -> int:
    """The sequence of a frontend's newest set; 0 where there is none."""
    with store.read() as session:
        return session.scalar(select(FrontendRow.sequence).where(FrontendRow.name == frontend)) or 0


def note_limits(store: Store, changed: Mapping[Key, str]) -> None:
    """What keeps the factory from giving all of a request, where that is another reason than before."""
    with store.write() as session:
        for (entry, frontend, vo), reason in changed.items():
            found = (RequestRow.entry == entry, RequestRow.frontend == frontend, RequestRow.vo == vo)
            session.execute(update(RequestRow).where(*found).values(limited_by=reason))


def unfinished(store: Store, *, frontend: str | None = None) -> dict[Key, Held]:
    """Pilots that have not ended, by entry, frontend and VO."""
    columns = (PilotRow.entry, PilotRow.frontend, PilotRow.vo, PilotRow.state)
    query = select(*columns, func.count(), func.min(PilotRow.submitted)).group_by(*columns)
    query = query.where(PilotRow.state.in_(values(state for state in PilotState if state not in FINAL)))
    if frontend is not None:
        query = query.where(PilotRow.frontend == frontend)
    found: dict[Key, Held] = {}
    with store.read() as session:
        for entry, whose, vo, state, number, oldest in session.execute(query):
            key = (entry, whose, vo)
            found[key] = _with(found.get(key, Held()), PilotState(state), number, oldest)
    return found


def _with(one: Held, state: PilotState, number: int, oldest: float) -> Held:
    if state in WAITING:
        first = oldest if one.oldest is None else min(one.oldest, oldest)
        return Held(one.waiting + number, one.running, one.held, first)
    if state is PilotState.HELD:
        return Held(one.waiting, one.running, one.held + number, one.oldest)
    return Held(one.waiting, one.running + number, one.held, one.oldest)


def submitted_since(store: Store, moment: float) -> dict[tuple[str, str], int]:
    """How many pilots were submitted since a moment, by entry and frontend."""
    query = select(PilotRow.entry, PilotRow.frontend, func.count()).where(PilotRow.submitted >= moment)
    with store.read() as session:
        rows = session.execute(query.group_by(PilotRow.entry, PilotRow.frontend))
        return {(entry, frontend): number for entry, frontend, number in rows}


def queued_pilots(
    store: Store, key: Key, most: int, *, besides: Iterable[str] = (), unsubmitted: bool = False
) -> list[Pilot]:
    """Pilots in the batch system's queue, those that wait shortest first: the others are the next to begin; with
    ``unsubmitted`` only those to which their site has given no number yet."""
    entry, frontend, vo = key
    query = select(PilotRow).where(
        PilotRow.state == PilotState.QUEUED.value,
        PilotRow.entry == entry,
        PilotRow.frontend == frontend,
        PilotRow.vo == vo,
        PilotRow.cluster.is_not(None),
    )
    if unsubmitted:
        query = query.where(PilotRow.grid_job == "")
    left_out = frozenset(besides)
    query = query.order_by(PilotRow.submitted.desc(), PilotRow.id).limit(most + len(left_out))
    with store.read() as session:
        found = [pilot_of(row) for row in session.scalars(query)]
    return [pilot for pilot in found if pilot.id not in left_out][:most]


def running_pilots(store: Store, key: Key, names: Sequence[str]) -> list[Pilot]:
    """Those of the named pilots that run there for this frontend and VO, in the order of the names."""
    entry, frontend, vo = key
    query = select(PilotRow).where(
        PilotRow.id.in_(names),
        PilotRow.state == PilotState.RUNNING.value,
        PilotRow.entry == entry,
        PilotRow.frontend == frontend,
        PilotRow.vo == vo,
        PilotRow.cluster.is_not(None),
    )
    with store.read() as session:
        found = {row.id: pilot_of(row) for row in session.scalars(query)}
    return [found[name] for name in names if name in found]
