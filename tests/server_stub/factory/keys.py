"""A frontend's side of the door: its keys, and the tokens that it signs with them."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


@dataclass(frozen=True)
class Signer:
    """One frontend."""

    name: str = "fe"
    factory: str = "example"
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public(self) -> str:
        """The key that the factory's file holds."""
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def claims(self, **changed: Any) -> dict[str, Any]:
        """What a good token says, but for what is changed; None leaves a claim out."""
        now = time.time()
        claims = {"iss": self.name, "aud": self.factory, "iat": now, "exp": now + 60, "jti": secrets.token_hex(8)}
        return {name: value for name, value in {**claims, **changed}.items() if value is not None}

    def token(self, **changed: Any) -> str:
        """A token with these claims."""
        return jwt.PyJWS().encode(json.dumps(self.claims(**changed)).encode(), self.key, algorithm="EdDSA")

    def headers(self, **changed: Any) -> dict[str, str]:
        """What proves a request."""
        return {"Authorization": f"Bearer {self.token(**changed)}"}
