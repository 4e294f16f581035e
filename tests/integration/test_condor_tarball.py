"""A worker node without HTCondor: the pilot brings one, from a tarball that the documented command built."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest

from tests.integration.conftest import BUILT
from tests.testbed import images, tarballs, trees
from tests.testbed.grid import ADDRESSES, IMAGES_INSIDE, SITE_POOL, Grid
from tests.testbed.hosts import Bind, Host, HostPlan
from tests.testbed.image_server import ImageServer, image_server
from tests.testbed.pilots import PilotRun, install_payload
from tests.testbed.runs import run_directory
from tests.testbed.trees import PILOT
from tests.testbed.user_jobs import Jobs

# Also two libraries that only HTCondor brings to this tree: the tarball must hold its own.
NO_CONDOR = (
    *(
        "usr/sbin/condor*",
        "usr/bin/condor*",
        "usr/libexec/condor",
        "usr/lib/condor",
        "usr/lib/libcondor*",
        "etc/condor",
    ),
    *("usr/lib/libclassad*", "usr/lib/*/libgomp.so*", "usr/lib/*/libcurl.so*"),
)
CACHE = f"{PILOT.home}/condor-cache"
NAME = "bare"
ADDRESS = "10.77.0.41"

StartBare = Callable[..., PilotRun]


@dataclass(frozen=True, slots=True)
class Shop:
    """Tarballs on the web server of the VO: the good one, and others that this node must not take."""

    server: ImageServer
    entry: dict[str, Any]

    def publish(self, name: str, *entries: dict[str, Any]) -> dict[str, Any]:
        """Write an index; what a configuration says of it."""
        text = json.dumps({"schema": "pilot-agent/condor-index/1", "tarballs": entries}).encode()
        (self.server.files / name).write_bytes(text)
        return {
            "condor_tarballs": f"{self.server.url}{name}",
            "condor_index_sha256": hashlib.sha256(text).hexdigest(),
            "condor_cache": CACHE,
        }


@pytest.fixture(scope="module")
def bare(grid: Grid) -> Iterator[Host]:
    """A worker node in the grid's network that has no HTCondor."""
    with run_directory() as directory:
        shown = (Bind(images.ensure(), IMAGES_INSIDE), Bind(tarballs.ensure(), "/srv/condor"))
        plan = HostPlan(NAME, ADDRESS, trees.ensure(), SITE_POOL.domain, ADDRESSES, NO_CONDOR, shown)
        host = Host(plan, directory / NAME, grid.network)
        try:
            host.start()
            install_payload(host, BUILT)
            yield host
        finally:
            host.remove()


@pytest.fixture(scope="module")
def shop(grid: Grid) -> Iterator[Shop]:
    with image_server(grid) as server:
        built = tarballs.ensure()
        (entry,) = json.loads((built / "index.json").read_bytes())["tarballs"]
        shutil.copy(built / entry["file"], server.files)
        yield Shop(server, entry)


@pytest.fixture
def pilot(bare: Host, shop: Shop, good_token: str) -> Iterator[StartBare]:
    """Makes pilots on the node without HTCondor; their cache goes at the end."""
    certificate = "/etc/vo-server.pem"
    bare.path(certificate).write_text(shop.server.certificate, encoding="ascii")
    made: list[PilotRun] = []

    def make(**startd: Any) -> PilotRun:
        run = PilotRun(bare, good_token, {"startd": startd}, payload="pyz", environment={"SSL_CERT_FILE": certificate})
        made.append(run)
        return run

    yield make
    for run in made:
        run.destroy()
    shutil.rmtree(bare.path(CACHE), ignore_errors=True)


def ended(run: PilotRun) -> dict[str, Any]:
    """The report of a pilot that is told to stop."""
    run.signal(SIGTERM)
    assert run.wait() == 143, run.story()
    return run.report()


def nothing_but_the_cache(run: PilotRun) -> None:
    """Nothing of the pilot, nor of those that were started after it, is left on the node."""
    shutil.rmtree(run.host.path(CACHE))
    run.nothing_left()


