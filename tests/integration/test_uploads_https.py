"""Real pilots and the real factory: reports and events come over HTTPS, if the configured authority vouches for it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import StartPilot
from tests.testbed.grid import SITE_POOL, Grid
from tests.testbed.hosts import Host
from tests.testbed.trees import FACTORY

PROJECT = Path(__file__).resolve().parents[2]
PORT = 18443
INSTALLED = "/opt/https-factory"
URL = f"https://{SITE_POOL.head}:{PORT}"
PLAIN = {"site": {"containers": "never"}, "images": {}}
START_SECONDS = 60.0
EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
CONFIGURATION = {
    "name": "example",
    "state": "state",
    "payloads": ".",
    "launcher": "launcher.sh",
    "url": URL,
    "address": "0.0.0.0",
    "port": PORT,
    "uploads": True,
    "certificate": "server.pem",
    "key": "server.key",
    "entries": [{"name": "e", "site": "S", "payload": "pyz"}],
}
# As `submit` would have stored it, once its batch job runs.
STORE_PILOT = f"""
import sys, time
from server_stub.factory.pilots import Pilot, PilotState
from server_stub.factory.store import Store
from server_stub.factory.tokens import Tokens, load_key
with Store("sqlite:///{INSTALLED}/state/factory.sqlite") as store:
    directory = "{INSTALLED}/state/pilots/" + sys.argv[1]
    store.save(Pilot(sys.argv[1], "e", "S", "pyz", "0", PilotState.RUNNING, time.time(), directory))
    print(Tokens("example", load_key("{INSTALLED}/state"), store).issue(sys.argv[1]))
"""


@dataclass(frozen=True)
class Expected:
    """A pilot that the factory waits for."""

    url: str
    token: str


@dataclass(frozen=True)
class Stub:
    """The running factory: its host, and the certificate of the authority that vouches for it."""

    host: Host
    authority: str

    def expect(self, name: str) -> Expected:
        """A pilot of this name is on its way; the address for its uploads, and its token."""
        (self.host.path(INSTALLED) / "state" / "pilots" / name).mkdir(parents=True)
        self.host.run(["chown", "-R", f"{FACTORY.name}:", f"{INSTALLED}/state"])
        done = self.host.run(["python3", "-c", STORE_PILOT, name], user=FACTORY.name, cwd=INSTALLED)
        assert done.returncode == 0, done.stderr
        return Expected(f"{URL}/pilots/{name}", done.stdout)

    def get(self, path: str) -> Any:
        """What the factory shows; None where it has nothing there."""
        said = self.ask(path)
        answer = json.loads(said) if said else {"error": "no answer"}
        return None if "error" in answer else answer

    def ask(self, path: str) -> str:
        """What the factory answers; nothing while it does not."""
        words = ["curl", "--silent", "--cacert", f"{INSTALLED}/authority.pem", "--max-time", "10", f"{URL}{path}"]
        return self.host.run(words).stdout

    def shown(self, name: str) -> dict[str, Any]:
        """A pilot as the factory lists it."""
        return next(row for row in self.get("/pilots?format=json") if row["id"] == name)

    def events(self, name: str) -> list[str]:
        """The names of the events that came."""
        return [json.loads(line)["event"] for line in self.ask(f"/api/v1/pilots/{name}/events").splitlines()]


def certificates(host: Host) -> None:
    """An authority of the test's own, and the factory's certificate from it."""
    # `-x509` with `-CA` signs with that authority (openssl-req(1)).
    authority = ["-subj", "/CN=Testbed authority", "-keyout", "authority.key", "-out", "authority.pem"]
    signed = ["-CA", "authority.pem", "-CAkey", "authority.key", "-keyout", "server.key", "-out", "server.pem"]
    subject = ["-subj", "/CN=factory", "-addext", f"subjectAltName=IP:{SITE_POOL.head}"]
    no_authority = ["-addext", "basicConstraints=critical,CA:FALSE"]
    for words in (authority, [*subject, *no_authority, *signed]):
        done = host.run(["openssl", "req", "-x509", *EC_KEY, *words], user=FACTORY.name, cwd=INSTALLED)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def stub(grid: Grid) -> Iterator[Stub]:
    """The factory of this project on its host, with HTTPS."""
    host = grid.factory
    place = host.path(INSTALLED)
    for package in ("pilot_agent", "server_stub"):
        shutil.copytree(PROJECT / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "factory.json").write_text(json.dumps(CONFIGURATION), encoding="utf-8")
    host.run(["chown", "-R", f"{FACTORY.name}:", INSTALLED])
    certificates(host)
    log = host.directory / "https-factory.log"
    with log.open("w", encoding="utf-8") as said:
        words = ["python3", "-m", "server_stub", "serve", "--config", "factory.json"]
        door = host.popen(words, user=FACTORY.name, cwd=INSTALLED, stdout=said, stderr=said)
    running = Stub(host, (place / "authority.pem").read_text(encoding="ascii"))
    try:
        until = time.monotonic() + START_SECONDS
        while running.get("/pilots?format=json") is None:
            assert door.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < until, log.read_text(encoding="utf-8")
        yield running
    finally:
        host.signal(door, signal.SIGTERM)
        door.wait()
        shutil.rmtree(place)


def trusting(expected: Expected) -> dict[str, Any]:
    """Uploads to a factory that an authority of the VO's own vouches for."""
    authorities, token = "{start}/authority.pem", "upload.token"
    return {"upload": {"url": expected.url, "authorities": authorities, "token": token, "period_seconds": 1}}


