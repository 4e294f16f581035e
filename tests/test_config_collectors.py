"""Of collectors with alternatives each pilot takes one, always the same, and all pilots together take all."""

from __future__ import annotations

import pytest

from pilot_agent.config_collectors import drawn

PILOTS = [f"{number:012x}" for number in range(400)]


def test_collectors_without_alternatives_are_all_taken_in_their_order() -> None:
    assert drawn(["b:9618", "a", "[2001:db8::1]:9618", "b:9618"], "x") == ("b:9618", "a", "[2001:db8::1]:9618")


@pytest.mark.parametrize("texts", [["a:1,b:1", "c:1,d:1"], ["a:1,b:1;c:1,d:1"], [" a:1 , b:1 ; c:1,d:1 ;"]])
def test_one_of_every_group_is_taken(texts: list[str]) -> None:
    chosen = {drawn(texts, pilot) for pilot in PILOTS}
    assert chosen == {(one, other) for one in ("a:1", "b:1") for other in ("c:1", "d:1")}
    assert drawn(texts, PILOTS[0]) == drawn(texts, PILOTS[0])


def test_the_draw_is_even() -> None:
    taken = [drawn(["a,b,c,d"], pilot) for pilot in PILOTS]
    assert all(60 < taken.count((one,)) < 140 for one in "abcd")


def test_one_port_of_a_range_is_taken() -> None:
    assert {drawn(["h:9620-9623"], pilot) for pilot in PILOTS} == {(f"h:{port}",) for port in range(9620, 9624)}
    assert {drawn(["h:9620-9621?sock=collector"], pilot) for pilot in PILOTS} == {
        ("h:9620?sock=collector",),
        ("h:9621?sock=collector",),
    }


@pytest.mark.parametrize("text", ["h:9618?sock=collector1-3", "h:9618?sock=collector1-collector3"])
def test_one_socket_of_a_range_is_taken(text: str) -> None:
    assert {drawn([text], pilot) for pilot in PILOTS} == {(f"h:9618?sock=collector{n}",) for n in (1, 2, 3)}


@pytest.mark.parametrize("text", ["h:9623-9620", "a-b.example.org:9618", "h:9618?sock=my-collector"])
def test_what_is_no_range_stays_as_it_is(text: str) -> None:
    assert drawn([text], "x") == (text,)


def test_nothing_is_drawn_from_nothing() -> None:
    assert drawn([";", " , "], "x") == ()
