from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.probes.answers import Answer
from pilot_agent.probes.cvmfs.cvmfs_client import ClientState, client_state
from pilot_agent.probes.cvmfs.repositories import Examined, RepositoryState, examine, judge, look, mounted_repositories
from pilot_agent.probes.mountinfo import Mount
from pilot_agent.probes.node import Node
from tests.probes.hanging_fuse import GETXATTR, hanging_mount
from tests.probes.namespaced import in_namespace

ATTRIBUTES = {
    "user.version": "2.12.0.0",
    "user.revision": "4711",
    "user.proxy": "DIRECT",
    "user.host": "http://s1.example.org/cvmfs/x",
    "user.nioerr": "3",
    "user.timestamp_last_ioerr": "1760000000",
    "user.expires": "4",
}
NAME, PATH = "a.example.org", "/cvmfs/a.example.org"
FUSE = Mount("0:47", "/", PATH, "fuse", "cvmfs2", ("ro",))
AUTOFS = Mount("0:44", "/", "/cvmfs", "autofs", "/etc/auto.cvmfs", ("rw",))


def repository(root: Path, name: str) -> None:
    (root / name).mkdir()
    (root / name / "new_repository").write_text("")


def looked_at(root: Path, *names: str, seconds: float = 5.0) -> Examined:
    return examine(Node(), names, seconds=seconds, mount_point=str(root))


def shown(root: Path, *names: str, seconds: float = 5.0) -> Any:
    """What was found, as data that a namespace can hand out."""
    return [state.as_json() for state in looked_at(root, *names, seconds=seconds).repositories]


def answer(problem: str = "", *, empty: bool = False, attributes: dict[str, str] | None = None) -> Answer:
    return Answer({"problem": problem, "step": "list", "empty": empty, "attributes": attributes or {}})


def judged(raw: Answer, *mounts: Mount) -> RepositoryState:
    return judge(NAME, PATH, raw, mounts, 6.0)


def test_repositories_with_content_answer_in_the_order_asked_for(tmp_path: Path) -> None:
    repository(tmp_path, "b.example.org")
    repository(tmp_path, "a.example.org")
    found = looked_at(tmp_path, "b.example.org", "a.example.org", "b.example.org")
    assert [(state.repository, state.state) for state in found.repositories] == [
        ("b.example.org", "ok"),
        ("a.example.org", "ok"),
    ]
    assert (found.exists, found.problem) == (True, "")


def test_a_missing_and_an_empty_repository_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.example.org").mkdir()
    missing, empty = looked_at(tmp_path, "missing.example.org", "empty.example.org").repositories
    assert (missing.state, empty.state) == ("missing", "missing")
    assert "no such directory" in missing.reason
    assert "empty directory" in empty.reason
    assert "CVMFS_REPOSITORIES" in missing.remedy


def test_a_file_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "file.example.org").write_text("")
    (state,) = looked_at(tmp_path, "file.example.org").repositories
    assert state.state == "unreadable"
    assert "ENOTDIR" in state.reason


def test_what_the_client_tells_is_read_from_its_attributes(tmp_path: Path) -> None:
    def work() -> Any:
        with hanging_mount(tmp_path / NAME, ATTRIBUTES):
            return shown(tmp_path, NAME)

    (state,) = in_namespace(work)
    assert state == {
        "repository": NAME,
        "path": str(tmp_path / NAME),
        "state": "ok",
        "reason": "",
        "remedy": "",
        "type": "fuse",
        "stuck": False,
        "version": "2.12.0.0",
        "revision": 4711,
        "proxy": "DIRECT",
        "host": "http://s1.example.org/cvmfs/x",
        "io_errors": 3,
        "last_io_error": 1760000000,
        "expires_minutes": 4,
        "stale": False,
    }


def test_a_dead_a_hung_and_a_failing_client_are_told_apart_beside_a_good_one(tmp_path: Path) -> None:
    names = ["dead.example.org", "hung.example.org", "failing.example.org", "good.example.org", "none.example.org"]

    def work() -> Any:
        with (
            hanging_mount(tmp_path / names[0]) as dead,
            hanging_mount(tmp_path / names[1]) as hung,
            hanging_mount(tmp_path / names[2]) as failing,
            hanging_mount(tmp_path / names[3], ATTRIBUTES),
        ):
            dead.die()
            hung.become("silent")
            failing.become("io_error")
            return [shown(tmp_path, *names, seconds=3), hung.connection]

    states, connection = in_namespace(work)
    assert [state["state"] for state in states] == ["broken", "hung", "io_error", "ok", "missing"]
    dead, hung, failing, good, _ = states
    assert "Transport endpoint is not connected" in dead["reason"]
    assert f"umount -l {tmp_path / names[0]}" in dead["remedy"]
    assert hung["stuck"]
    assert "no answer within 3 s" in hung["reason"]
    assert f"/sys/fs/fuse/connections/{connection}/abort" in hung["remedy"]
    assert "cvmfs_config stat -v failing.example.org" in failing["remedy"]
    assert good["revision"] == 4711


def test_a_client_that_died_is_noticed_though_its_root_is_still_known_to_the_kernel(tmp_path: Path) -> None:
    def work() -> Any:
        with hanging_mount(tmp_path / NAME) as served:
            before = shown(tmp_path, NAME)
            served.die()
            return [before[0]["state"], shown(tmp_path, NAME)[0]["state"]]

    assert in_namespace(work) == ["ok", "broken"]


def test_one_that_hangs_only_when_its_client_is_asked_hangs(tmp_path: Path) -> None:
    def work() -> Any:
        with hanging_mount(tmp_path / NAME, silent_about=(GETXATTR,)):
            return shown(tmp_path, NAME, seconds=0.5)

    assert in_namespace(work)[0]["state"] == "hung"


