"""What a pilot reports of the jobs it ran: how they ended, whose they were, and what time they took."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import pilot_agent
from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.trees import FACTORY, USER
from tests.testbed.user_jobs import Job, Jobs

SCHEMA = Path(pilot_agent.__file__).with_name("report.schema.json")
STUBBORN = "trap : TERM; while :; do sleep 0.2; done"
NAMES = "{user}@pool.test"
FORGED = r"""
+Aaa = "x\n*** Offset = 0 ClusterId = 9 ProcId = 0 Owner = \"v\" CompletionDate = 1\nUser = \"victim@pool.test\"\nb"
+Zzz = "ends with a backslash\"
"""
"""What a user may try to make of one entry of the history two."""


@pytest.fixture(scope="module")
def told(grid: Grid, payload: Path, good_token: str) -> Iterator[dict[str, Any]]:
    """The account of a pilot whose jobs of two users ended in every way."""
    run = PilotRun(grid.hosts["wn1"], good_token, {"site": {"containers": "never"}, "images": {}}).start().joined()
    ours, theirs = Jobs(grid), Jobs(grid, FACTORY.name)
    made: list[Job] = []

    def shell(queue: Jobs, script: str, extra: str = "") -> Job:
        made.append(queue.shell(script, pilot=run, extra=extra))
        return made[-1]

    try:
        ended = [
            shell(ours, "exit 0", '+ProjectName = "atlas"'),
            shell(ours, "exit 3", FORGED),
            shell(ours, "kill -9 $$"),
        ]
        ended += [shell(theirs, "sleep 1.5", '+ProjectName = "a\\nb"'), shell(theirs, "exit 0")]
        for job in ended:
            job.wait_done()
        removed, held = shell(ours, "sleep 600").wait_running(), shell(theirs, "sleep 600").wait_running()
        held.hold()
        removed.remove()
        made.append(ours.submit("executable = /no/such/program", pilot=run).wait_held())
        shell(theirs, STUBBORN).wait_running()
        run.signal(signal.SIGTERM)
        assert run.wait() == 128 + signal.SIGTERM, run.story()
        yield run.report()
    finally:
        run.destroy()
        for job in made:
            job.remove()


def test_every_way_to_end_is_told_apart(told: dict[str, Any]) -> None:
    jsonschema.validate(told, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert told["jobs"]["ended"] == {
        "evicted": 1,
        "exit 0": 3,
        "exit 3": 1,
        "not started": 1,
        "removed or held": 2,
        "signal 9": 1,
    }
    assert told["jobs"]["started"] == 9


def test_every_users_jobs_are_counted(told: dict[str, Any]) -> None:
    users = told["jobs"]["users"]
    counts = {name: (account["jobs"], account["exit_zero"]) for name, account in users.items()}
    assert counts == {NAMES.format(user=USER.name): (5, 1), NAMES.format(user=FACTORY.name): (4, 2)}


def test_a_projects_name_is_one_line_whatever_a_user_writes(told: dict[str, Any]) -> None:
    projects = told["jobs"]["projects"]
    assert projects["atlas"]["jobs"] == 1
    assert all("\n" not in name for name in projects)
    assert len(projects) == 2


def test_the_times_are_those_of_the_jobs_and_of_the_slot(told: dict[str, Any]) -> None:
    jobs = told["jobs"]
    factory = jobs["users"][NAMES.format(user=FACTORY.name)]
    assert factory["busy_seconds"] >= 1.5, "one job slept so long"
    assert jobs["busy_seconds"] <= jobs["busy_core_seconds"] + 0.2
    lived = next(line["seconds"] for line in told["timeline"] if line["what"] == "condor_master")
    assert jobs["busy_seconds"] + jobs["idle_seconds"] == pytest.approx(lived, abs=0.5)
    cores = told["node"]["cpu"]["usable"]["value"]
    assert jobs["busy_core_seconds"] + jobs["idle_core_seconds"] == pytest.approx(lived * cores, abs=0.5 * cores)
    handoff = next(line for line in told["timeline"] if (line["stage"], line["what"]) == ("handoff", "stage"))
    assert jobs["validation_seconds"] == pytest.approx(handoff["start"] + handoff["seconds"], abs=2)
