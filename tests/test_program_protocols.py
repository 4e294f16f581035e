"""Any executable may find something out or judge: JSON in and out, or Nagios' four exit codes and a line."""

from __future__ import annotations

from typing import Any

import pytest

from pilot_agent.hookspecs import Check, Probe, Setup
from pilot_agent.model import CheckResult, CheckStatus, Fact, FactStatus, Json, Limit, PilotError
from pilot_agent.process import Result
from pilot_agent.programs import ProgramError, read_answer, settled
from pilot_agent.sdk.rehearsal import Outcome, Rehearsal, rehearse

CHECK = Check(name="nhc", command=("nhc",), protocol="nagios")
PROBE = Probe(name="rack", command=("rack",), protocol="json", gives=("site.rack",))


def ended(code: int | None, said: str = "", **more: Any) -> Result:
    """How a program ended."""
    return Result(("program",), code, stdout=said.encode(), **more)


def verdict(code: int | None, said: str = "") -> Json:
    """What a check in Nagios' way answers."""
    answer, failure = read_answer(CHECK, ended(code, said))
    assert failure is None
    return answer


# ---- Nagios ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "told_code"),
    [(0, "pass", ""), (1, "warn", ""), (2, "fail", ""), (3, "fail", "check.unknown"), (127, "fail", "check.unknown")],
)
def test_the_exit_code_is_the_verdict(code: int, status: str, told_code: str) -> None:
    answer = verdict(code, "DISK: 4 GiB left\nmore words\n")
    assert (answer["status"], answer["code"]) == (status, told_code)
    assert answer["message"] == ("DISK: 4 GiB left" if code < 4 else "program exited 127: more words")


def test_numbers_after_the_bar_are_metrics() -> None:
    answer = verdict(0, "OK | /=2643MB;5948;5958;0;5968 'free inodes'=81%;20 load=-1.5e1 broken= x=y")
    assert answer["message"] == "OK"
    assert answer["metrics"] == {"/": 2643.0, "free inodes": 81.0, "load": -15.0}


def test_one_that_says_nothing_has_a_message() -> None:
    assert verdict(0)["message"] == "it said nothing"
    assert verdict(3)["message"] == "program exited 3"


def test_one_that_hangs_has_no_verdict() -> None:
    _, failure = read_answer(CHECK, ended(None, "OK", timed_out=True, signal=15))
    assert failure is not None
    assert failure.code == "plugin.timeout"


def test_only_a_check_answers_so() -> None:
    with pytest.raises(ProgramError, match="is one of checks"):
        settled(Setup(name="s", command=("x",), protocol="nagios"), None)


# ---- JSON --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("words", "no JSON: "),
        ("", "no JSON: "),
        ('[{"site.rack": 4}]', "no JSON object"),
        ('noise\n{"site.rack": 4}', "no JSON: "),
    ],
)
def test_what_is_not_one_object_is_refused(said: str, reason: str) -> None:
    _, failure = read_answer(PROBE, ended(0, said))
    assert failure is not None
    assert (failure.code, reason in failure.message) == ("plugin.answer", True)


def test_one_that_fails_in_silence_is_told_by_its_end() -> None:
    _, failure = read_answer(PROBE, ended(4))
    assert failure is not None
    assert (failure.code, failure.message) == ("plugin.crashed", "rack: program exited 4")


def test_an_object_becomes_facts_and_limits() -> None:
    said = '{"site.rack": {"value": 4, "unit": "rack"}, "site.plan": {"any": 1}, "limits": [{"resource": "cpus"}]}'
    answer, failure = read_answer(PROBE, ended(0, said))
    assert failure is None
    assert answer == [
        {"type": "Limit", "value": {"resource": "cpus"}},
        {"type": "Fact", "value": {"source": "rack", "value": 4, "unit": "rack", "name": "site.rack"}},
        {"type": "Fact", "value": {"source": "rack", "value": {"any": 1}, "name": "site.plan"}},
    ]


# ---- in a pilot --------------------------------------------------------------------------------------------------

READ = """#!/bin/sh
given=$(cat)
case $given in
*'"task": "vo.rack"'*'"facts"'*|*'"facts"'*'"task": "vo.rack"'*) ;;
*) echo "nothing was given" >&2; exit 9;;
esac
echo '{"vo.rack": 7, "vo.door": {"status": "absent", "detail": "no door"},
 "limits": [{"resource": "cpu.usable", "number": 1, "unit": "cores", "source": "the rack"}]}'
"""
JSON_CHECK = """#!/bin/sh
case $(cat) in
*'"vo.rack": {'*'"value": 7'*) echo '{"status": "pass", "message": "it knows the rack"}';;
*) echo '{"status": "fail"}'; exit 1;;
esac
"""


def rehearsed(**vo: Json) -> Outcome:
    """The stages of a pilot with programs that the VO configures."""
    return rehearse(Rehearsal(config={"vo": vo}))


def test_configured_programs_find_out_and_judge() -> None:
    sleeper = {"name": "slow", "command": ["/bin/sleep", "600"], "timeout_seconds": 0.5, "gives": ["vo.slow"]}
    thief = {"name": "thief", "command": ["/bin/echo", '{"cpu.model": "mine"}'], "protocol": "json", "gives": ["vo.x"]}
    outcome = rehearsed(
        probes=[
            {"name": "rack", "script": READ, "protocol": "json", "gives": ["vo.rack", "vo.door"]},
            {"name": "plain", "command": ["/bin/echo", '{"vo.plain": "words"}'], "gives": ["vo.plain"]},
            sleeper,
            thief,
        ],
        checks=[
            {"name": "disk", "command": ["/bin/sh", "-c", "echo 'DISK low | free=4'; exit 1"], "protocol": "nagios"},
            {"name": "rack", "script": JSON_CHECK, "protocol": "json"},
        ],
    )
    assert outcome.facts["vo.rack"] == Fact("vo.rack", 7, source="vo.rack")
    assert (outcome.facts["vo.door"].status, outcome.facts["vo.door"].detail) == (FactStatus.ABSENT, "no door")
    assert outcome.facts["vo.plain"].value == "words"
    assert "did not end within" in outcome.facts["vo.slow"].detail
    assert "not this one's to give" in outcome.facts["vo.x"].detail
    assert outcome.facts["cpu.usable"].value == 1
    assert Limit("cpu.usable", 1, "cores", "the rack") in outcome.facts["cpu.usable"].limits
    checks = {check.name: check for check in outcome.checks}
    assert checks["vo.disk"] == CheckResult("vo.disk", CheckStatus.WARN, "DISK low", metrics={"free": 4.0})
    assert checks["vo.rack"].message == "it knows the rack"


def test_on_a_recording_no_program_is_run(tmp_path: Any) -> None:
    probe = {"name": "rack", "command": ["/bin/echo", '{"vo.rack": 7}'], "gives": ["vo.rack"]}
    outcome = rehearse(Rehearsal(config={"vo": {"probes": [probe]}}, through="probe", root=str(tmp_path)))
    assert "and not at a recording" in outcome.facts["vo.rack"].detail


def test_a_probe_that_gives_nothing_is_refused_with_its_place() -> None:
    with pytest.raises(PilotError, match=r"vo.probes\[0\].gives .*missing"):
        rehearsed(probes=[{"name": "rack", "command": ["x"]}])
