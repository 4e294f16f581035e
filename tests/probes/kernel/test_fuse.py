from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, FactStatus
from pilot_agent.probes.answers import FileStatus
from pilot_agent.probes.kernel.fuse import judge, parse_filesystems, probe_fuse
from pilot_agent.probes.kernel.fuse_helpers import Helper
from pilot_agent.probes.kernel.fuse_refusals import FuseSetting
from pilot_agent.probes.kernel.fuse_trial import HELPER, OPEN, POINT, READ, FuseTrial
from pilot_agent.probes.kernel.namespace_trial import USER
from pilot_agent.probes.recording import finish_recording
from tests.probes.namespaced import WORKSPACE, with_fuse
from tests.probes.trees import NODES, context_of, facts

ABLE = Helper("/usr/bin/fusermount3", 0o4755, 0, setuid=True)
WORKS, REFUSED_INSIDE = FuseTrial({OPEN: "", READ: ""}), FuseTrial({OPEN: "", USER: "EPERM"})
REFUSED_OUTSIDE = FuseTrial({POINT: "", HELPER: "EPERM"}, said="no")
NAMES = {"usable", "helper", "device", "userns_mount", "helper_mount", "helpers", "mode", "refusal"}


def found(known: dict[str, Fact]) -> dict[str, list[object]]:
    return {name: [fact.status, fact.value, fact.detail] for name, fact in known.items()}


def test_this_machine_tells_all_its_facts() -> None:
    known = facts(probe_fuse(Context(environment=dict(os.environ))))
    assert set(known) == {f"fuse.{name}" for name in NAMES}
    assert known["fuse.usable"].known or known["fuse.usable"].detail


def test_both_ways_are_really_tried_where_the_device_is_open() -> None:
    context = Context(workspace=WORKSPACE)
    known = with_fuse(lambda: found(facts(probe_fuse(context))))
    for name in ("usable", "device", "userns_mount", "helper_mount"):
        assert known[f"fuse.{name}"][1] is True, known
    assert known["fuse.mode"][1] == "0666"
    assert known["fuse.refusal"][0] == FactStatus.ABSENT
    assert known["fuse.helpers"][1][0]["setuid"] is True


def test_a_closed_device_is_told_with_its_mode_to_root_too() -> None:
    context = Context(workspace=WORKSPACE)
    for nobody in (True, False):
        known = with_fuse(lambda: found(facts(probe_fuse(context))), mode=0o600, nobody=nobody)
        assert known["fuse.usable"][1] is False
        assert known["fuse.device"][1] is False
        assert "chmod 0666 /dev/fuse" in known["fuse.usable"][2]
        assert known["fuse.refusal"][1] == "device.mode"


def test_without_a_workspace_the_helper_is_not_tried() -> None:
    known = with_fuse(lambda: found(facts(probe_fuse(Context()))))
    assert known["fuse.usable"][1] is True
    assert known["fuse.helper_mount"][0] == FactStatus.UNKNOWN
    assert "no workspace" in known["fuse.helper_mount"][2]


def test_a_recording_made_here_gives_the_same_facts(tmp_path: Path) -> None:
    record = f"{WORKSPACE}/recorded"

    def work() -> object:
        made = found(facts(probe_fuse(Context(workspace=WORKSPACE, record=record))))
        finish_recording(record, {}, {})
        return [made, found(facts(probe_fuse(Context(root=record))))]

    made, again = with_fuse(work)
    assert made == again


@pytest.mark.parametrize(
    ("inside", "outside", "usable", "refusal"),
    [
        (WORKS, WORKS, True, None),
        (WORKS, REFUSED_OUTSIDE, True, "helper.refused"),
        (REFUSED_INSIDE, WORKS, True, "userns.unknown"),
        (REFUSED_INSIDE, REFUSED_OUTSIDE, False, "helper.refused"),
        (FuseTrial({OPEN: "EACCES"}), REFUSED_OUTSIDE, False, "device.mode"),
        (FuseTrial({OPEN: "EACCES"}), None, False, "device.mode"),
        (REFUSED_INSIDE, None, None, "userns.unknown"),
        (None, REFUSED_OUTSIDE, None, "helper.refused"),
        (None, WORKS, True, None),
    ],
)
def test_fuse_is_usable_by_one_way_or_another(
    inside: FuseTrial | None, outside: FuseTrial | None, usable: bool | None, refusal: str | None
) -> None:
    known = facts(judge(inside, outside, ABLE, FuseSetting(), ("hung", "hung")))
    assert known["fuse.usable"].value is usable
    assert known["fuse.refusal"].value == refusal
    if inside is None or outside is None:
        assert known["fuse.helper_mount" if outside is None else "fuse.userns_mount"].detail == "hung"


