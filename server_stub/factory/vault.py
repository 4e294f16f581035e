"""What frontends gave for their pilots: kept sealed, opened when a pilot is submitted or its file must be newer.

An IDTOKEN goes to one pilot and to no other: a newer one under the same name is for that pilot too. What proves the
factory's right at a site is shared by all pilots of a frontend at an entry.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Select, and_, case, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from pilot_agent.files import write_atomically
from pilot_agent.model import Failure, FailureKind, PilotError
from server_stub.credentials.contents import expiry
from server_stub.credentials.keys import KeyRing
from server_stub.credentials.kinds import FILES, Kind, Label, Purpose
from server_stub.credentials.sealing import SealError
from server_stub.entries import Factory
from server_stub.factory.pilots import FINAL, Pilot
from server_stub.factory.store import Store, values
from server_stub.factory.tables import CredentialRow, HandedRow, PilotRow

MOST_CREDENTIALS = 200_000
MOST_BYTES = 256 << 20
"""Of one frontend."""
LEAST_SECONDS = 600.0
"""A pilot is not sent out with less, or with less than half of a token that is shorter."""
KEPT_SECONDS = 86400
"""What expired is shown so long, that an operator sees what is missing."""
UNKNOWN_SECONDS = 3600.0
RENEWED_AT_ONCE = 1000
KEYS_DIRECTORY = "credential-keys"


class VaultError(ValueError):
    """A credential that is not taken. ``status`` is HTTP's word for why; nothing of the content is in the message."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Known:
    """What is told of a credential: never its content. ``pilot`` is whose it is, empty for one that is free."""

    id: str
    kind: str
    purpose: str
    entry: str
    expires: int
    received: float
    pilot: str


@dataclass(frozen=True, slots=True)
class Given:
    """What one pilot takes along: file names in its directory, with their contents."""

    files: Mapping[Kind, bytes] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> dict[Kind, str]:
        """The files by kind."""
        return {kind: FILES[kind] for kind in self.files}


@dataclass(frozen=True, slots=True)
class Renewed:
    """A pilot's file for which there was something newer, and why it is not there, if it is not."""

    pilot: str
    file: str
    problem: str = ""


