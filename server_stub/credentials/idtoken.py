"""HTCondor's IDTOKENs for pilots, signed with a key of the user pool: narrow, short, and each with a name of its own.

The pool's own ``condor_token_create`` needs an account that may use the pool's configuration; a frontend needs the key
alone, best one of its own, made for pilots (``condor_store_cred add-pwd`` or any file of random bytes in the central
manager's ``SEC_PASSWORD_DIRECTORY``), which the pool can drop without touching anybody else's tokens.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pilot_agent.files import read_bounded
from pilot_agent.model import Failure, FailureKind, PilotError

AUTHORIZATIONS = ("READ", "ADVERTISE_STARTD", "ADVERTISE_MASTER")
"""All that a pilot needs: to find the collector, and to show its slots and its master there."""
POOL_KEY = "POOL"
"""The pool's first key, of which HTCondor takes the content twice."""
KEY_LIMIT_BYTES = 64 << 10
ALGORITHM = "HS256"
SCRAMBLE = bytes.fromhex("deadbeef")
IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}@[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key of the user pool, ready to sign. ``id`` is its name there; ``issuer`` the pool's trust domain."""

    id: str
    issuer: str
    secret: bytes

    def __repr__(self) -> str:
        return f"SigningKey({self.id!r}, {self.issuer!r})"


def read_signing_key(path: str, *, issuer: str, key_id: str = "") -> SigningKey:
    """The key in a file as HTCondor keeps it (scrambled), by default under the file's name.

    Raises ``PilotError`` (credential.signing_key).
    """
    name = key_id or os.path.basename(path)
    try:
        if os.stat(path).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise _unusable(path, "accounts beside its owner may use it", "chmod 0600 it")
        content = read_bounded(path, limit_bytes=KEY_LIMIT_BYTES)
    except OSError as error:
        said = (error.strerror or "it cannot be read").lower()
        raise _unusable(path, said, "let the frontend's account read it") from error
    if not content:
        raise _unusable(path, "it is empty", "name a key of the user pool")
    return SigningKey(name, issuer, derive(content, name))


def derive(content: bytes, key_id: str) -> bytes:
    """What HTCondor signs with, from what it keeps in the file."""
    plain = bytes(byte ^ SCRAMBLE[place % len(SCRAMBLE)] for place, byte in enumerate(content))
    if key_id == POOL_KEY:
        plain *= 2  # HTCondor joined two passwords there once, and still signs with both
    return HKDF(hashes.SHA256(), 32, salt=b"htcondor", info=b"master jwt").derive(plain)


def issue(
    key: SigningKey,
    *,
    identity: str,
    jti: str,
    issued: int,
    expires: int,
    authorizations: Iterable[str] = AUTHORIZATIONS,
) -> str:
    """A token for one pilot. Raises ``ValueError`` for an identity that HTCondor would read as another, for none or
    more than a pilot's authorizations, and for a time that is none."""
    if not IDENTITY.fullmatch(identity):
        raise ValueError(f"{identity!r} is no identity such as SITE@FRONTEND")
    granted = list(authorizations)
    wider = sorted(set(granted) - set(AUTHORIZATIONS))
    if not granted or wider:  # without any, HTCondor takes a token for all that its identity may do
        raise ValueError(
            f"a pilot's token allows {', '.join(AUTHORIZATIONS)} and not {', '.join(wider) or 'everything'}"
        )
    if expires <= issued:
        raise ValueError("a token expires after it was issued")
    claims = {
        "iss": key.issuer,
        "sub": identity,
        "iat": issued,
        "exp": expires,
        "jti": jti,
        "scope": " ".join(f"condor:/{name}" for name in granted),
    }
    return jwt.encode(claims, key.secret, algorithm=ALGORITHM, headers={"kid": key.id})


def _unusable(path: str, found: str, change: str) -> PilotError:
    message = f"the signing key {path} cannot be used: {found}"
    hint = f"{change}; the frontend's operator must act"
    return PilotError(Failure(FailureKind.CREDENTIAL, "credential.signing_key", message, hint))
