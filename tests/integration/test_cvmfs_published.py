"""Pilots bring a client of CVMFS that was published, or came with the job: jobs find at /cvmfs what it mounts.

makedist and the client are stand-ins; its library, the node's loader, mounts, Apptainer and HTCondor are real.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from tests.integration.conftest import StartPilot
from tests.packaging.conftest import PROJECT
from tests.packaging.cvmfsexec_stand_in import MAKEDIST
from tests.testbed import trees
from tests.testbed.cvmfs.distribution import COMMANDS, Distribution, Server
from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.trees import PILOT
from tests.testbed.user_jobs import Jobs

DATA = "data.example.org"
PLACE = "/var/tmp/published-clients"
SHOP = f"{PLACE}/shop"
MACHINE = os.uname().machine
GOOD, LACKING = f"rhel8-{MACHINE}", f"rhel9-{MACHINE}"
READ = f"cat /cvmfs/{DATA}/new_repository"
SEEN = f"this is {DATA}\n"


@dataclass(frozen=True, slots=True)
class Shop:
    """What was published: the archive of the client that works on the node, on this machine."""

    archive: Path


@pytest.fixture(scope="module")
def shop(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two published clients on the node: the nearer one lacks a library there."""
    host, place = grid.wn1, tmp_path_factory.mktemp("published")
    server = Server(host, f"{PLACE}/server")
    server.publish_configuration()
    server.publish(DATA, {"new_repository": SEEN})
    host.run(["chmod", "755", PLACE])
    host.run(["install", "-d", "-o", PILOT.name, "-g", PILOT.name, f"{PLACE}/distribution"])
    upstream = upstream_of(Distribution.lay_out(server, f"{PLACE}/distribution"), place / "cvmfsexec")
    command = [sys.executable, str(PROJECT / "packaging/cvmfs_distributions.py"), "--cvmfsexec", str(upstream)]
    command += ["--output", str(place / "shop"), "--source", "none", "--machine", GOOD, "--machine", LACKING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    shutil.copytree(place / "shop", host.path(SHOP))
    (archive,) = (place / "shop").glob(f"*{GOOD}*.tar.gz")
    yield Shop(archive)
    host.run(["rm", "-rf", PLACE])


def upstream_of(laid_out: Distribution, directory: Path) -> Path:
    """A checkout of cvmfsexec whose packages make the testbed's distribution, with a library of the node's own, and one
    that needs what the node does not have."""
    source = laid_out.host.path(laid_out.directory)
    directory.mkdir()
    for name in COMMANDS:
        shutil.copy(source / name, directory)
    (directory / "makedist").write_text(MAKEDIST)
    (directory / "makedist").chmod(0o755)
    (found,) = trees.ensure().glob(f"usr/lib/{MACHINE}-linux-gnu/libselinux.so.1")
    for machine_type, needs in ((GOOD, b"libpcre2-8.so.0"), (LACKING, b"libpcre2-8.so.9")):
        package = directory / "packages" / machine_type
        shutil.copytree(source / "dist", package)
        (package / "usr/lib/libcvmfs_fuse3.so").unlink()
        (package / "usr/lib/libcvmfs_fuse3.so.2.12.0").write_bytes(
            found.read_bytes().replace(b"libpcre2-8.so.0", needs)
        )
        (package / "usr/lib/libcvmfs_fuse3.so").symlink_to("libcvmfs_fuse3.so.2.12.0")
    return directory


def configuration(**cvmfs: Any) -> dict[str, Any]:
    return {"cvmfs": {"repositories": [DATA], "rungs": ["native", "fusermount"], "use": "required", **cvmfs}}


def ended(run: PilotRun) -> dict[str, Any]:
    """The facts of CVMFS in the report of a pilot that is told to stop."""
    run.signal(SIGTERM)
    assert run.wait() == 143, run.story()
    report = run.report()
    assert report["leftovers"] == []
    assert next(rung for rung in report["cvmfs"]["rungs"] if rung["name"] == "fusermount")["state"] == "taken"
    found: dict[str, Any] = report["node"]["cvmfs"]
    return found


def test_the_client_that_works_on_the_node_is_taken_or_travels_with_the_job(
    pilot: StartPilot, jobs: Jobs, shop: Shop
) -> None:
    fetching = pilot(configuration(distributions=SHOP))
    bringing = pilot(configuration(distribution="./client.tar.gz"))
    shutil.copy(shop.archive, bringing.outer / "client.tar.gz")
    os.chown(bringing.outer / "client.tar.gz", PILOT.uid, PILOT.uid)
    runs = [run.start() for run in (fetching, bringing)]
    for job in [jobs.shell(READ, pilot=run.joined()) for run in runs]:
        assert job.wait_done().output() == SEEN

    found = ended(fetching)
    assert found["distribution"]["value"]["machine_type"] == GOOD
    states = {one["machine_type"]: (one["state"], one["reason"]) for one in found["distributions"]["value"]}
    assert states[GOOD][0] == "taken"
    assert states[LACKING] == (
        "refused",
        "libcvmfs_fuse3.so needs libpcre2-8.so.9, which this node does not have",
    )
    assert "distributions" not in ended(bringing)
