"""JUnit XML that continuous integration reads: well-formed whatever a report holds, and failing when the node does."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given

from pilot_agent.output.junit import junit_xml
from tests.output import hostile
from tests.output.reports import USERNS_HINT, check, failure, fit, full, of_node, unfit


def suites(report: object) -> dict[str, ET.Element]:
    """The suites of a report by name; their counts, and the sums of them, are right."""
    root = ET.fromstring(junit_xml(report).encode("utf-8"))
    assert root.tag == "testsuites"
    found = {suite.get("name", ""): suite for suite in root}
    assert len(found) == len(root)
    for suite in root:
        cases = suite.findall("testcase")
        assert suite.get("tests") == str(len(cases))
        assert len({(case.get("classname"), case.get("name")) for case in cases}) == len(cases)
        for attribute, element in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert suite.get(attribute) == str(len(suite.findall(f"testcase/{element}")))
    for attribute in ("tests", "failures", "errors", "skipped"):
        assert int(root.get(attribute, "")) == sum(int(suite.get(attribute, "")) for suite in root)
    return found


@given(hostile.reports)
def test_any_report_makes_well_formed_xml(report: object) -> None:
    for suite in suites(report).values():
        assert suite.iter(hostile.MARK) is not None
        assert not list(suite.iter(hostile.MARK))


def test_there_is_a_suite_for_the_node_and_one_for_each_vo() -> None:
    assert list(suites(full())) == ["node", "vo example", "vo lattice"]
    assert list(suites(fit())) == ["node"]


def test_a_failure_says_what_was_found_and_what_to_change() -> None:
    failed = suites(full())["vo lattice"].find("testcase[@name='userns']/failure")
    assert failed is not None
    assert failed.get("type") == "userns.unusable"
    assert USERNS_HINT in (failed.text or "")


def test_an_unfit_node_fails_even_where_no_check_says_why() -> None:
    report = unfit() | {"checks": []}
    assert suites(report)["node"].find("testcase[@name='fit']/failure") is not None


def test_a_verdict_without_a_reason_fails_too() -> None:
    report = unfit()
    report["verdicts"] = [{"vo": "", "fit": False, "failure": None}]
    assert suites(report)["node"].find("testcase[@name='fit']/failure") is not None


def test_a_fit_node_has_no_failure() -> None:
    assert {suite.get("failures") for suite in suites(fit()).values()} == {"0"}


def test_a_check_that_failed_itself_is_an_error_and_no_failure() -> None:
    report = unfit() | {"checks": []}
    report["verdicts"][0]["failure"] = failure("plugin.timeout", "example took too long", kind="plugin")
    case = suites(report)["node"].find("testcase[@name='fit']")
    assert case is not None
    assert [child.tag for child in case] == ["error"]


def test_a_warning_passes_and_is_told() -> None:
    output = suites(full())["node"].findtext("testcase[@name='gpu']/system-out")
    assert output == (
        "warning: 1 of 2 GPUs is unusable: uncorrectable ECC errors: 3\nto change it: the site replaces the GPU"
    )


def test_what_was_skipped_is_skipped() -> None:
    assert suites(full())["node"].find("testcase[@name='squashfuse']/skipped") is not None


def test_facts_are_properties() -> None:
    found = {p.get("name"): p.get("value") for p in suites(full())["node"].iter("property")}
    assert found["cpu.usable"] == "4 cores"
    assert found["network.proxies"] == "absent: no proxy is configured"


def test_checks_of_one_name_are_told_apart() -> None:
    report = fit() | {"checks": [check("a"), check("a"), check("a", where="image")]}
    names = [case.get("name") for case in suites(report)["node"].iter("testcase")]
    assert names == ["a", "a #2", "a (inside the image)", "fit"]


@pytest.mark.parametrize("name", ["slurm_cgroup2"])
def test_the_report_of_a_recorded_node_has_a_case_for_each_check(name: str) -> None:
    report = of_node(name)
    assert len(list(suites(report)["node"].iter("testcase"))) >= len(report["checks"])
