"""Only who holds a frontend's key asks in its name, for this factory, for a few minutes."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.model import PilotError
from server_stub.entries import parse_factory
from server_stub.factory.frontends import Frontend, FrontendError, FrontendLimits, judge_token
from tests.server_stub.factory.keys import Signer

SIGNER = Signer()
OTHER = Signer("other")
KNOWN = (Frontend("fe", SIGNER.public, ("cms",)), Frontend("other", OTHER.public, ("atlas",)))
NOW = 1_700_000_000.0


def refused(token: str, *, now: float | None = None) -> str:
    with pytest.raises(FrontendError) as caught:
        judge_token(token, KNOWN, "example", now=now)
    said = str(caught.value)
    assert token not in said
    return said


def test_a_token_says_which_frontend_signed_it() -> None:
    caller = judge_token(SIGNER.token(jti="one", iat=NOW, exp=NOW + 300), KNOWN, "example", now=NOW + 1)
    assert (caller.frontend.name, caller.jti, caller.expires) == ("fe", "one", NOW + 300)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"iss": "nobody"}, "names no frontend"),
        ({"iss": "other"}, "not signed by the frontend other"),
        ({"iss": ["fe"]}, "names no frontend"),
        ({"aud": "another"}, "not for this factory, which is example"),
        ({"aud": ["example", "another"]}, "not for this factory"),
        ({"aud": None}, "incomplete"),
        ({"jti": None}, "incomplete"),
        ({"jti": ""}, "jti"),
        ({"jti": 7}, "incomplete"),
        ({"jti": "x" * 129}, "jti"),
        ({"iat": None}, "incomplete"),
        ({"iat": "now"}, "incomplete|no epoch seconds"),
        ({"exp": None}, "incomplete"),
        ({"exp": 1e300}, "no epoch seconds|incomplete"),
        ({"iat": NOW - 400, "exp": NOW - 100}, "has expired"),
        ({"iat": NOW, "exp": NOW + 301}, "lasts 301 s; at most 300 s count"),
        ({"iat": NOW + 120, "exp": NOW + 180}, "clocks"),
        ({"nbf": time.time() + 86400}, "incomplete|not signed"),
    ],
)
def test_a_token_that_does_not_say_what_it_must_is_refused_with_the_reason(changed: dict[str, Any], said: str) -> None:
    message = refused(SIGNER.token(**{"iat": NOW, "exp": NOW + 60} | changed), now=NOW)
    assert any(part in message for part in said.split("|")), message


def test_no_other_key_and_no_other_kind_of_signature_counts() -> None:
    claims = SIGNER.claims()
    forged = [
        replace(OTHER, name="fe").token(),
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode(claims, "x" * 32, algorithm="HS256"),
        jwt.encode(claims, rsa.generate_private_key(65537, 2048), algorithm="RS256"),
        jwt.encode(claims, ed448.Ed448PrivateKey.generate(), algorithm="EdDSA"),
        SIGNER.token()[:-4] + "AAAA",
        "x" * 5000,
        "a.b.c",
    ]
    for token in forged:
        refused(token)


def test_the_public_key_is_no_secret_to_sign_with() -> None:
    raw = SIGNER.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    refused(jwt.encode(SIGNER.claims(), raw, algorithm="HS256"))


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_anything_else_is_no_token(content: bytes | str) -> None:
    text = content.decode("latin-1") if isinstance(content, bytes) else content
    with pytest.raises(FrontendError):
        judge_token(text, KNOWN, "example")


def frontend(**more: Any) -> dict[str, Any]:
    return {"name": "fe", "public_key": SIGNER.public, "vos": ["cms"], **more}


def message_of(document: dict[str, Any], *frontends: Any) -> str:
    with pytest.raises(PilotError) as caught:
        parse_factory({**document, "frontends": list(frontends)}, "/etc/factory")
    return caught.value.failure.message


def test_the_factorys_file_names_its_frontends(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_text(OTHER.public)
    document["frontends"] = [
        frontend(entries=["site-a"], limits={"total": 7, "idle": 6, "held": 5, "per_minute": 4}),
        frontend(name="other", public_key="other.pem"),
    ]
    one, two = parse_factory(json.loads(json.dumps(document)), str(tmp_path)).frontends
    assert one == Frontend("fe", SIGNER.public, ("cms",), ("site-a",), FrontendLimits(7, 6, 5, 4))
    assert two == Frontend("other", OTHER.public, ("cms",))
    assert (one.may_use("site-a"), one.may_use("site-b"), two.may_use("site-b")) == (True, False, True)


def test_every_mistake_about_a_frontend_is_named_with_its_place(document: dict[str, Any]) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    weak = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    message = message_of(
        document,
        frontend(entries=["site-x"], limit={"total": 1}),
        frontend(public_key="gone.pem", vos=[]),
        frontend(name="c", public_key=weak, limits={"idle": -1}),
        frontend(name="d", public_key="-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"),
        "e",
    )
    for said in (
        "frontends[0].entries: the factory has no entry 'site-x'",
        "frontends[0].limit: unknown key; did you mean limits?",
        "frontends[1].name: 'fe' is the name of an earlier frontend too",
        "frontends[1].public_key: /etc/factory/gone.pem cannot be read: No such file",
        "frontends[1].vos: missing",
        "frontends[2].public_key: an ed25519 key is needed",
        "frontends[2].limits.idle: -1 is not in 0..",
        "frontends[3].public_key: this is no public key in PEM",
        "frontends[4]: expected a mapping",
    ):
        assert said in message


def test_tokens_of_frontends_are_not_sent_in_the_clear(document: dict[str, Any]) -> None:
    document |= {"address": "0.0.0.0", "url": "http://factory.example.org"}
    assert "frontends: frontends prove by a token who they are: give certificate and key" in message_of(
        document, frontend()
    )
    parse_factory({**document, "frontends": [frontend()], "address": "127.0.0.1"}, "/etc/factory")
    parse_factory({**document, "frontends": [frontend()], "url": "https://factory.example.org"}, "/etc/factory")
