"""Free ports, and whose a listening one is."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pilot_agent.services import listening, ports
from pilot_agent.services.ports import free_port, holder, listeners
from tests.needs import need

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def node(root: Path, *lines: str) -> str:
    """A recorded node whose sockets are these lines of /proc/net/tcp."""
    (root / "proc/net").mkdir(parents=True)
    (root / "proc/net/tcp").write_text(HEAD + "".join(f"{line}\n" for line in lines))
    return str(root)


def line(port: int, state: str = "0A", user: int = 1000, inode: int = 77) -> str:
    return f"   0: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  {user} 0 {inode} 1"


def test_a_free_port_is_nobodys_and_none_of_those_taken() -> None:
    first = free_port()
    assert listeners(first) == []
    assert free_port([first]) != first
    with socket.create_server(("127.0.0.1", first)):
        assert listeners(first)


def test_a_port_is_held_by_the_process_that_listens_and_by_no_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert holder(port, [os.getpid()]) == ""
        assert holder(port, [1 << 22]) == f"another program of user {os.geteuid()}"
    assert holder(port, [os.getpid()]) is None


@pytest.mark.parametrize("state", ["01", "06"])
def test_a_connection_is_no_listener(tmp_path: Path, state: str) -> None:
    assert listeners(8000, node(tmp_path, line(8000, state))) == []


def test_who_answers_at_the_loopback_counts_and_not_who_has_the_number_elsewhere() -> None:
    with socket.create_server(("127.0.0.1", 0)) as answering:
        port = answering.getsockname()[1]
        with socket.create_server(("127.0.0.2", port)):
            assert len(listeners(port)) == 2
            assert len(listeners(port, on_loopback=True)) == 1


def test_who_listens_everywhere_answers_at_the_loopback_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        assert holder(port, [os.getpid()]) == ""
        assert len(listeners(port, on_loopback=True)) == 1


@pytest.mark.parametrize("words", ["0" * 32, "0" * 16 + "FFFF0000" + "0100007F", "0" * 16 + "FFFF0000" + "0" * 8])
def test_a_socket_of_both_versions_answers_at_the_loopback_too(tmp_path: Path, words: str) -> None:
    root = node(tmp_path)
    (tmp_path / "proc/net/tcp6").write_text(HEAD + line(8000, inode=9).replace("0100007F", words) + "\n")
    assert listeners(8000, root, on_loopback=True) == [("9", 1000)]


def test_a_service_on_another_address_does_not_vouch_for_who_answers_at_the_loopback(tmp_path: Path) -> None:
    other = os.geteuid() + 1
    elsewhere = line(8000, user=os.geteuid(), inode=77).replace("0100007F", "0200007F")
    root = node(tmp_path, elsewhere, line(8000, user=other, inode=78))
    own = tmp_path / "proc/10/fd"
    own.mkdir(parents=True)
    (own / "3").symlink_to("socket:[77]")
    assert holder(8000, [10], root) == f"another program of user {other}"


def test_sockets_of_both_versions_are_seen_and_damaged_lines_are_not(tmp_path: Path) -> None:
    root = node(tmp_path, "garbage", line(8000, inode=5), line(80, inode=6))
    (tmp_path / "proc/net/tcp6").write_text(HEAD + line(8000, user=0, inode=9).replace("0100007F", "0" * 32) + "\n")
    assert listeners(8000, root) == [("5", 1000), ("9", 0)]


def test_a_node_that_does_not_tell_has_no_listeners(tmp_path: Path) -> None:
    assert listeners(8000, str(tmp_path)) == []
    assert holder(8000, [1], str(tmp_path)) is None


def test_the_socket_decides_where_descriptors_can_be_read_else_the_user(tmp_path: Path) -> None:
    root = node(tmp_path, line(8000, user=os.geteuid(), inode=77), line(9000, user=os.geteuid() + 1, inode=78))
    own = tmp_path / "proc/10/fd"
    own.mkdir(parents=True)
    (own / "3").symlink_to("socket:[77]")
    assert holder(8000, [10], root) == ""
    assert holder(9000, [10], root) == f"another program of user {os.geteuid() + 1}"
    unreadable = tmp_path / "proc/11"
    unreadable.mkdir()
    (unreadable / "fd").write_text("")  # cannot be listed, as that of a program of another domain
    assert holder(8000, [11], root) == ""
    assert holder(9000, [11], root) == f"another program of user {os.geteuid() + 1}"


def test_the_kernel_says_the_same_as_its_table() -> None:
    with socket.create_server(("127.0.0.1", 0)) as narrow:
        port = narrow.getsockname()[1]
        with socket.create_server(("127.0.0.2", port)):
            told = listening.listening(port)
            assert told is not None
            assert {address for address, _, _ in told} == {bytes((127, 0, 0, 1)), bytes((127, 0, 0, 2))}
            assert sorted(told) == sorted(ports._in_table(port, "/"))
            assert {user for _, _, user in told} == {os.geteuid()}


def test_listeners_of_the_other_family_are_seen_too() -> None:
    need("IPv6", socket.has_dualstack_ipv6(), "run where the kernel has IPv6")
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as wide:
        port = wide.getsockname()[1]
        told = listening.listening(port)
        assert told is not None
        assert [address for address, _, _ in told] == [bytes(16)]
        assert len(listeners(port, on_loopback=True)) == 1


@pytest.mark.parametrize(("name", "number"), [("SOCK_DIAG", 99), ("BY_FAMILY", 999), ("PROTOCOL", 200)])
def test_a_kernel_that_cannot_be_asked_is_read(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    monkeypatch.setattr(listening, name, number)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listening.listening(port) is None
        assert holder(port, [os.getpid()]) == ""
