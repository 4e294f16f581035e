"""Tokens for pilots, as HTCondor makes them, and never wider than a pilot needs."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest

from pilot_agent.model import PilotError
from server_stub.credentials.idtoken import SigningKey, derive, issue, read_signing_key

CONTENT = bytes(range(64))
NOW = 1_800_000_000
KEY = SigningKey("PILOTS", "pool.test", derive(CONTENT, "PILOTS"))


def test_a_token_says_what_a_pilot_may_and_is_signed_by_the_pool() -> None:
    token = issue(KEY, identity="Example_T2@frontend", jti="a.1", issued=NOW, expires=NOW + 600)
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT", "kid": "PILOTS"}
    told = jwt.decode(token, KEY.secret, algorithms=["HS256"], options={"verify_exp": False, "verify_iat": False})
    assert told == {
        "iss": "pool.test",
        "sub": "Example_T2@frontend",
        "iat": NOW,
        "exp": NOW + 600,
        "jti": "a.1",
        "scope": "condor:/READ condor:/ADVERTISE_STARTD condor:/ADVERTISE_MASTER",
    }


MADE_BY_HTCONDOR = {
    "POOL": (
        "eyJhbGciOiJIUzI1NiIsImtpZCI6IlBPT0wifQ.eyJpYXQiOjE3OTUzMzc3MDgsImlzcyI6InBvb2wudGVzdCIsImp0aSI6ImRiM"
        "GVmMDRlMzU0ZDdhMGM0MWU3NGQ1MGM0ZWVhZDAyIiwic2NvcGUiOiJjb25kb3I6XC9SRUFEIiwic3ViIjoicGlsb3RAcG9vbC50Z"
        "XN0In0.UyHAvLVj-aZ3CotHHZ5g79X38GyGzF2jNnm5C8tNEMY"
    ),
    "PILOTS": (
        "eyJhbGciOiJIUzI1NiIsImtpZCI6IlBJTE9UUyJ9.eyJpYXQiOjE3OTUzMzc3MDgsImlzcyI6InBvb2wudGVzdCIsImp0aSI6IjQ"
        "5OWY2NGFmZDZhNmZmYTVmMDFiMTBmYzAxZGZlOWE5Iiwic2NvcGUiOiJjb25kb3I6XC9SRUFEIiwic3ViIjoicGlsb3RAcG9vbC5"
        "0ZXN0In0.3-YYYc87yDkv9HW6hT_hJ13fDeKeweQ81pm0tIX5iCE"
    ),
}
"""What condor_token_create of 23.9.6 signed with two keys of this content: the pool's first, and another."""


@pytest.mark.parametrize("name", MADE_BY_HTCONDOR)
def test_a_key_is_derived_as_htcondor_does(name: str) -> None:
    token = MADE_BY_HTCONDOR[name]
    told = jwt.decode(token, derive(CONTENT, name), algorithms=["HS256"], options={"verify_iat": False})
    assert (told["sub"], told["scope"]) == ("pilot@pool.test", "condor:/READ")
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, derive(CONTENT[:-1], name), algorithms=["HS256"])


@pytest.mark.parametrize("wider", [(), ("READ", "DAEMON"), ("ADVERTISE_SCHEDD",), ("WRITE",), ("READ condor:/WRITE",)])
def test_a_wider_token_is_not_made(wider: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="allows READ, ADVERTISE_STARTD, ADVERTISE_MASTER and not"):
        issue(KEY, identity="a@b", jti="j", issued=NOW, expires=NOW + 1, authorizations=wider)


@pytest.mark.parametrize("identity", ["", "pilot", "*@pool", "a b@c", "a@b@c", "a/b@c", "a@b\n", "-a@b"])
def test_an_identity_that_could_be_read_as_another_is_refused(identity: str) -> None:
    with pytest.raises(ValueError, match="is no identity"):
        issue(KEY, identity=identity, jti="j", issued=NOW, expires=NOW + 1)


def test_a_key_that_others_may_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "PILOTS"
    path.write_bytes(CONTENT)
    path.chmod(0o640)
    with pytest.raises(PilotError, match="accounts beside its owner") as told:
        read_signing_key(str(path), issuer="pool.test")
    assert told.value.failure.code == "credential.signing_key"
    path.chmod(0o600)
    assert read_signing_key(str(path), issuer="pool.test") == KEY
    assert KEY.secret.hex() not in repr(KEY)


@pytest.mark.parametrize("content", [None, b""])
def test_a_key_that_is_none_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "PILOTS"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    with pytest.raises(PilotError, match="PILOTS cannot be used"):
        read_signing_key(str(path), issuer="pool.test")
