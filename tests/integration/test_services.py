"""What users see of a service beside their jobs, in a real pool: where it is, also after it was started again at
another port, and no job that needs it while it is away."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.trees import PILOT
from tests.testbed.user_jobs import Jobs, slot_ads

AWAY = f"{PILOT.home}/web-away"
WEB = f'while test -e {AWAY}; do sleep 0.1; done; exec python3 -m http.server --bind 127.0.0.1 "$1"'
SERVICES = {
    "web": {
        "command": ["/bin/sh", "-c", WEB, "web", "{port:http}"],
        "ports": {"http": 0},
        "ready_http": "http/",
        "exports": {"WEB_PLACE": 'it\'s {host}:{port:http}; "$HOME" $(HOME)', "FROM_SITE": "{port}", "HIDDEN": "1"},
        "attributes": {"WebPlace": "{host}:{port}"},
        "required": False,
        "backoff_seconds": 0.1,
        "cores": 1,
        "memory_mib": 300,
    },
    "beat": {"command": ["/bin/sleep", "3600"], "per": "node", "required": False},
}
OF_THE_NODE = f"/var/tmp/pilot-agent-{PILOT.uid}/service-beat-*"
LOOK = "echo $SERVICE_WEB_URL $SERVICE_WEB_PORT_HTTP $WEB_PLACE $FROM_SITE ${HIDDEN-unset}"
GET = "exec 3<> /dev/tcp/$SERVICE_WEB_HOST/$SERVICE_WEB_PORT; echo GET / HTTP/1.0 >&3; echo >&3; head -1 <&3"
ASK = f"""
executable = /bin/bash
arguments = "-c '{LOOK}; {GET}'"
+WantServices = "web"
"""
"""In a container: what it sees, and whether the service answers there."""


@pytest.fixture(scope="module")
def served(grid: Grid, payload: object, good_token: str) -> Iterator[PilotRun]:
    """A pilot with a web server for its jobs."""
    changes = {
        "services": SERVICES,
        "startd": {
            "job_environment": {"FROM_SITE": "constant"},
            "allowed_environment": ["SERVICE_*", "WEB_*", "FROM_*"],
        },
    }
    run = PilotRun(grid.wn1, good_token, changes)
    try:
        run.start().joined()
        yield run
    finally:
        run.destroy()
        run.host.run(["rm", "-f", AWAY])


def slot(grid: Grid, run: PilotRun, constraint: str) -> dict[str, Any]:
    """The pilot's slot in the collector, once it is so."""
    wanted = f"PartitionableSlot && ({constraint})"
    found: list[dict[str, Any]] = run.wait_until(f"{constraint} at the collector", lambda: slot_ads(grid, run, wanted))
    return found[0]


def test_jobs_find_a_service_and_one_that_needs_it_waits_until_it_is_back_at_another_port(
    served: PilotRun, jobs: Jobs, grid: Grid
) -> None:
    ad = slot(grid, served, "SERVICE_WEB_READY && SERVICE_BEAT_READY")
    first = ad["SERVICE_WEB_PORT"]
    assert (ad["SERVICE_WEB_URL"], ad["WebPlace"]) == (f"http://127.0.0.1:{first}", f"127.0.0.1:{first}")
    asked = jobs.submit(ASK, pilot=served).wait_done()
    assert asked.output().splitlines() == seen(first), asked.error()

    (pid,) = [one.pid for one in served.processes() if "http.server" in one.argv]
    served.host.run(["touch", AWAY])
    served.host.run(["kill", "-KILL", str(pid)])
    slot(grid, served, "SERVICE_WEB_READY =?= false && isUndefined(SERVICE_WEB_PORT) && isUndefined(WebPlace)")
    with served.host.popen(["python3", "-m", "http.server", "--bind", "127.0.0.1", str(first)]) as other:
        try:
            needs = jobs.submit(ASK, pilot=served)
            jobs.shell("exit 0", pilot=served).wait_done()
            assert needs.status() == {1}
            served.host.run(["rm", AWAY])
            needs.wait_done()
        finally:
            other.kill()
    second = slot(grid, served, "SERVICE_WEB_READY")["SERVICE_WEB_PORT"]
    assert second != first
    assert needs.output().splitlines() == seen(second), needs.error()


def of_the_node(run: PilotRun) -> list[Path]:
    """What says to other pilots where the service of all is."""
    directory, pattern = os.path.split(OF_THE_NODE)
    return list(run.host.path(directory).glob(pattern))


def seen(port: int) -> list[str]:
    """What such a job prints."""
    place = f'it\'s 127.0.0.1:{port}; "$HOME" $(HOME)'
    return [f"http://127.0.0.1:{port} {port} {place} {port} unset", "HTTP/1.0 200 OK"]


def test_the_report_says_what_the_service_took_what_it_gave_and_how_it_ran(served: PilotRun, grid: Grid) -> None:
    ad = slot(grid, served, "true")
    lock, place = sorted(of_the_node(served), reverse=True)
    assert json.loads(place.read_text())["status"] == "ready"
    taken = served.host.run(["flock", "--nonblock", f"/var/tmp/pilot-agent-{PILOT.uid}/{lock.name}", "true"])
    assert taken.returncode == 1, "the keeper holds what the service stage took"
    served.signal(SIGTERM)
    assert served.wait() in (0, 143), served.story()
    report = served.report()
    usable = report["node"]["cpu"]["usable"]
    assert usable["source"] == "service web"
    assert (usable["value"], ad["TotalCpus"]) == (usable["limits"][-2]["number"] - 1,) * 2
    assert report["node"]["memory"]["usable_mib"]["value"] == ad["TotalMemory"]
    assert {check["name"]: check["status"] for check in report["checks"]}["services"] == "pass"
    told = {(one["name"], one["asked_by"]): (one["given"], one["reason"]) for one in report["container"]["environment"]}
    assert told["FROM_SITE", "configuration (factory)"][1] == "the service web gives it another value while it is up"
    assert told["FROM_SITE", "service web"] == (True, "")
    assert told["HIDDEN", "service web"][0] is False
    assert "127.0.0.1" not in json.dumps(report["container"])
    services = {service["name"]: service for service in report["services"]}
    assert services["web"]["restarts"] >= 1
    assert services["beat"]["starts"] == 1
    assert of_the_node(served) == []
