"""What the frontend hands over to each factory in each cycle: tokens for the pilots that are asked for, newer ones for
those that are on their way, and what sites ask for.

Nothing has to be remembered for it: what a factory has it tells itself, without any content. Which token is whose, and
its jti, is noted in a file, so that one pilot can be shut out.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import structlog

from pilot_agent.model import Failure, FailureKind, Json, PilotError
from server_stub.credentials.idtoken import IDENTITY, SigningKey, issue, read_signing_key
from server_stub.credentials.kinds import IDENTIFIER, NAME, Kind, Label, Purpose
from server_stub.credentials.sealing import KEY_BYTES, Recipient, seal
from server_stub.factory.log import tell
from server_stub.frontend.client import FactoryClient
from server_stub.frontend.credential_plans import CredentialPlans, PilotTokens
from server_stub.frontend.cycle import Request
from server_stub.frontend.offers import Offer
from server_stub.frontend.site_secrets import SiteSecrets
from server_stub.frontend.wire import Offered

PATH = "/credentials"
MOST_SPARE = 500
"""Of one entry: a factory submits no more of it before the next cycle."""
MOST_MADE = 5000
"""For one factory in one cycle, whatever it says of its pilots; the rest in the next ones."""
MOST_AT_ONCE = 200
MOST_BYTES_AT_ONCE = 2 << 20
MOST_KNOWN = 200_000
ISSUED_FILE = "issued.jsonl"
ISSUED_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class KnownThere:
    """A credential as a factory lists it."""

    id: str
    kind: str
    entry: str
    expires: float
    pilot: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """A credential on its way, under its label."""

    label: Label
    content: bytes = field(repr=False)


class Wallet:
    """The credentials of one frontend. For several threads, one for each factory."""

    def __init__(self, frontend: str, plans: CredentialPlans, state: str) -> None:
        """Raises ``PilotError`` (credential.signing_key)."""
        self._frontend = frontend
        self._plans = plans
        self._secrets = SiteSecrets()
        self._key = _signing_key(plans.pilots)
        self._record = _Record(os.path.join(state, ISSUED_FILE))
        self._sent: dict[tuple[str, str], str] = {}
        self._entries: dict[str, Offer] = {}

    def deliver(
        self, client: FactoryClient, offered: Offered, wanted: Sequence[Request]
    ) -> Mapping[str, tuple[str, ...]]:
        """Hand over what the factory lacks; for each of its entries, by its whole name, what a pilot there gets of the
        site's credentials. Raises ``PilotError`` (factory.*)."""
        if self._key is None and not self._plans.sites:
            return {}
        now = time.time()
        recipient = _recipient(offered)
        there = _known(client.call("GET", PATH).document, offered.factory)
        tokens = islice(self._tokens(offered, wanted, there, now), MOST_MADE)
        sites = self._site_parcels(offered, {one.id for one in there}, now)
        parcels = [*tokens, *(parcel for _, parcel in sites)]
        marks = {parcel.label.id: mark for mark, parcel in sites}
        for some in _portions(parcels, recipient):
            arrived = self._put(client, offered.factory, some)
            self._sent |= {(offered.factory, name): marks[name] for name in arrived & marks.keys()}
        return {offer.name: self._names(offer, offered.factory) for offer in offered.offers}

    def _tokens(
        self, offered: Offered, wanted: Sequence[Request], there: Sequence[KnownThere], now: float
    ) -> Iterator[Parcel]:
        plan, key = self._plans.pilots, self._key
        if plan is None or key is None:
            return
        self._entries |= {offer.name: offer for offer in offered.offers}
        asked = {request.entry: request.queued for request in wanted}
        by_entry: dict[str, list[KnownThere]] = {f"{one.entry}@{offered.factory}": [] for one in there}
        for one in there:
            if one.kind == Kind.IDTOKEN:
                by_entry[f"{one.entry}@{offered.factory}"].append(one)
        for name in by_entry.keys() | asked.keys():
            offer = self._entries.get(name)
            if offer is None:  # gone since before this frontend began
                continue
            try:
                seconds = _lifetime(plan, offer)
                identity = _identity(plan, offer, self._frontend, offered.factory)
                for credential in self._due(by_entry.get(name, []), asked.get(name, 0), seconds, now):
                    yield self._token(key, identity, credential, offer, offered.factory, seconds, now)
            except ValueError as error:
                log = structlog.get_logger("server_stub.credentials")
                tell(log.warning, "token.not_made", entry=name, message=str(error))

    def _due(self, mine: Sequence[KnownThere], asked: int, seconds: int, now: float) -> list[str]:
        """The names under which a token is to be made: of pilots whose present one is half over, and new ones until
        there are as many as the queue may take."""
        worn = [one.id for one in mine if one.pilot and one.expires - now < seconds / 2]
        free = [one for one in mine if not one.pilot and one.expires - now >= seconds / 2]
        lacking = max(0, min(asked, MOST_SPARE) - len(free))
        old = [one.id for one in mine if not one.pilot and one.expires - now < seconds / 2]
        again = old[:lacking]
        return [*worn, *again, *(secrets.token_hex(8) for _ in range(lacking - len(again)))]

    def _token(
        self, key: SigningKey, identity: str, name: str, offer: Offer, factory: str, seconds: int, now: float
    ) -> Parcel:
        issued, expires = int(now), int(now) + seconds
        jti = f"{name}.{issued:x}"
        label = Label(self._frontend, factory, name, Kind.IDTOKEN, Purpose.PILOT, offer.name.partition("@")[0], expires)
        token = issue(key, identity=identity, jti=jti, issued=issued, expires=expires)
        self._record.note({
            "jti": jti, "id": name, "factory": factory, "entry": label.entry, "identity": identity,
            "issued": issued, "expires": expires,
        })  # fmt: skip
        return Parcel(label, token.encode("ascii"))

    def _site_parcels(self, offered: Offered, there: Collection[str], now: float) -> list[tuple[str, Parcel]]:
        """What is not there as it is now, each with what tells it from an older or newer one."""
        found = []
        for plan in self._plans.sites:
            if not any(plan.serves(offer.name.partition("@")[0], offered.factory) for offer in offered.offers):
                continue
            try:
                secret = self._secrets.get(plan, now)
            except PilotError as error:
                log = structlog.get_logger("server_stub.credentials")
                tell(log.warning, error.failure.code, credential=plan.name, message=error.failure.message)
                continue
            mark = f"{secret.mark} {secret.expires} {_key_id(offered)}"
            if self._sent.get((offered.factory, plan.name)) == mark and plan.name in there:
                continue
            label = Label(
                self._frontend, offered.factory, plan.name, plan.kind, Purpose.SITE, "", secret.expires
            )  # fmt: skip
            found.append((mark, Parcel(label, secret.content)))
        return found

    def _names(self, offer: Offer, factory: str) -> tuple[str, ...]:
        entry = offer.name.partition("@")[0]
        return tuple(plan.name for plan in self._plans.sites if plan.serves(entry, factory))

    def _put(self, client: FactoryClient, factory: str, items: list[dict[str, Json]]) -> set[str]:
        """The names of those that were taken: of the others nothing is remembered, and the next cycle sends them
        again."""
        answer = client.call("PUT", PATH, {"credentials": items}).document
        refused = answer.get("refused") if isinstance(answer, dict) else None
        log = structlog.get_logger("server_stub.credentials")
        arrived = {str(item["id"]) for item in items}
        for one in refused if isinstance(refused, list) else []:
            if isinstance(one, dict):
                arrived.discard(str(one.get("id")))
                tell(log.warning, "credential.refused", factory=factory, id=str(one.get("id")), why=str(one.get("why")))
        tell(log.info, "credentials.delivered", factory=factory, number=len(items), refused=len(items) - len(arrived))
        return arrived


