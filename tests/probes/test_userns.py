from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes.namespaces import Trial, enter_user_namespace, read_trial, try_containers
from pilot_agent.probes.node import Node
from pilot_agent.probes.userns import APPARMOR, CLONE, MAXIMUM, explain, judge, probe_userns, read_sysctls
from pilot_agent.process import Result
from tests.probes.namespaced import as_nobody, in_namespace
from tests.probes.trees import context_of, facts, write_tree


def test_this_machine_can_do_what_containers_need() -> None:
    known = facts(probe_userns(Context()))
    assert known["userns.usable"].value is True, known["userns.usable"].detail
    assert known["userns.pid_proc"].known


def test_an_ordinary_account_can_too() -> None:
    assert as_nobody(lambda: facts(probe_userns(Context()))["userns.usable"].value) is True


def test_the_trial_leaves_nothing_behind() -> None:
    before = Path("/proc/self/mountinfo").read_text()
    try_containers()
    assert Path("/proc/self/mountinfo").read_text() == before


def test_a_limit_that_is_reached_is_refused_with_the_switch() -> None:
    def work() -> object:
        # A user namespace has its own limit for those below it.
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        return {name: [fact.value, fact.detail] for name, fact in facts(probe_userns(Context())).items()}

    found = in_namespace(work)
    assert found["userns.usable"][0] is False
    assert f"{MAXIMUM} is 0; the site must set it" in found["userns.usable"][1]
    assert "ENOSPC" in found["userns.usable"][1]
    assert found["userns.pid_proc"][0] is None


def test_a_chroot_is_refused_by_the_kernel(tmp_path: Path) -> None:
    def work() -> object:
        os.chroot(tmp_path)
        try:
            enter_user_namespace()
        except OSError as error:
            return error.errno
        return 0

    assert in_namespace(work) == errno.EPERM


@pytest.mark.parametrize(
    ("trial", "sysctls", "expected"),
    [
        (Trial("user namespace", "EPERM"), {CLONE: 0}, f"sysctl -w {CLONE}=1"),
        (Trial("user namespace", "ENOSPC"), {MAXIMUM: 0}, f"sysctl -w {MAXIMUM}=15000"),
        (Trial("user namespace", "ENOSPC"), {MAXIMUM: 100}, "must raise it"),
        (Trial("user namespace", "EPERM"), {MAXIMUM: 100}, "seccomp"),
        (Trial("user namespace", "EINVAL"), {}, "CONFIG_USER_NS"),
        (Trial("user namespace", "ENXIO"), {}, "ENXIO"),
        (Trial("user namespace", "EACCES"), {APPARMOR: 1}, f"sysctl -w {APPARMOR}=0"),
        (Trial("tmpfs mount", "EACCES"), {APPARMOR: 1}, f"sysctl -w {APPARMOR}=0"),
        (Trial("tmpfs mount", "EPERM"), {APPARMOR: 0}, "mounts in them are refused"),
        (Trial("child", "it died"), {}, "it died"),
    ],
)
def test_a_refusal_says_who_must_change_what(trial: Trial, sysctls: dict[str, int], expected: str) -> None:
    assert expected in explain(trial, sysctls)
    usable = facts(judge(trial, sysctls, privileged=False))["userns.usable"]
    assert usable.value is False
    assert expected in usable.detail


@pytest.mark.parametrize("switch", [{CLONE: 0}, {APPARMOR: 1}])
def test_what_root_may_do_proves_nothing_for_others(switch: dict[str, int]) -> None:
    allowed = Trial(pid_proc_error="")
    assert facts(judge(allowed, switch, privileged=True))["userns.usable"].value is False
    assert facts(judge(allowed, switch, privileged=False))["userns.usable"].value is True


def test_a_covered_proc_is_told_apart() -> None:
    known = facts(judge(Trial(pid_proc_error="EPERM"), {}, privileged=False))
    assert known["userns.usable"].value is True
    assert known["userns.pid_proc"].value is False
    assert "/proc" in known["userns.pid_proc"].detail


def test_a_child_that_died_or_spoke_nonsense_is_a_failed_trial() -> None:
    assert read_trial(Result(("x",), None, signal=9)).failed == "child"
    assert read_trial(Result(("x",), 0, answer=b"{")).failed == "child"
    assert read_trial(Result(("x",), 0, answer=b'{"other": 1}')).failed == "child"
    assert read_trial(Result(("x",), 0, answer=json.dumps({"pid_proc_error": ""}).encode())) == Trial(pid_proc_error="")


def test_a_recording_tells_what_its_switches_tell(tmp_path: Path) -> None:
    forbidden = facts(probe_userns(context_of("pbs_cgroup1")))["userns.usable"]
    assert (forbidden.value, forbidden.known) == (False, True)
    assert MAXIMUM in forbidden.detail
    assert facts(probe_userns(context_of("bare_metal_el9")))["userns.usable"].status is FactStatus.UNKNOWN
    assert CLONE in facts(probe_userns(context_of("aarch64_mi250")))["userns.usable"].detail
    damaged = write_tree(tmp_path, {"/proc/sys/user/max_user_namespaces": "many\n"})
    assert read_sysctls(Node(damaged.root)) == {}
