from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes.batch.batch import probe_batch
from pilot_agent.probes.batch.machine_job_features import Features, shuts_down
from pilot_agent.probes.resources.cpu import probe_cpu
from pilot_agent.probes.resources.memory import probe_memory
from tests.probes.trees import context_of, facts, limits, write_tree

ANSWERS = {
    "/job/allocated_cpu": "3\n",
    "/job/max_rss_bytes": str(5 << 30),
    "/job/jobstart_secs": "1795513600",
    "/job/wall_limit_secs": "3600",
    "/job/job_id": "<html>not one</html>",
    "/machine/shutdowntime": "1795513600",
    "/machine/total_cpu": "9" * 100_000,
}


class _Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", self.path.replace("/moved/", "/job/"))
        else:
            text = ANSWERS.get(self.path)
            self.send_response(404 if text is None else 200)
        self.end_headers()
        self.wfile.write(ANSWERS.get(self.path, "").encode())

    def log_message(self, *_words: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    """The address of a server that tells features."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_features_in_directories_bound_the_job() -> None:
    context = context_of("mjf_virtual_machine")
    known = facts(probe_batch(context))
    assert known["batch.features"].value == {
        "machine": {"total_cpu": 8, "hs06": 91.2, "shutdowntime": 1795600000, "grace_secs": 7200},
        "job": {
            "allocated_cpu": 6,
            "jobstart_secs": 1795513600,
            "wall_limit_secs": 90000,
            "max_rss_bytes": 12 << 30,
            "scratch_limit_bytes": 80 << 30,
            "job_id": "vm-17.example.org",
        },
    }
    assert (known["batch.cores"].value, known["batch.memory_mib"].value) == (6, 12288)
    assert known["batch.disk_mib"].value == 80 << 10
    assert known["batch.end_time"].value == 1795600000
    assert known["batch.draining"].value is True
    assert limits(probe_cpu(context), "cpu.usable")["JOBFEATURES allocated_cpu"] == 6
    assert limits(probe_memory(context), "memory.usable_mib")["JOBFEATURES max_rss_bytes"] == 12288


@pytest.mark.parametrize(
    ("machine", "job", "now", "drains"),
    [
        ({}, {}, 1000.0, None),
        ({"shutdowntime": "9000", "grace_secs": "3600"}, {}, 1000.0, False),
        ({"shutdowntime": "9000", "grace_secs": "3600"}, {}, 6000.0, True),
        ({"shutdowntime": "9000"}, {}, 7000.0, False),
        ({"shutdowntime": "9000"}, {}, 8000.0, True),
        ({"shutdowntime": "99000"}, {"shutdowntime_job": "9000", "grace_secs_job": "60"}, 8990.0, True),
        ({"shutdowntime": "9000", "grace_secs": "3600"}, {}, None, True),
        ({"shutdowntime": "soon"}, {}, 1000.0, None),
    ],
)
def test_a_machine_drains_when_no_more_than_its_grace_is_left(
    machine: dict[str, str], job: dict[str, str], now: float | None, drains: bool | None
) -> None:
    judged = shuts_down(Features(machine, job), now)
    assert (judged and judged[0]) == drains


def test_features_at_an_address_are_fetched_and_bound_the_job(site: str) -> None:
    environment = {"JOBFEATURES": f"{site}/job/", "MACHINEFEATURES": f"{site}/machine"}
    found = list(probe_batch(Context(environment=environment)))
    known = facts(found)
    assert known["batch.features"].value["job"] == {
        "allocated_cpu": 3,
        "max_rss_bytes": 5 << 30,
        "jobstart_secs": 1795513600,
        "wall_limit_secs": 3600,
    }
    # A value that is too long to be one is none.
    assert known["batch.features"].value["machine"] == {"shutdowntime": 1795513600}
    assert known["batch.end_time"].source == "MACHINEFEATURES shutdowntime"
    assert limits(found, "cpu.usable") == {"JOBFEATURES allocated_cpu": 3}
    assert limits(found, "memory.usable_mib") == {"JOBFEATURES max_rss_bytes": 5120}


def test_a_redirect_is_not_followed(site: str) -> None:
    feature = facts(probe_batch(Context(environment={"JOBFEATURES": f"{site}/moved"})))["batch.features"]
    assert feature.status is FactStatus.UNKNOWN
    assert "$JOBFEATURES: the server answered 302 for allocated_cpu" in feature.detail


def test_a_server_that_is_not_there_is_named_with_its_refusal() -> None:
    feature = facts(probe_batch(Context(environment={"JOBFEATURES": "http://127.0.0.1:1/job"})))["batch.features"]
    assert feature.status is FactStatus.UNKNOWN
    assert "refused" in feature.detail


@pytest.mark.parametrize("value", ["file:///etc", "ftp://127.0.0.1/x", "etc/jobfeatures", "/nonexistent", "http://["])
def test_what_is_neither_directory_nor_web_address_tells_nothing(value: str) -> None:
    feature = facts(probe_batch(Context(environment={"JOBFEATURES": value})))["batch.features"]
    assert feature.status is FactStatus.UNKNOWN


def test_a_password_in_an_address_is_not_told() -> None:
    environment = {"JOBFEATURES": "ftp://site:hidden@127.0.0.1/x"}
    assert "hidden" not in facts(probe_batch(Context(environment=environment)))["batch.features"].detail


def test_directory_and_address_may_be_mixed(site: str, tmp_path: Path) -> None:
    directory = tmp_path / "machinefeatures"
    write_tree(directory, {"/hs06": "10.5\n", "/unheard_of": "1\n"})
    environment = {"JOBFEATURES": f"{site}/job", "MACHINEFEATURES": str(directory)}
    value = facts(probe_batch(Context(environment=environment)))["batch.features"].value
    assert value["machine"] == {"hs06": 10.5}
    assert value["job"]["allocated_cpu"] == 3


def test_a_server_that_never_answers_costs_its_deadline_and_no_fact() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        known = facts(probe_batch(Context(environment={"JOBFEATURES": address, "SLURM_JOB_ID": "7"})))
    assert known["batch.system"].value == "slurm"
    assert known["batch.features"].status is FactStatus.UNKNOWN
    assert "timed out" in known["batch.features"].detail
