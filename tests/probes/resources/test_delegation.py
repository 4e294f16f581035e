from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot_agent.codec import from_json, to_json
from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, FactStatus, Json
from pilot_agent.probes.answers import Answer
from pilot_agent.probes.kernel.namespaces import CLONE_NEWNS, unshare
from pilot_agent.probes.mountinfo import read_mounts
from pilot_agent.probes.node import Node
from pilot_agent.probes.resources.cgroup import OwnGroup
from pilot_agent.probes.resources.control_groups import probe_cgroup
from pilot_agent.probes.resources.delegation import judge
from pilot_agent.probes.resources.delegation_trial import remove_trial
from pilot_agent.process import Runner
from tests.needs import need
from tests.probes.namespaced import NOBODY
from tests.probes.trees import context_of, facts

MS_RDONLY, MS_REMOUNT, MS_BIND = 0x1, 0x20, 0x1000
HERE = OwnGroup(2, "/a.slice/pilot.service", ("cpu", "memory"), "/sys/fs/cgroup/a.slice/pilot.service")


def judged(*trials: Json, groups: tuple[OwnGroup, ...] = (HERE,), left: tuple[str, ...] = ()) -> dict[str, Fact]:
    return facts(judge(groups, Answer(list(trials)), left))


def trial(path: str = HERE.path, version: int = 2, **steps: str) -> Json:
    return {"version": version, "path": path, "controllers": ["cpu", "memory"], "steps": steps}


# ---- what an answer means ----------------------------------------------------------------------------------------


def test_a_delegated_group_hands_its_controllers_down_when_it_is_empty() -> None:
    known = judged(trial(make="", move="", enable="EBUSY"))
    assert known["cgroup.delegated"].value is True
    assert known["cgroup.delegated"].detail == ""
    assert known["cgroup.delegated_controllers"].value == ["cpu", "memory"]
    assert "once the pilot's own processes have moved" in known["cgroup.delegated_controllers"].detail


def test_controllers_that_are_handed_down_already_can_be_had_without_the_right_to_enable_more() -> None:
    known = judged(trial(make="", move="", enable="EACCES", memory=""))
    assert known["cgroup.delegated_controllers"].value == ["memory"]
    assert "Delegate=yes into the [Service] section of pilot.service" in known["cgroup.delegated_controllers"].detail


def test_a_group_without_controllers_says_who_enables_them() -> None:
    empty = {"version": 2, "path": "/x", "controllers": [], "steps": {"make": "", "move": "", "enable": ""}}
    known = judged(empty)
    assert (known["cgroup.delegated"].value, known["cgroup.delegated_controllers"].value) == (True, [])
    assert "no controller is enabled for /x" in known["cgroup.delegated_controllers"].detail


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/system.slice/slurmstepd.scope/job_1/step_0/user/task_0", "Slurm's, which has no option"),
        ("/htcondor/condor_var_lib_condor_execute_slot1_1@n1", "version 24.8 on"),
        ("/system.slice/condor.service/x", "HTCondor's"),
        ("/pbs_jobs.service/jobid/1.head", "PBS"),
        ("/user.slice/user-1.slice/session-2.scope", "systemd-run --user --scope --property=Delegate=yes"),
        ("/user.slice/user-1.slice/user@1.service/app.slice/tool.service", "section of tool.service"),
        ("/machine.slice/libpod-abc.scope", "libpod-abc.scope must make it with the property Delegate=yes"),
        ("/somewhere", "cgroup.subtree_control"),
    ],
)
def test_whoever_owns_the_group_is_told_what_to_change(path: str, advice: str) -> None:
    known = judged(trial(path, make="EACCES"))
    assert known["cgroup.delegated"].value is False
    assert "no group can be made (EACCES)" in known["cgroup.delegated"].detail
    assert advice in known["cgroup.delegated"].detail
    assert known["cgroup.delegated_controllers"].value == []


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ({"make": "EROFS"}, "mounted read-only by a container"),
        ({"make": "EAGAIN"}, "cgroup.max.descendants"),
        ({"make": "", "move": "EOPNOTSUPP"}, "can be made but not entered (EOPNOTSUPP): the own group is a threaded"),
        ({"make": "", "move": "ENOENT"}, "control group namespace"),
        ({"make": "EIO"}, "whoever starts the pilot must give it the group"),
        ({}, "not tried"),
    ],
)
def test_every_refusal_names_its_cause(steps: dict[str, str], words: str) -> None:
    known = judged(trial() | {"steps": steps})
    assert known["cgroup.delegated"].value is False
    assert words in known["cgroup.delegated"].detail


