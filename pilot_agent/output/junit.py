"""The checks as JUnit XML, as Jenkins and GitLab read it: a suite for the node and one for each VO."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element, SubElement

from pilot_agent.model import Json
from pilot_agent.output.html_values import with_unit
from pilot_agent.output.read import read
from pilot_agent.output.reading import NOT_THE_NODE, CheckRow, FitFor, Problem, Reading
from pilot_agent.output.words import one_line, shortened

MOST_PROPERTY_CHARACTERS = 300


def junit_xml(report: Json) -> str:
    """The report as JUnit XML. Suite ``node`` holds the checks that concern every VO and the facts as properties, a
    suite ``vo NAME`` the checks of one VO. The last test case of a verdict's suite is ``fit``: it fails with what
    decides, so that an unfit node fails the build even where no single check says why."""
    found = read(report)
    root = ET.Element("testsuites", name="pilot-agent check")
    suites = [_suite(root, found, name, vo, fits) for name, vo, fits in _plan(found)]
    _add_totals(root, suites)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _plan(found: Reading) -> Iterator[tuple[str, str, list[FitFor]]]:
    """Name, VO and verdicts of each suite; a VO that only checks name has a suite without a verdict."""
    verdicts: dict[str, list[FitFor]] = {"": []}
    for check in found.checks:
        verdicts.setdefault(check.vo, [])
    for fit in found.fit:
        verdicts.setdefault(fit.vo, []).append(fit)
    for vo, fits in verdicts.items():
        yield (f"vo {_name(vo)}" if vo else "node"), vo, fits


def _suite(root: Element, found: Reading, name: str, vo: str, fits: Sequence[FitFor]) -> Element:
    suite = SubElement(root, "testsuite", name=name, hostname=_name(found.host))
    if found.started:
        suite.set("timestamp", one_line(found.started).rstrip("Z"))
    if not vo:
        _add_properties(suite, found)
    taken: set[str] = set()
    durations = {span.what: span.seconds for span in found.spans if span.stage == "validate" and not span.is_stage}
    for check in found.checks:
        if check.vo == vo:
            case = _case(suite, _unique(_check_name(check), taken), name, durations.get(check.name, 0.0))
            _add_result(case, check)
    for fit in fits:
        _add_fit(_case(suite, _unique("fit", taken), name, 0.0), fit)
    _count(suite)
    return suite


def _case(suite: Element, name: str, classname: str, seconds: float) -> Element:
    return SubElement(suite, "testcase", name=name, classname=f"pilot-agent.{classname}", time=f"{seconds:.4f}")


def _add_properties(suite: Element, found: Reading) -> None:
    properties = SubElement(suite, "properties")
    pairs = [("pilot.version", found.version), ("pilot.user", found.user), ("pilot.id", found.pilot_id)]
    for fact in found.facts:
        known = fact.status == "known"
        value = with_unit(fact.value, fact.unit) if known else f"{fact.status}: {fact.detail}"
        pairs.append((fact.full_name, value))
    for name, value in pairs:
        SubElement(properties, "property", name=_name(name), value=shortened(one_line(value), MOST_PROPERTY_CHARACTERS))


def _add_result(case: Element, check: CheckRow) -> None:
    """Failures and skips as their elements; a warning passes and says so in its output."""
    words = shortened(check.message)
    if check.hint and check.status != "pass":
        words += f"\nto change it: {shortened(check.hint)}"
    if check.status == "fail":
        _add_failure(case, check.kind, check.code, check.message, words)
    elif check.status == "skip":
        SubElement(case, "skipped", message=_message(check.message))
    elif words:
        SubElement(case, "system-out").text = f"warning: {words}" if check.status == "warn" else words


def _add_fit(case: Element, fit: FitFor) -> None:
    if fit.fit:
        return
    problem = fit.problem or Problem("", "", f"{fit.name} is not fit", "see the checks that fail", "", "")
    words = shortened(problem.message)
    words += f"\nto change it: {shortened(problem.hint)}" if problem.hint else ""
    words += f"\nwho acts: {problem.who}" if problem.who else ""
    _add_failure(case, problem.kind, problem.code, problem.message, words)


def _add_failure(case: Element, kind: str, code: str, message: str, words: str) -> None:
    element = SubElement(case, "error" if kind in NOT_THE_NODE else "failure", message=_message(message))
    element.set("type", _name(code or kind or "unfit"))
    element.text = words


def _count(suite: Element) -> None:
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for attribute, element in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(case.find(element) is not None for case in cases)))
    suite.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.4f}")


def _add_totals(root: Element, suites: Sequence[Element]) -> None:
    for attribute in ("tests", "failures", "errors", "skipped"):
        root.set(attribute, str(sum(int(suite.get(attribute, 0)) for suite in suites)))
    root.set("time", f"{sum(float(suite.get('time', 0)) for suite in suites):.4f}")


def _check_name(check: CheckRow) -> str:
    return _name(check.name) + (" (inside the image)" if check.where == "image" else "")


def _unique(name: str, taken: set[str]) -> str:
    """The name, with a number where a suite has it already: readers of JUnit XML join cases of one name."""
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name} #{number}"
    taken.add(unique)
    return unique


def _name(text: str) -> str:
    return shortened(one_line(text), 200)


def _message(text: str) -> str:
    return shortened(one_line(text), 500)
