"""Ed25519 keys of those who sign: one private key to a file, which only its owner can read.

The name of a key's file says for whom it was made and begins its identifier: ``root-3f2a91c0.pem``; beside it lies the
public half, ``root-3f2a91c0.json``, which may be sent to anybody.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from payload.console import BuildError
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

LETTERS = 8
"""Of a key's identifier in its file's name."""
LIMIT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Directories (or single files) with private keys, and the password of those that are encrypted."""

    places: tuple[Path, ...]
    password: bytes | None = None

    def signers(self) -> Mapping[str, CryptoSigner]:
        """Every key of the ring by its identifier. BuildError for one that cannot be used."""
        found = {}
        for place in self.places:
            if not place.exists():
                raise BuildError(f"{place}: there is no such file or directory of keys; --keys names one")
            for path in sorted(place.glob("*.pem")) if place.is_dir() else [place]:
                signer = _signer(path, self.password)
                found[signer.public_key.keyid] = signer
        return found


def make_key(directory: Path, role: str, password: bytes | None = None) -> tuple[Key, Path]:
    """A new key in ``directory``, which is made for its owner alone; the public half, and where the private one lies.
    BuildError."""
    private = Ed25519PrivateKey.generate()
    signer = CryptoSigner(private)
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    name = f"{role}-{signer.public_key.keyid[:LETTERS]}"
    path = directory / f"{name}.pem"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(pem)
        public = {"keyid": signer.public_key.keyid, **signer.public_key.to_dict()}
        (directory / f"{name}.json").write_text(json.dumps(public, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise BuildError(f"{error.filename}: the key of {role} cannot be written: {error.strerror}") from error
    return signer.public_key, path


def read_public_keys(paths: Sequence[Path]) -> list[Key]:
    """The public halves in these files. BuildError."""
    return [read_public_key(path) for path in paths]


def read_public_key(path: Path) -> Key:
    """The public half of a key in its JSON form. BuildError."""
    try:
        with path.open("rb") as file:
            fields = json.loads(file.read(LIMIT_BYTES))
        told, value = fields["keyid"], bytes.fromhex(fields["keyval"]["public"])
        if (fields["keytype"], fields["scheme"]) != ("ed25519", "ed25519"):
            raise BuildError(f"{path} holds a key of type {fields['keytype']}; pilots verify ed25519 and nothing else")
        # The identifier is computed and not believed: one that is another key's would take that key's place.
        key: Key = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(value))
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}; a public key is the .json file beside its .pem") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"{path} holds no public key; it is the .json file beside a .pem") from error
    if key.keyid != told:
        raise BuildError(f"{path}: the identifier {str(told)[:LETTERS]} is not that of the key, {key.keyid[:LETTERS]}")
    return key


def _signer(path: Path, password: bytes | None) -> CryptoSigner:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise BuildError(f"{path}: others may read this private key; change it with: chmod 600 {path}")
        pem = path.read_bytes()[:LIMIT_BYTES]
        private = load_pem_private_key(pem, password if b"ENCRYPTED" in pem else None)
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        asked = "the password is wrong" if password else "it is encrypted, and --password-file is not given"
        reason = asked if b"ENCRYPTED" in pem else "it is no private key in PEM form"
        raise BuildError(f"{path} cannot be used: {reason}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise BuildError(f"{path} is no ed25519 key; pilots verify nothing else")
    return CryptoSigner(private)
