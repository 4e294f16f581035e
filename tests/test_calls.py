"""What a function gives that is called in a child."""

from __future__ import annotations

import os
import time

from pilot_agent.calls import call


def test_the_answer_comes_back_as_it_was_and_from_another_process() -> None:
    called = call(lambda: {"pid": os.getpid(), "list": [1, None, "é"]}, name="a look", deadline_seconds=60)
    assert called.ended.ok
    assert called.value["list"] == [1, None, "é"]
    assert called.value["pid"] != os.getpid()


def test_what_hangs_costs_its_deadline_and_gives_nothing() -> None:
    called = call(lambda: time.sleep(600), name="a look", deadline_seconds=0.2)
    assert called.value is None
    assert called.ended.timed_out


def test_what_dies_gives_nothing_and_how_it_ended() -> None:
    called = call(lambda: os.kill(os.getpid(), 9), name="a look", deadline_seconds=60)
    assert (called.value, called.ended.signal) == (None, 9)
    nothing: dict[str, int] = {}
    failed = call(lambda: nothing["missing"], name="a look", deadline_seconds=60)
    assert failed.value is None
    assert "KeyError" in failed.ended.explain()


def test_an_answer_that_was_cut_is_none() -> None:
    called = call(lambda: "x" * 10_000, name="a look", deadline_seconds=60, output_limit_bytes=100)
    assert called.value is None