def test_a_helper_without_rights_is_refused_though_it_was_not_tried() -> None:
    known = facts(judge(REFUSED_INSIDE, None, Helper("/x", 0o755, 0), FuseSetting(), ("", "no workspace")))
    assert (known["fuse.usable"].value, known["fuse.refusal"].value) == (False, "helper.setuid")


def test_a_trial_that_hung_leaves_the_device_to_its_mode() -> None:
    closed = FuseSetting(device=FileStatus("device", 0o600, 0, 0, 0, "10:229"))
    assert facts(judge(None, None, ABLE, closed, ("hung", "hung")))["fuse.device"].value is False
    assert facts(judge(None, None, ABLE, FuseSetting(), ("hung", "hung")))["fuse.device"].status is FactStatus.UNKNOWN


def test_a_mount_that_stayed_is_told() -> None:
    outside = FuseTrial({READ: ""}, left="/w/fuse-trial")
    assert "/w/fuse-trial" in facts(judge(WORKS, outside, ABLE, FuseSetting()))["fuse.helper_mount"].detail


def test_a_node_without_user_namespaces_mounts_through_its_helper() -> None:
    known = facts(probe_fuse(context_of("el8_no_user_namespaces")))
    assert known["fuse.usable"].value is True
    assert known["fuse.usable"].detail.startswith("only through the helper")
    assert known["fuse.refusal"].value == "userns.sysctl.max_user_namespaces"
    assert known["fuse.helpers"].value[0]["version"] == "3.3.0"


def test_a_node_without_helper_and_user_namespaces_has_no_fuse() -> None:
    known = facts(probe_fuse(context_of("userns_limit_reached")))
    assert (known["fuse.usable"].value, known["fuse.refusal"].value) == (False, "helper.missing")
    assert known["fuse.helper"].status is FactStatus.ABSENT
    assert "dnf install fuse3" in known["fuse.helper_mount"].detail


def test_the_profile_of_the_helper_is_named_where_it_refuses(tmp_path: Path) -> None:
    shutil.copytree(NODES / "ubuntu2404_apparmor", tmp_path / "node")
    profile = tmp_path / "node/root/etc/apparmor.d/fusermount3"
    profile.parent.mkdir()
    profile.write_text("profile fusermount3 /usr/bin/fusermount3 {\n}\n")
    answer = tmp_path / "node/answers/helper.json"
    answer.write_text(
        answer.read_text()
        .replace('"helper": "",', '"helper": "EPERM"')
        .replace('"read": ""', "")
        .replace('"said": ""', '"said": "fusermount3: mount failed: Permission denied"')
    )
    known = facts(probe_fuse(Context(root=str(tmp_path / "node"), workspace="/scratch/w")))
    assert (known["fuse.usable"].value, known["fuse.refusal"].value) == (False, "apparmor.fusermount3")
    assert "/etc/apparmor.d/local/fusermount3" in known["fuse.helper_mount"].detail


def test_a_kernel_without_fuse_is_told_from_a_recording() -> None:
    known = facts(probe_fuse(context_of("pbs_cgroup1")))
    assert (known["fuse.usable"].value, known["fuse.refusal"].value) == (False, "device.module")
    assert facts(probe_fuse(context_of("bare_metal_el9")))["fuse.usable"].status is FactStatus.UNKNOWN


def test_the_list_of_file_systems_is_read() -> None:
    assert parse_filesystems("nodev\tproc\n\text4\n\n") == {"proc", "ext4"}
