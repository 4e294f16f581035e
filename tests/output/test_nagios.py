"""One status line, performance data that a monitoring system can read, and an exit code of 0 to 3."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given

from pilot_agent.output.nagios import nagios
from tests.output import hostile
from tests.output.reports import USERNS_HINT, check, fact, failure, fit, full, of_node, unfit

STATUS = re.compile(r"PILOT (OK|WARNING|CRITICAL|UNKNOWN) - ([^|]+) \| (.+)")
DATUM = re.compile(r"'[^'=]+'=-?\d+(\.\d+)?(s|B|%|c)?;;;0?")
CODES = {"OK": 0, "WARNING": 1, "CRITICAL": 2, "UNKNOWN": 3}


def said(report: Any) -> tuple[int, str, dict[str, str], list[str]]:
    """Exit code, status text, performance data by label, and the other lines; read as the guidelines say."""
    code, text = nagios(report)
    assert text.endswith("\n")
    assert len(text.encode("utf-8")) <= 4096
    first, *others = text[:-1].split("\n")
    found = STATUS.fullmatch(first)
    assert found, first
    assert CODES[found[1]] == code
    assert not re.search("[|\x00-\x1f\x7f-\x9f\u2028\u202e\ud800]", "".join(others))
    data = found[3].split(" ")
    assert all(DATUM.fullmatch(datum) for datum in data), data
    labels = dict(datum.split("=", 1) for datum in data)
    assert len(labels) == len(data)
    return code, found[2], {label.strip("'"): value for label, value in labels.items()}, others


@given(hostile.reports)
def test_any_report_makes_one_status_line(report: Any) -> None:
    said(report)


def test_a_fit_node_is_ok() -> None:
    code, status, data, others = said(fit())
    assert (code, status, others) == (0, "fit, 1 check", [])
    assert data["cores"] == "4;;;0"
    assert data["memory"] == f"{15872 * 1024 * 1024}B;;;0"
    assert data["clock_offset"] == "0.184s;;;"
    assert data["failed_checks"] == "0;;;0"


def test_a_warning_is_a_warning() -> None:
    report = fit() | {"checks": [check("a"), check("gpu", "warn", "one is broken", "replace it")]}
    code, status, _, others = said(report)
    assert (code, status) == (1, "fit, 1 of 2 checks warn: gpu")
    assert others == ["warn gpu: one is broken", "  to change it: replace it"]


def test_an_unfit_node_is_critical_and_says_what_to_change() -> None:
    code, status, _, others = said(unfit())
    assert code == 2
    assert status.startswith("not fit: userns.unusable: unprivileged user namespaces do not work")
    assert f"  to change it: {USERNS_HINT}" in others


def test_unfit_for_one_vo_is_critical() -> None:
    code, status, _, others = said(full())
    assert code == 2
    assert status.startswith("not fit for 1 of 2 VOs: ")
    assert others[:2] == ["VO example: fit", "VO lattice: not fit"]


def test_what_several_vos_share_is_said_once() -> None:
    report = full() | {"checks": [check("fuse", "warn", "no device", vo=vo) for vo in ("example", "lattice")]}
    assert said(report)[3].count("warn fuse: no device") == 1
    assert said(report)[2]["warned_checks"] == "1;;;0"


def test_a_reason_that_no_check_says_is_told() -> None:
    assert f"  to change it: {USERNS_HINT}" in said(unfit() | {"checks": []})[3]


@pytest.mark.parametrize("kind", ["usage", "plugin", "internal", "corruption", "preempted"])
def test_a_check_that_failed_itself_is_unknown(kind: str) -> None:
    report = unfit()
    problem = failure("plugin.crashed", "example crashed", kind=kind)
    report |= {"outcome": {"status": "failed", "failure": problem}}
    report["verdicts"][0]["failure"] = problem
    code, status, _, _ = said(report)
    assert (code, status) == (3, "cannot tell: plugin.crashed: example crashed")


def test_what_is_surely_wrong_weighs_more_than_what_is_unknown() -> None:
    report = full()
    report["verdicts"].append({"vo": "c", "fit": False, "failure": failure("plugin.crashed", "x", kind="plugin")})
    assert said(report)[0] == 2


@pytest.mark.parametrize("report", [None, [], {}, {"outcome": {"status": "?"}}])
def test_what_is_no_report_is_unknown(report: Any) -> None:
    assert said(report)[0] == 3


def test_an_interrupted_check_is_unknown() -> None:
    assert said(fit() | {"outcome": {"status": "preempted", "failure": None}})[0] == 3


def test_many_failures_stay_within_what_is_read() -> None:
    report = unfit() | {"checks": [check(f"c{n}", "fail", "é" * 900, "h" * 900) for n in range(300)]}
    assert re.fullmatch(r"\.\.\. and \d+ more lines", said(report)[3][-1])


@pytest.mark.parametrize("number", [1e20, 10**23, 0.1 + 0.2, 1e-9, 3.0, 100.0])
def test_performance_data_has_no_exponent(number: float) -> None:
    report = fit()
    report["node"]["cpu"]["usable"] = fact(number, "cores")
    assert "e" not in said(report)[2]["cores"]


def test_the_report_of_a_recorded_node_has_its_cores() -> None:
    assert said(of_node("slurm_cgroup2"))[2]["cores"] == "4;;;0"