def test_a_mount_point_that_hangs_itself_is_told_for_every_repository(tmp_path: Path) -> None:
    def work() -> Any:
        with hanging_mount(tmp_path) as served:
            served.become("silent")
            return shown(tmp_path, "a.example.org", "b.example.org", seconds=0.3)

    assert [state["state"] for state in in_namespace(work)] == ["hung", "hung"]


def test_without_the_mount_point_nothing_is_entered(tmp_path: Path) -> None:
    found = looked_at(tmp_path / "cvmfs", NAME)
    assert (found.exists, found.problem) == (False, f"this node has no {tmp_path / 'cvmfs'}")
    assert found.repositories[0].state == "missing"


@pytest.mark.parametrize("name", ["", ".", "..", "../etc", "a/b.c", ".hidden.org", "name", "a b.org", "a\0.org"])
def test_what_is_no_repository_name_is_never_entered(tmp_path: Path, name: str) -> None:
    (state,) = looked_at(tmp_path, name).repositories
    assert "no repository name" in state.reason


def test_not_more_than_a_bounded_number_is_entered(tmp_path: Path) -> None:
    states = looked_at(tmp_path, *(f"r{number}.example.org" for number in range(70))).repositories
    assert [state.state for state in states].count("missing") == 64
    assert [state.state for state in states].count("unknown") == 6


def test_whether_this_account_may_write_to_the_mount_point_is_told(tmp_path: Path) -> None:
    assert looked_at(tmp_path).writable


def test_mounted_repositories_are_known_without_touching_them() -> None:
    inner = Mount("0:48", "/", f"{PATH}/sub", "fuse", "cvmfs2", ("ro",))
    other = Mount("8:1", "/", "/data", "ext4", "/dev/sda1", ("rw",))
    assert mounted_repositories([AUTOFS, FUSE, inner, other, FUSE]) == (NAME,)


@pytest.mark.parametrize(
    ("raw", "state", "words"),
    [
        (answer("ENOTCONN"), "broken", "client of this mount has died"),
        (answer("ECONNABORTED"), "broken", "connection abort"),
        (answer("EIO"), "io_error", "no proxy or server"),
        (answer("ENOENT"), "missing", "not configured"),
        (answer("ELOOP"), "unreadable", "too many links"),
        (answer("EACCES"), "unreadable", "Permission denied"),
        (answer("ENOSUCHERROR"), "unreadable", "ENOSUCHERROR"),
        (answer(empty=True), "missing", "nothing is mounted"),
        (answer(attributes={"expires": "-60"}), "ok", "renewed 60 min ago"),
        (answer(attributes={"expires": "-2"}), "ok", ""),
        (Answer(problem="gone"), "unknown", "gone"),
        (Answer("text"), "unknown", "cannot be read"),
        (Answer(problem="not recorded", recorded=False), "unknown", "not recorded"),
    ],
)
def test_every_answer_has_its_state(raw: Answer, state: str, words: str) -> None:
    found = judged(raw, FUSE)
    assert (found.state, found.kind) == (state, "fuse")
    assert words in found.reason


def test_a_client_that_fails_has_the_last_word() -> None:
    told = {"proxy": "http://squid:3128", "host": "http://s1", "logbuffer": "one\nfailed to fetch x\n\n"}
    found = judged(answer("EIO", attributes=told), FUSE)
    assert "proxy http://squid:3128, host http://s1" in found.reason
    assert found.reason.endswith("the client's last word: failed to fetch x")


def test_the_remedy_knows_autofs() -> None:
    assert "the next access mounts it again" in judged(answer("ENOTCONN"), AUTOFS, FUSE).remedy
    assert f"then `mount {PATH}`" in judged(answer("ENOTCONN"), FUSE).remedy
    assert "restart autofs" in judged(answer("ENOENT"), AUTOFS).remedy


def test_a_mount_that_hangs_is_freed_by_what_it_is() -> None:
    hung = Answer(problem="it did not end", hung=True, stuck=True)
    nfs = Mount("0:50", "/", PATH, "nfs4", "server:/cvmfs", ("ro",))
    assert "/sys/fs/fuse/connections/47/abort" in judged(hung, FUSE).remedy
    assert "NFS server of server:/cvmfs" in judged(hung, nfs).remedy
    assert f"cvmfs_config probe {NAME}" in judged(hung, AUTOFS).remedy


def test_secrets_in_a_proxy_are_not_told() -> None:
    assert client_state({"proxy": "http://user:word@squid:3128"}).proxy == "http://(removed)@squid:3128"


def test_empty_and_damaged_attributes_are_left_out() -> None:
    told = {"revision": "x", "proxy": "", "nioerr": "-1", "expires": "never (fixed root catalog)", "pid": 7}
    assert client_state(told) == ClientState()
    assert client_state(None) == ClientState()
    assert client_state({"expires": "-5"}).stale is False


@given(st.dictionaries(st.sampled_from(["revision", "expires", "logbuffer", "proxy", "version", "x"]), st.text()))
def test_any_attributes_are_taken(attributes: dict[str, str]) -> None:
    judged(answer(attributes=attributes))


KEYS = st.sampled_from(["problem", "empty", "attributes", "expires"])
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(ANY_JSON)
def test_any_answer_is_taken(value: Any) -> None:
    assert judged(Answer(value), FUSE).as_json()


def test_a_look_never_raises(tmp_path: Path) -> None:
    assert look(str(tmp_path / "missing"))["problem"] == "ENOENT"
    assert look(os.devnull)["problem"] == "ENOTDIR"
