"""squid and Prometheus' node exporter, as a site installs them, beside the jobs of a pilot that loads their plugins;
squid also between a site's squid and what fetches through it: jobs, and the pilot's own CVMFS client (the stand-in).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from signal import SIGTERM

import pytest

from tests.contributed import install
from tests.integration.conftest import BUILT
from tests.testbed import images, overlays, trees
from tests.testbed.cvmfs.distribution import Distribution, Server
from tests.testbed.grid import ADDRESSES, IMAGES_INSIDE, SITE_POOL, Grid
from tests.testbed.hosts import Bind, Host, HostPlan
from tests.testbed.pilots import PilotRun, install_payload
from tests.testbed.runs import run_directory
from tests.testbed.trees import PILOT
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
SITE_SQUID = "10.77.0.43:3130"
SITE_SQUID_PLACE = f"{PILOT.home}/site-squid"
SITE_SQUID_CONFIGURATION = f"""\
http_port {SITE_SQUID}
pid_filename none
coredump_dir none
netdb_filename none
pinger_enable off
cache deny all
http_access allow all
always_direct allow all
access_log stdio:{SITE_SQUID_PLACE}/access.log
cache_log {SITE_SQUID_PLACE}/cache.log
"""
DATA = "data.example.org"
MOUNTS = "/var/tmp/own-mounts"
CACHE_PORT = 3129
FAMILIES = {"node_load1", "node_memory_MemAvailable_bytes"}


@pytest.fixture(scope="module")
def node(grid: Grid) -> Iterator[Host]:
    """A worker node with both programs, and with the plugins in a directory of the site's."""
    with run_directory() as directory:
        shown = (Bind(images.ensure(), IMAGES_INSIDE),)
        over = (overlays.SERVICES.ensure(),)
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


@pytest.fixture
def site_squid(node: Host) -> Iterator[Host]:
    """The site's own squid; what it was asked for is in its log."""
    node.run(["install", "-d", SITE_SQUID_PLACE], user=PILOT.name)
    node.path(f"{SITE_SQUID_PLACE}/squid.conf").write_text(SITE_SQUID_CONFIGURATION)
    command = ["/usr/sbin/squid", "-N", "-n", "sitesquid", "-f", f"{SITE_SQUID_PLACE}/squid.conf"]
    door = node.popen(command, user=PILOT.name)
    try:
        yield node
    finally:
        door.kill()
        door.wait()
        node.run(["rm", "-rf", SITE_SQUID_PLACE])


@pytest.fixture
def distribution(node: Host, origin: Host) -> Iterator[Distribution]:
    """A client of CVMFS, and a repository that only the other host's web server has."""
    server = Server(node, f"{MOUNTS}/server")
    server.publish_configuration()
    server.publish(DATA, {"new_repository": f"this is {DATA}\n"})
    image = node.path(server.image(DATA))
    origin.path(f"{DIRECTORY}/{image.name}").write_bytes(image.read_bytes())
    image.unlink()
    node.run(["chmod", "755", MOUNTS])
    node.run(["install", "-d", "-o", PILOT.name, "-g", PILOT.name, f"{MOUNTS}/distribution"])
    yield Distribution.lay_out(server, f"{MOUNTS}/distribution")
    node.run(["rm", "-rf", MOUNTS])


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


def test_jobs_and_cvmfs_go_through_the_nodes_squid_and_that_through_the_sites(
    node: Host, origin: Host, site_squid: Host, distribution: Distribution, good_token: str, jobs: Jobs
) -> None:
    site = f"http://{SITE_SQUID}"
    changes = {
        "plugins": {"directories": [PLUGINS]},
        "services": {"squid": {"port": CACHE_PORT, "disk_mib": 0, "direct": "never", "required": True}},
        "cvmfs": {
            "repositories": [DATA],
            "rungs": ["fusermount"],
            "distribution": distribution.directory,
            "proxies": [site],
            "direct": "never",
            "repository_parameters": {DATA: {"CVMFS_SERVER_URL": f"http://{ORIGIN}"}},
        },
        "probes": {"proxies": [site]},
    }
    run = PilotRun(node, good_token, changes)
    try:
        run.start().joined()
        [configured] = [event["settings"] for event in run.events() if event["event"] == "cvmfs.configured"]
        assert configured["CVMFS_HTTP_PROXY"] == f"http://127.0.0.1:{CACHE_PORT};{site}"
        read = f"cat /cvmfs/{DATA}/new_repository; {FETCH}"
        job = jobs.submit(f"executable = /bin/bash\narguments = \"-c '{read}'\"\n", pilot=run).wait_done()
        assert job.output().splitlines()[:2] == [f"this is {DATA}", f"http://127.0.0.1:{CACHE_PORT}"], job.error()
        assert job.output().endswith("the calibration\n")
        asked = node.path(f"{SITE_SQUID_PLACE}/access.log").read_text()
        # The repository while the node's own did not run yet, the file of the job behind it.
        assert [f"http://{ORIGIN}/{name}" in asked for name in (f"{DATA}.squashfs", "calibration")] == [True, True]
        again = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-x", f"http://127.0.0.1:{CACHE_PORT}"]
        assert node.run([*again, f"http://{ORIGIN}/{DATA}.squashfs"]).stdout == "200"
        assert node.run([*again, "http://127.0.0.1:1/"]).stdout == "403"
        run.signal(SIGTERM)
        assert run.wait() == 143, run.story()
        run.nothing_left()
    finally:
        run.destroy()
