"""What HTCondor's reader says is compared with the plan; the reader here is a program that answers as told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pilot_agent.model import PilotError
from pilot_agent.startd.guard import GUARD, HELD
from pilot_agent.startd.links import LINKS
from pilot_agent.startd.verify import expected, verify, verify_hooks
from tests.startd.plans import CONDOR, plan


def answering(tmp_path: Path, lines: list[str], code: int = 0, said: str = "") -> str:
    (tmp_path / "answer").write_text("\n".join(lines) + "\n")
    tool = tmp_path / "condor_config_val"
    tool.write_text(f"#!/bin/sh\ncat {tmp_path}/answer\necho '{said}' >&2\nexit {code}\n")
    tool.chmod(0o755)
    return str(tmp_path)


def test_a_configuration_read_as_planned_passes(tmp_path: Path) -> None:
    tools = answering(tmp_path, list(expected(plan()).values()))
    verify(plan(condor=replace(CONDOR, bin=tools)), {"PATH": "/bin:/usr/bin"})


def test_every_difference_is_named(tmp_path: Path) -> None:
    values = expected(plan()) | {"NUM_CPUS": "64", "SEC_CLIENT_ENCRYPTION": "OPTIONAL"}
    tools = answering(tmp_path, list(values.values()))
    with pytest.raises(PilotError, match=r"NUM_CPUS is '64', planned '4'; SEC_CLIENT_ENCRYPTION is 'OPTIONAL'"):
        verify(plan(condor=replace(CONDOR, bin=tools)), {"PATH": "/bin:/usr/bin"})


def test_a_configuration_that_htcondor_cannot_read_says_why(tmp_path: Path) -> None:
    tools = answering(tmp_path, [], code=1, said="Configuration Error Line 3")
    with pytest.raises(PilotError, match="Configuration Error Line 3"):
        verify(plan(condor=replace(CONDOR, bin=tools)), {"PATH": "/bin:/usr/bin"})


def test_a_missing_reader_is_reported(tmp_path: Path) -> None:
    with pytest.raises(PilotError, match="could not be started"):
        verify(plan(condor=replace(CONDOR, bin=str(tmp_path))), {})


def hooks(tmp_path: Path, guard_code: int) -> str:
    for name, code in ((GUARD, guard_code), (LINKS, 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o500)
    return str(tmp_path)


def test_hooks_that_start_and_refuse_an_empty_ad_pass(tmp_path: Path) -> None:
    verify_hooks(hooks(tmp_path, HELD), str(tmp_path), {"PATH": "/bin:/usr/bin"})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((GUARD, LINKS))


def test_a_hook_that_lets_an_empty_ad_pass_ends_the_pilot(tmp_path: Path) -> None:
    with pytest.raises(PilotError, match=GUARD) as caught:
        verify_hooks(hooks(tmp_path, 0), str(tmp_path), {"PATH": "/bin:/usr/bin"})
    assert caught.value.failure.code == "startd.hook"


def test_a_hook_that_cannot_start_ends_the_pilot(tmp_path: Path) -> None:
    directory = hooks(tmp_path, HELD)
    (tmp_path / LINKS).chmod(0o400)
    with pytest.raises(PilotError, match=LINKS):
        verify_hooks(directory, str(tmp_path), {"PATH": "/bin:/usr/bin"})