def test_version_1_is_refused_once_for_all_its_hierarchies() -> None:
    known = judged(
        trial("/s", 1, make="EACCES"),
        {"version": 1, "path": "/s", "controllers": ["pids"], "steps": {"make": "EACCES"}},
        {"version": 1, "path": "/", "controllers": ["cpuset"], "steps": {"make": "EACCES"}},
    )
    detail = known["cgroup.delegated"].detail
    assert detail.startswith("cpu, memory, pids in /s, cpuset in /: no group can be made (EACCES)")
    assert detail.count("systemd.unified_cgroup_hierarchy=1") == 1


def test_one_hierarchy_that_can_be_divided_is_enough_and_the_others_are_named() -> None:
    other = {"version": 1, "path": "/", "controllers": ["pids"], "steps": {"make": "", "move": ""}}
    known = judged(trial("/s", 1, make="EACCES"), other)
    assert known["cgroup.delegated"].value is True
    assert "cpu, memory in /s" in known["cgroup.delegated"].detail
    assert known["cgroup.delegated_controllers"].value == ["pids"]


def test_what_could_not_be_removed_is_named() -> None:
    known = judged(trial(make="", move=""), left=("/sys/fs/cgroup/x",))
    assert known["cgroup.delegated"].detail == "left behind: /sys/fs/cgroup/x"


def test_a_group_that_is_hidden_cannot_be_divided() -> None:
    hidden = OwnGroup(2, "/kubepods/pod1", (), None)
    known = facts(judge([hidden], Answer(problem="not recorded", recorded=False)))
    assert known["cgroup.delegated"].value is False
    assert "/sys/fs/cgroup" in known["cgroup.delegated"].detail


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(problem="it took longer than 5 s", hung=True), "the trial did not end: it took"),
        (Answer([{"version": "two"}]), "cannot be read"),
        (Answer("x"), "cannot be read"),
    ],
)
def test_a_trial_without_an_answer_leaves_it_unknown(answer: Answer, words: str) -> None:
    known = facts(judge([HERE], answer))
    assert {fact.status for fact in known.values()} == {FactStatus.UNKNOWN}
    assert words in known["cgroup.delegated"].detail


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.one_of(st.none(), st.text(), st.integers(), st.sampled_from(["EACCES", "", "make", "move", "/a.service"])),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(
                st.sampled_from(["version", "path", "controllers", "steps", "make", "move", "enable"]), inner
            ),
        ),
    )
)
def test_any_recorded_answer_is_judged(value: Any) -> None:
    json.dumps(to_json(list(judge([HERE], Answer(value)))))


# ---- composed nodes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "version", "path", "delegated", "words"),
    [
        ("bare_metal_el9", "v2", "/user.slice/user-5001.slice/session-3.scope", False, "systemd-run --user"),
        ("slurm_cgroup2", "v2", "/system.slice/slurmstepd.scope/job_4242/step_0/user/task_0", False, "Slurm"),
        ("el7_cgroup1", "v1", "/pilots.slice/pilots-atlas.slice/pilot@7.service", False, "version 2"),
        ("pbs_cgroup1", "v1", "/pbs_jobs.service/jobid/1001.head", False, "version 2"),
        ("kubernetes_pod", "v2", "/", False, "cgroup_writable = true"),
        ("aarch64_neoverse", "v2", "/system.slice/pilot.service", True, ""),
    ],
)
def test_a_node_tells_of_its_groups(name: str, version: str, path: str, delegated: bool, words: str) -> None:
    known = facts(probe_cgroup(context_of(name)))
    assert known["cgroup.version"].value == version
    assert known["cgroup.path"].value == path
    assert known["cgroup.delegated"].value is delegated
    assert words in known["cgroup.delegated"].detail


def test_controllers_are_those_of_the_own_group() -> None:
    assert facts(probe_cgroup(context_of("slurm_cgroup2")))["cgroup.controllers"].value == ["cpu", "cpuset", "memory"]
    el7 = facts(probe_cgroup(context_of("el7_cgroup1")))["cgroup.controllers"].value
    assert {"cpu", "cpuacct", "memory", "pids", "devices"} <= set(el7)
    delegated = facts(probe_cgroup(context_of("aarch64_neoverse")))["cgroup.delegated_controllers"]
    assert delegated.value == ["cpu", "cpuset", "memory", "pids"]