class _Record:
    """Which tokens were issued: never a token, but its jti, by which the pool can be told to refuse it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()

    def note(self, line: Mapping[str, Json]) -> None:
        """One line more; the file before it is kept once."""
        with self._lock:
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            try:
                os.write(descriptor, json.dumps(line).encode() + b"\n")
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            if size > ISSUED_LIMIT_BYTES:
                os.replace(self._path, f"{self._path}.1")


def _signing_key(plan: PilotTokens | None) -> SigningKey | None:
    if plan is None:
        return None
    return read_signing_key(plan.signing_key, issuer=plan.trust_domain, key_id=plan.key_id)


def _lifetime(plan: PilotTokens, offer: Offer) -> int:
    return int(min(plan.most_seconds, offer.walltime_seconds + plan.queue_seconds))


def _identity(plan: PilotTokens, offer: Offer, frontend: str, factory: str) -> str:
    """Who a pilot of an entry is to the pool. Raises ``ValueError``: names that a factory gave become part of it."""
    named = {
        "site": offer.site, "entry": offer.name.partition("@")[0], "factory": factory, "frontend": frontend,
        "trust_domain": plan.trust_domain,
    }  # fmt: skip
    for name in ("site", "entry", "factory"):
        if f"{{{name}}}" in plan.identity and not NAME.fullmatch(named[name]):
            raise ValueError(f"the {name} {named[name]!r} cannot be part of an identity")
    made = plan.identity.format_map(named)
    if not IDENTITY.fullmatch(made):
        raise ValueError(f"{made!r} is no identity")
    return made


def _key_id(offered: Offered) -> str:
    return str(offered.encryption.get("id"))


def _recipient(offered: Offered) -> Recipient:
    """The factory's key. Raises ``PilotError`` (factory.unintelligible)."""
    told = offered.encryption
    try:
        public = base64.b64decode(str(told.get("x25519")), validate=True)
    except (binascii.Error, ValueError):
        public = b""
    if len(public) != KEY_BYTES or not isinstance(told.get("id"), str):
        raise _unintelligible(offered.factory, "it offers no key with which credentials could be sealed for it")
    return Recipient(told["id"], public)


