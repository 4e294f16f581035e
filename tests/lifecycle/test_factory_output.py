"""A pilot's end as factories of GlideinWMS read it."""

from __future__ import annotations

import base64
import gzip
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.files import write_json
from pilot_agent.lifecycle import publish
from pilot_agent.lifecycle.factory_output import texts
from pilot_agent.lifecycle.finish import zero_or_one
from pilot_agent.workspace import Workspace

STARTED = 1_790_000_000.0
ABOUT = {
    "started": STARTED,
    "cwd": "/scratch/pilot-1",
    "client_name": "example & co",
    "hostname": "n1",
    "condorg_cluster": 0,
}


def line(what: str, start: float, seconds: float, *, stage: str = "run", plugin: str = "agent") -> dict[str, Any]:
    return {"stage": stage, "plugin": plugin, "what": what, "start": start, "seconds": seconds, "status": "ok"}


def check(name: str, status: str = "pass", message: str = "", **metrics: str) -> dict[str, Any]:
    return {"name": name, "status": status, "message": message, "kind": "node_resource", "metrics": metrics}


def failed(kind: str, code: str, message: str) -> dict[str, Any]:
    return {"status": "failed", "failure": {"kind": kind, "code": code, "message": message}}


RAN: dict[str, Any] = {
    "outcome": {"status": "ok", "failure": None},
    "timeline": [
        line("client/check.sh", 2.0, 1.5, stage="setup late", plugin="gwms_scripts"),
        line("condor_master", 30.0, 600.0),
    ],
    "checks": [check("cpu.usable >= 1"), check("client/check.sh", free_mib="17"), check("gpu", "skip")],
    "jobs": {
        "started": 7, "busy_seconds": 500.5, "ended": {"exit 0": 3, "exit 1": 2, "signal 9": 1, "evicted": 1},
    },
}  # fmt: skip
REFUSED: dict[str, Any] = {
    "outcome": failed("config", "script.vo_config", "client/images.sh: no <image> & no hope"),
    "checks": [check("client/images.sh", "fail", "client/images.sh: no <image> & no hope", failure="VO_Config", a="1")],
    "timeline": [],
}


def documents(out: str, err: str) -> tuple[ET.Element, ET.Element]:
    """The short one of standard output, and the long one of standard error."""
    short = out.partition("=== XML description of glidein activity ===\n")[2]
    short = short.partition("=== End XML description of glidein activity ===")[0]
    packed = re.search(r"begin-base64 644 -\n(.*?)====\n", err, re.DOTALL)
    assert packed is not None
    return ET.fromstring(short), ET.fromstring(gzip.decompress(base64.b64decode(packed[1])).decode())


def metrics(result: ET.Element) -> dict[str, str | None]:
    return {one.get("name", ""): one.text for one in result.findall("result/metric")}


def test_a_pilot_that_ran_jobs_tells_how_long_it_validated_and_what_became_of_them() -> None:
    out, err = texts(RAN, ABOUT, 0, STARTED + 640)
    assert "=== Last script starting Mon Sep 21 14:13:50 UTC 2026 (1790000030) after validating for 30 ===\n" in out
    assert "(1790000630) with code 0 after 600 ===\n" in out
    assert "Total number of activations/claims: 7\n" in out
    assert "=== Glidein ending Mon Sep 21 14:24:00 UTC 2026 (1790000640) with code 0 after 640 ===\n" in out
    assert "=== validation OK in client/check.sh (1) ===\n" in err
    assert "gpu" not in err
    short, whole = documents(out, err)
    assert (short.get("id"), short.findtext("result/status")) == ("glidein_startup.sh", "OK")
    found = metrics(short)
    assert {name: value for name, value in found.items() if name.endswith("JobsNr")} == {
        "TotalJobsNr": "7", "goodZJobsNr": "3", "goodNZJobsNr": "2", "badSignalJobsNr": "1", "badOtherJobsNr": "1",
    }  # fmt: skip
    assert (found["AutoShutdown"], found["CondorDuration"], found["CondorKilled"]) == ("True", "600", "False")
    environment = {one.get("name"): one.text for one in short.findall("operatingenvironment/env")}
    assert environment == {"cwd": "/scratch/pilot-1", "client_name": "example & co", "hostname": "n1"}
    assert short.find("test/cmd") is None
    results = {one.get("id"): one for one in whole.findall("subtestlist/OSGTestResults/OSGTestResult")}
    assert list(results) == ["cpu.usable >= 1", "client/check.sh"]
    assert metrics(results["client/check.sh"]) == {"free_mib": "17"}
    assert results["client/check.sh"].findtext("test/tStart") == "2026-09-21T14:13:22+00:00"
    assert whole.find("operatingenvironment/env[@name='condorg_cluster']") is not None


def test_a_pilot_that_a_script_refused_says_which_and_why() -> None:
    out, err = texts(REFUSED, ABOUT, 1, STARTED + 5)
    assert "Last script" not in out
    assert "with code 1 after 5 ===" in out
    assert "=== Validation error in client/images.sh ===\n" in err
    short, whole = documents(out, err)
    assert metrics(short) == {"failure": "VO_Config", "TestID": "client/images.sh"}
    assert "no <image> & no hope" in (short.findtext("detail") or "")
    [result] = whole.findall("subtestlist/OSGTestResults/OSGTestResult")
    assert metrics(result) == {"failure": "VO_Config", "a": "1"}


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("node_resource", "WN_Resource"),
        ("credential", "VO_Proxy"),
        ("corruption", "Corruption"),
        ("internal", "Unknown"),
    ],
)
def test_a_failure_of_the_pilot_itself_has_a_type_that_factories_know(kind: str, told: str) -> None:
    short, _ = documents(*texts({"outcome": failed(kind, "a.b", "c")}, ABOUT, 1, STARTED))
    assert metrics(short) == {"failure": told, "TestID": "a.b"}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.fixed_dictionaries({}, optional={"outcome": JSON, "timeline": JSON, "checks": JSON, "jobs": JSON}),
    st.lists(st.tuples(st.sampled_from(["pass", "fail", "warn"]), st.text(), st.text(), JSON), max_size=3),
)
def test_whatever_a_report_holds_the_documents_are_xml(report: dict[str, Any], checks: list[Any]) -> None:
    listed = [{"name": name, "status": status, "message": text, "metrics": more} for status, name, text, more in checks]
    if listed:
        report = {**report, "checks": listed}
    out, err = texts(report, {}, 1, STARTED)
    documents(out, err)
    assert all(text.count("=== XML description") <= 1 for text in (out, err))


def test_nothing_is_printed_where_no_factory_reads_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace(str(tmp_path / "pilot-1"))
    publish.print_for_factory(workspace, RAN, 0)
    assert capfd.readouterr() == ("", "")
    (tmp_path / "pilot-1" / "private").mkdir(parents=True)
    write_json(workspace.factory_output, ABOUT)
    publish.print_for_factory(workspace, RAN, 0)
    out, err = capfd.readouterr()
    assert "Glidein ending" in out
    assert "Encoded XML" in err


@pytest.mark.parametrize(("code", "told"), [(0, 0), (143, 0), (137, 0), (64, 1), (2, 1), (70, 1)])
def test_an_exit_code_is_a_fault_or_none(code: int, told: int) -> None:
    assert zero_or_one(code) == told
