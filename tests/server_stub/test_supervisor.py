"""systemd is told how it stands, where it asks for it, and nothing happens where it does not."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from server_stub import supervisor


def test_lines_arrive_at_the_socket_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.settimeout(30)
        monkeypatch.setenv(supervisor.VARIABLE, address)
        assert supervisor.ready("answers")
        assert listening.recv(1000) == b"READY=1\nSTATUS=answers"
        assert supervisor.reloading()
        first, second = listening.recv(1000).decode().splitlines()
        assert first == "RELOADING=1"
        assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


def test_a_name_without_a_path_is_the_kernels_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # the kernel chooses a name that is free
        listening.settimeout(30)
        monkeypatch.setenv(supervisor.VARIABLE, "@" + listening.getsockname()[1:].decode())
        assert supervisor.stopping()
        assert listening.recv(1000) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
def test_nobody_to_tell_is_no_failure(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(supervisor.VARIABLE, address)
    assert not supervisor.alive("goes on")
