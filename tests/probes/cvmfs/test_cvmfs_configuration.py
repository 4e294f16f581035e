from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.probes.cvmfs.cvmfs_configuration import (
    autofs_map,
    is_repository_name,
    parse_assignments,
    parse_fstab,
    read_cvmfs_configuration,
    split_repositories,
)
from pilot_agent.probes.node import Node
from tests.probes.trees import context_of, write_tree


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("X=plain", "plain"),
        ("  export X=plain # why", "plain"),
        ("X='a b' Y=c", "a b"),
        ('X="a;b"', "a;b"),
        ("X='$HOME'", "$HOME"),
        ("X=a'b'\"c\"", "abc"),
        ('X="a\\"b"', 'a"b'),
        ("X=a\\ b", "a b"),
        ("X=", ""),
        ("X= a", ""),
        ("X=a#b", "a#b"),
        ("X=a|b", "a"),
        ("X=http://a:3128;b", "http://a:3128"),
        ("X=1\nX=2", "2"),
        ('X="two\nlines"', "two\nlines"),
        ("X=con\\\ntinued", "continued"),
        ("KNOWN=k\nX=$KNOWN.x", "k.x"),
        ('X="${KNOWN2}y"', "y"),
        ("X=${NONE:-other}", "other"),
        ("X=${NONE-other}", "other"),
        ("if true; then\n  X=inner\nfi", "inner"),
    ],
)
def test_assignments_are_read_as_a_shell_reads_them(text: str, value: str) -> None:
    assert parse_assignments(text)["X"] == value


@pytest.mark.parametrize("text", ["X=$(hostname)", "X=`hostname`", 'X="a$(id)"', "# X=1", "Y=1 X=2", "1X=2", "X = 1"])
def test_what_only_a_shell_knows_is_not_there(text: str) -> None:
    assert "X" not in parse_assignments(text)


def test_a_value_that_only_a_shell_knows_replaces_an_older_one() -> None:
    assert parse_assignments("X=$(id)", {"X": "old", "Y": "kept"}) == {"Y": "kept"}


@given(
    st.text() | st.lists(st.sampled_from(["X=", "$X", "${X}", "'", '"', "\\", "\n", "a", "$(", "`", "#"])).map("".join)
)
def test_any_text_is_taken(text: str) -> None:
    assert all(isinstance(value, str) for value in parse_assignments(text).values())


def test_a_value_that_grows_without_end_is_dropped() -> None:
    text = "X=aaaaaaaaaaaaaaaa\n" + "X=$X$X$X$X\n" * 30
    assert len(parse_assignments(text).get("X", "")) <= 1 << 16


def test_names_without_a_domain_get_the_default_one() -> None:
    assert split_repositories("a, b.example.org,,a ../x", "example.net") == ["a.example.net", "b.example.org"]
    assert split_repositories("a", "") == []


def test_fstab_names_static_mounts() -> None:
    text = (
        "# a.example.org /x cvmfs\nb.example.org /cvmfs/b.example.org cvmfs defaults,_netdev 0 0\n/dev/sda1 / xfs\nx\n"
    )
    assert parse_fstab(text) == ["b.example.org"]


def test_names_of_repositories_are_domain_names() -> None:
    assert is_repository_name("cms-ib.example.org")
    assert not is_repository_name("etc")


def test_the_later_file_wins_and_is_named(tmp_path: Path) -> None:
    context = write_tree(
        tmp_path,
        {
            "/etc/cvmfs/default.conf": "CVMFS_REPOSITORIES=a.example.org\nCVMFS_STRICT_MOUNT=yes\n",
            "/etc/cvmfs/default.d/20-x.conf": "CVMFS_DEFAULT_DOMAIN=example.org\n",
            "/etc/cvmfs/default.d/README": "CVMFS_REPOSITORIES=no.example.org\n",
            "/etc/cvmfs/default.local": "CVMFS_REPOSITORIES=$CVMFS_REPOSITORIES,b\n",
            "/etc/cvmfs/domain.d/example.org.conf": "",
            "/etc/cvmfs/config.d/c.example.org.local": "",
            "/etc/fstab": "d.example.org /cvmfs/d.example.org cvmfs defaults 0 0\n",
        },
    )
    found = read_cvmfs_configuration(Node(context.root))
    assert dict(found.repositories) == {
        "a.example.org": "/etc/cvmfs/default.local",
        "b.example.org": "/etc/cvmfs/default.local",
        "c.example.org": "/etc/cvmfs/config.d",
        "d.example.org": "/etc/fstab",
    }
    assert found.domains == ()
    assert found.files == (
        "/etc/cvmfs/default.conf",
        "/etc/cvmfs/default.d/20-x.conf",
        "/etc/cvmfs/default.local",
    )


def test_commands_in_a_real_looking_file_are_left_alone() -> None:
    values = read_cvmfs_configuration(Node(context_of("cvmfs_worker").root + "/root")).values
    assert "CVMFS_QUOTA_LIMIT" not in values
    assert values["CVMFS_TIMEOUT"] == "10"
    assert values["CVMFS_HTTP_PROXY"] == "http://squid1.example.org:3128|http://squid2.example.org:3128"


def test_the_map_of_autofs_is_found(tmp_path: Path) -> None:
    write_tree(tmp_path, {"/etc/auto.master": "#/cvmfs no\n+dir:/etc/auto.master.d\n/cvmfs /etc/auto.cvmfs\n"})
    assert autofs_map(Node(str(tmp_path)), "/cvmfs") == "/etc/auto.master"
    assert autofs_map(Node(str(tmp_path)), "/net") is None
