"""Tokens by which the factory knows its pilots: signed, each for one pilot and one purpose, revocable one by one.

The first travels with the batch job and lasts while that may wait in a queue. With its first upload a pilot gets one
that lasts a day, and a newer one in time; once a pilot has used a newer one its older ones count no more.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass

import jwt

from pilot_agent.files import read_bounded, write_atomically
from server_stub.factory.store import Store

FIRST_SECONDS = 7 * 86400.0
NEXT_SECONDS = 86400.0
ALGORITHM = "HS256"
WRITE, READ = "pilot.write", "pilot.read"
"""To send what the pilot has to say, and to fetch what is the pilot's own."""
KEY_BYTES = 32
MOST_CHARACTERS = 2048
LEEWAY_SECONDS = 30.0
REQUIRED = ("exp", "iat", "iss", "jti", "sub", "scope")


class TokenError(ValueError):
    """A token that does not count; the message says why, and nothing of the token itself."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token that counts says. Times are epoch seconds."""

    pilot_id: str
    jti: str
    issued: float
    expires: float

    def worn(self, now: float) -> bool:
        """Whether its holder should get a newer one: half of its time is over, or it is a first one."""
        lifetime = self.expires - self.issued
        return lifetime > NEXT_SECONDS or now > self.issued + lifetime / 2


class Tokens:
    """Issues and judges the tokens of one factory."""

    def __init__(self, issuer: str, key: bytes, store: Store) -> None:
        self._issuer = issuer
        self._key = key
        self._store = store
        self._used: dict[str, None] = {}

    def issue(self, pilot_id: str, *, seconds: float = FIRST_SECONDS, now: float | None = None) -> str:
        """A new token for one pilot."""
        issued = time.time() if now is None else now
        jti = secrets.token_urlsafe(16)
        claims = {
            "iss": self._issuer,
            "sub": pilot_id,
            "scope": f"{WRITE} {READ}",
            "iat": issued,
            "exp": issued + seconds,
            "jti": jti,
        }
        self._store.note_token(jti, pilot_id, issued=issued, expires=issued + seconds)
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    def judge(self, token: str, pilot_id: str, scope: str = WRITE) -> Claims:
        """What a token says that is to count for this pilot and this purpose. Raises ``TokenError``."""
        if len(token) > MOST_CHARACTERS:
            raise TokenError("the token is too long")
        try:
            told = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": list(REQUIRED)},
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenError("the token has expired") from error
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise TokenError("the token was not issued by this factory") from error
        if scope not in str(told["scope"]).split():
            raise TokenError(f"the token is not for {scope}")
        if told["sub"] != pilot_id:
            raise TokenError("the token is another pilot's")
        if not self._store.token_counts(told["jti"], pilot_id):
            raise TokenError("the token was revoked")
        claims = Claims(pilot_id, told["jti"], float(told["iat"]), float(told["exp"]))
        self._retire_older(claims)
        return claims

    def renewal(self, claims: Claims, now: float | None = None) -> str | None:
        """A newer token for who holds this one; None while it will do."""
        moment = time.time() if now is None else now
        return self.issue(claims.pilot_id, seconds=NEXT_SECONDS, now=moment) if claims.worn(moment) else None

    def _retire_older(self, claims: Claims) -> None:
        """Whoever uses a newer token has it: an older one that somebody kept is of no use from now on."""
        if claims.jti in self._used:
            return
        self._store.revoke_before(claims.pilot_id, claims.issued)
        self._used[claims.jti] = None
        while len(self._used) > MOST_REMEMBERED:
            del self._used[next(iter(self._used))]


MOST_REMEMBERED = 100_000


def load_key(state: str) -> bytes:
    """The factory's signing key, made at its first use; readable by the factory's account alone."""
    path = os.path.join(state, "token.key")
    try:
        return _read_key(path)
    except FileNotFoundError:
        made = f"{path}.{secrets.token_hex(8)}"
        write_atomically(made, secrets.token_hex(KEY_BYTES).encode("ascii"))
        try:
            os.link(made, path)  # whoever is first decides
        except FileExistsError:
            pass
        finally:
            os.unlink(made)
        return _read_key(path)


def _read_key(path: str) -> bytes:
    key = bytes.fromhex(read_bounded(path, limit_bytes=1024).decode("ascii").strip())
    if len(key) < KEY_BYTES:
        raise ValueError(f"{path} holds {len(key)} bytes and not {KEY_BYTES}")
    return key
