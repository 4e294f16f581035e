"""Of published tarballs the one that runs best on the node is tried first, and every other has its reason."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.model import Fact, FailureKind, PilotError
from pilot_agent.startd.artifacts import CONDOR, choose
from pilot_agent.tarballs.index import NodeSystem, Tarball, node_system, numbers, parse_index

NODE = NodeSystem(os="debian", os_version="13", like=(), architecture="x86_64", glibc="2.41")
ENTRY = Tarball(
    version="23.9.6",
    os="debian",
    os_version="13",
    architecture="x86_64",
    glibc="2.38",
    file="condor.tar.gz",
    size_bytes=10,
    sha256="0" * 64,
    unpacked_bytes=20,
    members=3,
    tree_sha256="1" * 64,
)
OLDER = replace(ENTRY, version="23.0.1", file="older.tar.gz")
EL9 = replace(ENTRY, version="24.1.0", os="rocky", os_version="9.4", glibc="2.34", file="el9.tar.gz")


def names(wanted: str, *entries: Tarball, node: NodeSystem = NODE) -> list[str]:
    return [entry.file for entry in choose(entries, node, wanted).fitting]


def test_the_nodes_own_distribution_comes_before_a_newer_version_from_another() -> None:
    assert names("any", EL9, OLDER, ENTRY) == ["condor.tar.gz", "older.tar.gz", "el9.tar.gz"]


def test_the_latest_is_the_newest_whatever_it_was_made_from() -> None:
    assert names("latest", OLDER, ENTRY, EL9) == ["el9.tar.gz", "condor.tar.gz", "older.tar.gz"]


def test_a_distribution_of_the_same_family_comes_before_a_foreign_one() -> None:
    alma = NodeSystem("almalinux", "9.4", ("rhel", "rocky", "fedora"), "x86_64", "2.41")
    assert names("any", ENTRY, EL9, node=alma) == ["el9.tar.gz", "condor.tar.gz"]


def test_of_equals_the_one_for_the_newest_c_library_that_the_node_has_comes_first() -> None:
    plain = replace(ENTRY, glibc="2.17", file="plain.tar.gz")
    assert names("any", plain, ENTRY) == ["condor.tar.gz", "plain.tar.gz"]


@pytest.mark.parametrize("wanted", ["23", "23.9", "23.9.6"])
def test_a_version_is_wanted_by_its_beginning(wanted: str) -> None:
    assert "condor.tar.gz" in names(wanted, ENTRY, EL9)
    assert "el9.tar.gz" not in names(wanted, ENTRY, EL9)


def test_a_beginning_is_one_of_numbers_and_not_of_letters() -> None:
    assert names("23.9", replace(ENTRY, version="23.90.1")) == []


@pytest.mark.parametrize(
    ("entry", "node", "reason"),
    [
        (replace(ENTRY, architecture="aarch64"), NODE, "it is for aarch64, and this node is x86_64"),
        (replace(ENTRY, glibc="2.42"), NODE, "it needs glibc 2.42, and this node has 2.41"),
        (ENTRY, replace(NODE, glibc="2.9"), "it needs glibc 2.38, and this node has 2.9"),
        (ENTRY, replace(NODE, glibc="", no_glibc="the C library is musl"), "it needs glibc, and this node has none: "),
    ],
)
def test_what_cannot_run_is_refused_with_the_reason(entry: Tarball, node: NodeSystem, reason: str) -> None:
    choice = choose([entry], node)
    assert choice.fitting == ()
    assert choice.refused[0][1].startswith(reason)


def test_what_is_not_known_of_the_node_refuses_nothing() -> None:
    assert names("any", ENTRY, node=NodeSystem()) == ["condor.tar.gz"]


def test_the_node_is_described_by_what_probes_found() -> None:
    facts = [
        Fact("os.id", "rocky"),
        Fact("os.version", "9.4"),
        Fact("os.like", ["rhel", "fedora"]),
        Fact("os.arch", "x86_64"),
        Fact.absent("os.glibc", "the C library is musl"),
    ]
    found = node_system({fact.name: fact for fact in facts})
    assert found == NodeSystem("rocky", "9.4", ("rhel", "fedora"), "x86_64", "", "the C library is musl")
    assert node_system({}) == NodeSystem()


entries = st.builds(
    replace,
    st.just(ENTRY),
    version=st.sampled_from(["23.9.6", "24.0.1", "9.0.17"]),
    os=st.sampled_from(["debian", "rocky"]),
    glibc=st.sampled_from(["2.17", "2.34", "2.41", "2.100"]),
    architecture=st.sampled_from(["x86_64", "aarch64"]),
)


@given(st.lists(entries, max_size=8), st.sampled_from(["any", "latest", "23"]), st.sampled_from(["2.9", "2.41"]))
def test_every_tarball_fits_or_has_a_reason_and_what_fits_can_run(
    listed: list[Tarball], wanted: str, glibc: str
) -> None:
    choice = choose(listed, replace(NODE, glibc=glibc), wanted)
    assert len(choice.fitting) + len(choice.refused) == len(listed)
    assert all(reason for _, reason in choice.refused)
    assert all(entry.architecture == "x86_64" for entry in choice.fitting)
    assert all(numbers(entry.glibc) <= numbers(glibc) for entry in choice.fitting)


def document(*changes: dict[str, object]) -> bytes:
    return json.dumps({"schema": CONDOR.schema, "tarballs": [asdict(ENTRY) | change for change in changes]}).encode()


def test_an_index_is_read_and_what_a_later_one_adds_is_left_out() -> None:
    assert parse_index(document({}, {"signature": "x"}), "here", CONDOR, Tarball) == (ENTRY, ENTRY)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no JSON"),
        (b"[]", "no JSON of that form"),
        (b"{}", "'schema' is missing"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"schema": "x/2", "tarballs": []}', "its schema is 'x/2'"),
        (document({"file": "../../etc/passwd"}), "tarballs[0].file"),
        (document({}, {"file": "/etc/passwd"}), "tarballs[1].file"),
        (document({"sha256": "0"}), "tarballs[0].sha256"),
        (document({"version": "1; rm"}), "tarballs[0].version"),
        (document({"size_bytes": True}), "tarballs[0].size_bytes"),
        (document({"size_bytes": 1 << 40}), "tarballs[0].size_bytes"),
        (document({"members": -1}), "tarballs[0].members"),
        (document({"glibc": 2.38}), "tarballs[0].glibc"),
    ],
)
def test_what_is_no_index_is_refused_with_the_place(content: bytes, said: str) -> None:
    with pytest.raises(PilotError) as caught:
        parse_index(content, "https://example.org/index.json", CONDOR, Tarball)
    failure = caught.value.failure
    assert (failure.code, failure.kind) == ("artifact.index", FailureKind.CORRUPTION)
    assert said in failure.message
    assert "https://example.org/index.json" in failure.message


@given(st.binary(max_size=200) | st.builds(lambda value: json.dumps(value).encode(), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(CONDOR.schema),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["schema", "tarballs", "file", "version"]), inner, max_size=4),
    max_leaves=8,
)))  # fmt: skip
def test_anything_is_an_index_or_refused(content: bytes) -> None:
    assert code_of(content) in {"", "artifact.index"}


def code_of(content: bytes) -> str:
    """The code of the failure that reading an index ends in; empty when it is one."""
    try:
        parse_index(content, "here", CONDOR, Tarball)
    except PilotError as error:
        return error.failure.code
    return ""


def test_what_the_command_writes_is_what_the_pilot_reads(tmp_path: Path) -> None:
    import sys

    sys.path.insert(0, str(Path(__file__).parents[2] / "packaging"))
    from condor_tarball.listing import Manifest, add_to_index

    content = add_to_index(tmp_path, Manifest(**asdict(ENTRY)))
    assert parse_index(content, "here", CONDOR, Tarball) == (ENTRY,)
