"""Tokens are judged before they are used, and only a private copy is used."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from pilot_agent.model import FailureKind, PilotError
from pilot_agent.startd.token import install_token, read_token

NOW = 1_700_000_000.0


def make(payload: object, header: object = {"alg": "HS256", "kid": "POOL"}) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, payload)]
    return ".".join((*parts, "c2ln"))


GOOD = make({"iss": "pool.example", "sub": "pilot@pool.example", "exp": NOW + 100})


def test_a_good_token_tells_issuer_subject_and_end(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(GOOD + "\n")
    token, facts = read_token(str(path), now=NOW)
    assert token == GOOD
    assert (facts.issuer, facts.subject, facts.expires, facts.key) == (
        "pool.example",
        "pilot@pool.example",
        int(NOW + 100),
        "POOL",
    )


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "token.invalid"),
        ("garbage", "token.invalid"),
        ("a.b.c", "token.invalid"),
        ("é", "token.invalid"),
        (GOOD + "\n" + GOOD, "token.invalid"),
        (make([1]), "token.invalid"),
        (make({"iss": "x"}), "token.invalid"),
        (make({"iss": "x", "sub": "y", "exp": "soon"}), "token.invalid"),
        (make({"iss": "x", "sub": "y", "exp": True}), "token.invalid"),
        (make({"iss": "x", "sub": "y", "exp": NOW - 60}), "token.expired"),
    ],
)
def test_bad_tokens_are_refused_and_never_repeated(tmp_path: Path, content: str, code: str) -> None:
    path = tmp_path / "t"
    path.write_text(content)
    with pytest.raises(PilotError) as caught:
        read_token(str(path), now=NOW)
    failure = caught.value.failure
    assert (failure.kind, failure.code) == (FailureKind.CREDENTIAL, code)
    assert GOOD not in failure.message


def test_an_expired_token_says_when_and_by_which_clock(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(make({"iss": "x", "sub": "y", "exp": NOW - 60}))
    with pytest.raises(PilotError, match=r"2023-11-14T22:12:20Z, 60 s before this node's 2023-11-14T22:13:20Z"):
        read_token(str(path), now=NOW)


def test_a_missing_token_is_named(tmp_path: Path) -> None:
    with pytest.raises(PilotError) as caught:
        read_token(str(tmp_path / "none"))
    assert caught.value.failure.code == "token.missing"


def test_a_token_that_others_can_read_is_copied_to_a_private_file(tmp_path: Path) -> None:
    path, directory = tmp_path / "t", tmp_path / "tokens"
    directory.mkdir(mode=0o700)
    path.write_text(GOOD)
    path.chmod(0o644)
    install_token(str(path), str(directory), now=NOW)
    copy = directory / "pool"
    assert copy.read_text().strip() == GOOD
    assert stat.S_IMODE(os.stat(copy).st_mode) == 0o600


def test_a_token_that_anybody_may_write_is_refused(open_path: Path) -> None:
    path = open_path / "t"
    path.write_text(GOOD)
    path.chmod(0o666)
    with pytest.raises(PilotError) as caught:
        install_token(str(path), str(open_path), now=NOW)
    assert caught.value.failure.code == "token.exposed"
