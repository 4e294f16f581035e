"""Whenever the process that writes is killed, what it was told is stored is stored, and the store is whole."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from server_stub.factory.store import Store

WRITER = """
import json, sys
from server_stub.factory.pilots import Pilot, PilotState
from server_stub.factory.store import Store
store = Store(sys.argv[1])
number = int(sys.argv[2])
while True:
    pilot = Pilot(f"p{number}", "site-a", "S", "pyz", "ab", PilotState.RUNNING, float(number), "/state")
    store.save(pilot, report={"number": number, "filling": "x" * 20000})
    store.add_events(pilot.id, b"{}\\n" * 1000, upto=3000, dropped=0, limit_bytes=1 << 20)
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("records", [1, 17, 40])
def test_what_was_accepted_before_a_kill_is_there_after_it(empty_database: Path, tmp_path: Path, records: int) -> None:
    path = tmp_path / "factory.sqlite"
    path.write_bytes(empty_database.read_bytes())
    command = [sys.executable, "-c", WRITER, f"sqlite:///{path}", "0"]
    accepted = -1
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(records):
            accepted = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        accepted = int([str(accepted), *writer.stdout.read().split()][-1])
    with Store(f"sqlite:///{path}") as store:
        for number in range(accepted + 1):
            assert (store.report(f"p{number}") or {})["number"] == number
            assert b"".join(store.events(f"p{number}")) == b"{}\n" * 1000
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
