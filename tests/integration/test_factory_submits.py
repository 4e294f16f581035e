"""HTCondor's bindings and the factory's submit descriptions against real daemons: a local pool, the same pool as a grid
site through the blahp, and as a remote access point."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from server_stub.factory.description import description
from tests.server_stub.factory.descriptions.entries import ENTRIES, parcel
from tests.testbed import unit_tests
from tests.testbed.grid import SITE_POOL, Grid
from tests.testbed.trees import FACTORY

PROJECT = Path(__file__).resolve().parents[2]
SERVER, BINDINGS, PLACE = "/opt/submitting", "/opt/bindings", "/home/factory/submitting"
TIMEOUT_SECONDS = 240.0
# Stands in for the launcher and a pilot: what comes home, how it ended, and what it was told.
JOB = """#!/bin/sh
cat pilot.token >report.json
mkdir -p logs && echo kept >logs/kept
echo "$@"
[ ! -e wait ] || sleep 600
exit 7
"""
DRIVER = """
import json, sys
from server_stub.condor.asking import ask
from server_stub.condor.system import HTCondor
from server_stub.factory.pilots import JobId
from pilot_agent.codec import to_json

def job_of(text):
    return JobId(*map(int, text.split(".")))

method, arguments = sys.argv[1], json.loads(sys.argv[2])
if method == "versions":
    answer = ask("versions", {})
elif method in ("ended", "remove", "release", "forget"):
    answer = getattr(HTCondor(), method)([job_of(text) for text in arguments[0]], *arguments[1:])
else:
    answer = getattr(HTCondor(), method)(*arguments)
if isinstance(answer, dict):
    answer = {str(name): value for name, value in answer.items()}
elif isinstance(answer, list):
    answer = [str(each) for each in answer]
print(json.dumps(to_json(answer)))
"""
DRY_RUN = """
cd "$0" && for name in *; do (
    cd "$name" && condor_submit -dry-run ad pilot.sub 2>&1 || echo "FAILED $name"
); done
"""


class AccessPoint:
    """The site's access point as the factory's account asks it on its own machine."""

    def __init__(self, grid: Grid, libraries: str) -> None:
        self.host = grid.factory
        self._environment = {"PYTHONPATH": f"{libraries}:{SERVER}" if libraries else SERVER}
        if libraries:  # a client of another version does not agree with the schedd about files
            self._environment["_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS"] = "IDTOKENS"
        self.factory = f"factory-{'pypi' if libraries else 'debian'}"

    def ask(self, method: str, *arguments: Any) -> Any:
        words = ["python3", "-c", DRIVER, method, json.dumps(arguments)]
        done = self.host.run(words, user=FACTORY.name, env=self._environment, timeout_seconds=120.0)
        assert done.returncode == 0, done.stderr
        answer: Any = json.loads(done.stdout)
        return answer

    def describe(self, name: str, entry: dict[str, Any], *, waits: bool = False) -> str:
        """The path of a description for the entry, with all that goes along."""
        place = f"{PLACE}/{self.factory}/{name}"
        directory = self.host.path(place)
        directory.mkdir(parents=True)
        for file in ("factory.json", "entry.json", "report.json", "events.jsonl", "pilot.sh"):
            (directory / file).write_text("")
        (directory / "pilot.token").write_text("secret\n")
        if not entry["type"].startswith("batch"):
            (directory / "logs").mkdir()
        (directory / "launcher.sh").write_text(JOB.replace("[ ! -e wait ]", "false") if waits else JOB)
        (directory / "launcher.sh").chmod(0o755)
        told = parcel(
            "local", place, factory=self.factory, secrets=("pilot.token",), payload=f"{place}/pilot.sh",
            entry=read(name, entry), address="",
        )  # fmt: skip
        (directory / "pilot.sub").write_text(description(told))
        self.host.run(["chown", "-R", "factory:factory", PLACE])
        self.host.run(["chmod", "0600", f"{place}/pilot.token"])
        return f"{place}/pilot.sub"

    def wait(self, job: str, what: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The job as the queue tells it, or the history once it is gone."""
        until = time.monotonic() + TIMEOUT_SECONDS
        seen: list[Any] = []
        while True:
            told = self.ask("queue", self.factory).get(job) or self.ask("ended", [job]).get(job)
            if told not in seen:
                seen.append(told)
            if told is not None and is_so(told):
                return dict(told)
            assert time.monotonic() < until, f"{job} never was {what}: {seen}"
            time.sleep(0.5)

    def returned(self, description: str, name: str) -> str:
        return self.host.path(str(Path(description).parent / name)).read_text()


def read(name: str, entry: dict[str, Any]) -> Any:
    from server_stub.factory.entry import read_entry
    from server_stub.factory.reader import Reader

    problems: list[Any] = []
    made = read_entry(Reader({"name": name, "site": "S", "payload": "sh", **entry}, "", "/", problems))
    assert problems == []
    return made


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


