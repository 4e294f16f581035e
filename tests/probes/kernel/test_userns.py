from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes.answers import Answer
from pilot_agent.probes.kernel import namespace_trial
from pilot_agent.probes.kernel.namespace_trial import (
    MAPS,
    NESTED,
    NESTED_MOUNT,
    NETWORK,
    PID,
    PROC,
    TMPFS,
    USER,
    NamespaceTrial,
)
from pilot_agent.probes.kernel.refusals import APPARMOR, CLONE, MAXIMUM, Setting, read_sysctls
from pilot_agent.probes.kernel.userns import find_maps, judge, judge_without_trial, parse_map, probe_userns
from pilot_agent.probes.node import Node
from pilot_agent.probes.recording import finish_recording
from tests.probes.namespaced import as_nobody, bind, in_namespace, with_fuse
from tests.probes.seccomp import refuse
from tests.probes.trees import NODES, context_of, facts, write_tree

STEPS = (
    *namespace_trial.NEEDED,
    namespace_trial.IPC,
    namespace_trial.UTS,
    NETWORK,
    PID,
    PROC,
    NESTED,
    NESTED_MOUNT,
)
ALLOWED = dict.fromkeys(STEPS, "")
FACTS = {"usable", "pid_proc", "sysctls", "namespaces", "refusal", "maps", "subids"}


def test_this_machine_can_do_what_containers_need() -> None:
    known = facts(probe_userns(Context(environment=dict(os.environ))))
    assert set(known) == {f"userns.{name}" for name in FACTS}
    assert known["userns.usable"].value is True, known["userns.usable"].detail
    assert known["userns.refusal"].status is FactStatus.ABSENT
    assert known["userns.pid_proc"].known
    assert known["userns.namespaces"].value["nested"] is True


def test_an_ordinary_account_can_too() -> None:
    assert as_nobody(lambda: facts(probe_userns(Context()))["userns.usable"].value) is True


def test_root_of_the_machine_tries_as_an_ordinary_account() -> None:
    source = facts(probe_userns(Context()))["userns.usable"].source
    assert source.endswith("as nobody") == (os.geteuid() == 0)


def test_a_limit_that_is_reached_is_refused_with_the_switch() -> None:
    def work() -> object:
        # A user namespace has its own limit for those below it.
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        return {name: [fact.value, fact.detail] for name, fact in facts(probe_userns(Context())).items()}

    found = in_namespace(work)
    assert found["userns.usable"][0] is False
    assert f"{MAXIMUM} is 0; whoever made the user namespace" in found["userns.usable"][1]
    assert "ENOSPC" in found["userns.usable"][1]
    assert found["userns.refusal"][0] == "sysctl.max_user_namespaces"
    assert found["userns.pid_proc"][0] is None
    assert found["userns.maps"][0]["inside"] is True


def test_a_limit_of_network_namespaces_leaves_the_rest_usable() -> None:
    def work() -> object:
        Path("/proc/sys/user/max_net_namespaces").write_text("0")
        return {name: [fact.value, fact.detail] for name, fact in facts(probe_userns(Context())).items()}

    found = in_namespace(work)
    assert found["userns.usable"][0] is True
    assert found["userns.namespaces"][0]["net"] is False
    assert "sysctl -w user.max_net_namespaces=15000" in found["userns.namespaces"][1]


@pytest.mark.parametrize("call", ["userns", "mount"])
def test_a_seccomp_filter_is_named_as_such(call: str) -> None:
    def work() -> object:
        refuse(call)
        known = facts(probe_userns(Context()))
        return [known["userns.usable"].value, known["userns.refusal"].value, known["userns.usable"].detail]

    usable, code, detail = as_nobody(work)
    assert (usable, code) == (False, "seccomp")
    assert "seccomp=unconfined" in detail


def test_a_chroot_is_named_as_such(tmp_path: Path) -> None:
    def work() -> object:
        for name in ("proc", "dev"):
            (tmp_path / name).mkdir()
            bind(f"/{name}", str(tmp_path / name))
        os.chroot(tmp_path)
        os.chdir("/")
        known = facts(probe_userns(Context()))
        return [known["userns.usable"].value, known["userns.refusal"].value]

    assert with_fuse(work, nobody=False) == [False, "chroot"]


@pytest.mark.parametrize(("switch", "code"), [(CLONE, "sysctl.unprivileged_userns_clone"), (APPARMOR, "apparmor")])
def test_what_root_may_do_proves_nothing_for_others(switch: str, code: str) -> None:
    setting = Setting({switch: int(switch == APPARMOR)})
    as_root = facts(judge(NamespaceTrial(ALLOWED, as_root=True), setting))
    assert (as_root["userns.usable"].value, as_root["userns.refusal"].value) == (False, code)
    assert "root may, other accounts may not" in as_root["userns.usable"].detail
    assert facts(judge(NamespaceTrial(ALLOWED), setting))["userns.usable"].value is True


def test_a_covered_proc_is_told_apart() -> None:
    known = facts(judge(NamespaceTrial(ALLOWED | {PROC: "EPERM"}), Setting()))
    assert known["userns.usable"].value is True
    assert known["userns.pid_proc"].value is False
    assert "procMount: Unmasked" in known["userns.pid_proc"].detail


def test_no_pid_namespace_leaves_containers_without_one() -> None:
    steps = {name: error for name, error in ALLOWED.items() if name != PROC} | {PID: "ENOSPC"}
    known = facts(judge(NamespaceTrial(steps), Setting()))
    assert known["userns.usable"].value is True
    assert known["userns.pid_proc"].value is False
    assert known["userns.namespaces"].value["pid"] is False
    assert "user.max_pid_namespaces" in known["userns.pid_proc"].detail


