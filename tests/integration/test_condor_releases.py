"""HTCondor's bindings, as the factory uses them, with access points of the oldest and the newest release; and what both
say of its submit descriptions."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from server_stub.factory.description import description
from tests.needs import need
from tests.server_stub.factory.descriptions.entries import ENTRIES, parcel
from tests.testbed import prerequisites, trees
from tests.testbed.access_points import NEWEST, RELEASES, STABLE, AccessPoints
from tests.testbed.runs import run_directory
from tests.testbed.trees import FACTORY

PATIENCE_SECONDS = 60.0
LEAST = {STABLE: (23, 9), NEWEST: (25, 0)}
TREE = trees.NEWEST_HTCONDOR.name
"""What `PILOT_TEST_SKIP` names to save the minute in which that tree is built."""
SUBMIT = """
import pathlib
common = 'universe = local\\nexecutable = /bin/{}\\narguments = 600\\nhold = {}\\nMy.PilotFactory = "f"\\nqueue 1\\n'
paths = []
for number, (program, hold) in enumerate([("true", False), ("sleep", False), ("sleep", True)]):
    paths.append(f"/home/factory/{number}.sub")
    pathlib.Path(paths[-1]).write_text(common.format(program, hold))
pathlib.Path("/home/factory/bad.sub").write_text("universe = local\\nqueue 1\\n")
*made, refused = htcondor.submit_all([*paths, "/home/factory/bad.sub"])
answer = {"jobs": [str(job) for job in made], "refused": refused.failure.message}
"""
JOBS = """
from server_stub.factory.pilots import JobId
jobs = [JobId(*map(int, text.split("."))) for text in {jobs!r}]
"""
QUEUE = 'answer = {str(job): told.state.value for job, told in htcondor.queue("f").items()}'
HISTORY = "answer = {str(job): [told.state.value, told.exit_code] for job, told in htcondor.ended(jobs).items()}"
VERSIONS = "from server_stub.condor.asking import ask\nanswer = htcondor._ask('versions')"


DRY_RUN = """
cd "$0" && for name in *; do (
    cd "$name" && condor_submit -dry-run ad pilot.sub 2>&1 || echo "FAILED $name"
); done
"""


@pytest.fixture(scope="module")
def access_points(testbed_machine: None) -> Iterator[AccessPoints]:
    """A schedd of each release."""
    releases = [release for release in RELEASES if release != NEWEST or TREE not in prerequisites.skipped()]
    with run_directory() as directory, AccessPoints(directory, releases) as running:
        yield running


def number(version: str) -> tuple[int, ...]:
    """The first two parts of a version as HTCondor tells it."""
    return tuple(int(part) for part in re.findall("[0-9]+", version)[:2])


def wait_for(access_points: AccessPoints, release: str, code: str, expected: Any) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while (answer := access_points.ask(release, code)) != expected:
        assert time.monotonic() < until, answer
        time.sleep(0.2)


@pytest.mark.parametrize("release", RELEASES)
def test_jobs_are_submitted_seen_released_removed_and_found_again(access_points: AccessPoints, release: str) -> None:
    need(TREE, release in access_points.hosts, "let the testbed build the tree")
    versions = access_points.ask(release, VERSIONS)
    assert number(versions["schedd"]) >= LEAST[release]
    assert number(versions["bindings"]) >= LEAST[NEWEST]
    told = access_points.ask(release, SUBMIT)
    assert "executable" in told["refused"].lower()
    short, long, held = told["jobs"]
    jobs = JOBS.format(jobs=told["jobs"])
    wait_for(access_points, release, QUEUE, {long: "running", held: "held"})
    assert access_points.ask(release, f"{jobs}answer = htcondor.release(jobs[2:], 'mended')") == 1
    wait_for(access_points, release, QUEUE, {long: "running", held: "running"})
    assert access_points.ask(release, f"{jobs}answer = htcondor.remove(jobs[1:], 'too many')") == 2
    wait_for(access_points, release, QUEUE, {})
    ended = {short: ["ended", 0], long: ["removed", None], held: ["removed", None]}
    wait_for(access_points, release, jobs + HISTORY, ended)


def proxy() -> bytes:
    """A certificate and its key that are good for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pilot")])
    now = dt.datetime.now(dt.UTC)
    named = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    numbered = named.serial_number(x509.random_serial_number())
    made = numbered.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1)).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM) + private


@pytest.mark.parametrize("release", RELEASES)
def test_htcondor_takes_the_description_of_every_type_of_entry(access_points: AccessPoints, release: str) -> None:
    need(TREE, release in access_points.hosts, "let the testbed build the tree")
    host, place = access_points.hosts[release], "/tmp/descriptions"
    credentials = {kind: f"{place}-{kind}" for kind in ("scitoken", "x509", "ssh_key")}
    for path in credentials.values():  # of a proxy condor_submit reads until when it is good
        host.path(path).write_bytes(proxy())
    for name in ENTRIES:
        directory = host.path(f"{place}/{name}")
        (directory / "logs").mkdir(parents=True)
        (directory / "payload").mkdir()
        told = parcel(name, f"{place}/{name}", credentials=credentials)
        for file in (*told.files, "report.json", "events.jsonl", "launcher.sh", "payload/pilot.sh", "user-data"):
            (directory / file).write_text("x")
        (directory / "pilot.sub").write_text(description(told))
    host.run(["chmod", "-R", "a+rwX", place, *credentials.values()])
    done = host.run(["sh", "-c", DRY_RUN, place], user=FACTORY.name, timeout_seconds=120.0)
    assert done.stdout.count("job(s) dry-run to cluster") == len(ENTRIES), done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert "WARNING" not in done.stdout + done.stderr
    for name in ENTRIES:
        assert f'PilotEntry="{name}"' in host.path(f"{place}/{name}/ad").read_text()
