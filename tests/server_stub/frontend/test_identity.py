"""The frontend's key, and what it signs."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pilot_agent.model import PilotError
from server_stub.frontend.identity import Identity, load_identity, make_key


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    make_key(str(tmp_path / "key"))
    return load_identity("example-vo", str(tmp_path / "key"))


def test_a_token_is_for_one_factory_and_a_few_minutes_and_no_two_are_the_same(identity: Identity) -> None:
    tokens = [identity.token("east") for _ in range(2)]
    claims = [jwt.decode(token, identity.public_key(), algorithms=["EdDSA"], audience="east") for token in tokens]
    assert {each["iss"] for each in claims} == {"example-vo"}
    assert all(0 < each["exp"] - each["iat"] <= 300 for each in claims)
    assert claims[0]["jti"] != claims[1]["jti"]
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(tokens[0], identity.public_key(), algorithms=["EdDSA"], audience="west")


def test_the_key_is_the_owners_alone_and_in_no_text(identity: Identity, tmp_path: Path) -> None:
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert repr(identity) == "Identity(name='example-vo')"
    assert "PRIVATE" not in identity.public_key()


def test_a_key_that_others_can_read_is_refused(identity: Identity, tmp_path: Path) -> None:
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(PilotError, match="mode 0640") as caught:
        load_identity("example-vo", str(tmp_path / "key"))
    assert caught.value.failure.code == "key.unsafe"


def test_what_is_no_ed25519_key_is_refused_by_name(tmp_path: Path) -> None:
    other = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for content, said in ((b"rubbish", "no private key"), (other, "RSAPrivateKey")):
        (tmp_path / "other").write_bytes(content)
        (tmp_path / "other").chmod(0o600)
        with pytest.raises(PilotError, match=said):
            load_identity("example-vo", str(tmp_path / "other"))
    with pytest.raises(PilotError, match="cannot be read"):
        load_identity("example-vo", str(tmp_path / "nothing"))