@pytest.mark.parametrize(
    ("steps", "said"),
    [({NESTED: "ENOSPC"}, "32 namespaces"), ({NESTED: "", NESTED_MOUNT: "EACCES"}, "mounts in them are refused")],
)
def test_nesting_is_told_apart(steps: dict[str, str], said: str) -> None:
    namespaces = facts(judge(NamespaceTrial(ALLOWED | steps), Setting()))["userns.namespaces"]
    assert (namespaces.value["user"], namespaces.value["nested"]) == (True, False)
    assert said in namespaces.detail


@pytest.mark.parametrize(
    ("trial", "setting", "code"),
    [
        (NamespaceTrial({USER: "EPERM"}, filtered=("unshare",)), Setting(), "seccomp"),
        (NamespaceTrial({USER: "", MAPS: "EACCES"}, profile="x (enforce)"), Setting({APPARMOR: 1}), "apparmor"),
        (NamespaceTrial(ALLOWED | {TMPFS: "EPERM"}, filtered=("mount",)), Setting(), "seccomp"),
        (NamespaceTrial(ALLOWED | {"mount namespace": "ENOSPC"}), Setting(), "sysctl.max_mnt_namespaces"),
    ],
)
def test_a_refused_step_has_its_code(trial: NamespaceTrial, setting: Setting, code: str) -> None:
    known = facts(judge(trial, setting))
    assert (known["userns.usable"].value, known["userns.refusal"].value) == (False, code)
    assert trial.refused in known["userns.usable"].detail


@pytest.mark.parametrize("answer", [Answer(problem="it hung", hung=True), Answer({"steps": 3})])
def test_a_trial_that_told_nothing_leaves_the_facts_unknown_but_for_the_switches(answer: Answer) -> None:
    known = facts(judge_without_trial(Setting(), answer))
    assert {fact.status for fact in known.values()} == {FactStatus.UNKNOWN}
    assert all(fact.detail for fact in known.values())
    off = facts(judge_without_trial(Setting({MAXIMUM: 0}), answer))
    assert (off["userns.usable"].value, off["userns.refusal"].value) == (False, "sysctl.max_user_namespaces")


def test_a_node_without_user_namespaces_names_the_change_and_the_other_way() -> None:
    known = facts(probe_userns(context_of("el8_no_user_namespaces")))
    assert known["userns.refusal"].value == "sysctl.max_user_namespaces"
    assert "sysctl -w user.max_user_namespaces=15000" in known["userns.usable"].detail
    assert "setuid apptainer" in known["userns.usable"].detail


def test_a_setuid_apptainer_that_is_switched_off_is_no_other_way(tmp_path: Path) -> None:
    shutil.copytree(NODES / "el8_no_user_namespaces", tmp_path / "node")
    configuration = tmp_path / "node/root/etc/apptainer/apptainer.conf"
    configuration.write_text("  Allow Setuid = no \n")
    known = facts(probe_userns(Context(root=str(tmp_path / "node"))))
    assert "setuid apptainer" not in known["userns.usable"].detail


def test_ubuntu_allows_the_namespace_and_denies_what_is_in_it() -> None:
    known = facts(probe_userns(context_of("ubuntu2404_apparmor")))
    assert (known["userns.usable"].value, known["userns.refusal"].value) == (False, "apparmor")
    assert "unprivileged_userns (enforce)" in known["userns.usable"].detail
    assert "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0" in known["userns.usable"].detail
    assert known["userns.subids"].value["uid_ranges"] == [[165536, 65536]]


def test_a_limit_inside_another_user_namespace_is_its_makers_to_raise() -> None:
    known = facts(probe_userns(context_of("userns_limit_reached")))
    assert known["userns.refusal"].value == "limit"
    assert "whoever made the user namespace around the pilot" in known["userns.usable"].detail
    assert known["userns.maps"].value == {
        "inside": True,
        "uid_map": [[1500, 1500, 1]],
        "gid_map": [[1500, 1500, 1]],
    }


def test_a_recording_without_a_trial_tells_what_its_switches_tell(tmp_path: Path) -> None:
    forbidden = facts(probe_userns(context_of("pbs_cgroup1")))["userns.usable"]
    assert (forbidden.value, forbidden.known) == (False, True)
    assert MAXIMUM in forbidden.detail
    assert facts(probe_userns(context_of("bare_metal_el9")))["userns.usable"].status is FactStatus.UNKNOWN
    assert CLONE in facts(probe_userns(context_of("aarch64_mi250")))["userns.usable"].detail
    damaged = write_tree(tmp_path, {"/proc/sys/user/max_user_namespaces": "many\n"})
    assert read_sysctls(Node(damaged.root)) == {}


def test_a_recording_made_here_gives_the_same_facts(tmp_path: Path) -> None:
    context = Context(environment=dict(os.environ), record=str(tmp_path / "recorded"))
    made = facts(probe_userns(context))
    finish_recording(str(tmp_path / "recorded"), {}, {})
    assert facts(probe_userns(Context(root=str(tmp_path / "recorded")))) == made


def test_maps_are_read_and_damaged_lines_left_out(tmp_path: Path) -> None:
    assert parse_map("0 1000 1\n1 100000 65536\n1 2\na b c\n") == [[0, 1000, 1], [1, 100000, 65536]]
    assert find_maps(Node(str(tmp_path))).status is FactStatus.UNKNOWN
