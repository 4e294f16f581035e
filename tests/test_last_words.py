"""Wherever a pilot fails, its report comes out: printed between its markers, valid, and of one mind with the exit code.

Real processes, as a batch system would start them; only HTCondor is a stand-in, and only where a pilot gets that far.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pilot_agent.environment import clean_environment
from pilot_agent.output.printed import find_printed
from pilot_agent.report import report_schema
from pilot_agent.startd.discovery import NEEDED_BIN, NEEDED_SBIN, TRANSFER_PLUGINS
from tests.conftest import PREAMBLE
from tests.lifecycle.scenario import Pilot
from tests.testbed.tokens import forged_token

ROOT = Path(__file__).parents[1]
# The guardian without the change of account that root has to make first.
START = """
import json, os, sys
root = sys.argv.pop(1)
sys.path.insert(0, root)
os.environ["PILOT_AGENT_INTERPRETER"] = json.dumps([sys.executable, "-I", "-B", "-X", "utf8"])
os.environ["PILOT_AGENT_PAYLOAD"] = root + "/pilot_agent/__main__.py"
from pilot_agent.lifecycle import guardian
sys.exit(guardian.main(sys.argv[1:]))
"""
PATIENCE_SECONDS = 300

SETUP = """
def work(context):
    raise RuntimeError("broken")

@hookimpl
def pilot_setups():
    yield Setup(name="bad", run=f"{__name__}:work", stage="@STAGE@", required=True)
"""
SERVICE = """
@hookimpl
def pilot_services():
    yield Service(name="bad", command=("/bin/sh", "-c", "exit 3"), required=True,
                  readiness=Readiness(command=("/bin/false",), timeout_seconds=60))
"""
LOST_SERVICE = """
import time

PLACE = os.path.dirname(__file__)
SCRIPT = f": > ready; until test -e {PLACE}/go; do sleep 0.05; done; : > {PLACE}/gone; echo tired; exit 3"

@hookimpl
def pilot_services():
    yield Service(name="lost", command=("/bin/sh", "-c", SCRIPT), restart="never", readiness=Readiness(file="ready"))

@hookimpl
def pilot_event(events):
    if any(event.data.get("stage") == "service" for event in events):
        open(f"{PLACE}/go", "w").close()
        while not os.path.exists(f"{PLACE}/gone"):
            time.sleep(0.02)
"""
KILLED = """
import signal

@hookimpl
def pilot_event(events):
    if any(event.data.get("stage") == "@STAGE@" for event in events):
        os.kill(os.getppid(), signal.SIGKILL)
