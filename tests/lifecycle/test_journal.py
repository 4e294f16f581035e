"""The journal survives a crash at any byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.lifecycle.identity import identify
from pilot_agent.lifecycle.journal import Journal, read_journal


def test_open_entries_are_read_back_in_order(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"))
    journal.directory("/somewhere")
    number = journal.process("cache", stop_signal=15, stop_seconds=2.5)
    own = identify(os.getpid())
    assert own is not None
    journal.started(number, own)
    journal.mount("/mnt/x", ["fusermount3", "-u", "/mnt/x"])
    found = read_journal(journal.path)
    assert found.directories == ["/somewhere"]
    assert [mount.undo for mount in found.mounts] == [("fusermount3", "-u", "/mnt/x")]
    (process,) = found.processes
    assert (process.label, process.stop_signal, process.stop_seconds) == ("cache", 15, 2.5)
    assert process.identity is not None
    assert process.identity.pid == os.getpid()


def test_a_control_group_is_journalled_with_what_was_handed_down_before(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"))
    number = journal.group("/sys/fs/cgroup/job/pilot-agent-0123456789ab", ["pids"])
    (entry,) = read_journal(journal.path).groups
    assert (entry.number, entry.path, entry.before) == (
        number,
        "/sys/fs/cgroup/job/pilot-agent-0123456789ab",
        ("pids",),
    )
    journal.close(number)
    assert read_journal(journal.path).groups == []


def test_closed_entries_are_gone(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "journal"))
    first = journal.directory("/a")
    journal.directory("/b")
    journal.close(first)
    assert read_journal(journal.path).directories == ["/b"]


def test_another_process_goes_on_with_the_numbers(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    first = Journal(path).directory("/a")
    second = Journal(path).directory("/b")
    assert second != first
    Journal(path).close(first)
    assert read_journal(path).directories == ["/b"]


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_a_torn_last_line_costs_only_itself(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "journal"
    journal = Journal(str(path))
    journal.directory("/kept")
    journal.directory("/torn")
    path.write_bytes(path.read_bytes()[:-cut])
    assert "/kept" in read_journal(str(path)).directories
    Journal(str(path)).directory("/after")
    assert read_journal(str(path)).directories[-1] == "/after"
    assert read_journal(str(path)).directories[0] == "/kept"


def test_a_missing_or_absurd_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert read_journal(str(tmp_path / "none")).processes == []
    (tmp_path / "odd").write_bytes(b'\xff\xfe\n[1]\n{"n": 1}\n{"n": 2, "kind": "process", "label": "x"}\n')
    assert read_journal(str(tmp_path / "odd")).processes == []


def test_what_cannot_be_recorded_raises(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        Journal(str(tmp_path / "none" / "journal")).directory("/a")


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "journal").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic"):
        Journal(str(tmp_path / "journal")).directory("/a")


_BIG = "1" + "0" * 400
_PROCESS = '"kind": "process", "label": "x"'
_IDENTITY = '"start_ticks": 1, "boot_id": "", "pid_namespace": 1'
_COMMAND = '"kind": "command", "label": "x", "directory": "/", "pilot_started": 0'


@pytest.mark.parametrize(
    "line",
    [
        f'{_PROCESS}, "stop_signal": 15, "stop_seconds": {_BIG}',
        f'{_PROCESS}, "stop_signal": 15, "stop_seconds": NaN',
        f'{_PROCESS}, "stop_signal": 999, "stop_seconds": 1',
        f'{_PROCESS}, "stop_signal": 15, "stop_seconds": 1, "identity": {{"pid": {_BIG}, {_IDENTITY}}}',
        f'{_PROCESS}, "stop_signal": 15, "stop_seconds": 1, "identity": {{"pid": -1, {_IDENTITY}}}',
        f'{_COMMAND}, "argv": [], "environment": {{}}, "seconds": 1',
        f'{_COMMAND}, "argv": ["/bin/true", "\\u0000"], "environment": {{}}, "seconds": 1',
        f'{_COMMAND}, "argv": ["/bin/true"], "environment": {{"a=b": "c"}}, "seconds": 1',
        f'{_COMMAND}, "argv": ["/bin/true"], "environment": {{}}, "seconds": {_BIG}',
        '"kind": "mount", "path": "\\u0000/x", "undo": ["true"]',
        '"kind": "group", "path": "\\ud800", "before": []',
        '"kind": "group", "path": "\\u0000", "before": []',
        '"kind": "directory", "path": "\\u0000"',
    ],
)
def test_a_line_that_the_kernel_would_refuse_costs_only_itself(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal"
    path.write_text(f'{{"n": 1, {line}}}\n', encoding="ascii")
    Journal(str(path)).directory("/after")
    found = read_journal(str(path))
    assert found.directories == ["/after"]
    assert (found.processes, found.commands, found.mounts, found.groups) == ([], [], [], [])
