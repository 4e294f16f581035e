from __future__ import annotations

import os
import signal
from dataclasses import asdict
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes import scratch
from pilot_agent.probes.disk import probe_disk
from pilot_agent.probes.namespaces import MS_NOEXEC, mount
from pilot_agent.probes.scratch import assess, assess_with_deadline, choose_scratch, scratch_candidates
from tests.probes.namespaced import as_nobody, in_namespace
from tests.probes.trees import context_of, facts


def test_a_good_directory_is_usable_and_stays_empty(tmp_path: Path) -> None:
    verdict = assess(str(tmp_path))
    assert verdict.usable
    assert (verdict.writable, verdict.executable, verdict.reason) == (True, True, "")
    assert verdict.free_mib
    assert verdict.kind
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_the_umask_does_not_matter(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert assess(str(tmp_path)).usable
    finally:
        os.umask(before)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    verdict = assess(str(tmp_path / "missing"))
    assert not verdict.usable
    assert "No such file or directory" in verdict.reason


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert assess(str(tmp_path / "file")).reason == "it is no directory"


@pytest.mark.parametrize("path", ["", "relative/path", "/a\0b"])
def test_a_relative_path_is_refused(path: str) -> None:
    assert assess(path).reason == "it is no absolute path"


def test_too_little_room_is_told_with_both_numbers(tmp_path: Path) -> None:
    verdict = assess(str(tmp_path), minimum_mib=1 << 40)
    assert not verdict.usable
    assert f"{1 << 40} are needed" in verdict.reason
    assert verdict.writable


def test_an_unwritable_directory_is_refused(open_path: Path) -> None:
    open_path.chmod(0o555)
    verdict = as_nobody(lambda: asdict(assess(str(open_path))))
    assert not verdict["usable"]
    assert verdict["writable"] is False
    assert "Permission denied" in verdict["reason"]


def test_a_directory_in_which_everybody_may_rename_is_refused(open_path: Path) -> None:
    open_path.chmod(0o777)
    verdict = assess(str(open_path))
    assert not verdict.usable
    assert "everybody may rename" in verdict.reason
    open_path.chmod(0o1777)
    assert assess(str(open_path)).usable


def test_a_file_system_without_execution_is_refused(tmp_path: Path) -> None:
    def work() -> object:
        mount("tmpfs", str(tmp_path), "tmpfs", MS_NOEXEC, "size=4m")
        return asdict(assess(str(tmp_path)))

    verdict = in_namespace(work)
    assert not verdict["usable"]
    assert (verdict["writable"], verdict["executable"]) == (True, False)
    assert "noexec" in verdict["reason"]


def test_a_full_file_system_is_refused(tmp_path: Path) -> None:
    def work() -> object:
        mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=64k")
        (tmp_path / "filler").write_bytes(b"x" * 61440)
        return asdict(assess(str(tmp_path)))

    verdict = in_namespace(work)
    assert not verdict["usable"]
    assert "full" in verdict["reason"]
    assert verdict["kind"] == "tmpfs"


def test_a_file_system_without_inodes_is_refused(tmp_path: Path) -> None:
    def work() -> object:
        mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=4m,nr_inodes=50")
        return asdict(assess(str(tmp_path)))

    assert "free inodes" in in_namespace(work)["reason"]


def test_a_directory_that_does_not_answer_is_refused_in_time(tmp_path: Path) -> None:
    def work() -> object:
        device = os.open("/dev/fuse", os.O_RDWR)
        mount("silent", str(tmp_path), "fuse", 0, f"fd={device},rootmode=40000,user_id=0,group_id=0")
        return asdict(assess_with_deadline(str(tmp_path), deadline_seconds=0.2))

    verdict = in_namespace(work)
    assert not verdict["usable"]
    assert "hangs" in verdict["reason"]


def test_the_first_good_candidate_is_taken_and_the_others_are_explained(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    choice = choose_scratch([missing, "relative", str(tmp_path), "/"], 1)
    assert choice.chosen is not None
    assert choice.chosen.path == str(tmp_path)
    assert [verdict.path for verdict in choice.refused] == [missing, "relative"]
    assert all(verdict.reason for verdict in choice.refused)


def test_nothing_is_taken_when_nothing_will_do(tmp_path: Path) -> None:
    choice = choose_scratch([str(tmp_path / "missing")], 1)
    assert choice.chosen is None
    assert len(choice.refused) == 1


def test_candidates_come_in_order_and_once() -> None:
    environment = {
        "_CONDOR_SCRATCH_DIR": "/scratch/a",
        "TMPDIR": "/scratch/b",
        "SLURM_TMPDIR": "",
        "PBS_JOBDIR": "/first",
    }
    found = scratch_candidates(["/first"], environment, directory="/cwd")
    assert list(found) == ["/first", "/scratch/a", "/scratch/b", "/cwd", "/tmp", "/var/tmp"]
    assert found["/first"] == "configuration site.scratch"
    assert found["/scratch/b"] == "TMPDIR"


def test_the_probe_tells_of_every_candidate_and_of_the_workspace(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    context = Context(config={"site": {"scratch": [missing, str(tmp_path)]}}, workspace=str(tmp_path))
    known = facts(probe_disk(context))
    first, second, *_ = known["disk.candidates"].value
    assert (first["path"], first["usable"]) == (missing, False)
    assert (second["path"], second["usable"], second["exec"]) == (str(tmp_path), True, True)
    assert known["disk.workspace_free_mib"].value > 0
    assert known["disk.workspace_free_mib"].source == f"statvfs {tmp_path}"


def test_without_a_workspace_the_best_candidate_tells_the_room(tmp_path: Path) -> None:
    free = facts(probe_disk(Context(config={"site": {"scratch": [str(tmp_path)]}})))["disk.workspace_free_mib"]
    assert free.source == f"statvfs {tmp_path}"
    assert free.detail == "no workspace was made yet"


def test_a_recording_is_never_written_to() -> None:
    known = facts(probe_disk(context_of("bare_metal_el9")))
    assert {fact.status for fact in known.values()} == {FactStatus.UNKNOWN}


def test_what_a_killed_trial_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die_in_the_middle(directory: str, run_program: bool) -> tuple[str, str]:
        (Path(directory) / f"{scratch.TRIAL_PREFIX}{os.getpid()}-0").touch()
        os.kill(os.getpid(), signal.SIGKILL)
        return "", ""

    monkeypatch.setattr(scratch, "_try_file", die_in_the_middle)
    verdict = scratch.assess_with_deadline(str(tmp_path))
    assert "ended by signal 9" in verdict.reason
    assert list(tmp_path.iterdir()) == []