"""
NO_RUNTIME = {"site": {"containers": "required"}, "vo": {"containers": "required"}, "containers": {"search": []}}
FAILURES: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "configure": ("this is no Python", {}, 68, "plugin.load"),
    "setup early": (SETUP.replace("@STAGE@", "early"), {}, 69, "plugin.crashed"),
    "container": ("", NO_RUNTIME, 64, "container.missing"),
    "validate": ("", {"requirements": ["cpu.usable >= 100000"]}, 64, "requirement.cpu.usable"),
    "setup late": (SETUP.replace("@STAGE@", "late"), {}, 69, "plugin.crashed"),
    "service": (SERVICE, {}, 69, "service.failed"),
    "benchmark": (LOST_SERVICE, {}, 69, "service.died"),
    "handoff": ("", {}, 64, "condor.unusable"),
}
"""By stage: a plugin, configuration, exit code and code of what goes wrong there."""
WITHOUT_FAILURES = ("probe", "mount", "benchmark", "advertise")
"""Stages that go on whatever their plugins do: only the end of the process itself ends a pilot there."""


def stand_in_for_htcondor(directory: Path) -> None:
    """Programs of the names that HTCondor's have, which do nothing right: enough to come as far as the hand-off."""
    libexec = ("condor_shared_port", *TRANSFER_PLUGINS)
    for place, names in (("sbin", NEEDED_SBIN), ("bin", NEEDED_BIN), ("libexec", libexec)):
        (directory / place).mkdir(parents=True)
        for name in names:
            (directory / place / name).write_text("#!/bin/sh\nexit 3\n")
            (directory / place / name).chmod(0o755)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Runs a pilot with a plugin and changes to its configuration to its end: its exit code and what it printed."""

    def run(plugin: str, changes: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        (tmp_path / "plugins").mkdir()
        (tmp_path / "plugins" / "example.py").write_text(PREAMBLE + plugin)
        stand_in_for_htcondor(tmp_path / "condor")
        (tmp_path / "pool.token").write_text(forged_token("pilot@example") + "\n")
        (tmp_path / "pool.token").chmod(0o600)
        sections: dict[str, Any] = {
            "pool": {"collectors": ["127.0.0.1:1"], "token": str(tmp_path / "pool.token")},
            "site": {"name": "S", "containers": "never", "scratch": [str(tmp_path)]},
            "vo": {"containers": "never"},
            "on_failure": {"hold_seconds": 0},
            "benchmarks": {"seconds": 0.01},
            "startd": {"condor_directory": str(tmp_path / "condor"), "condor_source": ["directory"]},
            "plugins": {"directories": [str(tmp_path / "plugins")], "load": ["example"]},
        }
        for name, value in changes.items():
            sections[name] = {**sections.get(name, {}), **value} if isinstance(value, dict) else value
        (tmp_path / "factory.json").write_text(json.dumps(sections))
        program = [sys.executable, "-I", "-B", "-X", "utf8", "-c", START, str(ROOT)]
        return subprocess.run(
            [*program, "--config", f"factory={tmp_path / 'factory.json'}", "--output", str(tmp_path / "output")],
            env=clean_environment({}, home=str(tmp_path), temporary=str(tmp_path)),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip

    yield run
    assert not list(tmp_path.glob("pilot-*")), "the workspace is gone"


def last_words(text: str) -> Any:
    """The report on standard output, which is whole and valid."""
    (printed,) = find_printed(text)
    assert not printed.problem
    jsonschema.Draft202012Validator(report_schema()).validate(printed.report)
    return printed.report


def stages_of(report: Any) -> list[str]:
    """The stages that the report knows to have been gone through."""
    return [line["stage"] for line in report["timeline"] if line["what"] == "stage"]


@pytest.mark.parametrize("stage", FAILURES)
def test_what_fails_in_a_stage_is_the_reports_last_word(start: Any, stage: str, tmp_path: Path) -> None:
    plugin, changes, exit_code, code = FAILURES[stage]
    done = start(plugin, changes)
    report = last_words(done.stdout)
    failure = report["outcome"]["failure"]
    assert (failure["code"], failure["stage"]) == (code, stage), failure
    assert done.returncode == exit_code
    assert (report["outcome"]["status"], report["leftovers"]) == ("failed", [])
    assert f"pilot-agent: {failure['kind']}: {code}: " in done.stderr
    assert json.loads((tmp_path / "output" / "report.json").read_text()) == report
    last = json.loads((tmp_path / "output" / "events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["failure"]["code"]) == ("pilot.ending", code)


@pytest.mark.parametrize("stage", WITHOUT_FAILURES)
def test_a_pilot_that_is_killed_in_a_stage_tells_of_those_before_it(start: Any, stage: str) -> None:
    done = start(KILLED.replace("@STAGE@", stage), {})
    report = last_words(done.stdout)
    assert (done.returncode, report["outcome"]["failure"]["code"]) == (70, "pipeline.killed")
    before = [one for one in ("probe", "mount", "setup_early", "benchmark", "advertise") if one in stages_of(report)]
    assert stage not in before
    assert bool(before) == (stage != "probe")
    assert bool(report["node"]) == (stage != "probe")


def test_a_configuration_that_cannot_be_used_is_told_the_same_way(start: Any) -> None:
    done = start("", {"startd": {"idle_shutdown_second": 1}})
    report = last_words(done.stdout)
    assert (done.returncode, report["outcome"]["failure"]["code"]) == (66, "config.invalid")


def test_a_pilot_whose_htcondor_dies_prints_its_last_report(tmp_path: Path) -> None:
    pilot = Pilot(tmp_path)
    try:
        pilot.plan("exit 44")
        pilot.start()
        assert pilot.wait() == 70
        report = last_words((tmp_path / "stdout").read_text())
        assert report["outcome"]["failure"]["code"] == "condor.master_died"
        assert report["outcome"]["failure"]["stage"] == "run"
        assert pilot.nothing_left()
    finally:
        pilot.destroy()
    assert not os.path.exists(pilot.workspace)
