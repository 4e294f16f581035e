from __future__ import annotations

import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes.system.osinfo import parse_glibc, parse_os_release, parse_red_hat_release, probe_os
from tests.probes.trees import context_of, facts, write_tree


@pytest.mark.parametrize(
    ("name", "identifier", "version", "level"),
    [
        ("bare_metal_el9", "rocky", "9.5", "x86-64-v4"),
        ("slurm_cgroup2", "debian", "13", "x86-64-v3"),
        ("pbs_cgroup1", "centos", "7.9.2009", "x86-64-v2"),
        ("htcondor_slot", "almalinux", "8.10", "x86-64-v3"),
    ],
)
def test_distribution_and_level_are_known(name: str, identifier: str, version: str, level: str) -> None:
    known = facts(probe_os(context_of(name)))
    assert known["os.id"].value == identifier
    assert known["os.version"].value == version
    assert known["os.microarch"].value == level
    assert known["os.arch"].value == "x86_64"


def test_arm_has_an_architecture_and_no_x86_level() -> None:
    known = facts(probe_os(context_of("aarch64_mi250")))
    assert known["os.arch"].value == "aarch64"
    assert known["os.microarch"].status is FactStatus.ABSENT


def test_values_of_os_release_may_be_quoted_or_not() -> None:
    text = 'ID=debian\nNAME=\'A B\'\nPRETTY_NAME="x \\"y\\" \\$z"\n# comment\nbroken="\n'
    assert parse_os_release(text) == {"ID": "debian", "NAME": "A B", "PRETTY_NAME": 'x "y" $z'}


def test_a_distribution_without_an_identifier_is_linux(tmp_path: Path) -> None:
    known = facts(probe_os(write_tree(tmp_path, {"/usr/lib/os-release": "NAME=Something\n"})))
    assert known["os.id"].value == "linux"
    assert known["os.version"].status is FactStatus.UNKNOWN
    assert known["os.like"].value == []


def test_relatives_of_a_distribution_are_told(tmp_path: Path) -> None:
    known = facts(probe_os(write_tree(tmp_path, {"/etc/os-release": 'ID="rocky"\nID_LIKE="rhel centos fedora"\n'})))
    assert known["os.like"].value == ["rhel", "centos", "fedora"]


def test_the_numbers_of_this_boot_are_told(tmp_path: Path) -> None:
    files = {
        "/proc/sys/kernel/hostname": "n042.cluster\n",
        "/proc/sys/kernel/random/boot_id": "0f5a5b6e-58a1-4c3b-8d0c-0123456789ab\n",
        "/proc/sys/kernel/pid_max": "4194304\n",
        "/proc/sys/kernel/threads-max": "3090842\n",
        "/proc/uptime": "350735.47 234388.90\n",
    }
    known = facts(probe_os(write_tree(tmp_path, files)))
    assert known["os.hostname"].value == "n042.cluster"
    assert known["os.boot_id"].value == "0f5a5b6e-58a1-4c3b-8d0c-0123456789ab"
    assert (known["os.uptime_seconds"].value, known["os.uptime_seconds"].unit) == (350735, "s")
    assert (known["os.pid_max"].value, known["os.threads_max"].value) == (4194304, 3090842)


def test_the_container_is_told_with_every_mark_of_others(tmp_path: Path) -> None:
    context = replace(write_tree(tmp_path, {"/.dockerenv": ""}), environment={"APPTAINER_CONTAINER": "/x.sif"})
    fact = facts(probe_os(context))["os.container"]
    assert (fact.value, fact.source, fact.detail) == ("apptainer", "APPTAINER_CONTAINER", "also docker by /.dockerenv")


def test_a_red_hat_of_old_is_recognised() -> None:
    found = parse_red_hat_release("Red Hat Enterprise Linux Server release 6.10 (Santiago)\n")
    assert (found["ID"], found["VERSION_ID"]) == ("rhel", "6.10")
    assert parse_red_hat_release("release") == {}


def test_the_c_library_is_read_from_its_banner(tmp_path: Path) -> None:
    banner = b"\x7fELF\0GNU C Library (GNU libc) stable release version 2.28.\n\0"
    assert parse_glibc(banner) == "2.28"
    assert parse_glibc(b"\x7fELF") is None
    known = facts(probe_os(write_tree(tmp_path, {"/lib64/libc.so.6": banner})))
    assert (known["os.glibc"].value, known["os.glibc"].source) == ("2.28", "/lib64/libc.so.6")


def test_musl_is_another_library(tmp_path: Path) -> None:
    known = facts(probe_os(write_tree(tmp_path, {"/lib/ld-musl-x86_64.so.1": ""})))
    assert known["os.glibc"].status is FactStatus.ABSENT


def resource_limits() -> list[int | None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [None if limit == resource.RLIM_INFINITY else limit for limit in limits]


def test_this_machine_is_what_it_says() -> None:
    known = facts(probe_os(Context()))
    assert known["os.kernel"].value == os.uname().release
    assert known["os.arch"].value == os.uname().machine
    assert known["os.id"].known
    assert known["os.limits"].value["nofile"] == dict(zip(("soft", "hard"), resource_limits(), strict=True))
    assert known["os.hostname"].value == os.uname().nodename
    assert known["os.virtualisation"].known
    assert known["os.glibc"].value == (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ")


def test_an_empty_node_says_nothing_of_this_machine(tmp_path: Path) -> None:
    assert not [fact.name for fact in facts(probe_os(Context(root=str(tmp_path)))).values() if fact.known]
