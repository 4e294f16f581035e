"""What is sealed opens for one recipient under one label, and says nothing otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from server_stub.credentials.kinds import SECRET_LIMIT_BYTES, Kind, Label, Purpose
from server_stub.credentials.sealing import OVERHEAD_BYTES, Recipient, SealError, seal, unseal

LABEL = Label("cms-frontend", "factory-1", "a1b2", Kind.SCITOKEN, Purpose.SITE, "site-a", 1_800_000_000)
PRIVATE = X25519PrivateKey.generate()
RECIPIENT = Recipient("k1", PRIVATE.public_key().public_bytes_raw())
SECRETS = st.binary(min_size=1, max_size=300)


@given(SECRETS)
def test_the_recipient_gets_what_was_sealed(secret: bytes) -> None:
    sealed = seal(secret, RECIPIENT, LABEL)
    assert unseal(sealed, PRIVATE, LABEL) == secret
    assert len(sealed) == len(secret) + OVERHEAD_BYTES
    assert len(secret) < 8 or secret not in sealed


@given(SECRETS, st.data())
def test_an_altered_bit_is_refused(secret: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(secret, RECIPIENT, LABEL))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(SealError) as told:
        unseal(bytes(sealed), PRIVATE, LABEL)
    assert repr(secret)[2:-1] not in str(told.value) or len(secret) < 8


@given(SECRETS, st.data())
def test_one_that_was_cut_or_made_longer_is_refused(secret: bytes, data: st.DataObject) -> None:
    sealed = seal(secret, RECIPIENT, LABEL)
    other = data.draw(st.sampled_from((sealed[:-1], sealed[1:], sealed + b"\0", sealed[: OVERHEAD_BYTES - 1], b"")))
    with pytest.raises(SealError):
        unseal(other, PRIVATE, LABEL)


@pytest.mark.parametrize(
    "change",
    [
        {"frontend": "other"},
        {"factory": "other"},
        {"id": "a1b3"},
        {"kind": Kind.X509},
        {"entry": ""},
        {"entry": "site-b"},
        {"expires": LABEL.expires + 1},
    ],
)
def test_under_another_label_it_does_not_open(change: dict[str, object]) -> None:
    sealed = seal(b"secret", RECIPIENT, LABEL)
    with pytest.raises(SealError):
        unseal(sealed, PRIVATE, replace(LABEL, **change))  # type: ignore[arg-type]


def test_nobody_else_opens_it() -> None:
    sealed = seal(b"secret", RECIPIENT, LABEL)
    with pytest.raises(SealError):
        unseal(sealed, X25519PrivateKey.generate(), LABEL)


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    assert seal(b"secret", RECIPIENT, LABEL) != seal(b"secret", RECIPIENT, LABEL)


def test_a_key_on_which_every_secret_would_be_the_same_is_refused() -> None:
    with pytest.raises(ValueError, match="shared key"):
        seal(b"secret", Recipient("zero", bytes(32)), LABEL)
    forged = b"\x01" + bytes(32) + b"\0" * 40
    with pytest.raises(SealError):
        unseal(forged, PRIVATE, LABEL)


@pytest.mark.parametrize("size", [0, SECRET_LIMIT_BYTES + 1])
def test_a_credential_is_neither_empty_nor_endless(size: int) -> None:
    with pytest.raises(ValueError, match=f"this one {size}"):
        seal(b"x" * size, RECIPIENT, LABEL)


@pytest.mark.parametrize(
    "change",
    [
        {"frontend": "cms|factory"},
        {"frontend": ""},
        {"id": "../x"},
        {"entry": "a|b"},
        {"entry": "a\nb"},
        {"expires": 0},
        {"expires": 2**53 + 1},
        {"kind": Kind.IDTOKEN},
        {"purpose": Purpose.PILOT},
    ],
)
def test_a_label_that_could_be_read_as_another_is_none(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"names of letters|entry is empty|an idtoken is|expires is"):
        replace(LABEL, **change)  # type: ignore[arg-type]
