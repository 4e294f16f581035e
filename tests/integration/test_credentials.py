"""Credentials on their whole way: made at the frontend, sealed, given to a pilot, renewed while it runs, in no place
where they do not belong, and good for nothing but what a pilot does."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import BUILT
from tests.testbed import condor
from tests.testbed.grid import USER_POOL, Grid, GridPlan
from tests.testbed.hosts import Host
from tests.testbed.runs import run_directory
from tests.testbed.slurm_site import give
from tests.testbed.trees import USER
from tests.testbed.user_jobs import Job, Jobs
from tests.testbed.vo_service import FACTORY_HOME, FRONTEND_HOME, FRONTEND_NAME, SITE_NAME, URL, VoService, libraries

TOKEN_SECONDS = 60
JWT = re.compile(rb"eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}")
MARK = b"bWFya2VkLXNlY3JldC1vZi10aGUtc2l0ZQ"
KEY_MARK = b"bWFya2VkLWtleS1vZi10aGUtc2l0ZQ"
AUTHORITY = "/etc/factory-authority.pem"
SECRET_FILES = ("pilot.token", "site.scitoken", "site.key", "upload.token")
CREDENTIALS = {
    "pilots": {"signing_key": "PILOTS", "trust_domain": USER_POOL.domain, "most_seconds": TOKEN_SECONDS},
    "sites": [
        {"name": "site-token", "kind": "scitoken", "command": [f"{FRONTEND_HOME}/make-token"]},
        {"name": "login", "kind": "ssh_key", "file": "login.key"},
    ],
}
ALLOWED = {
    ("collector", "READ"), ("collector", "ADVERTISE_STARTD"), ("collector", "ADVERTISE_MASTER"),
}  # fmt: skip
ASKED = (
    *("READ", "WRITE", "DAEMON", "NEGOTIATOR", "ADMINISTRATOR"),
    *("ADVERTISE_STARTD", "ADVERTISE_MASTER", "ADVERTISE_SCHEDD"),
)


@pytest.fixture(scope="module")
def grid(testbed_machine: None) -> Iterator[Grid]:
    with run_directory() as directory, Grid(directory, GridPlan(binds=(libraries(),))) as running:
        yield running


@pytest.fixture(scope="module")
def service(grid: Grid) -> Iterator[VoService]:
    """Pilots' tokens are signed by a key of their own and last a minute."""
    entry = {
        "name": "local", "site": SITE_NAME, "payload": "pyz", "requirements": 'TARGET.Machine == "wn1.site.test"',
        "cores": 2, "memory_mib": 500, "walltime_seconds": 7200, "limits": {"total": 1}, "submit": {"payload": "file"},
        "pilot": {"site": {"containers": "never"}, "time": {"vacate_seconds": 3, "until_token_expires": False}},
    }  # fmt: skip
    pilot = {"upload": {"authorities": AUTHORITY, "period_seconds": 2}, "pool": {"token_check_seconds": 1}}
    made = VoService(
        grid,
        BUILT,
        grid.directory,
        factory={"uploads": True, "entries": [entry], "pilot": pilot},
        frontend={"credentials": CREDENTIALS},
    )
    content = os.urandom(64)
    key = grid.pool.path(f"{condor.KEYS}/PILOTS")
    key.write_bytes(content)
    key.chmod(0o600)
    copy = grid.factory.path(f"{FRONTEND_HOME}/PILOTS")
    copy.write_bytes(content)
    copy.chmod(0o600)
    os.chown(copy, USER.uid, USER.uid)
    give_site_credentials(grid.factory, "first")
    grid.wn1.path(AUTHORITY).write_bytes(grid.factory.path(f"{FRONTEND_HOME}/factory.pem").read_bytes())
    configure(grid, f"""
        ALLOW_ADVERTISE_STARTD_COLLECTOR = $(ALLOW_ADVERTISE_STARTD), *@{FRONTEND_NAME}
        ALLOW_ADVERTISE_MASTER_COLLECTOR = $(ALLOW_ADVERTISE_MASTER), *@{FRONTEND_NAME}
    """)  # fmt: skip
    yield made
    made.frontend.stop()
    made.factory.stop()


def give_site_credentials(host: Host, name: str) -> None:
    """A program that prints a token for sites, and a key for login nodes."""
    claims = json.dumps({"jti": name, "exp": int(time.time()) + 7200}).encode()
    token = f"eyJhbGciOiJFUzI1NiJ9.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.{MARK.decode()}"
    give(host, f"{FRONTEND_HOME}/make-token", f"#!/bin/sh\necho {token}\n", mode=0o700, account=USER)
    key = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{KEY_MARK.decode()}{name}\n-----END OPENSSH PRIVATE KEY-----\n"
    give(host, f"{FRONTEND_HOME}/login.key", key, mode=0o600, account=USER)


def configure(grid: Grid, more: str) -> None:
    path = grid.pool.path(condor.CONFIGURATION)
    lines = "".join(f"{line.strip()}\n" for line in more.splitlines())
    path.write_text(path.read_text(encoding="utf-8") + lines, encoding="utf-8")
    grid.pool.run(["condor_reconfig"])


def waiting(jobs: Jobs, seconds: int) -> Job:
    text = f'executable = /bin/sleep\narguments = {seconds}\nrequirements = TARGET.GLIDEIN_Site == "{SITE_NAME}"\n'
    return jobs.submit(text, pilot=None)


def slots(grid: Grid) -> list[dict[str, Any]]:
    """The slots of this frontend's pilots in the user pool."""
    words = ["condor_status", "-json", "-constraint", f'GLIDEIN_Site == "{SITE_NAME}"']
    done = grid.pool.run([*words, "-attributes", "Name,PilotTokenExpires,AuthenticatedIdentity,State"])
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found


