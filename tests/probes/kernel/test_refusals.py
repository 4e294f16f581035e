from __future__ import annotations

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.probes.kernel.refusals import (
    APPARMOR,
    CLONE,
    MAXIMUM,
    Setting,
    confined,
    explain_mount,
    explain_namespace,
    explain_user_namespace,
    parse_status,
    read_setting,
    restricted_by_apparmor,
    switched_off,
)
from pilot_agent.probes.node import Node
from tests.probes.trees import context_of

FILTERED = Setting(seccomp=2)
DOCKER = Setting(profile="docker-default (enforce)")
UBUNTU = Setting({APPARMOR: 1}, profile="unconfined")


@pytest.mark.parametrize(
    ("error", "setting", "filtered", "code", "change"),
    [
        ("EPERM", Setting({CLONE: 0}), False, "sysctl.unprivileged_userns_clone", f"sysctl -w {CLONE}=1"),
        ("ENOSPC", Setting({MAXIMUM: 0}), False, "sysctl.max_user_namespaces", f"sysctl -w {MAXIMUM}=15000"),
        ("EINVAL", Setting({MAXIMUM: 0}), False, "sysctl.max_user_namespaces", "in /etc/sysctl.d/90-user"),
        ("EPERM", FILTERED, True, "seccomp", "--security-opt seccomp=unconfined"),
        ("ENOSYS", FILTERED, False, "seccomp", "whoever starts the container"),
        ("ENOSPC", Setting({MAXIMUM: 100}), False, "limit", f"sysctl -w {MAXIMUM}=15000"),
        ("EUSERS", Setting({MAXIMUM: 9000}), False, "limit", f"sysctl -w {MAXIMUM}=18000"),
        ("ENOSPC", Setting({MAXIMUM: 100}, initial=False), False, "limit", "32 are nested"),
        ("ENOSPC", Setting({MAXIMUM: 2**31 - 1}, initial=False), False, "limit", f"there: sysctl -w {MAXIMUM}=15000"),
        ("ENOSPC", Setting({MAXIMUM: 2**31 - 1}), False, "limit", f"sysctl -w {MAXIMUM}=2147483647"),
        ("EINVAL", Setting(kernel="5.10.1"), False, "kernel", "CONFIG_USER_NS"),
        ("EINVAL", Setting(kernel="3.10.0-327.el7.x86_64"), False, "kernel", "user_namespace.enable=1"),
        ("EACCES", UBUNTU, False, "apparmor", f"sysctl -w {APPARMOR}=0"),
        ("EPERM", UBUNTU, False, "apparmor", "'userns,'"),
        ("EACCES", DOCKER, False, "apparmor", "apparmor=unconfined"),
        ("EACCES", Setting(selinux=True), False, "selinux", "user_namespace { create }"),
        ("EPERM", Setting(chrooted=True), False, "chroot", "start it outside"),
        ("EPERM", Setting(), False, "unknown", "the site must find out"),
        ("ENXIO", Setting(), False, "unknown", "the site must find out"),
    ],
)
def test_a_refused_user_namespace_says_who_must_change_what(
    error: str, setting: Setting, filtered: bool, code: str, change: str
) -> None:
    refusal = explain_user_namespace(error, setting, filtered=filtered)
    assert refusal.code == code
    assert change in refusal.text


@pytest.mark.parametrize(
    ("error", "setting", "filtered", "code"),
    [
        ("EPERM", FILTERED, True, "seccomp"),
        ("EACCES", DOCKER, False, "apparmor"),
        ("EPERM", UBUNTU, False, "apparmor"),
        ("EACCES", Setting(selinux=True), False, "selinux"),
        ("ENOSPC", Setting(), False, "limit"),
        ("EPERM", Setting(), False, "unknown"),
    ],
)
def test_a_refused_mount_says_who_does_it(error: str, setting: Setting, filtered: bool, code: str) -> None:
    assert explain_mount(error, setting, filtered=filtered).code == code


@pytest.mark.parametrize(
    ("error", "setting", "code", "change"),
    [
        ("ENOSPC", Setting(), "sysctl.max_net_namespaces", "sysctl -w user.max_net_namespaces=15000"),
        ("EINVAL", Setting(), "kernel", "boot another"),
        ("EPERM", UBUNTU, "apparmor", "sysctl -w"),
        ("EPERM", Setting(), "unknown", "find out"),
    ],
)
def test_a_refused_further_namespace_names_its_own_limit(error: str, setting: Setting, code: str, change: str) -> None:
    refusal = explain_namespace("net", error, setting)
    assert refusal.code == code
    assert change in refusal.text


def test_the_limit_of_a_user_namespace_is_its_makers_to_raise() -> None:
    refusal = switched_off(Setting({MAXIMUM: 0}, initial=False))
    assert refusal is not None
    assert "whoever made the user namespace around the pilot" in refusal.text
    assert "/etc/sysctl.d" not in refusal.text


def test_nothing_is_switched_off_where_switches_allow_or_are_missing() -> None:
    assert switched_off(Setting()) is None
    assert switched_off(Setting({MAXIMUM: 15000, CLONE: 1, APPARMOR: 1})) is None


@pytest.mark.parametrize(
    ("profile", "held"),
    [
        ("", False),
        ("unconfined", False),
        ("unconfined (complain)", False),
        ("apptainer (unconfined)", False),
        ("docker-default (enforce)", True),
        ("cri-containerd.apparmor.d (enforce)", True),
        ("pilot (complain)", False),
    ],
)
def test_only_an_enforced_profile_holds_a_pilot_back(profile: str, held: bool) -> None:
    assert confined(profile) is held


def test_the_profile_that_ubuntu_gives_is_named() -> None:
    refusal = restricted_by_apparmor(UBUNTU, "unprivileged_userns (enforce)")
    assert refusal is not None
    assert "unprivileged_userns" in refusal.text


def test_the_numbers_of_a_status_are_read_and_the_rest_left_out() -> None:
    assert parse_status("Name:\tx\nSeccomp:\t2\nNoNewPrivs:\t1\nUid:\t1\t2\n\nno colon\n") == {
        "Seccomp": 2,
        "NoNewPrivs": 1,
    }


def test_the_setting_of_a_node_is_read_from_its_files() -> None:
    setting = read_setting(Node.of(context_of("ubuntu2404_apparmor")))
    assert setting.sysctls[APPARMOR] == 1
    assert (setting.profile, setting.initial, setting.chrooted) == ("unconfined", True, False)
    assert setting.kernel.startswith("6.8.0")
    assert read_setting(Node.of(context_of("userns_limit_reached"))).initial is False


def test_the_setting_of_this_machine_is_read() -> None:
    setting = read_setting(Node.of(Context()))
    assert setting.seccomp is not None
    assert setting.kernel


def test_nothing_is_claimed_of_a_node_that_tells_nothing() -> None:
    assert read_setting(Node.of(context_of("lsf_power9"))).initial in (None, True)
