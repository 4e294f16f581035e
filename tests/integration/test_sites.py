"""A factory with sites of three kinds, each with its own nodes: pilots go there, run users' jobs, and come home."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import BUILT
from tests.testbed.grid import Grid
from tests.testbed.leftovers import pilot_processes
from tests.testbed.runs import run_directory
from tests.testbed.site_factory import DIRECT, OVER_SSH, POOL, REFUSED, SCHEDD, SiteFactory
from tests.testbed.slurm_site import KNOWN_HOSTS, LOGIN, POOL_LOGIN, SlurmSite
from tests.testbed.trees import FACTORY
from tests.testbed.user_jobs import Job, Jobs

END_SECONDS = 150.0
ENDLESS = "while :; do sleep 0.2; done"

Json = dict[str, Any]


@pytest.fixture(scope="module")
def site(grid: Grid) -> Iterator[SlurmSite]:
    """A cluster beside the grid, and the host of a factory that reaches both."""
    with run_directory() as directory, SlurmSite(directory, grid) as running:
        yield running


@pytest.fixture(scope="module")
def factory(site: SlurmSite) -> SiteFactory:
    """The factory, and on the login nodes what HTCondor needs there, as the operator's command put it there."""
    made = SiteFactory(site, BUILT)
    for login, system in ((LOGIN, "slurm"), (POOL_LOGIN, "condor")):
        found = made.told("site", "install", login)
        assert found["systems"] == {system: "/usr/bin"}
        assert found["installed"]
        assert "blahpd" in found["blahpd"]
    return made


def job_at(jobs: Jobs, entry: str, script: str) -> Job:
    """A user's job that only pilots of this entry may run."""
    text = f"executable = /bin/sh\narguments = \"-c '{script}'\"\n"
    return jobs.submit(f'{text}requirements = TARGET.GLIDEIN_Site == "{entry}"', pilot=None)


def wait_ended(site: SlurmSite, factory: SiteFactory, pilot: Json) -> Json:
    """The pilot once its job left the queue and its end was collected."""
    words = ["condor_q", "-all", "-constraint", f'PilotId == "{pilot["id"]}"', "-af", "ClusterId"]
    site.wait(f"end of the pilot {pilot['entry']}", lambda: not site.gate.run(words).stdout.strip(), END_SECONDS)
    told: list[Json] = []

    def collected() -> bool:
        """The history may be behind the queue."""
        told.append(factory.pilot(pilot["id"]))
        return told[-1]["ended"] is not None

    site.wait(f"the end of the pilot {pilot['entry']} in the history", collected, END_SECONDS)
    return told[-1]


def left_on_nodes(site: SlurmSite) -> list[str]:
    """Processes of both accounts under which the site runs pilots."""
    factory = [
        f"{node.plan.name}: {' '.join(process.argv)[:100]}"
        for node in site.nodes
        for process in node.processes()
        if process.uid == FACTORY.uid and process.state not in "ZX"
    ]
    return factory + [f"{node.plan.name}: {process}" for node in site.nodes for process in pilot_processes(node)]


def test_pilots_run_users_jobs_at_each_kind_of_site_and_come_home(
    grid: Grid, site: SlurmSite, factory: SiteFactory, jobs: Jobs
) -> None:
    pilots = {entry: factory.submit(entry) for entry in (DIRECT, OVER_SSH, SCHEDD, POOL)}
    refused = factory.submit(REFUSED)
    ran = {entry: job_at(jobs, entry, "hostname; id -un") for entry in pilots}
    expected = {DIRECT: ("slurm", FACTORY.name), OVER_SSH: ("slurm", "pilot")}
    expected |= {SCHEDD: ("wn1", "pilot"), POOL: ("wn", "pilot")}
    for entry, job in ran.items():
        job.wait_done(END_SECONDS)
        host, account = job.output().split()
        assert host.startswith(expected[entry][0])
        assert account == expected[entry][1]
    for entry, pilot in pilots.items():
        ended = wait_ended(site, factory, pilot)
        assert (ended["state"], ended["outcome"], ended["jobs_started"]) == ("ended", "ok", 1), ended
        report = json.loads(factory.returned(ended, "report.json").read_text(encoding="utf-8"))
        assert report["node"]["batch"]["system"]["value"] == ("htcondor" if entry in (SCHEDD, POOL) else "slurm")
        events = factory.returned(ended, "events.jsonl").read_text(encoding="utf-8")
        assert "condor.started" in events
        assert factory.returned(ended, "logs").is_dir()
        assert list(factory.returned(ended, "logs").iterdir())
        assert not factory.returned(ended, "pilot.token").exists()
    assert site.queue() == ""
    site.wait("nodes without a trace", lambda: not left_on_nodes(site))
    told = factory.pilot(refused["id"])
    assert told["state"] == "held"
    assert "Invalid partition name specified" in told["message"]


def test_removed_pilots_leave_the_sites_queue_and_nodes(site: SlurmSite, factory: SiteFactory, jobs: Jobs) -> None:
    pilots = [factory.submit(entry) for entry in (DIRECT, OVER_SSH, SCHEDD)]
    for pilot in pilots:
        job_at(jobs, pilot["entry"], ENDLESS).wait_running()
    assert site.queue().count("RUNNING") == 2
    site.gate.run(["condor_rm", "-all"])
    site.wait("empty queue of Slurm", lambda: site.queue() == "", END_SECONDS)
    site.wait("empty queue of the other schedd", lambda: site.pool_queue() == "", END_SECONDS)
    for pilot in pilots:
        assert wait_ended(site, factory, pilot)["state"] == "removed"
    site.wait("nodes without a trace", lambda: not left_on_nodes(site))


def test_a_login_node_with_another_key_is_not_spoken_to(site: SlurmSite, factory: SiteFactory) -> None:
    known = site.gate.path(KNOWN_HOSTS)
    right = known.read_text(encoding="ascii")
    host, kind = right.split()[:2]
    other = site.gate.path(f"{FACTORY.home}/.ssh/id_ed25519.pub").read_text(encoding="ascii").split()[1]
    try:
        known.write_text(f"{host} {kind} {other}\n", encoding="ascii")
        done = factory.run("site", "check", LOGIN)
    finally:
        known.write_text(right, encoding="ascii")
    assert done.returncode == 67
    assert "site.host_key" in done.stderr
    assert "known_hosts" in done.stderr
    assert factory.told("site", "check", LOGIN)["systems"] == {"slurm": "/usr/bin"}


def test_a_check_of_the_factory_looks_at_each_way_to_a_site(factory: SiteFactory) -> None:
    findings = {one["name"]: one for one in json.loads(factory.run("check", "--json").stdout)}
    ways = ("blahp", "batch slurm", f"login node {LOGIN}", f"login node {POOL_LOGIN}", "descriptions", "access point")
    assert {name: findings[name]["verdict"] for name in ways} == dict.fromkeys(ways, "ok")
