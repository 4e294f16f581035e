from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus, Json, Limit
from pilot_agent.probes.disk.disk import configured_scratch, disk_facts, probe_disk, rotates
from pilot_agent.probes.node import Node
from pilot_agent.probes.recording import finish_recording
from tests.probes.hanging_fuse import STATFS, hanging_mount
from tests.probes.namespaced import in_namespace
from tests.probes.trees import context_of, facts, limits, write_tree

FREE, SPEED = "disk.workspace_free_mib", "disk.write_mib_per_second"
MEASURE = {"probes": {"disk_write_mib": 8}}


def candidates(context: Context) -> dict[str, Mapping[str, Json]]:
    return {entry["path"]: entry for entry in facts(probe_disk(context))["disk.candidates"].value}


def test_the_probe_tells_of_every_candidate_and_of_the_workspace(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    context = Context(config={"site": {"scratch": [missing, str(tmp_path)]}}, workspace=str(tmp_path))
    found = list(probe_disk(context))
    first, second, *_ = facts(found)["disk.candidates"].value
    assert (first["path"], first["usable"]) == (missing, False)
    assert (second["path"], second["usable"], second["exec"]) == (str(tmp_path), True, True)
    assert second["total_mib"] >= second["free_mib"] > 0
    assert limits(found, FREE)[f"statvfs {tmp_path}"] > 0
    assert list(tmp_path.iterdir()) == []


def test_without_a_workspace_the_best_candidate_tells_the_room(tmp_path: Path) -> None:
    found = list(probe_disk(Context(config={"site": {"scratch": [str(tmp_path)]}})))
    assert list(limits(found, FREE)) == [f"statvfs {tmp_path} (no workspace yet)"]


def test_a_node_of_which_no_directory_was_tried_is_unknown() -> None:
    known = facts(probe_disk(context_of("bare_metal_el9")))
    assert {fact.status for fact in known.values()} == {FactStatus.UNKNOWN}
    assert set(known) == {"disk.candidates", FREE, SPEED}


def test_a_recorded_node_tells_quota_medium_and_kind() -> None:
    found = candidates(context_of("cvmfs_worker"))
    assert list(found) == ["/scratch/job.42", "/home/pilot/run", "/tmp", "/var/tmp"]
    job = found["/scratch/job.42"]
    assert (job["origin"], job["type"], job["source"], job["shared"]) == ("TMPDIR", "ext4", "/dev/sdb1", False)
    assert (job["free_mib"], job["total_mib"], job["free_inodes"]) == (20 << 10, 1800 << 10, 99880)
    assert job["quotas"] == [
        {
            "of": "user",
            "id": 1001,
            "used_mib": 30 << 10,
            "limit_mib": 50 << 10,
            "free_mib": 20 << 10,
            "free_inodes": 99880,
        }
    ]
    assert [found[path]["rotational"] for path in found] == [True, False, None, False]
    assert (found["/var/tmp"]["usable"], found["/var/tmp"]["exec"]) == (False, False)


def test_memory_is_warned_of() -> None:
    fact = facts(probe_disk(context_of("cvmfs_worker")))["disk.candidates"]
    assert fact.detail == "/tmp: it is memory (tmpfs): files there count as memory of the job"


def test_every_source_bounds_the_workspace() -> None:
    found = list(probe_disk(context_of("cvmfs_worker")))
    assert limits(found, FREE) == {
        "statvfs /scratch/job.42 (no workspace yet)": 900 << 10,
        "quota of user 1001 on /dev/sdb1": 20 << 10,
    }
    assert {each.unit for each in found if isinstance(each, Limit)} == {"MiB"}


@pytest.mark.parametrize(("scratch", "bounded"), [("/scratch/job.42", True), ("/elsewhere", False)])
def test_the_batch_systems_limit_holds_in_its_own_directory(tmp_path: Path, scratch: str, bounded: bool) -> None:
    recorded = context_of("cvmfs_worker", _CONDOR_MACHINE_AD="/.machine.ad", _CONDOR_SCRATCH_DIR=scratch)
    root = tmp_path / "node"
    copy_with(Path(recorded.root), root, {".machine.ad": "Disk = 1048576\nCpus = 1\n"})
    found = limits(probe_disk(Context(root=str(root), environment=recorded.environment)), FREE)
    assert ("HTCondor machine ad Disk" in found) is bounded


def copy_with(source: Path, target: Path, files: Mapping[str, str]) -> None:
    shutil.copytree(source, target)
    for name, content in files.items():
        (target / "root" / name).write_text(content)


def test_speed_is_measured_only_on_request(tmp_path: Path) -> None:
    fact = facts(probe_disk(Context(config={"site": {"scratch": [str(tmp_path)]}})))[SPEED]
    assert fact.status is FactStatus.UNKNOWN
    assert "probes.disk_write_mib is 0" in fact.detail


def test_speed_is_measured_and_leaves_nothing(tmp_path: Path) -> None:
    config = {"site": {"scratch": [str(tmp_path)]}, **MEASURE}
    known = facts(probe_disk(Context(config=config, workspace=str(tmp_path))))
    assert known[SPEED].value > 0
    assert known[SPEED].unit == "MiB/s"
    assert known["disk.candidates"].value[0]["write_mib_per_second"] == known[SPEED].value
    assert list(tmp_path.iterdir()) == []


def test_recorded_speeds_are_told_again() -> None:
    known = facts(probe_disk(context_of("cvmfs_worker", MEASURE)))
    assert known[SPEED].value == 160.0
    entries = {entry["path"]: entry for entry in known["disk.candidates"].value}
    assert entries["/scratch/job.42"]["write_mib_per_second"] == 160.0
    assert "write_mib_per_second" not in entries["/home/pilot/run"]
    assert "write_mib_per_second" not in entries["/tmp"]


def test_too_little_room_is_not_filled_by_a_measurement(tmp_path: Path) -> None:
    config = {"site": {"scratch": [str(tmp_path)]}, "probes": {"disk_write_mib": 1 << 40}}
    fact = facts(probe_disk(Context(config=config)))[SPEED]
    assert "are needed for a test" in fact.detail


def test_directories_that_hang_do_not_hide_the_others_and_replay_alike(tmp_path: Path) -> None:
    recording = tmp_path / "recording"
    recording.mkdir()
    good = tmp_path / "good"
    good.mkdir()
    silent, later = str(tmp_path / "silent"), str(tmp_path / "later")
    config = {"site": {"scratch": [silent, later, str(good)]}}

    def shown(context: Context) -> Any:
        found = list(disk_facts(context, 4))
        return [facts(found)["disk.candidates"].value, limits(found, FREE)]

    def work() -> Any:
        with hanging_mount(silent) as first, hanging_mount(later, silent_about=(STATFS,)):
            first.become("silent")
            return shown(Context(config=config, record=str(recording)))

    entries, room = in_namespace(work)
    by_path = {entry["path"]: entry for entry in entries}
    assert not by_path[silent]["usable"]
    assert f"{silent} hangs (fuse from hanging)" in by_path[silent]["reason"]
    assert f"{later} hangs" in by_path[later]["reason"]
    assert by_path[str(good)]["usable"]
    assert list(room) == [f"statvfs {good} (no workspace yet)"]
    finish_recording(str(recording), {}, {})
    assert shown(Context(root=str(recording), config=config)) == [entries, room]


def test_the_workspace_is_replayed_though_its_name_is_another_one(tmp_path: Path) -> None:
    recording, scratch = tmp_path / "recording", tmp_path / "scratch"
    workspace = scratch / "pilot-abc"
    workspace.mkdir(parents=True)
    recording.mkdir()
    config = {"site": {"scratch": [str(scratch)]}}
    there = limits(
        probe_disk(Context(config=config, workspace=str(workspace), record=str(recording))),
        FREE,
    )
    finish_recording(str(recording), {}, {})
    again = limits(probe_disk(Context(root=str(recording), config=config, workspace="/tmp/pilot-other")), FREE)
    assert again == there
    assert list(there) == [f"statvfs {workspace}"]


def test_a_workspace_that_is_gone_leaves_its_room_unknown(tmp_path: Path) -> None:
    fact = facts(probe_disk(Context(workspace=str(tmp_path / "gone"))))[FREE]
    assert fact.status is FactStatus.UNKNOWN
    assert "No such file or directory" in fact.detail


def test_a_removed_current_directory_is_no_candidate(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    before = os.getcwd()
    os.chdir(gone)
    try:
        gone.rmdir()
        found = candidates(Context(config={"site": {"scratch": [str(tmp_path)]}}))
    finally:
        os.chdir(before)
    assert "current directory" not in {entry["origin"] for entry in found.values()}


@pytest.mark.parametrize("config", [{}, {"site": None}, {"site": {"scratch": "/x"}}, {"site": {"scratch": [7]}}])
def test_a_configuration_without_directories_names_none(config: dict[str, Any]) -> None:
    assert configured_scratch(config) == ()


@pytest.mark.parametrize("damage", [None, 7, "text", [], {"/scratch/job.42": 7}, {"/scratch/job.42": {"real": 1}}])
def test_damaged_answers_are_no_verdict(tmp_path: Path, damage: Json) -> None:
    root = tmp_path / "node"
    copy_with(Path(context_of("cvmfs_worker").root), root, {})
    path = root / "answers" / "scratch-on-scratch.json"
    entry = json.loads(path.read_text())
    entry["answer"]["value"] = damage
    path.write_text(json.dumps(entry))
    known = facts(probe_disk(Context(root=str(root), environment={"TMPDIR": "/scratch/job.42"}, config=MEASURE)))
    assert known["disk.candidates"].value[0]["usable"] is False
    assert known["disk.candidates"].value[1]["usable"] is True


def test_a_device_without_a_queue_does_not_rotate_or_not(tmp_path: Path) -> None:
    write_tree(tmp_path, {"/sys/devices/x/vda/queue/rotational": "x\n"})
    (tmp_path / "sys/dev/block").mkdir(parents=True)
    (tmp_path / "sys/dev/block/8:1").symlink_to("../../devices/x/vda")
    node = Node(str(tmp_path))
    assert rotates(node, "8:1") is None
    assert rotates(node, "0:44") is None
