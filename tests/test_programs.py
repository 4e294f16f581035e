"""Programs in place of functions: which records can run at all, and what a program's end means."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.codec import CodecError, from_json
from pilot_agent.collect import Declared
from pilot_agent.hookspecs import Check, Liveness, Metrics, Periodic, Probe, Readiness, Service, Setup, SetupResult
from pilot_agent.host import Ended, findings
from pilot_agent.model import CheckResult, CheckStatus
from pilot_agent.outcomes import decoded
from pilot_agent.process import Result
from pilot_agent.programs import ProgramError, filled, read_answer, settled

CHECK = Check(name="c", command=("/bin/true",), where="image")


def script(directory: Path, *, mode: int = 0o755) -> Path:
    path = directory / "s.sh"
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (Check(name="x"), "neither a function"),
        (Service(name="x"), "command is empty"),
        (Check(name="x", run="a:b", command=("/bin/true",)), "both the function a:b and a program"),
        (Check(name="x", run="a:b", where="image"), "cannot run inside an image"),
        (Check(name="x", run="a"), "module:function is needed"),
        (Check(name="x", run="a:b", platform="el9"), "platform names an image"),
        (Setup(name="x", stage="early", where="image", command=("/bin/true",)), 'stage="late"'),
        (Check(name="x", command=("{script}",)), "script names no file"),
        (Setup(name="x", command=("/bin/true",), teardown=("{script}",)), "script names no file"),
        (Check(name="x", script="no.sh"), "there is no script"),
        (Check(name="x", script="../other/s.sh"), "leads out"),
    ],
)
def test_what_can_never_run_is_refused_with_the_reason(record: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ProgramError) as caught:
        settled(record, str(tmp_path))
    assert words in str(caught.value)


def test_a_script_becomes_its_path_and_the_command_that_runs_it(tmp_path: Path) -> None:
    path = script(tmp_path)
    record = settled(Check(name="x", script="s.sh", where="image"), str(tmp_path))
    assert (record.script, record.command) == (str(path), ("{script}",))
    assert filled(record.command, "/srv/.pilot/plugin/s.sh") == ("/srv/.pilot/plugin/s.sh",)


def test_a_script_that_is_not_executable_needs_an_interpreter(tmp_path: Path) -> None:
    script(tmp_path, mode=0o644)
    with pytest.raises(ProgramError, match=r"chmod \+x"):
        settled(Check(name="x", script="s.sh"), str(tmp_path))
    assert settled(Check(name="x", script="s.sh", command=("/bin/sh", "{script}")), str(tmp_path)).script


def test_a_script_that_others_can_change_is_refused(open_path: Path) -> None:
    script(open_path, mode=0o777)
    with pytest.raises(ProgramError, match="may be written by everybody"):
        settled(Check(name="x", script="s.sh"), str(open_path))


def test_functions_stay_as_they_are() -> None:
    record = Periodic(name="x", run="a:b", period_seconds=1)
    assert settled(record, None) is record


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"readiness": Readiness(port=1, http="1/x")},
            "it has port and ready_http; give one way to know that it is ready",
        ),
        (
            {"readiness": Readiness(http="htp/x"), "ports": {"http": 0}},
            "readiness.http: 'htp' is none of its ports; did",
        ),
        ({"liveness": Liveness(port="http")}, "liveness.port: 'http' is none of its ports; it has none"),
        ({"liveness": Liveness(failures=0)}, "liveness.failures: 0 is less than 1"),
        ({"metrics": Metrics(http="1/metrics", names=())}, "metrics.names: missing"),
        ({"metrics": Metrics(http="1/metrics", names=("a b",))}, "metrics.names[0]: 'a b' is no name of a family"),
        (
            {"command": ("x", "{port:grcp}"), "ports": {"grpc": 0}},
            "command[1]: {port:grcp} is none of its ports; did you",
        ),
        ({"stop_signal": "SIGTREM"}, "stop_signal: 'SIGTREM' is no signal; did you mean SIGTERM?"),
        ({"restart": "on_failur"}, "'on_failur' is none of 'on_failure', 'always', 'never'"),
        ({"ports": {"http": "80"}}, "Service.ports.http: expected int, found str"),
        ({"name": "../b"}, "'../b' is no name of a service: letters, digits and . _ - only"),
        ({"gpus": -1}, "gpus: -1 is neither a number of devices nor the word all"),
    ],
)
def test_a_service_that_cannot_be_run_as_declared_is_refused_with_the_field(fields: Any, message: str) -> None:
    with pytest.raises(ProgramError, match=re.escape(message)):
        settled(Service(**{"name": "s", "command": ("x",), **fields}), None)


def test_a_service_with_everything_is_taken_as_it_is() -> None:
    whole = Service(
        name="triton",
        command=("server", "--port", "{port:http}"),
        ports={"http": 0, "grpc": 8001},
        readiness=Readiness(http="http/v2/health/ready"),
        liveness=Liveness(port="grpc"),
        metrics=Metrics(http="http/metrics", names=("up",)),
        gpus="all",
        exports={"URL": "http://{host}:{port:http}/"},
    )
    assert settled(whole, None) is whole


def result(code: int | None = 0, out: str = "", err: str = "", **more: Any) -> Result:
    return Result(("/bin/x",), code, stdout=out.encode(), stderr=err.encode(), **more)


def verdict(ended: Result, record: Check = CHECK) -> CheckResult:
    answer, failure = read_answer(record, ended)
    assert failure is None, failure
    return from_json(CheckResult, answer)


def test_the_exit_code_is_a_verdict_and_the_last_line_its_message() -> None:
    passed = verdict(result(0, "first\nall is well\n"))
    assert (passed.status, passed.message, passed.where) == (CheckStatus.PASS, "all is well", "image")
    failed = verdict(result(3, "", "no such library\n"))
    assert failed.status is CheckStatus.FAIL
    assert "exited 3: no such library" in failed.message


def test_an_object_in_the_last_line_says_more_but_cannot_turn_a_failure_into_a_pass() -> None:
    said = json.dumps({"status": "warn", "message": "m", "hint": "h", "code": "my.code"})
    found = verdict(result(0, f"noise\n{said}\n"))
    assert (found.status, found.message, found.hint, found.code) == (CheckStatus.WARN, "m", "h", "my.code")
    assert verdict(result(1, '{"status": "pass"}')).status is CheckStatus.FAIL


@pytest.mark.parametrize("out", ['{"status": "good"}', '{"verdict": "pass"}', '{"message": 3}', "{no json"])
def test_an_answer_of_another_form_is_the_plugins_fault(out: str) -> None:
    _, failure = read_answer(CHECK, result(0, out))
    assert failure is not None
    assert failure.code == "plugin.answer"


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (result(None, signal=9, timed_out=True), "plugin.timeout"),
        (result(None, signal=11), "plugin.crashed"),
        (result(None, error="ENOENT"), "plugin.crashed"),
    ],
)
def test_a_program_that_gave_no_verdict_has_none(ended: Result, code: str) -> None:
    _, failure = read_answer(CHECK, ended)
    assert failure is not None
    assert failure.code == code


def test_a_setup_answers_with_what_it_contributes_or_with_nothing() -> None:
    setup = Setup(name="s", command=("/bin/true",))
    assert read_answer(setup, result(0, "hello\n")) == ({}, None)
    assert read_answer(setup, result(0, '{"environment": {"A": "1"}}')) == ({"environment": {"A": "1"}}, None)
    _, failure = read_answer(setup, result(1, '{"environment": {"A": "1"}}', "broken"))
    assert failure is not None
    assert "broken" in failure.message


@given(st.text(max_size=40), st.integers(0, 255))
def test_any_output_is_a_verdict_or_a_failure(out: str, code: int) -> None:
    answer, failure = read_answer(CHECK, result(code, out.encode("utf-8", "replace").decode()))
    assert (failure is None) is (answer is not None)


def test_a_number_of_nagios_that_is_none_is_left_out() -> None:
    check = Check(name="load", command=("x",), protocol="nagios")
    answer, failure = read_answer(check, result(0, "OK | load=1e999;; free=12MB\n"))
    assert failure is None
    assert answer["metrics"] == {"free": 12.0}


@pytest.mark.parametrize("number", ["NaN", "1e999", "[-Infinity]"])
def test_a_fact_that_no_report_can_hold_is_refused(number: str) -> None:
    probe = Probe(name="load", command=("x",), gives=("x.load",), protocol="json")
    answer, failure = read_answer(probe, result(0, f'{{"x.load": {number}}}'))
    assert failure is None
    with pytest.raises(CodecError, match="cannot become JSON"):
        findings(answer)


@pytest.mark.parametrize("number", ["NaN", "1e999"])
def test_an_attribute_that_no_report_can_hold_spoils_the_answer(number: str) -> None:
    setup = Setup(name="load", command=("x",))
    answer, failure = read_answer(setup, result(0, f'{{"attributes": {{"Load": {number}}}}}'))
    ended = Ended(Declared("p", "pilot_setups", setup, False), answer, failure, 0.0, 0.0)
    found, spoilt = decoded(ended, SetupResult)
    assert found is None
    assert spoilt.failure is not None
    assert "cannot become JSON" in spoilt.failure.message