def test_both_versions_together_are_a_hybrid_and_paths_that_differ_are_told() -> None:
    known = facts(probe_cgroup(context_of("htcondor_slot")))
    assert known["cgroup.version"].value == "hybrid"
    assert "condor_var_lib_condor_execute_slot1_3@slot-host" in known["cgroup.path"].value
    assert "version 2: /system.slice/condor.service" in known["cgroup.path"].detail
    assert known["cgroup.delegated"].status is FactStatus.UNKNOWN


def test_a_node_without_groups_says_none(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("Name:\tx\n")
    known = facts(probe_cgroup(Context(root=str(tmp_path))))
    assert known["cgroup.version"].value == "none"
    assert {fact.status for name, fact in known.items() if name != "cgroup.version"} == {FactStatus.ABSENT}


def test_a_node_without_proc_knows_nothing_of_groups(tmp_path: Path) -> None:
    known = facts(probe_cgroup(Context(root=str(tmp_path))))
    assert {fact.status for fact in known.values()} == {FactStatus.UNKNOWN}


# ---- really tried ------------------------------------------------------------------------------------------------


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of version 2 of the test's own."""
    mounts = [mount.point for mount in read_mounts(Node()) if mount.kind == "cgroup2"]
    directory = Path(mounts[-1] if mounts else "/sys/fs/cgroup") / f"pilot-agent-test-{os.getpid()}"
    try:
        directory.mkdir()
    except OSError as error:
        need(
            "cgroup2",
            False,
            f"no control group of version 2 can be made here ({error}): run where root may write there",
        )
    yield directory
    assert [path for path in directory.iterdir() if path.is_dir()] == []
    directory.rmdir()


def probed_inside(group: Path, *, as_nobody: bool = False, read_only: bool = False) -> dict[str, Fact]:
    """What the probe finds in a process that was moved to a group."""
    import ctypes  # noqa: F401 - an ordinary account may not be allowed to read the interpreter's library

    from pilot_agent.probes.kernel.namespaces import mount, private_mounts

    def run() -> bytes:
        (group / "cgroup.procs").write_text("0")
        if read_only:
            unshare(CLONE_NEWNS)
            private_mounts()
            mount(str(group.parent), str(group.parent), "", MS_BIND)
            mount("none", str(group.parent), "", MS_BIND | MS_REMOUNT | MS_RDONLY)
        if as_nobody:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        return json.dumps(to_json(list(probe_cgroup(Context())))).encode()

    with Runner() as runner:
        result = runner.wait(runner.start_call(run, name="in a group", deadline_seconds=30))
    assert result.ok, result.explain()
    return {each["name"]: from_json(Fact, each) for each in json.loads(result.answer)}


def test_a_group_of_another_account_is_really_refused(group: Path) -> None:
    known = probed_inside(group, as_nobody=True)
    assert f"version 2 in /{group.name}: no group can be made (EACCES)" in known["cgroup.delegated"].detail


def test_a_group_given_to_the_account_is_really_divided(group: Path) -> None:
    for path in (group, group / "cgroup.procs", group / "cgroup.subtree_control"):
        os.chown(path, NOBODY, NOBODY)
    known = probed_inside(group, as_nobody=True)
    assert known["cgroup.delegated"].value is True
    assert group.name not in known["cgroup.delegated"].detail


def test_a_group_whose_processes_may_not_be_moved_is_made_but_not_entered(group: Path) -> None:
    os.chown(group, NOBODY, NOBODY)
    known = probed_inside(group, as_nobody=True)
    assert "a group can be made but not entered (EACCES)" in known["cgroup.delegated"].detail


def test_groups_mounted_read_only_are_really_refused(group: Path) -> None:
    known = probed_inside(group, read_only=True)
    assert f"version 2 in /{group.name}: no group can be made (EROFS)" in known["cgroup.delegated"].detail


def test_what_a_trial_left_that_was_cut_is_removed(group: Path) -> None:
    (group / "trial" / "leaf").mkdir(parents=True)
    own = OwnGroup(2, f"/{group.name}", (), str(group))
    assert remove_trial([own, OwnGroup(1, "/", ("cpu",), None)], "trial") == []
    assert not (group / "trial").exists()


def test_this_machine_keeps_nothing_of_the_trial() -> None:
    known = facts(probe_cgroup(Context()))
    assert known["cgroup.version"].value in ("v1", "v2", "hybrid", "none")
    points = [mount.point for mount in read_mounts(Node()) if mount.kind in ("cgroup", "cgroup2")]
    mine = f"pilot-agent-trial-{os.getpid()}-"
    assert [path for point in points for path in Path(point).glob(f"**/{mine}*")] == []