def _known(document: Json, factory: str) -> list[KnownThere]:
    """What a factory has. Raises ``PilotError`` (factory.unintelligible)."""
    listed = document.get("credentials") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > MOST_KNOWN:
        raise _unintelligible(factory, "its list of credentials makes no sense")
    return [found for one in listed if IDENTIFIER.fullmatch((found := _known_one(one, factory)).id)]


def _known_one(one: Json, factory: str) -> KnownThere:
    told = one if isinstance(one, dict) else {}
    name, kind, entry, pilot = (told.get(key) for key in ("id", "kind", "entry", "pilot"))
    expires = told.get("expires")
    texts = isinstance(name, str) and isinstance(kind, str) and isinstance(entry, str) and isinstance(pilot, str)
    if not texts or not isinstance(expires, int | float):
        raise _unintelligible(factory, "its list of credentials makes no sense")
    return KnownThere(str(name), str(kind), str(entry), float(expires), str(pilot))


def _unintelligible(factory: str, what: str) -> PilotError:
    hint = "see which versions both sides have; the factory's operator must act"
    return PilotError(
        Failure(FailureKind.CONFIG, "factory.unintelligible", f"the factory {factory}: {what}", hint)
    )  # fmt: skip


def _portions(parcels: Iterable[Parcel], recipient: Recipient) -> Iterator[list[dict[str, Json]]]:
    """Sealed, in bodies that a factory takes."""
    some: list[dict[str, Json]] = []
    size = 0
    for parcel in parcels:
        label = parcel.label
        sealed = base64.b64encode(seal(parcel.content, recipient, label)).decode("ascii")
        if some and (len(some) >= MOST_AT_ONCE or size + len(sealed) > MOST_BYTES_AT_ONCE):
            yield some
            some, size = [], 0
        size += len(sealed)
        some.append({
            "id": label.id, "kind": label.kind.value, "purpose": label.purpose.value, "entry": label.entry,
            "expires": label.expires, "encryption_id": recipient.id, "sealed": sealed,
        })  # fmt: skip
    if some:
        yield some
