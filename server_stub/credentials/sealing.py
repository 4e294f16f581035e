"""Sealing for one recipient: X25519 with a key that is used once, HKDF-SHA256, ChaCha20-Poly1305.

Whoever holds the recipient's public key can seal, only the recipient can open; what was sealed under one label opens
under no other. Sealing proves nothing about who sealed: the requests that carry it are authenticated for that.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from server_stub.credentials.kinds import SECRET_LIMIT_BYTES, Label

VERSION = b"\x01"
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD_BYTES = len(VERSION) + KEY_BYTES + TAG_BYTES
SEALED_LIMIT_BYTES = SECRET_LIMIT_BYTES + OVERHEAD_BYTES
PURPOSE = b"pilot-agent credential 1"


class SealError(ValueError):
    """It cannot be opened. Nothing says which of the possible reasons it was, and nothing of the content."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who is to open it: the public half of a key, and the name by which its owner finds the other half."""

    id: str
    public: bytes


def seal(secret: bytes, recipient: Recipient, label: Label) -> bytes:
    """The secret, to be opened by the recipient under this label. Raises ``ValueError`` for one that is empty or too
    large, and for a key that is none."""
    if not 0 < len(secret) <= SECRET_LIMIT_BYTES:
        raise ValueError(f"a credential has 1 to {SECRET_LIMIT_BYTES} bytes, this one {len(secret)}")
    once = X25519PrivateKey.generate()
    sent = once.public_key().public_bytes_raw()
    shared = once.exchange(X25519PublicKey.from_public_bytes(recipient.public))
    key, nonce = _derive(shared, sent, recipient.public)
    return VERSION + sent + ChaCha20Poly1305(key).encrypt(nonce, secret, label.bound)


def unseal(sealed: bytes, private: X25519PrivateKey, label: Label) -> bytes:
    """The secret that was sealed for the owner of this key, under this label. Raises ``SealError``."""
    if not OVERHEAD_BYTES < len(sealed) <= SEALED_LIMIT_BYTES or not sealed.startswith(VERSION):
        raise SealError("this is no sealed credential of a known version")
    sent, content = sealed[len(VERSION) :][:KEY_BYTES], sealed[len(VERSION) + KEY_BYTES :]
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(sent))
        key, nonce = _derive(shared, sent, private.public_key().public_bytes_raw())
        return ChaCha20Poly1305(key).decrypt(nonce, content, label.bound)
    except (InvalidTag, ValueError) as error:
        raise SealError("it was altered, or sealed for another recipient or under another label") from error


def _derive(shared: bytes, sent: bytes, received: bytes) -> tuple[bytes, bytes]:
    """Key and nonce. Both public keys take part, so that the same secret point of another pair gives others; the key is
    of one message alone, so its nonce need not be sent."""
    length = KEY_BYTES + NONCE_BYTES
    made = HKDF(hashes.SHA256(), length, salt=None, info=PURPOSE + sent + received).derive(shared)
    return made[:KEY_BYTES], made[KEY_BYTES:]
