"""The factory's keys for what frontends seal: one that is told to them, and older ones as long as they are of use."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pilot_agent.files import read_bounded, write_atomically
from server_stub.credentials.kinds import Label
from server_stub.credentials.sealing import KEY_BYTES, Recipient, SealError, unseal

ROTATE_SECONDS = 30 * 86400.0
"""A key is told to frontends so long."""
ACCEPT_SECONDS = 86400.0
"""What was sealed with the key before is taken so long after a newer one was made."""
FILE = re.compile(r"(?P<made>[0-9]{10,12})-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class _Key:
    id: str
    made: float
    private: X25519PrivateKey


class KeyRing:
    """The keys in one directory, which only the factory's account reads; each is a file named by when it was made."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        os.makedirs(directory, mode=0o700, exist_ok=True)
        os.chmod(directory, 0o700)

    def current(self, now: float | None = None) -> Recipient:
        """The key that frontends seal with; a new one where there is none, or the newest is too old."""
        moment = time.time() if now is None else now
        newest = self._newest()
        if newest is None or moment - newest.made >= ROTATE_SECONDS:
            newest = self._make(moment)
        return Recipient(newest.id, newest.private.public_key().public_bytes_raw())

    def accepts(self, key_id: str, now: float | None = None) -> bool:
        """Whether something that is sealed with this key is taken now: with the newest, or with one that was the newest
        a short time ago."""
        moment = time.time() if now is None else now
        keys = self._known()
        for place, name in enumerate(keys):
            if name == key_id:
                return place == len(keys) - 1 or moment - _made(keys[place + 1]) < ACCEPT_SECONDS
        return False

    def has(self, key_id: str) -> bool:
        """Whether this key is here, told or not."""
        return key_id in self._known()

    def open(self, sealed: bytes, key_id: str, label: Label) -> bytes:
        """The secret. Raises ``SealError``."""
        if not self.has(key_id):
            raise SealError("the key with which it was sealed is no longer here")
        return unseal(sealed, self._read(key_id).private, label)

    def tidy(self, used: Collection[str], now: float | None = None) -> list[str]:
        """Delete the keys that are accepted no more and with which nothing that is kept was sealed; their names."""
        moment = time.time() if now is None else now
        gone = [name for name in self._known() if name not in used and not self.accepts(name, moment)]
        for name in gone:
            os.unlink(os.path.join(self.directory, name))
        return gone

    def _newest(self) -> _Key | None:
        names = self._known()
        return self._read(names[-1]) if names else None

    def _known(self) -> list[str]:
        """The names of the keys, the oldest first."""
        return sorted((name for name in os.listdir(self.directory) if FILE.fullmatch(name)), key=_order)

    def _read(self, name: str) -> _Key:
        content = read_bounded(os.path.join(self.directory, name), limit_bytes=KEY_BYTES + 1)
        return _Key(name, _made(name), X25519PrivateKey.from_private_bytes(content))

    def _make(self, moment: float) -> _Key:
        """Several processes may make one each: they all count, the last in order is told to frontends."""
        name = f"{int(moment):010d}-{secrets.token_hex(8)}"
        private = X25519PrivateKey.generate()
        write_atomically(os.path.join(self.directory, name), private.private_bytes_raw())
        return _Key(name, _made(name), private)


def _made(name: str) -> float:
    found = FILE.fullmatch(name)
    return float(found["made"]) if found else 0.0


def _order(name: str) -> tuple[float, str]:
    return _made(name), name