def test_the_command_builds_the_same_bits_again(tmp_path: Path) -> None:
    tarballs.build(trees.ensure(), tmp_path)
    built = tarballs.ensure()
    names = sorted(path.name for path in built.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        assert (built / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_two_pilots_share_a_fetched_tarball_and_run_jobs_in_containers(
    pilot: StartBare, shop: Shop, bare: Host, grid: Grid
) -> None:
    newer = shop.entry | {"version": "99.0.0", "glibc": "99.1", "file": "newer.tar.gz"}
    other = shop.entry | {"version": "98.0.0", "architecture": "aarch64", "file": "other.tar.gz"}
    published = shop.publish("index.json", newer, other, shop.entry)
    runs = [pilot(**published), pilot(**published, starter_isolation="job")]
    queue = Jobs(grid)
    script = "env; cat /proc/self/maps"
    waiting = queue.shell(f"{script}; until [ -e seen ]; do sleep 0.1; done", pilot=runs[0].start())
    jobs = [waiting, queue.shell(script, pilot=runs[1].start())]
    # What a login needs is in the tarball too.
    waiting.wait_running()
    visit = ["condor_ssh_to_job", "-auto-retry", f"{waiting.cluster}.0", "touch seen"]
    visited = grid.pool.run(visit, user="user", cwd="/home/user")
    assert visited.returncode == 0, visited.stdout + visited.stderr
    for job in jobs:
        job.wait_done()
        assert job.exit_codes() == [0], job.error()
        assert "LD_" not in job.output()
        assert "/private/" not in job.output()
    for run in runs:
        report = ended(run)
        condor = report["condor"]
        assert (condor["source"], condor["version"]) == ("tarball", shop.entry["version"])
        assert condor["sha256"] == shop.entry["sha256"]
        why = {one["place"]: one["reason"] for one in condor["why"] if not one["taken"]}
        assert "condor_master is not on the search path" in next(iter(why.values()))
        assert "glibc 99.1" in why["newer.tar.gz"]
        assert "aarch64" in why["other.tar.gz"]
    kept = [path.name for path in bare.path(CACHE).iterdir() if not path.name.startswith(".lock-")]
    assert kept == [f"{shop.entry['sha256']}.tar"]
    nothing_but_the_cache(runs[1])
    assert shop.server.requests().count(f"/{shop.entry['file']}") == 1
    for job in jobs:
        job.remove()


def test_a_pilot_that_is_killed_while_it_fetches_leaves_nothing_half_made(
    pilot: StartBare, shop: Shop, bare: Host
) -> None:
    # The server sends the beginning of such a file, and then nothing.
    slow = shop.entry | {"file": "slow-condor.tar.gz", "size_bytes": 50_000_000, "sha256": "5" * 64}
    run = pilot(**shop.publish("first.json", slow)).start()
    cache = bare.path(CACHE)
    run.wait_until("the beginning of the tarball", lambda: list(cache.glob(".partial-*")))
    run.signal(SIGKILL, "_pipeline")
    assert run.wait() != 0
    assert list(cache.glob("*.tar")) == []

    second = pilot(**shop.publish("index.json", shop.entry)).start()
    second.joined()
    assert list(cache.glob(".partial-*")) == []
    assert [path.name for path in cache.glob("*.tar")] == [f"{shop.entry['sha256']}.tar"]
    ended(second)
    nothing_but_the_cache(run)


def test_an_altered_tarball_is_refused(pilot: StartBare, shop: Shop, bare: Host) -> None:
    directory = bare.path("/srv/altered")
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(tarballs.ensure(), directory)
    path = directory / shop.entry["file"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    run = pilot(condor_tarballs="/srv/altered")
    assert run.run() == 68, run.story()
    assert run.failure()["code"] == "artifact.digest"
    assert run.report()["condor"]["why"][-1]["place"] == shop.entry["file"]
    run.nothing_left()


def test_an_index_from_the_network_without_a_digest_is_refused(pilot: StartBare, shop: Shop) -> None:
    published = shop.publish("index.json", shop.entry) | {"condor_index_sha256": None}
    run = pilot(**published)
    assert run.run() == 68, run.story()
    assert run.failure()["code"] == "artifact.unsigned"


def test_a_node_with_no_htcondor_at_all_says_where_it_was_looked_for(pilot: StartBare) -> None:
    run = pilot(condor_directory="/opt/none")
    assert run.run() == 64, run.story()
    failure = run.failure()
    assert failure["code"] == "condor.missing"
    for place in ("/opt/none", "search path", "startd.condor_tarballs"):
        assert place in failure["message"] + failure["hint"]
