"""A frontend as a service keeps its files where others keep theirs, and remembers where it may write."""

from __future__ import annotations

from pathlib import Path

import pytest

from server_stub.cli import main
from server_stub.frontend.configuration import read_frontend


def test_a_new_frontend_may_remember_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "var"
    state.mkdir()
    assert main(["frontend", "init", str(tmp_path / "etc"), "--collector", "cm", "--state", str(state)]) == 0
    assert read_frontend(str(tmp_path / "etc" / "frontend.yaml")).state == str(state)
    (state / "kept").write_text("mine")
    assert main(["frontend", "init", str(tmp_path / "other"), "--collector", "cm", "--state", str(state)]) == 2
    assert "exists already, and nothing was written" in capsys.readouterr().err
