"""What HTCondor's reader says is compared with the plan; the reader here is a program that answers as told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pilot_agent.model import PilotError
from pilot_agent.startd.guard import GUARD, HELD
from pilot_agent.startd.links import LINKS
from pilot_agent.startd.verify import configuration_question, expected, fetcher_questions, hook_questions, verify
from tests.startd.plans import CONDOR, plan


def answering(tmp_path: Path, lines: list[str], code: int = 0, said: str = "") -> str:
    (tmp_path / "answer").write_text("\n".join(lines) + "\n")
    tool = tmp_path / "condor_config_val"
    tool.write_text(f"#!/bin/sh\ncat {tmp_path}/answer\necho '{said}' >&2\nexit {code}\n")
    tool.chmod(0o755)
    return str(tmp_path)


def test_a_configuration_read_as_planned_passes(tmp_path: Path) -> None:
    tools = answering(tmp_path, list(expected(plan()).values()))
    verify([configuration_question(plan(condor=replace(CONDOR, bin=tools)))], {"PATH": "/bin:/usr/bin"})


def test_every_difference_is_named(tmp_path: Path) -> None:
    values = expected(plan()) | {"NUM_CPUS": "64", "SEC_CLIENT_ENCRYPTION": "OPTIONAL"}
    tools = answering(tmp_path, list(values.values()))
    with pytest.raises(PilotError, match=r"NUM_CPUS is '64', planned '4'; SEC_CLIENT_ENCRYPTION is 'OPTIONAL'"):
        verify([configuration_question(plan(condor=replace(CONDOR, bin=tools)))], {"PATH": "/bin:/usr/bin"})


def test_a_configuration_that_htcondor_cannot_read_says_why(tmp_path: Path) -> None:
    tools = answering(tmp_path, [], code=1, said="Configuration Error Line 3")
    with pytest.raises(PilotError, match="Configuration Error Line 3"):
        verify([configuration_question(plan(condor=replace(CONDOR, bin=tools)))], {"PATH": "/bin:/usr/bin"})


def test_a_missing_reader_is_reported(tmp_path: Path) -> None:
    with pytest.raises(PilotError, match="could not be started"):
        verify([configuration_question(plan(condor=replace(CONDOR, bin=str(tmp_path))))], {})


def hooks(tmp_path: Path, guard_code: int) -> str:
    for name, code in ((GUARD, guard_code), (LINKS, 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o500)
    return str(tmp_path)


def test_hooks_that_start_and_refuse_an_empty_ad_pass(tmp_path: Path) -> None:
    verify(hook_questions(hooks(tmp_path, HELD), str(tmp_path)), {"PATH": "/bin:/usr/bin"})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((GUARD, LINKS))


def test_a_hook_that_lets_an_empty_ad_pass_ends_the_pilot(tmp_path: Path) -> None:
    with pytest.raises(PilotError, match=GUARD) as caught:
        verify(hook_questions(hooks(tmp_path, 0), str(tmp_path)), {"PATH": "/bin:/usr/bin"})
    assert caught.value.failure.code == "startd.hook"


def test_a_hook_that_cannot_start_ends_the_pilot(tmp_path: Path) -> None:
    directory = hooks(tmp_path, HELD)
    (tmp_path / LINKS).chmod(0o400)
    with pytest.raises(PilotError, match=LINKS):
        verify(hook_questions(directory, str(tmp_path)), {"PATH": "/bin:/usr/bin"})


def fetcher(tmp_path: Path, code: int) -> tuple[str, ...]:
    program = tmp_path / "fetcher"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho "no room" >&2\nexit {code}\n')
    program.chmod(0o700)
    return (str(program), "_image", "settings.json")


def test_the_program_that_fetches_is_asked_to_look_at_its_settings(tmp_path: Path) -> None:
    verify(fetcher_questions(fetcher(tmp_path, 0)), {"PATH": "/bin:/usr/bin"})
    assert (tmp_path / "asked").read_text() == "_image --verify settings.json\n"
    assert fetcher_questions(()) == []


def test_a_program_that_cannot_fetch_ends_the_pilot_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(PilotError, match="no room") as caught:
        verify(fetcher_questions(fetcher(tmp_path, 3)), {"PATH": "/bin:/usr/bin"})
    assert caught.value.failure.code == "startd.hook"


def test_of_several_problems_the_first_in_order_is_told_and_all_were_asked(tmp_path: Path) -> None:
    questions = [*hook_questions(hooks(tmp_path, 0), str(tmp_path)), *fetcher_questions(fetcher(tmp_path, 3))]
    with pytest.raises(PilotError, match=GUARD):
        verify(questions, {"PATH": "/bin:/usr/bin"})
    assert (tmp_path / "asked").exists()
