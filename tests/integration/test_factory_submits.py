"""Jobs that the factory describes: in a local pool, in that pool through the blahp, and as a remote access point."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server_stub.factory.description import description
from server_stub.factory.descriptions.user_data import user_data
from tests.server_stub.factory.descriptions.entries import parcel
from tests.testbed.grid import SITE_POOL, Grid
from tests.testbed.trees import FACTORY

PROJECT = Path(__file__).resolve().parents[2]
SERVER, PLACE = "/opt/submitting", "/home/factory/submitting"
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


class AccessPoint:
    """The site's access point as the factory's account asks it on its own machine."""

    def __init__(self, grid: Grid, factory: str) -> None:
        self.host = grid.factory
        self.factory = factory

    def ask(self, method: str, *arguments: Any) -> Any:
        words = ["python3", "-c", DRIVER, method, json.dumps(arguments)]
        done = self.host.run(words, user=FACTORY.name, env={"PYTHONPATH": SERVER}, timeout_seconds=120.0)
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


@pytest.fixture(scope="module")
def server(grid: Grid) -> Iterator[None]:
    """The server's code, and a token for its account, on the factory's host, which has Debian's bindings."""
    host = grid.factory
    for package in ("pilot_agent", "server_stub"):
        target = host.path(f"{SERVER}/{package}")
        shutil.copytree(PROJECT / package, target, ignore=shutil.ignore_patterns("__pycache__"))
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
    for path in (SERVER, PLACE, f"{FACTORY.home}/.condor"):
        shutil.rmtree(host.path(path), ignore_errors=True)


@pytest.fixture
def access_point(grid: Grid, server: None) -> AccessPoint:
    return AccessPoint(grid, "factory-local")


def test_jobs_are_submitted_followed_and_removed_by_the_bindings(access_point: AccessPoint) -> None:
    versions = access_point.ask("versions")
    assert "23.9" in versions["bindings"]
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
    access_point = AccessPoint(grid, "factory-grid")
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


MACHINE_PAYLOAD = "id -un\necho arguments $@\ncat pilot.token\nstat -c %a pilot.token entry.json\n"


def test_a_clouds_machine_becomes_a_pilot_of_an_ordinary_account_and_ends(grid: Grid, tmp_path: Path) -> None:
    """A worker node takes the machine's place, and runs the user data as a cloud's machine does at its first start."""
    machine = grid.wn1
    for name in ("factory.json", "entry.json", "pilot.token"):
        (tmp_path / name).write_text("secret\n")
    machine.path("/srv/pilot.sh").write_text(MACHINE_PAYLOAD)
    shutdown = machine.path("/usr/local/sbin/shutdown")
    shutdown.write_text('#!/bin/sh\necho "shutdown $@"\n')
    shutdown.chmod(0o755)
    told = parcel(
        "ec2", str(tmp_path), launcher=str(PROJECT / "packaging" / "launcher.sh"), secrets=("pilot.token",),
        address="file:///srv/pilot.sh", sha256=hashlib.sha256(MACHINE_PAYLOAD.encode()).hexdigest(),
    )  # fmt: skip
    done = machine.run(["sh"], input=user_data(told), cwd="/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "pilot",
        "arguments run --config factory=factory.json --config entry=entry.json --output .",
        *("secret", "600", "600"),
        "shutdown -h now",
    ]
    for name in ("factory.json", "entry.json", "pilot.token", "launcher.sh", "pilot.sh"):
        machine.path(f"/home/pilot/{name}").unlink()
    machine.path("/srv/pilot.sh").unlink()
    shutdown.unlink()
