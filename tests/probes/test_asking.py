from __future__ import annotations

import errno
import time
from pathlib import Path

from pilot_agent.hookspecs import Context
from pilot_agent.model import Json
from pilot_agent.probes.node import Node
from pilot_agent.probes.recording import finish_recording


def refused() -> Json:
    raise OSError(errno.EACCES, "Permission denied")


def crash() -> Json:
    raise RuntimeError("a bug in a trial")


def sleep() -> Json:
    time.sleep(60)


def test_several_tests_are_asked_at_once_and_answer_in_their_own_order() -> None:
    answers = Node().ask_all({"slow": sleep, "good": lambda: {"a": [1]}, "refused": refused, "bug": crash}, seconds=2)
    assert list(answers) == ["slow", "good", "refused", "bug"]
    assert (answers["slow"].hung, answers["slow"].stuck) == (True, False)
    assert answers["good"].value == {"a": [1]}
    assert answers["refused"].problem == "EACCES: Permission denied"
    assert "a bug in a trial" in answers["bug"].problem


def test_nothing_to_ask_has_no_answer() -> None:
    assert Node().ask_all({}) == {}


def test_what_was_asked_at_once_is_replayed_one_by_one_and_the_other_way_round(tmp_path: Path) -> None:
    node = Node.of(Context(record=str(tmp_path)))
    asked = node.ask_all({"good": lambda: 7, "refused": refused})
    single = node.ask("single", lambda: "x")
    finish_recording(str(tmp_path), {}, {})
    replayed = Node.of(Context(root=str(tmp_path)))
    assert replayed.ask("good", crash) == asked["good"]
    again = replayed.ask_all({"refused": crash, "single": crash, "never": crash})
    assert (again["refused"], again["single"]) == (asked["refused"], single)
    assert not again["never"].recorded