class Vault:
    """The credentials of one factory; several processes may open it at once."""

    def __init__(self, factory: str, keys: KeyRing, store: Store) -> None:
        self._factory = factory
        self.keys = keys
        self._store = store

    def put(self, label: Label, encryption: str, sealed: bytes, now: float | None = None) -> bool:
        """Keep a credential, in the place of the one of this name; whether it is a new name. It is opened once, to see
        that it can be. Raises ``VaultError``."""
        moment = time.time() if now is None else now
        self._judge(label, encryption, sealed, moment)
        with self._store.write() as session:
            row = session.get(CredentialRow, (label.frontend, label.id), with_for_update=True)
            made = row is None
            if row is None:
                self._require_room(session, label.frontend, len(sealed))
                row = CredentialRow(
                    frontend=label.frontend,
                    id=label.id,
                    kind=label.kind,
                    purpose=label.purpose,
                    entry=label.entry,
                    version=0,
                )
                session.add(row)
            elif len(sealed) > len(row.sealed):
                self._require_room(session, label.frontend, len(sealed) - len(row.sealed), more=0)
            if (row.kind, row.purpose, row.entry) != (label.kind, label.purpose, label.entry):
                raise VaultError("a credential of this name is of another kind or entry: delete it first", 409)
            row.expires, row.encryption, row.sealed = label.expires, encryption, sealed
            row.received, row.version = moment, row.version + 1
        return made

    def delete(self, frontend: str, name: str) -> bool:
        """Drop a credential; whether there was one. Files that pilots have of it stay until these end."""
        with self._store.write() as session:
            where = (CredentialRow.frontend == frontend, CredentialRow.id == name)
            return bool(session.scalars(delete(CredentialRow).where(*where).returning(CredentialRow.id)).all())

    def known(self, frontend: str) -> list[Known]:
        """What there is of a frontend, by name."""
        columns = (
            CredentialRow.id, CredentialRow.kind, CredentialRow.purpose, CredentialRow.entry, CredentialRow.expires,
            CredentialRow.received, CredentialRow.pilot_id,
        )  # fmt: skip
        query = select(*columns).where(CredentialRow.frontend == frontend).order_by(CredentialRow.id)
        with self._store.read() as session:
            return [Known(*row[:-1], row[-1] or "") for row in session.execute(query)]

    def take(self, pilot: Pilot, *, wanted: Collection[str] = (), token: bool, now: float | None = None) -> Given:
        """Everything that a pilot which is about to be submitted takes along: an IDTOKEN of its own, without which it
        does not go where it needs a ``token``, and of the site's credentials those that are ``wanted`` by name.

        Raises ``PilotError`` (token.missing, credential.expired, credential.unreadable).
        """
        moment = time.time() if now is None else now
        if not pilot.frontend:
            return Given()
        with self._store.write() as session:
            rows = self._site(session, pilot, wanted, moment)
            rows += self._own(session, pilot, moment, needed=token)
            files = {Kind(row.kind): self._open(row) for row in rows}
            for row in rows:
                session.add(
                    HandedRow(
                        pilot_id=pilot.id,
                        file=FILES[Kind(row.kind)],
                        frontend=row.frontend,
                        credential=row.id,
                        version=row.version,
                    )
                )
        return Given(files)

    def own_token(self, pilot_id: str) -> bytes | None:
        """The newest IDTOKEN of a pilot; None where it has none here. Raises ``PilotError`` (credential.unreadable)."""
        query = select(CredentialRow).where(CredentialRow.pilot_id == pilot_id, CredentialRow.kind == Kind.IDTOKEN)
        with self._store.read() as session:
            row = session.scalars(query).first()
            return None if row is None else self._open(row)

    def renew(self, directory: str) -> list[Renewed]:
        """Put newer contents into the files of pilots that are on their way, each in one step: ``RENEWED_AT_ONCE`` of
        them, the rest when it is called again. ``directory`` has those of the pilots."""
        newer = (
            select(HandedRow, CredentialRow)
            .join(
                CredentialRow,
                (CredentialRow.frontend == HandedRow.frontend) & (CredentialRow.id == HandedRow.credential),
            )
            .where(
                CredentialRow.version > HandedRow.version,
                # One that was deleted and given again under its name is another pilot's, or will be.
                or_(CredentialRow.purpose == Purpose.SITE.value, CredentialRow.pilot_id == HandedRow.pilot_id),
            )
            .limit(RENEWED_AT_ONCE)
        )
        with self._store.read() as session:
            found = [(row[0], row[1]) for row in session.execute(newer)]
        told = [Renewed(handed.pilot_id, handed.file, self._replace(directory, handed, row)) for handed, row in found]
        with self._store.write() as session:
            for (handed, row), one in zip(found, told, strict=True):
                if not one.problem:
                    mine = (HandedRow.pilot_id == handed.pilot_id, HandedRow.file == handed.file)
                    session.execute(update(HandedRow).where(*mine).values(version=row.version))
        return told

    def _replace(self, directory: str, handed: HandedRow, row: CredentialRow) -> str:
        """Write one file, if the pilot still has it; what went wrong, or nothing."""
        path = os.path.join(directory, handed.pilot_id, handed.file)
        try:
            if os.path.lexists(path):
                # An ssh key is a link to one that several pilots share; any other link is nobody's, and is replaced.
                shared = os.path.realpath(path) if handed.file == FILES[Kind.SSH_KEY] else path
                write_atomically(shared, self._open(row))
        except PilotError as error:
            return error.failure.message
        except OSError as error:
            return f"{path} cannot be written: {error.strerror}"
        return ""

    def tidy(self, now: float | None = None) -> int:
        """Drop what ended pilots had, what expired a day ago, and what cannot be opened any more; then the keys of
        which nothing is left. How many credentials that were."""
        moment = time.time() if now is None else now
        # From each of the few rows to its pilot: of pilots that ended there may be very many.
        going, ended = PilotRow.state.not_in(values(FINAL)), PilotRow.state.in_(values(FINAL))
        with self._store.read() as session:
            keys = set(session.scalars(select(CredentialRow.encryption).distinct()))
        lost = [key for key in keys if not self.keys.has(key)]
        with self._store.write() as session:
            session.execute(delete(HandedRow).where(~exists().where(PilotRow.id == HandedRow.pilot_id, going)))
            # A pilot that could not even be prepared was never stored.
            never = and_(
                CredentialRow.pilot_id.is_not(None),
                ~exists().where(PilotRow.id == CredentialRow.pilot_id),
                CredentialRow.received < moment - UNKNOWN_SECONDS,
            )
            gone = or_(
                never,
                exists().where(PilotRow.id == CredentialRow.pilot_id, ended),
                CredentialRow.expires < int(moment) - KEPT_SECONDS,
                CredentialRow.encryption.in_(lost),
            )
            dropped = len(session.scalars(delete(CredentialRow).where(gone).returning(CredentialRow.id)).all())
        self.keys.tidy(keys, moment)
        return dropped

    def _judge(self, label: Label, encryption: str, sealed: bytes, moment: float) -> None:
        if not self.keys.accepts(encryption, moment):
            raise VaultError("it is sealed with a key that is not told any more: seal it with that of the offers", 409)
        if label.expires <= moment:
            raise VaultError("it has expired")
        try:
            ends = expiry(label.kind, self.keys.open(sealed, encryption, label))
        except SealError as error:
            raise VaultError(f"it cannot be opened: {error}") from error
        except ValueError as error:
            raise VaultError(f"it is no {label.kind}: {error}") from error
        if ends is not None and ends < label.expires:
            raise VaultError("by its own words it expires before `expires`")

    def _require_room(self, session: Session, frontend: str, size: int, more: int = 1) -> None:
        query = select(func.count(), func.coalesce(func.sum(func.length(CredentialRow.sealed)), 0))
        number, kept = session.execute(query.where(CredentialRow.frontend == frontend)).one()
        if number + more > MOST_CREDENTIALS or kept + size > MOST_BYTES:
            raise VaultError(f"a frontend has up to {MOST_CREDENTIALS} credentials of {MOST_BYTES >> 20} MiB here", 413)

    def _own(self, session: Session, pilot: Pilot, moment: float, *, needed: bool) -> list[CredentialRow]:
        """A free IDTOKEN, which is the pilot's from now on; none where there is none and none is needed."""
        free = _fitting(pilot, Purpose.PILOT).where(CredentialRow.pilot_id.is_(None))
        half = (CredentialRow.expires - CredentialRow.received) / 2
        least = case((half < LEAST_SECONDS, half), else_=LEAST_SECONDS)
        lasting = free.where(CredentialRow.expires - moment > least).limit(1)
        row = session.scalars(lasting.with_for_update(skip_locked=True)).first()
        if row is None:
            if not needed:
                return []
            message = f"the frontend {pilot.frontend} gave no token for a further pilot of the entry {pilot.entry}"
            hint = "see that the frontend runs and that its `credentials.pilots` is set; the VO's operator must act"
            raise PilotError(Failure(FailureKind.CREDENTIAL, "token.missing", message, hint, retry=True))
        row.pilot_id = pilot.id
        return [row]

    def _site(self, session: Session, pilot: Pilot, wanted: Collection[str], moment: float) -> list[CredentialRow]:
        """One of each kind: that of the entry before that of all entries, then the one that lasts longest."""
        if not wanted:
            return []
        query = _fitting(pilot, Purpose.SITE).where(CredentialRow.id.in_(list(wanted)))
        chosen: dict[str, CredentialRow] = {}
        for row in session.scalars(query):
            chosen.setdefault(row.kind, row)
        for row in chosen.values():
            if row.expires <= moment:
                message = f"the {row.kind} {row.id} of the frontend {pilot.frontend} has expired"
                hint = "renew it where the frontend takes it from; the VO's operator must act"
                raise PilotError(Failure(FailureKind.CREDENTIAL, "credential.expired", message, hint, retry=True))
        return list(chosen.values())

    def _open(self, row: CredentialRow) -> bytes:
        label = Label(row.frontend, self._factory, row.id, Kind(row.kind), Purpose(row.purpose), row.entry, row.expires)
        try:
            return self.keys.open(row.sealed, row.encryption, label)
        except SealError as error:
            message = f"the {row.kind} {row.id} of the frontend {row.frontend} cannot be opened: {error}"
            hint = "the frontend sends it again by itself once it is gone here; nobody must act"
            raise PilotError(Failure(FailureKind.CREDENTIAL, "credential.unreadable", message, hint)) from error


def _fitting(pilot: Pilot, purpose: Purpose) -> Select[CredentialRow]:
    """The credentials that a pilot may get, the best first."""
    usable: Sequence[ColumnElement[bool]] = (
        CredentialRow.frontend == pilot.frontend,
        CredentialRow.purpose == purpose.value,
        CredentialRow.entry.in_(("", pilot.entry)),
    )
    best = (CredentialRow.entry.desc(), CredentialRow.expires.desc(), CredentialRow.id)
    return select(CredentialRow).where(*usable).order_by(*best)


def open_vault(factory: Factory, store: Store) -> Vault:
    """The vault of a factory, whose keys are made at their first use."""
    return Vault(factory.name, KeyRing(os.path.join(factory.state, KEYS_DIRECTORY)), store)
