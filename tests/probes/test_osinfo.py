from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes.node import Node
from pilot_agent.probes.osinfo import (
    container_around,
    microarchitecture,
    parse_glibc,
    parse_os_release,
    parse_red_hat_release,
    probe_os,
)
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


def test_an_old_processor_has_the_first_level_and_none_is_no_level() -> None:
    assert microarchitecture(["lm", "cmov", "cx8", "fpu", "fxsr", "mmx", "sse", "sse2", "syscall"]) == "x86-64-v1"
    assert microarchitecture(["fpu"]) is None
    assert microarchitecture([]) is None


def test_values_of_os_release_may_be_quoted_or_not() -> None:
    text = 'ID=debian\nNAME=\'A B\'\nPRETTY_NAME="x \\"y\\" \\$z"\n# comment\nbroken="\n'
    assert parse_os_release(text) == {"ID": "debian", "NAME": "A B", "PRETTY_NAME": 'x "y" $z'}


def test_a_distribution_without_an_identifier_is_linux(tmp_path: Path) -> None:
    known = facts(probe_os(write_tree(tmp_path, {"/usr/lib/os-release": "NAME=Something\n"})))
    assert known["os.id"].value == "linux"
    assert known["os.version"].status is FactStatus.UNKNOWN


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


@pytest.mark.parametrize(
    ("files", "environment", "kind"),
    [
        ({"/.dockerenv": ""}, {}, "docker"),
        ({"/run/.containerenv": ""}, {}, "podman"),
        ({"/run/systemd/container": "lxc\n"}, {}, "lxc"),
        ({"/.dockerenv": ""}, {"APPTAINER_CONTAINER": "/x.sif"}, "apptainer"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
    ],
)
def test_what_surrounds_the_pilot_is_seen(
    tmp_path: Path, files: dict[str, str], environment: dict[str, str], kind: str
) -> None:
    context = write_tree(tmp_path, files)
    found = container_around(Node(context.root), environment)
    assert found is not None
    assert found[0] == kind


def test_this_machine_is_what_it_says() -> None:
    known = facts(probe_os(Context()))
    assert known["os.kernel"].value == os.uname().release
    assert known["os.arch"].value == os.uname().machine
    assert known["os.id"].known
    assert known["os.glibc"].value == (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ")


def test_an_empty_node_says_nothing_of_this_machine(tmp_path: Path) -> None:
    assert not [fact.name for fact in facts(probe_os(Context(root=str(tmp_path)))).values() if fact.known]
