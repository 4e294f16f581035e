from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.model import FactStatus
from pilot_agent.probes.node import Node
from pilot_agent.probes.system.security import find_apparmor, find_selinux, parse_profile, parse_selinux_config
from tests.probes.trees import write_tree

ENABLED = "/sys/module/apparmor/parameters/enabled"


@pytest.mark.parametrize(
    ("files", "value"),
    [
        ({"/sys/fs/selinux/enforce": "1"}, "enforcing"),
        ({"/sys/fs/selinux/enforce": "0"}, "permissive"),
        ({"/proc/filesystems": "nodev\tsysfs\n", "/etc/selinux/config": "SELINUX=enforcing\n"}, "disabled"),
        ({"/etc/selinux/config": "# SELINUX= can take\nSELINUX=disabled\nSELINUXTYPE=targeted\n"}, "disabled"),
    ],
)
def test_the_mode_of_selinux_is_told(tmp_path: Path, files: dict[str, str], value: str) -> None:
    assert find_selinux(Node(write_tree(tmp_path, files).root)).value == value


def test_the_label_of_the_pilot_is_told(tmp_path: Path) -> None:
    label = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023"
    files = {"/sys/fs/selinux/enforce": "1", "/proc/self/attr/current": f"{label}\0"}
    assert find_selinux(Node(write_tree(tmp_path, files).root)).detail == f"the pilot runs as {label}"


def test_selinux_hidden_by_a_container_is_not_taken_for_absent(tmp_path: Path) -> None:
    fact = find_selinux(Node(write_tree(tmp_path, {"/proc/filesystems": "nodev\tselinuxfs\n"}).root))
    assert fact.status is FactStatus.UNKNOWN
    assert "hidden" in fact.detail


def test_a_system_without_selinux_has_none(tmp_path: Path) -> None:
    assert find_selinux(Node(write_tree(tmp_path, {"/proc/filesystems": ""}).root)).status is FactStatus.ABSENT
    assert find_selinux(Node(str(tmp_path / "empty"))).status is FactStatus.UNKNOWN


def test_only_known_words_are_a_configured_mode() -> None:
    assert parse_selinux_config("SELINUX=maybe\n") is None
    assert parse_selinux_config(" SELINUX = permissive \n") == "permissive"


@pytest.mark.parametrize(
    ("files", "value"),
    [
        ({ENABLED: "N\n"}, {"enabled": False, "profile": None, "mode": None}),
        ({ENABLED: "Y\n"}, {"enabled": True, "profile": None, "mode": None}),
        (
            {ENABLED: "Y\n", "/proc/self/attr/apparmor/current": "docker-default (enforce)\n"},
            {"enabled": True, "profile": "docker-default", "mode": "enforce"},
        ),
        (
            {ENABLED: "Y\n", "/proc/self/attr/current": "unconfined\n"},
            {"enabled": True, "profile": "unconfined", "mode": None},
        ),
    ],
)
def test_the_profile_of_the_pilot_is_told(tmp_path: Path, files: dict[str, str], value: dict[str, object]) -> None:
    assert find_apparmor(Node(write_tree(tmp_path, files).root)).value == value


def test_a_kernel_without_apparmor_has_none(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/sys/module/fuse/refcnt": "0"})
    assert find_apparmor(Node(context.root)).status is FactStatus.ABSENT
    assert find_apparmor(Node(str(tmp_path / "empty"))).status is FactStatus.UNKNOWN


def test_profiles_may_have_blanks_and_stacks() -> None:
    assert parse_profile("my profile (complain)\n") == ("my profile", "complain")
    assert parse_profile("a//&:ns:b (mixed)\0") == ("a//&:ns:b", "mixed")
    assert parse_profile("") is None
