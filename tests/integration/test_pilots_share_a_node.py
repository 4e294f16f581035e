"""Two whole pilots of one account on one node: one server for the jobs of both, which goes on when the pilot that
started it is gone, and one measurement of the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from tests.integration.conftest import StartPilot
from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.trees import PILOT
from tests.testbed.user_jobs import Jobs, slot_ads

PLACE = f"{PILOT.home}/of-both"
SERVER = "http.server"
CONFIGURATION = {
    "services": {
        "files": {
            "command": ["python3", "-m", SERVER, "--bind", "{host}", "--directory", "{workspace}", "{port:http}"],
            "ports": {"http": 0},
            "ready_http": "http/",
            "live_http": "http/",
            "exports": {"FILES": "{host}/{port:http}"},
            "per": "node",
        }
    },
    "benchmarks": {"cache_directory": f"{PLACE}/scores"},
    "site": {
        "benchmarks": [
            {
                "name": "counted",
                "command": ["/bin/sh", "-c", f"echo once >> {PLACE}/measured; sleep 1; echo '{{\"score\": 41.5}}'"],
                "timeout_seconds": 30,
                "unit": "ops/s",
            }
        ]
    },
}
ASK = "exec 3<>/dev/tcp/$FILES; printf ''GET / HTTP/1.0\\r\\n\\r\\n'' >&3; read -r _ code _ <&3; [ $code = 200 ]"
USE = f"ask() ( {ASK} ) 2>/dev/null; until ask; do sleep 0.1; done"
STAY = f"{USE}; touch began; while ask; do sleep 0.05; done; echo away; until ask; do sleep 0.1; done; echo again"
"""A job that uses the server, sees it go, and uses it again at the same place."""


@pytest.fixture
def both(grid: Grid, pilot: StartPilot) -> Iterator[list[PilotRun]]:
    """Two pilots that were started at once, the one that runs the server first."""
    grid.wn1.run(["install", "-d", PLACE], user=PILOT.name)
    runs = [pilot(CONFIGURATION).start() for _ in range(2)]
    try:
        for run in runs:
            run.joined()
        yield sorted(runs, key=lambda run: "service.shared" in told(run))
    finally:
        grid.wn1.run(["rm", "-r", PLACE])


def told(run: PilotRun) -> list[str]:
    """The names of its events so far."""
    return [str(event["event"]) for event in run.events()]


def servers(run: PilotRun) -> list[int]:
    """The servers on the node, whoever started them."""
    return [process.pid for process in run.processes() if SERVER in process.argv]


def score(run: PilotRun) -> dict[str, Any]:
    """Of the pilot's report, the benchmark."""
    return next(dict(one) for one in run.report()["benchmarks"] if one["name"] == "site.counted")


def of_the_node(run: PilotRun) -> list[Path]:
    """What says to other pilots where the server is."""
    return list(run.host.path(f"/var/tmp/pilot-agent-{PILOT.uid}").glob("service-files-*"))


def submit(jobs: Jobs, run: PilotRun, script: str) -> Any:
    """A job that needs the server."""
    return jobs.submit(f'executable = /bin/bash\narguments = "-c \'{script}\'"\n+WantServices = "files"', pilot=run)


def test_two_pilots_have_one_server_that_the_second_takes_over_and_measure_the_node_once(
    grid: Grid, both: list[PilotRun], jobs: Jobs
) -> None:
    first, second = both
    assert "service.shared" not in told(first)
    [server] = servers(first)
    submit(jobs, first, USE).wait_done()
    staying = submit(jobs, second, STAY)
    second.job_file("began")

    first.signal(SIGTERM)
    assert first.wait() == 143, first.story()
    staying.wait_done()
    assert (staying.exit_codes(), staying.output()) == ([0], "away\nagain\n"), staying.error()
    assert "service.taken_over" in told(second)
    [own] = servers(second)
    assert own != server
    assert [ad["SERVICE_FILES_READY"] for ad in slot_ads(grid, second, "PartitionableSlot")] == [True]

    second.signal(SIGTERM)
    assert second.wait() == 143, second.story()
    assert [run.report()["leftovers"] for run in both] == [[], []]
    ports = [one["ports"] for run in both for one in run.report()["services"]]
    assert ports[0] == ports[1], "the jobs of the second went on at the same port"
    assert (servers(second), of_the_node(second)) == ([], [])

    assert grid.wn1.path(f"{PLACE}/measured").read_text() == "once\n"
    assert sorted((score(run)["cached"], score(run)["score"]) for run in both) == [(False, 41.5), (True, 41.5)]