def test_a_failed_pilot_shows_at_its_factory_why_while_it_holds_its_slot(stub: Stub, pilot: StartPilot) -> None:
    held = {"requirements": ["cpu.usable >= 1000"], "on_failure": {"hold_seconds": 3600}}
    expected = stub.expect("failed")
    run = pilot(PLAIN | held | trusting(expected))
    run.write("authority.pem", stub.authority)
    run.write("upload.token", expected.token)
    run.start()
    report = run.wait_until("report at the factory", lambda: stub.get("/pilots/failed/report"))
    assert run.running
    assert report == run.report()
    failure = report["outcome"]["failure"]
    row = stub.shown("failed")
    told = (row["state"], row["outcome"], row["failure_kind"], row["failure_code"], row["message"])
    assert told == ("running", "failed", "node_resource", failure["code"], failure["message"])
    assert stub.events("failed")[0] == "pilot.started"
    assert stub.events("failed")[-1] == "pilot.ending"
    run.signal(signal.SIGTERM)
    assert run.wait() == 64, run.story()
    run.nothing_left(allowed=("report.json", "events.jsonl", "logs", "authority.pem", "upload.token"))


def test_a_running_pilot_tells_its_whole_life(stub: Stub, pilot: StartPilot) -> None:
    expected = stub.expect("lively")
    run = pilot(PLAIN | trusting(expected))
    run.write("authority.pem", stub.authority)
    run.write("upload.token", expected.token)
    run.start().joined()
    run.wait_until("event of the hand-off there", lambda: "condor.started" in stub.events("lively"))
    run.signal(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM, run.story()
    assert stub.events("lively") == [event["event"] for event in run.events()]
    assert stub.get("/pilots/lively/report") == run.report()
    assert stub.shown("lively")["outcome"] == "preempted"
    assert stub.get("/health/ready") == {"status": "ok", "problems": []}


def test_a_pilot_scores_lives_and_is_killed_and_its_factory_knows_of_each(stub: Stub, pilot: StartPilot) -> None:
    expected = stub.expect("killed")
    changes = trusting(expected)
    changes["upload"]["heartbeat_seconds"] = 1
    run = pilot(PLAIN | changes | {"benchmarks": {"cache_directory": "{start}/scores"}})
    run.write("authority.pem", stub.authority)
    run.write("upload.token", expected.token)
    run.start().joined()
    scored = run.wait_for("benchmark.ended", name="hash")

    def scores() -> Any:
        return [one for one in stub.get("/api/v1/benchmarks?entry=e") or () if scored["score"] in one["numbers"]]

    (found,) = run.wait_until("score there", scores)
    model = found["cpu_model"]
    heard = stub.shown("killed")["seen"]
    told = len(run.events())
    run.wait_until("sign of life", lambda: stub.shown("killed")["seen"] > heard + 2)
    assert "upload.failed" not in [event["event"] for event in run.events()[told:]]
    run.signal(signal.SIGKILL, "_keeper")
    assert run.wait() == 70, run.story()
    words = stub.get("/api/v1/pilots/killed")["last_words"]
    assert words.startswith("internal: keeper.killed: the keeper was killed by signal 9 (SIGKILL)")
    assert "--- the end of MasterLog ---" in words
    assert stub.get("/pilots/killed/report") == run.report()
    assert run.report()["node"]["cpu"]["model"]["value"] == model


def test_nothing_is_sent_to_a_factory_that_no_authority_vouches_for(stub: Stub, pilot: StartPilot) -> None:
    url = stub.expect("doubting").url
    run = pilot(PLAIN | {"upload": {"url": url, "period_seconds": 1}}).start()
    told = run.wait_for("upload.failed")
    assert "certificate verify failed" in told["message"]
    run.signal(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM, run.story()
    assert stub.events("doubting") == []
    assert stub.get("/pilots/doubting/report") is None
    assert os.path.exists(run.outer / "report.json")
