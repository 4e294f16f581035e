"""Who may ask this factory for pilots: the frontends of its file, and the judgement of the tokens that they sign.

A frontend signs each token with its own ed25519 key, for one factory and for a few minutes. The factory has the public
keys alone: nothing that it keeps lets anybody else ask in a frontend's name.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from pilot_agent.files import read_bounded
from server_stub.factory.reader import Reader

ALGORITHM = "EdDSA"
LONGEST_SECONDS = 300.0
LEEWAY_SECONDS = 30.0
MOST_CHARACTERS = 4096
MOST_JTI_CHARACTERS = 128
KEY_LIMIT_BYTES = 16 << 10
REQUIRED = ("iss", "aud", "iat", "exp", "jti")
PEM = "-----BEGIN "


@dataclass(frozen=True, slots=True)
class FrontendLimits:
    """How many pilots a frontend may have at all entries together: not ended, waiting, held; and submitted for it in a
    minute. While as many are held as may be it gets no more: its credentials may be what holds them."""

    total: int = 10000
    idle: int = 2000
    held: int = 200
    per_minute: int = 500


@dataclass(frozen=True, slots=True)
class Frontend:
    """One frontend of the factory's file: its ed25519 key (PEM), the VOs for which it may ask, and at which entries, at
    all where none is named."""

    name: str
    public_key: str
    vos: tuple[str, ...]
    entries: tuple[str, ...] = ()
    limits: FrontendLimits = field(default_factory=FrontendLimits)

    def may_use(self, entry: str) -> bool:
        """Whether it may ask for pilots at an entry."""
        return not self.entries or entry in self.entries

    def vos_at(self, vos: Collection[str]) -> tuple[str, ...]:
        """For which of its VOs it may ask at an entry that takes these, all where there are none."""
        return tuple(vo for vo in self.vos if not vos or vo in vos)


class FrontendError(ValueError):
    """A token that does not count; the message says why, and nothing of the token itself."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A frontend that proved who it is, by the token of this number, which ends at ``expires`` (epoch seconds)."""

    frontend: Frontend
    jti: str
    expires: float


def read_frontends(readers: Iterable[Reader], entries: Collection[str]) -> tuple[Frontend, ...]:
    """The frontends that mappings describe; what is wrong is noted by their readers."""
    found: list[Frontend] = []
    for reader in readers:
        frontend = _read_frontend(reader, entries)
        if frontend.name and frontend.name in {other.name for other in found}:
            reader.note("name", f"{frontend.name!r} is the name of an earlier frontend too")
        found.append(frontend)
    return tuple(found)


def _read_frontend(reader: Reader, entries: Collection[str]) -> Frontend:
    frontend = Frontend(
        name=reader.name("name"),
        public_key=_read_key(reader),
        vos=reader.words("vos"),
        entries=reader.words("entries"),
        limits=_read_limits(reader.below("limits")),
    )
    if not frontend.vos and frontend.name:
        reader.note("vos", "missing; name the VOs for which this frontend may ask")
    for name in frontend.entries:
        if name not in entries:
            reader.note("entries", f"the factory has no entry {name!r}")
    reader.refuse_others()
    return frontend


def _read_limits(reader: Reader) -> FrontendLimits:
    usual = FrontendLimits()
    limits = FrontendLimits(
        total=reader.integer("total", default=usual.total, minimum=0),
        idle=reader.integer("idle", default=usual.idle, minimum=0),
        held=reader.integer("held", default=usual.held, minimum=1),
        per_minute=reader.integer("per_minute", default=usual.per_minute, minimum=1),
    )
    reader.refuse_others()
    return limits


def _read_key(reader: Reader) -> str:
    """The key as PEM, given as such or as a file's path."""
    given = reader.text("public_key")
    if not given:
        return ""
    pem = given
    if not given.lstrip().startswith(PEM):
        path = reader.path("public_key")
        try:
            pem = read_bounded(path, limit_bytes=KEY_LIMIT_BYTES).decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "it is no PEM"
            reader.note("public_key", f"{path} cannot be read: {said}")
            return ""
    try:
        load_key(pem)
    except ValueError as error:
        reader.note("public_key", f"{error}; `openssl genpkey -algorithm ed25519` makes a pair of keys")
        return ""
    return pem


@lru_cache(maxsize=1024)
def load_key(pem: str) -> Ed25519PublicKey:
    """An ed25519 public key in PEM. Raises ``ValueError`` for everything else."""
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("this is no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"an ed25519 key is needed, this is {type(key).__name__.strip('_')}")
    return key


def judge_token(token: str, frontends: Iterable[Frontend], factory: str, *, now: float | None = None) -> Caller:
    """Which frontend signed a token for this factory. Raises ``FrontendError``."""
    if len(token) > MOST_CHARACTERS:
        raise FrontendError("the token is too long")
    frontend = _signer(token, frontends)
    if frontend is None:
        raise FrontendError("the token names no frontend of this factory")
    try:
        told = jwt.decode(
            token,
            load_key(frontend.public_key),
            algorithms=[ALGORITHM],
            # Times are judged below, against the caller's clock; the audience has to be this factory and no other.
            options={"require": list(REQUIRED), "verify_aud": False, "verify_exp": False, "verify_iat": False},
        )
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise FrontendError(f"the token was not signed by the frontend {frontend.name}, or is incomplete") from error
    if told["aud"] != factory:
        raise FrontendError(f"the token is not for this factory, which is {factory}")
    moment = time.time() if now is None else now
    return Caller(frontend, _jti(told["jti"]), _expiry(told["iat"], told["exp"], moment))


def _signer(token: str, frontends: Iterable[Frontend]) -> Frontend | None:
    """The frontend that the token says it comes from, which is to be proven."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise FrontendError("this is no token") from error
    said = claims.get("iss")
    return next((frontend for frontend in frontends if frontend.name == said), None)


def _jti(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MOST_JTI_CHARACTERS or not value.isprintable():
        raise FrontendError(f"the token's jti is no text of at most {MOST_JTI_CHARACTERS} characters")
    return value


def _expiry(issued: object, expires: object, now: float) -> float:
    """When a token ends that counts now."""
    if not _is_moment(issued) or not _is_moment(expires):
        raise FrontendError("the token's iat and exp are no epoch seconds")
    began, ends = float(issued), float(expires)  # type: ignore[arg-type]  # judged the line before
    if ends - began > LONGEST_SECONDS:
        raise FrontendError(f"the token lasts {ends - began:.0f} s; at most {LONGEST_SECONDS:.0f} s count")
    if now < began - LEEWAY_SECONDS:
        raise FrontendError("the token begins later than now: the clocks of frontend and factory differ")
    if now > ends + LEEWAY_SECONDS:
        raise FrontendError("the token has expired")
    return ends


def _is_moment(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12
