"""What a check finds in a frontend that works, and in those that do not."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from server_stub.findings import Verdict, exit_code
from server_stub.frontend.checking import check_frontend
from tests.server_stub.frontend.factory_double import entry
from tests.server_stub.frontend.test_site_secrets import token, write
from tests.server_stub.frontend.world import World


def checked(world: World) -> dict[str, tuple[Verdict, str]]:
    found = check_frontend(world.frontend, time.time(), python=world.pool.python)
    return {one.name: (one.verdict, f"{one.message} {one.hint}") for one in found}


def with_token(world: World) -> Path:
    directory = world.directory / "tokens.d"
    directory.mkdir(mode=0o700)
    (directory / "pool").write_text("x")
    (directory / "pool").chmod(0o600)
    world.document["pool"] = {**world.document["pool"], "tokens": str(directory)}
    return directory


def test_all_is_well_where_all_is_well(world: World) -> None:
    with_token(world)
    found = checked(world)
    assert {verdict for verdict, _ in found.values()} == {Verdict.OK}
    assert "40 idle jobs" in found["ap1"][1]
    assert "2 entries, 2 of which may be asked" in found["factory east"][1]


def test_tokens_that_others_can_use_or_that_are_not_there_are_told(world: World) -> None:
    directory = with_token(world)
    (directory / "pool").chmod(0o644)
    assert checked(world)["tokens"][0] is Verdict.WARN
    (directory / "pool").unlink()
    assert "is empty" in checked(world)["tokens"][1]


def test_credentials_are_made_once_and_what_they_are_is_told(world: World) -> None:
    with_token(world)
    for name, content in (("PILOTS", b"k" * 64), ("token", token(int(time.time()) + 7300).encode())):
        write(world.directory / name, content)
    site = {"name": "t", "kind": "scitoken", "file": str(world.directory / "token")}
    pilots = {"signing_key": str(world.directory / "PILOTS"), "trust_domain": "pool.test"}
    world.document["credentials"] = {"pilots": pilots, "sites": [site, {**site, "name": "u", "kind": "x509"}]}
    found = checked(world)
    assert found["signing key"] == (Verdict.OK, f"{pilots['signing_key']} signs tokens as PILOTS of pool.test ")
    assert found["credential t"] == (Verdict.OK, "a scitoken that lasts 2.0 h ")
    assert found["credential u"][0] is Verdict.FAIL
    world.document["credentials"] = {"pilots": {**pilots, "key_id": "POOL"}}
    assert checked(world)["signing key"][0] is Verdict.WARN


def test_what_does_not_answer_fails_with_its_own_words(world: World) -> None:
    world.pool.loses("jobsap1")
    world.factory.frontend = "another"
    found = list(check_frontend(world.frontend, time.time(), python=world.pool.python))
    told = {one.name: one.message for one in found if one.verdict is Verdict.FAIL}
    assert set(told) == {"ap1", "factory east"}
    assert "no answer for jobsap1" in told["ap1"]
    assert exit_code(found) == 67


@pytest.mark.parametrize("tokens", ["", "/etc/tokens.d"])
def test_what_does_not_answer_is_told_with_what_was_to_prove_this_frontend(world: World, tokens: str) -> None:
    world.pool.loses("jobsap1")
    frontend = replace(world.frontend, pool=replace(world.frontend.pool, tokens=tokens))
    found = {one.name: one for one in check_frontend(frontend, time.time(), python=world.pool.python)}
    proof = f"accepts the tokens in {tokens};" if tokens else "accepts this account; pool.tokens names none;"
    assert proof in found["ap1"].hint


def test_entries_that_can_never_be_asked_are_told_with_the_reason(world: World) -> None:
    world.factory.entries = [entry("a", vos=["other"]), entry("b", closed="downtime: switches")]
    verdict, told = checked(world)["factory east"]
    assert verdict is Verdict.FAIL
    assert "a@east (it takes no pilots of example" in told
    assert "b@east (downtime: switches)" in told


def test_without_the_collector_no_slots_are_told(world: World) -> None:
    world.pool.loses("access_points")
    found = checked(world)
    assert "slots" not in found
    assert found["the collector cm.example.org:9618"][0] is Verdict.FAIL
