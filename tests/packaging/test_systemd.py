"""The units are ones that systemd takes, start commands that exist, and are left with few rights."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from pilot_agent.process import Result, run
from server_stub.commands.factory.program import FACTORY
from server_stub.commands.frontend.program import FRONTEND
from server_stub.commands.tree import build_parser
from tests.needs import need

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"
PROGRAMS = {"pilot-factory": FACTORY, "pilot-frontend": FRONTEND}
MOST_EXPOSED = 20
"""Tenths of systemd's own measure, of which 100 is a service with every right."""


def analyze(*words: str) -> Result:
    need("systemd-analyze", shutil.which("systemd-analyze") is not None, "install systemd")
    return run(["systemd-analyze", *words], deadline_seconds=120, environment={"PATH": os.environ["PATH"]})


@pytest.fixture(params=PROGRAMS)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit whose program is one that is there: systemd looks."""
    text = (UNITS / f"{request.param}.service").read_text()
    made = tmp_path / f"{request.param}.service"
    made.write_text(text.replace(f"/opt/pilot-agent/bin/{request.param}", "/bin/true"))
    return made


def test_systemd_takes_the_unit_without_a_word(unit: Path) -> None:
    done = analyze("verify", "--man=no", str(unit))
    assert done.ok, done.explain()
    assert done.stderr == b""


def test_the_service_keeps_few_rights(unit: Path) -> None:
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(unit))
    assert done.ok, done.text[-300:] or done.explain()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_unit_starts_a_command_that_there_is(name: str) -> None:
    text = (UNITS / f"{name}.service").read_text()
    found = re.search(r"^ExecStart=\S+/(\S+) (.*)$", text, re.MULTILINE)
    assert found is not None
    assert found[1] == name
    parsed = build_parser(PROGRAMS[name]).parse_args(found[2].split())
    assert parsed.config.startswith(f"/etc/{name}/")


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_account_of_the_unit_is_made_by_its_file(name: str) -> None:
    text = (UNITS / f"{name}.service").read_text()
    assert f"User={name}\n" in text
    assert re.search(rf"^u {name} - ", (UNITS / f"{name}.sysusers").read_text(), re.MULTILINE)