def pinged(host: Host, token: bytes) -> dict[tuple[str, str], bool]:
    """What a daemon of the user pool lets whoever has this token do."""
    host.run(["mkdir", "-p", "-m", "700", "/root/pilot-tokens.d"])
    give(host, "/root/pilot-tokens.d/token", token.decode(), mode=0o600)
    host.run(["chown", "root:", "/root/pilot-tokens.d/token"])
    environment = {
        "_CONDOR_SEC_TOKEN_DIRECTORY": "/root/pilot-tokens.d",
        "_CONDOR_SEC_TOKEN_SYSTEM_DIRECTORY": "/root/pilot-tokens.d",
        "_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
    }
    found = {}
    for kind, name in (("collector", []), ("schedd", ["-name", "pool.pool.test"])):
        for level in ASKED:
            words = ["condor_ping", "-pool", USER_POOL.head, "-type", kind, *name, "-quiet", level]
            found[(kind, level)] = host.run(words, env=environment).returncode == 0
    return found


def owners(grid: Grid) -> dict[str, str | None]:
    """What the factory has of credentials, without their content."""
    words = f"""
import json, sqlite3
database = sqlite3.connect("{FACTORY_HOME}/state/factory.sqlite")
print(json.dumps(database.execute("SELECT id, pilot_id FROM credentials").fetchall()))
"""
    done = grid.factory.run(["python3", "-c", words])
    return dict(json.loads(done.stdout))


def directory(grid: Grid) -> Path:
    """The private directory of the pilot that is on its way."""
    (found,) = (grid.factory.path(f"{FACTORY_HOME}/state/pilots")).iterdir()
    return found


def inside(host: Host, path: Path) -> Path:
    """A file of a host; where it is a link, what that leads to on the host."""
    return host.path(os.readlink(path)) if path.is_symlink() else path


def test_credentials_are_given_renewed_and_revoked_and_are_where_they_belong(
    grid: Grid, service: VoService, jobs: Jobs
) -> None:
    service.factory.start()
    service.frontend.start()
    job = waiting(jobs, 120)
    job.wait_running()
    began = time.time()
    (first, *_) = slots(grid)
    assert first["AuthenticatedIdentity"] == f"{SITE_NAME}@{FRONTEND_NAME}"
    place = directory(grid)
    secret = {name: inside(grid.factory, place / name) for name in SECRET_FILES}
    assert {path.stat().st_mode & 0o777 for path in secret.values()} == {0o600}

    token = (place / "pilot.token").read_bytes()
    allowed = {what for what, may in pinged(grid.pool, token).items() if may}
    assert allowed == ALLOWED

    # Another token and key for sites: the running pilot's files are replaced.
    give_site_credentials(grid.factory, "second")
    service.wait("newer key for the site", lambda: b"second" in secret["site.key"].read_bytes())

    # The pilot outlives its first token, and is let in by its newer one.
    service.wait("the first token's end", lambda: time.time() > began + TOKEN_SECONDS + 5)
    grid.pool.run(["pkill", "-KILL", "condor_collecto"])
    service.wait("the pilot to be back", lambda: slots(grid))
    assert all(slot["PilotTokenExpires"] > began + TOKEN_SECONDS for slot in slots(grid))

    nothing_is_where_it_does_not_belong(grid, service, place)

    # One pilot is shut out by its name.
    (mine,) = (name for name, pilot in owners(grid).items() if pilot == place.name)
    newest = (place / "pilot.token").read_bytes()
    assert newest != token
    assert pinged(grid.pool, newest)[("collector", "ADVERTISE_STARTD")]
    configure(grid, f'SEC_TOKEN_REVOCATION_EXPR = regexp("^{mine}[.]", jti)')
    service.wait("revocation", lambda: not any(pinged(grid.pool, newest).values()))
    configure(grid, "SEC_TOKEN_REVOCATION_EXPR =")

    job.remove()
    service.wait("the pilot's end", lambda: not any(owners(grid).values()))
    assert {path.name for path in place.iterdir()} & set(SECRET_FILES) == set()


def nothing_is_where_it_does_not_belong(grid: Grid, service: VoService, place: Path) -> None:
    """Neither a token nor a mark of a secret in logs, store, processes, job ads, or what the factory answers."""
    host = grid.factory
    texts: dict[str, bytes] = {str(log): log.read_bytes() for log in (service.factory.log, service.frontend.log)}
    states = (host.path(f"{home}/state") for home in (FACTORY_HOME, FRONTEND_HOME))
    for searched in (place, *states, host.path("/var/log/condor")):
        for path in searched.iterdir():
            if path.is_file() and path.name not in SECRET_FILES:
                texts[str(path)] = path.read_bytes()
    texts["condor_q"] = host.run(["condor_q", "-long", "-allusers"]).stdout.encode()
    for process in host.processes():
        lines = host.run(["cat", f"/proc/{process.pid}/cmdline", f"/proc/{process.pid}/environ"]).stdout.encode()
        texts[f"process {process.pid} {process.argv[0]}"] = lines
    own = (f"/pilots/{place.name}", f"/api/v1/pilots/{place.name}", f"/api/v1/pilots/{place.name}/events")
    for page in ("/pilots", "/entries", "/api/v1/pilots", "/metrics", *own):
        words = ["curl", "--silent", "--cacert", f"{FRONTEND_HOME}/factory.pem", f"{URL}{page}"]
        texts[page] = host.run(words).stdout.encode()
        assert len(texts[page]) > 10, page
    signing = host.path(f"{FRONTEND_HOME}/PILOTS").read_bytes()
    for where, text in texts.items():
        for secret in (MARK, KEY_MARK, signing, signing.hex().encode()):
            assert secret not in text, where
        assert not JWT.search(text), where
