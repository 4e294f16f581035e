from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from pilot_agent.probes.answers import Answer
from pilot_agent.probes.disk.quota import Quota
from pilot_agent.probes.disk.scratch import assess, assess_with_deadline, choose_scratch, judge, scratch_candidates
from pilot_agent.probes.kernel.namespaces import MS_NOEXEC, mount
from pilot_agent.probes.mountinfo import Mount
from tests.probes.hanging_fuse import hanging_mount
from tests.probes.namespaced import as_nobody, in_namespace


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
        with hanging_mount(tmp_path) as served:
            served.become("silent")
            return asdict(assess_with_deadline(str(tmp_path), deadline_seconds=0.2))

    verdict = in_namespace(work)
    assert not verdict["usable"]
    assert f"{tmp_path} hangs (fuse from hanging)" in verdict["reason"]


def test_a_dead_and_a_failing_file_system_are_refused(tmp_path: Path) -> None:
    def work() -> object:
        with hanging_mount(tmp_path / "dead") as dead, hanging_mount(tmp_path / "failing") as failing:
            dead.die()
            failing.become("io_error")
            return [assess_with_deadline(str(tmp_path / name)).reason for name in ("dead", "failing")]

    dead, failing = in_namespace(work)
    assert "Transport endpoint is not connected" in dead
    assert "Input/output error" in failing


def test_after_one_that_hangs_the_others_are_tried_at_once(tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.mkdir()

    def work() -> object:
        with hanging_mount(tmp_path / "a") as a, hanging_mount(tmp_path / "b") as b, hanging_mount(tmp_path / "c") as c:
            for each in (a, b, c):
                each.become("silent")
            choice = choose_scratch([a.path, b.path, c.path, str(good), "/tmp"], 1, seconds=4)
        assert choice.chosen is not None
        return [choice.chosen.path, [verdict.path for verdict in choice.refused]]

    assert in_namespace(work) == [str(good), [str(tmp_path / name) for name in "abc"]]
    assert list(good.iterdir()) == []


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
        "SCRATCH": "/lustre/me",
        "TMP": "/scratch/b",
        "OSG_WN_TMP": "/osg",
        "_CONDOR_SCRATCH_DIR": "/scratch/a",
        "TMPDIR": "/scratch/b",
        "SLURM_TMPDIR": "",
        "PBS_JOBDIR": "/first",
        "EDG_WL_SCRATCH": "/glite",
    }
    found = scratch_candidates(["/first"], environment, directory="/cwd")
    job = ["/scratch/a", "/scratch/b", "/glite", "/osg"]
    assert list(found) == ["/first", *job, "/cwd", "/tmp", "/var/tmp", "/lustre/me"]
    assert found["/first"] == "configuration site.scratch"
    assert found["/scratch/b"] == "TMPDIR"
    assert list(scratch_candidates([], {}, directory="")) == ["/tmp", "/var/tmp"]


def trial_of(**different: object) -> Answer:
    usual: dict[str, object] = {
        "real": "/s",
        "look": "",
        "directory": True,
        "free_bytes": 100 << 20,
        "total_bytes": 200 << 20,
        "free_inodes": None,
        "make": "",
        "write": "",
        "execute": "",
        "replaceable": "",
        "quotas": [],
    }
    return Answer(usual | different)


def test_a_quota_counts_where_it_leaves_less_than_the_file_system() -> None:
    quota = Quota("group", 7, 90 << 20, None, 100 << 20, 0, 5, None, 2000, 0, 0.0)
    verdict = judge("/s", trial_of(quotas=[asdict(quota)]), (), minimum_mib=50)
    assert (verdict.free_mib, verdict.room_mib, verdict.free_inodes) == (10, 100, 1995)
    assert verdict.reason == "10 MiB are free by the quota of group 7, 50 are needed"


@pytest.mark.parametrize(
    ("different", "words"),
    [
        ({"make": "EROFS"}, "no file can be made there: Read-only file system"),
        ({"write": "EDQUOT"}, "it is full (Disk quota exceeded)"),
        ({"execute": "noexec"}, "mount -o remount,exec /s"),
        ({"execute": "EACCES"}, "a security module forbids it"),
        ({"free_inodes": 10}, "10 files can still be made"),
        ({"replaceable": "in /s everybody may rename"}, "everybody may rename"),
        ({"look": "ESTALE"}, "Stale file handle"),
        ({"look": "no name of an error"}, "no name of an error"),
        ({"directory": False}, "it is no directory"),
        ({"free_bytes": "many"}, "could not be tried"),
    ],
)
def test_every_trial_has_its_verdict(different: dict[str, object], words: str) -> None:
    local = Mount("8:1", "/", "/s", "xfs", "/dev/sda1", ("rw",))
    verdict = judge("/s", trial_of(**different), [local])
    assert not verdict.usable
    assert words in verdict.reason


def test_memory_is_usable_with_a_warning() -> None:
    verdict = judge("/s", trial_of(), [Mount("0:30", "/", "/s", "tmpfs", "tmpfs", ("rw",))])
    assert (verdict.usable, verdict.memory) == (True, True)
    assert "count as memory" in verdict.warning


def test_what_was_not_recorded_is_no_verdict() -> None:
    verdict = judge("/s", Answer(problem="not recorded", recorded=False), ())
    assert (verdict.usable, verdict.reason) == (False, "not recorded")
