"""The demo's own verdict: every job ended as expected, both pilots left by themselves, nothing of them is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema

from pilot_agent.report import report_schema

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_demo_ends_as_expected_and_leaves_a_valid_report(testbed_machine: None, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.testbed.demo", "--payloads", "build", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    jsonschema.validate(report, report_schema())
    assert report["outcome"] == {"status": "ok", "failure": None}
    assert (tmp_path / "events.jsonl").exists()
