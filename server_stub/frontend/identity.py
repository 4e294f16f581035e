"""Who the frontend is to a factory: an ed25519 key of its own, and short tokens that it signs with it."""

from __future__ import annotations

import os
import secrets
import stat
import time
from dataclasses import dataclass, field

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pilot_agent.files import read_bounded, write_atomically
from pilot_agent.model import Failure, FailureKind, PilotError

ALGORITHM = "EdDSA"
TOKEN_SECONDS = 120
"""A factory takes none that lasts longer than 300 s; a clock that goes a little wrong must not matter."""
KEY_LIMIT_BYTES = 16 << 10
OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Identity:
    """The frontend's name with its key; the key is in no ``repr``."""

    name: str
    key: Ed25519PrivateKey = field(repr=False)

    def token(self, factory: str, *, now: float | None = None) -> str:
        """A new token for one request to one factory."""
        issued = int(time.time() if now is None else now)
        claims = {
            "iss": self.name, "aud": factory, "iat": issued, "exp": issued + TOKEN_SECONDS,
            "jti": secrets.token_urlsafe(16),
        }  # fmt: skip
        return jwt.encode(claims, self.key, algorithm=ALGORITHM)

    def public_key(self) -> str:
        """What factories write into their files: PEM."""
        public = self.key.public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return public.public_bytes(serialization.Encoding.PEM, form).decode("ascii")


def load_identity(name: str, path: str) -> Identity:
    """The identity with the private key in a PEM file. Raises ``PilotError`` (key.missing, key.unsafe, key.invalid)."""
    try:
        mode = os.stat(path).st_mode
        content = read_bounded(path, limit_bytes=KEY_LIMIT_BYTES)
    except OSError as error:
        message = f"the frontend's key {path} cannot be read: {error.strerror}"
        raise _failed("key.missing", message, "make one with `frontend init`, or name it as key in the file") from error
    if mode & OTHERS:
        message = f"the frontend's key {path} may be used by others than its owner (mode {stat.S_IMODE(mode):04o})"
        raise _failed("key.unsafe", message, f"chmod 600 {path}; if others could read it, make a new one")
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        message = f"the frontend's key {path} is no private key in PEM without a passphrase"
        raise _failed("key.invalid", message, "make one with `frontend init`") from error
    if not isinstance(key, Ed25519PrivateKey):
        message = f"the frontend's key {path} is a {type(key).__name__}; an ed25519 key is needed"
        raise _failed("key.invalid", message, "make one with `frontend init`")
    return Identity(name, key)


def make_key(path: str) -> None:
    """Write a new private key, readable for its owner only. Raises ``OSError``."""
    write_atomically(
        path,
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        mode=0o600,
    )


def _failed(code: str, message: str, hint: str) -> PilotError:
    return PilotError(Failure(FailureKind.CREDENTIAL, code, message, f"{hint}; the VO's operator must act"))
