"""What a pilot left is told from what was there before, and from what it may leave."""

from __future__ import annotations

from tests.chaos.traces import Traces

NOTHING = Traces(frozenset(), frozenset(), frozenset(), frozenset(), frozenset())


def files(*names: str) -> Traces:
    return Traces(frozenset(names), frozenset(), frozenset(), frozenset(), frozenset())


def test_what_was_there_before_is_nobodys_leftover() -> None:
    assert files("/tmp/a", "/tmp/b").since(files("/tmp/a")) == ["files: /tmp/b"]


def test_a_directory_counts_once_with_all_that_is_in_it() -> None:
    assert files("/tmp/a", "/tmp/a/b", "/tmp/a/b/c").since(NOTHING) == ["files: /tmp/a"]


def test_what_may_stay_is_no_leftover_and_neither_is_what_lies_in_it() -> None:
    there = files("/home/pilot/run-1/logs", "/home/pilot/run-1/logs/x", "/home/pilot/run-1/logs2")
    assert there.since(NOTHING, ["/home/pilot/run-1/logs"]) == ["files: /home/pilot/run-1/logs2"]


def test_processes_mounts_sockets_and_shared_memory_count() -> None:
    left = Traces(
        frozenset(), frozenset({"/a tmpfs x"}), frozenset({"7 S sh"}), frozenset({"unix @x"}), frozenset({"0 1"})
    )
    assert left.since(NOTHING) == [
        "mounts: /a tmpfs x",
        "processes: 7 S sh",
        "sockets: unix @x",
        "shared_memory: 0 1",
    ]
