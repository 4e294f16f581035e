"""The factory's key is made once, and nobody else reads it; the times of tokens are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from server_stub.factory.limits import Rate
from server_stub.factory.store import Store
from server_stub.factory.tokens import FIRST_SECONDS, NEXT_SECONDS, Claims, TokenError, Tokens, load_key


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    key = load_key(str(tmp_path))
    assert (len(key), load_key(str(tmp_path))) == (32, key)
    assert [path.name for path in tmp_path.iterdir()] == ["token.key"]
    assert (tmp_path / "token.key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_is_too_short_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "token.key").write_text("abcd")
    with pytest.raises(ValueError, match="holds 2 bytes"):
        load_key(str(tmp_path))


def test_every_token_is_another_one(store: Store) -> None:
    tokens = Tokens("example", b"k" * 32, store)
    assert tokens.issue("p1") != tokens.issue("p1")


def test_a_token_counts_until_its_end(store: Store) -> None:
    tokens = Tokens("example", b"k" * 32, store)
    assert tokens.judge(tokens.issue("p1", seconds=60), "p1").pilot_id == "p1"
    with pytest.raises(TokenError, match="expired"):
        tokens.judge(tokens.issue("p1", seconds=-31), "p1")


@pytest.mark.parametrize(
    ("lifetime", "age", "worn"),
    [(FIRST_SECONDS, 1, True), (NEXT_SECONDS, 1, False), (NEXT_SECONDS, NEXT_SECONDS * 0.6, True)],
)
def test_a_newer_token_is_given_in_time(lifetime: float, age: float, worn: bool) -> None:
    assert Claims("p1", "a", 1000.0, 1000.0 + lifetime).worn(1000.0 + age) is worn


def test_a_rate_lets_so_many_through_at_once_and_then_so_many_a_second() -> None:
    now = 100.0
    rate = Rate(at_once=2, per_second=0.5, clock=lambda: now)
    assert [rate.wait("a") for _ in range(3)] == [0.0, 0.0, 2.0]
    assert rate.wait("b") == 0.0
    now += 2.0
    assert [rate.wait("a") for _ in range(2)] == [0.0, 2.0]