@pytest.fixture(scope="module")
def server(grid: Grid) -> Iterator[None]:
    """The server's code, bindings of PyPI for its Python, and a token for its account, on the factory's host."""
    host = grid.factory
    for package in ("pilot_agent", "server_stub"):
        target = host.path(f"{SERVER}/{package}")
        shutil.copytree(PROJECT / package, target, ignore=shutil.ignore_patterns("__pycache__"))
    for package in ("htcondor2", "classad2", "htcondor.libs"):
        shutil.copytree(unit_tests.libraries() / package, host.path(f"{BINDINGS}/{package}"))
    words = ["condor_token_create", "-identity", f"{FACTORY.name}@{SITE_POOL.domain}"]
    token = host.run(words).stdout
    tokens = host.path(f"{FACTORY.home}/.condor/tokens.d")
    tokens.mkdir(parents=True, mode=0o700)
    (tokens / "site").write_text(token)
    (tokens / "site").chmod(0o600)
    host.run(["chown", "-R", f"{FACTORY.name}:", f"{FACTORY.home}/.condor"])
    yield
    host.run(["condor_rm", "-constraint", "PilotFactory =!= undefined"])
    host.run(["condor_rm", "-forcex", "-constraint", "PilotFactory =!= undefined"])
    for path in (SERVER, BINDINGS, PLACE, f"{FACTORY.home}/.condor"):
        shutil.rmtree(host.path(path), ignore_errors=True)


@pytest.fixture(params=["", BINDINGS], ids=["debian", "pypi"])
def access_point(request: pytest.FixtureRequest, grid: Grid, server: None) -> AccessPoint:
    return AccessPoint(grid, request.param)


def test_htcondor_takes_the_description_of_every_type_of_entry(grid: Grid) -> None:
    host, place = grid.factory, "/tmp/descriptions"
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
    shutil.rmtree(host.path(place))


def test_jobs_are_submitted_followed_and_removed_by_the_bindings(access_point: AccessPoint) -> None:
    versions = access_point.ask("versions")
    assert "23.9" in versions["schedd"]
    assert (" 25." in versions["bindings"]) == (access_point.factory == "factory-pypi")
    assert access_point.ask("schedd") == f"factory.{SITE_POOL.domain}"
    local = {"type": "local", "submit": {"payload": "file"}}
    quick, slow = access_point.describe("quick", local), access_point.describe("slow", local, waits=True)
    held = access_point.describe("held", {**local, "submit": {"payload": "file", "lines": {"hold": "True"}}})
    first, second, third, fourth = access_point.ask("submit_all", [quick, slow, held, f"{PLACE}/none.sub"])
    assert "No such file" in fourth
    assert access_point.wait(third, "held", lambda told: told["state"] == "held")["hold_code"] == 15
    assert access_point.ask("release", [third], "go on") == 1
    ended = access_point.wait(first, "ended", lambda told: told["state"] == "ended")
    assert (ended["exit_code"], ended["pilot"]) == (7, "a1")
    assert access_point.returned(quick, "report.json") == "secret\n"
    assert access_point.returned(quick, "logs/kept") == "kept\n"
    running = access_point.wait(second, "running", lambda told: told["state"] == "running")
    assert running["host"].endswith(SITE_POOL.domain)
    access_point.wait(third, "ended", lambda told: told["state"] == "ended")
    assert access_point.ask("remove", [second], "no more needed") == 1
    removed = access_point.wait(second, "removed", lambda told: told["state"] == "removed")
    assert removed["reason"].startswith("no more needed")
    assert access_point.ask("queue", access_point.factory) == {}


GRID_TYPES: dict[str, dict[str, Any]] = {
    "blahp": {"type": "batch condor", "python": ["/usr/bin/python3*"]},
    "schedd": {
        "type": "condor",
        "contact": f"{SITE_POOL.head}:9618",
        "submit": {"schedd": f"factory.{SITE_POOL.domain}", "payload": "file"},
    },
}


def test_jobs_of_grid_types_reach_their_site_and_come_home(grid: Grid, server: None) -> None:
    access_point = AccessPoint(grid, "")
    access_point.factory = "factory-grid"
    paths = {name: access_point.describe(name, entry) for name, entry in GRID_TYPES.items()}
    slow = {name: access_point.describe(f"{name}-slow", entry, waits=True) for name, entry in GRID_TYPES.items()}
    jobs = access_point.ask("submit_all", [*paths.values(), *slow.values()])
    for job in jobs[2:]:
        access_point.wait(job, "at its site", lambda told: bool(told["grid_job"]))
    assert access_point.ask("remove", jobs[2:], "no more needed") == 2
    for name, job in zip(paths, jobs, strict=False):
        ended = access_point.wait(job, "ended", lambda told: told["state"] == "ended")
        assert ended["exit_code"] == 7
        assert access_point.returned(paths[name], "report.json") == "secret\n"
        assert access_point.returned(paths[name], "logs/kept") == "kept\n"
        assert "--output ." in access_point.returned(paths[name], "pilot.out")
    # A name pattern reaches the launcher as it was written, through the blahp's shell too.
    assert "--python /usr/bin/python3* --" in access_point.returned(paths["blahp"], "pilot.out")
    for job in jobs[2:]:
        access_point.wait(job, "removed", lambda told: told["state"] == "removed")
