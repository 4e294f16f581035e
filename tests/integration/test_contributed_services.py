"""squid and Prometheus' node exporter, as a site installs them, beside the jobs of a pilot that loads their plugins."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from signal import SIGTERM

import pytest

from tests.contributed import install
from tests.integration.conftest import BUILT
from tests.testbed import images, service_programs, trees
from tests.testbed.grid import ADDRESSES, IMAGES_INSIDE, SITE_POOL, Grid
from tests.testbed.hosts import Bind, Host, HostPlan
from tests.testbed.pilots import PilotRun, install_payload
from tests.testbed.runs import run_directory
from tests.testbed.user_jobs import Jobs, slot_ads

PLUGINS = "/opt/pilot-plugins"
ORIGIN = f"{ADDRESSES['pool']}:8099"
DIRECTORY = "/srv/origin"
OPTIONS = {
    "squid": {"disk_mib": 64, "direct": "only", "destinations": [ADDRESSES["pool"]], "required": True},
    "node_exporter": {"period_seconds": 1, "required": True},
}
# The images have no HTTP client; this one knows of the cache from its environment alone.
FETCH = (
    "exec 3<>/dev/tcp/${OSG_SQUID_LOCATION%:*}/${OSG_SQUID_LOCATION#*:}; "
    f"printf ''GET http://{ORIGIN}/calibration HTTP/1.0\\r\\n\\r\\n'' >&3; echo $http_proxy; cat <&3"
)
FAMILIES = {"node_load1", "node_memory_MemAvailable_bytes"}


@pytest.fixture(scope="module")
def node(grid: Grid) -> Iterator[Host]:
    """A worker node with both programs, and with the plugins in a directory of the site's."""
    with run_directory() as directory:
        shown = (Bind(images.ensure(), IMAGES_INSIDE),)
        over = (service_programs.ensure(),)
        plan = HostPlan("services", "10.77.0.43", trees.ensure(), SITE_POOL.domain, ADDRESSES, (), shown, over)
        host = Host(plan, directory / "services", grid.network)
        try:
            host.start()
            install_payload(host, BUILT)
            for name in OPTIONS:
                install(name, host.path(PLUGINS))
            yield host
        finally:
            host.remove()


@pytest.fixture(scope="module")
def origin(grid: Grid) -> Iterator[Host]:
    """A server of files elsewhere, which are old enough to be kept; what it was asked for is in its log."""
    host = grid.pool
    directory = host.path(DIRECTORY)
    directory.mkdir()
    long_ago = time.time() - 30 * 86400
    for name in ("calibration", "secret"):
        (directory / name).write_text(f"the {name}\n")
        os.utime(directory / name, (long_ago, long_ago))
    command = ["python3", "-m", "http.server", "8099", "--bind", ADDRESSES["pool"], "--directory", DIRECTORY]
    with (host.directory / "origin.log").open("w") as log:
        door = host.popen(command, stdout=log, stderr=log)
    try:
        yield host
    finally:
        door.kill()
        door.wait()
        host.run(["rm", "-r", DIRECTORY])


@pytest.fixture(scope="module")
def run(node: Host, grid: Grid, good_token: str) -> Iterator[PilotRun]:
    """A pilot with both plugins."""
    made = PilotRun(node, good_token, {"plugins": {"directories": [PLUGINS]}, "services": OPTIONS})
    try:
        yield made.start().joined()
    finally:
        made.destroy()


def test_what_one_job_fetched_the_next_gets_from_the_node(
    run: PilotRun, node: Host, origin: Host, grid: Grid, jobs: Jobs
) -> None:
    fetch = f"executable = /bin/bash\narguments = \"-c '{FETCH}'\"\n"
    answers = [jobs.submit(fetch, pilot=run).wait_done().output().partition("\n") for _ in range(2)]
    assert all(answer.endswith("the calibration\n") for _, _, answer in answers), answers
    assert ["Cache-Status: pilot-cache;hit" in answer for _, _, answer in answers] == [False, True], answers
    asked = (origin.directory / "origin.log").read_text()
    assert asked.count("GET /calibration") == 1

    # Neither tunnels nor the cache manager nor what is not allowed.
    [url] = {url for url, _, _ in answers}
    for refused in (["-p", f"http://{ORIGIN}/secret"], ["http://wn1/"], [f"{url}/squid-internal-mgr/menu"]):
        done = node.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{http_connect}", "-x", url, *refused])
        assert "403" in done.stdout, refused
    assert "secret" not in asked

    ads = slot_ads(grid, run)
    assert {ad["HasSquid"] for ad in ads} == {True}
    assert {ad["SquidProxy"] for ad in ads} == {url}
    exporter = node.run(["curl", "-sf", ads[0]["NodeExporterUrl"]])
    assert "node_memory_MemTotal_bytes" in exporter.stdout

    run.signal(SIGTERM)
    assert run.wait() == 143, run.story()
    run.nothing_left()
    assert [path.name for path in node.path("/dev/shm").iterdir() if path.name.startswith("pilotsquid")] == []
    services = {service["name"]: service for service in run.report()["services"]}
    assert services["squid"]["ports"] == {"http": int(url.rpartition(":")[2])}
    assert services["node_exporter"]["metrics"].keys() >= FAMILIES
    assert services["node_exporter"]["metrics"]["node_memory_MemAvailable_bytes"] > 0
