"""The short form of `make chaos`: a few points of a fixed seed, each survived with nothing left and no job lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.conftest import BUILT

REPOSITORY = Path(__file__).resolve().parents[2]
# Signals early and late, to one process and to all, a full disk, a moved clock and a factory that is down; nothing that
# takes minutes.
SEED, POINTS = 105953, 7


def run_suite(output: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "tests.chaos", "--payloads", str(BUILT), "--output", str(output)]
    return subprocess.run(
        words, cwd=REPOSITORY, env={**os.environ, **environment}, capture_output=True, text=True, timeout=500
    )


def test_pilots_survive_a_few_faults_of_every_kind(testbed_machine: None, tmp_path: Path) -> None:
    done = run_suite(tmp_path, CHAOS_SEED=str(SEED), CHAOS_POINTS=str(POINTS))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"chaos: seed {SEED}, {POINTS} points")
    assert lines[-1] == f"chaos: {POINTS} tried, {POINTS} survived, 0 leftovers, 0 jobs lost"
    kept = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(tmp_path.glob("*.json"))]
    assert [one["number"] for one in kept] == list(range(1, POINTS + 1))
    assert all(one["exit_code"] in one["expected_exit_codes"] for one in kept)


def test_a_point_that_does_not_exist_is_a_wrong_command_line(tmp_path: Path) -> None:
    done = run_suite(tmp_path, CHAOS_ONLY="kill-keeper@probe")
    assert done.returncode == 2
    assert "kill-keeper is struck at idle, running, teardown, not at 'probe'" in done.stderr
