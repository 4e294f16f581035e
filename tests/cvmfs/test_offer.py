"""Of published clients the one made for the node's own release is tried first, and none that cannot run there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pilot_agent.cvmfs.offer import Offer, choose_distributions
from pilot_agent.tarballs.index import NodeSystem

ANY = Offer(
    version="2.12.0",
    os="rhel",
    os_version="9",
    architecture="x86_64",
    glibc="2.34",
    file="any",
    size_bytes=1,
    sha256="0" * 64,
    unpacked_bytes=1,
    members=1,
    tree_sha256="1" * 64,
    source="osg",
    machine_type="rhel9-x86_64",
)


def made(os: str, version: str, glibc: str, architecture: str = "x86_64") -> Offer:
    machine_type = f"{os}{version}-{architecture}"
    entry = replace(ANY, os=os, os_version=version, glibc=glibc, architecture=architecture, machine_type=machine_type)
    return replace(entry, file=machine_type)


EL8, EL9, EL10 = made("rhel", "8", "2.28"), made("rhel", "9", "2.34"), made("rhel", "10", "2.39")
SUSE, ARM = made("suse", "15", "2.31"), made("rhel", "9", "2.34", "aarch64")
ALL = (SUSE, EL10, ARM, EL8, EL9)


@pytest.mark.parametrize(
    ("node", "order"),
    [
        (NodeSystem("almalinux", "9.4", ("rhel", "centos", "fedora"), "x86_64", "2.34"), [EL9, EL8, SUSE]),
        (NodeSystem("rocky", "8.10", ("rhel", "centos", "fedora"), "x86_64", "2.28"), [EL8]),
        (NodeSystem("rhel", "10.0", ("centos", "fedora"), "x86_64", "2.39"), [EL10, EL9, EL8, SUSE]),
        (NodeSystem("opensuse-leap", "15.6", ("suse", "opensuse"), "x86_64", "2.38"), [SUSE, EL9, EL8]),
        (NodeSystem("sles", "15.7", ("suse",), "x86_64", "2.38"), [SUSE, EL9, EL8]),
        (NodeSystem("debian", "11", (), "x86_64", "2.31"), [SUSE, EL8]),
        (NodeSystem("debian", "12", (), "x86_64", "2.36"), [EL9, SUSE, EL8]),
        (NodeSystem("ubuntu", "24.04", ("debian",), "x86_64", "2.39"), [EL10, EL9, SUSE, EL8]),
        (NodeSystem("rhel", "11", ("fedora",), "x86_64", "2.41"), [EL10, EL9, EL8, SUSE]),
        (NodeSystem("rocky", "9.4", ("rhel",), "aarch64", "2.34"), [ARM]),
    ],
    ids=lambda value: f"{value.os}{value.os_version}-{value.architecture}" if isinstance(value, NodeSystem) else "",
)
def test_a_node_gets_its_own_release_first_and_then_the_nearest(node: NodeSystem, order: list[Offer]) -> None:
    choice = choose_distributions(ALL, node)
    assert [one.machine_type for one in choice.fitting] == [one.machine_type for one in order]
    assert len(choice.fitting) + len(choice.refused) == len(ALL)


def test_every_refusal_has_its_reason() -> None:
    node = NodeSystem("debian", "11", (), "x86_64", "2.31")
    reasons = {offer.machine_type: reason for offer, reason in choose_distributions(ALL, node).refused}
    assert reasons == {
        "rhel10-x86_64": "it needs glibc 2.39, and this node has 2.31",
        "rhel9-aarch64": "it is for aarch64, and this node is x86_64",
        "rhel9-x86_64": "it needs glibc 2.34, and this node has 2.31",
    }


def test_a_node_with_musl_is_told_so() -> None:
    node = NodeSystem("alpine", "3.20", (), "x86_64", "", no_glibc="the C library is musl")
    choice = choose_distributions((EL9,), node)
    assert choice.refused == ((EL9, "it needs glibc, and this node has none: the C library is musl"),)


def test_on_a_node_that_nothing_is_known_of_all_are_tried() -> None:
    assert len(choose_distributions(ALL, NodeSystem()).fitting) == len(ALL)


def test_only_the_wanted_configuration_is_taken() -> None:
    egi = replace(EL9, source="egi", file="egi")
    node = NodeSystem("rocky", "9.4", ("rhel",), "x86_64", "2.34")
    choice = choose_distributions((EL9, egi), node, "EGI")
    assert choice.fitting == (egi,)
    assert choice.refused[0][1] == "it carries the configuration of osg, and cvmfs.distribution_source wants egi"
    assert len(choose_distributions((EL9, egi), node, "any").fitting) == 2


def test_of_two_that_need_the_same_the_one_for_the_newer_release_comes_first() -> None:
    plain = replace(EL9, glibc="2.28")
    assert choose_distributions((EL8, plain), NodeSystem("debian", "13", (), "x86_64", "2.41")).fitting == (plain, EL8)


def test_of_two_for_one_release_the_newer_client_comes_first() -> None:
    newer = replace(EL9, version="2.13.1", file="newer")
    node = NodeSystem("rocky", "9.4", ("rhel",), "x86_64", "2.34")
    assert choose_distributions((EL9, newer, EL8), node).fitting == (newer, EL9, EL8)
