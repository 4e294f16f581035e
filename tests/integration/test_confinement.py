"""What comes out of a job's container, or makes HTCondor's starter act for it, finds that one job and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import StartPilot
from tests.testbed.grid import Grid
from tests.testbed.hosts import Host
from tests.testbed.image_server import ImageServer, image_server
from tests.testbed.inspection import HostProcess
from tests.testbed.pilots import PilotRun
from tests.testbed.trees import PILOT
from tests.testbed.user_jobs import Job, Jobs, slot_ads

CONTAINED = {"site": {"containers": "required"}, "startd": {"starter_isolation": "job"}}
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
# A node that refuses this one thing.
WITHOUT_PID_NAMESPACES = """#!/bin/sh
case $* in *--pid*) echo 'unshare: unshare failed: No space left on device' >&2; exit 1 ;; esac
exec /usr/bin/unshare "$@"
"""


@pytest.fixture(scope="module")
def server(grid: Grid) -> Iterator[ImageServer]:
    with image_server(grid) as running:
        yield running


@pytest.fixture(scope="module")
def victims(grid: Grid, payload: Path, good_token: str, server: ImageServer) -> Iterator[tuple[PilotRun, PilotRun]]:
    """Two pilots of one account, on a node that trusts the web server."""
    bundle = grid.wn1.path(AUTHORITIES)
    before = bundle.read_bytes()
    bundle.write_bytes(before + server.certificate.encode())
    runs = tuple(PilotRun(grid.hosts["wn1"], good_token, CONTAINED) for _ in range(2))
    try:
        yield runs[0].start().joined(), runs[1].start().joined()
    finally:
        for run in runs:
            run.destroy()
        bundle.write_bytes(before)


@pytest.fixture(scope="module")
def jobs_of_module(grid: Grid) -> Jobs:
    return Jobs(grid)


@pytest.fixture(scope="module")
def attacker(victims: tuple[PilotRun, PilotRun], jobs_of_module: Jobs) -> Iterator[Job]:
    """A job beside one of somebody else's in the same pilot, and one in another pilot of the account."""
    others = [jobs_of_module.shell("echo secret > othersecret; exec sleep 600", pilot=victim) for victim in victims]
    for other, victim in zip(others, victims, strict=True):
        other.wait_running()
        victim.job_file("othersecret")
    job = jobs_of_module.shell("touch attacks; exec sleep 600", pilot=victims[0]).wait_running()
    victims[0].job_file("attacks")
    yield job
    for one in (*others, job):
        one.remove()


def inside(run: PilotRun) -> str:
    """The path of a pilot's workspace on its host."""
    assert run.workspace is not None
    return f"{run.start_directory}/{run.workspace.name}"


def starter_of(run: PilotRun, name: str) -> HostProcess:
    """The starter of the job that made this file."""
    own = run.job_file(name).parents[1].name
    starters = [one for one in run.processes() if os.path.basename(one.argv[0]) == "condor_starter"]
    for starter in starters:
        mounts = run.host.run(["cat", f"/proc/{starter.pid}/mountinfo"]).stdout
        if f"{inside(run)}/condor/execute/{own} " in mounts:
            return starter
    raise AssertionError(f"no starter of {own} in {starters}")


def escaped(host: Host, starter: HostProcess, script: str) -> str:
    """What a program prints that came out of a container: it has the pilot's uid in the starter's namespaces."""
    into = ["nsenter", f"--target={starter.pid}", "--user", "--mount", "--pid", "--preserve-credentials"]
    done = host.run([*into, "/bin/bash", "-c", f"cd /; {script}"], user=PILOT.name, timeout_seconds=60)
    return done.stdout + done.stderr


def number_inside(host: Host, process: HostProcess) -> int:
    """The number that a process has in the starter's PID namespace."""
    status = host.run(["cat", f"/proc/{process.pid}/status"]).stdout
    (line,) = [line for line in status.splitlines() if line.startswith("NSpid:")]
    return int(line.split()[2])


@pytest.fixture(scope="module")
def outside(victims: tuple[PilotRun, PilotRun], attacker: Job) -> HostProcess:
    return starter_of(victims[0], "attacks")


def test_only_one_process_of_the_pilots_comes_between_a_starter_and_its_container(
    victims: tuple[PilotRun, PilotRun], outside: HostProcess
) -> None:
    """The kernel gives out numbers in order: HTCondor's own are the procd, the one that transfers the files and the one
    that asks the runtime for its version."""
    (runtime,) = [one for one in victims[0].processes() if one.parent == outside.pid and "Apptainer" in one.argv[0]]
    assert number_inside(victims[0].host, runtime) - number_inside(victims[0].host, outside) == 3 + 1 + 1


def test_what_escapes_sees_the_files_of_its_own_job_only(
    victims: tuple[PilotRun, PilotRun], outside: HostProcess
) -> None:
    said = escaped(victims[0].host, outside, f"find {PILOT.home} -not -path '*/libexec/*' 2> /dev/null")
    names = {os.path.basename(line) for line in said.splitlines()}
    assert {"attacks", "condor_config"} <= names
    assert not names & {"othersecret", "pool.token", "factory.json", "report.json", "events.jsonl", "journal.jsonl"}
    assert not names & {"state.json", "ads.fifo", "keeper.json", "tokens", "lock.json"}
    workspaces = {line for line in said.splitlines() if os.path.basename(line).startswith("pilot-")}
    assert workspaces == {inside(victims[0])}


def test_what_escapes_finds_no_token(victims: tuple[PilotRun, PilotRun], outside: HostProcess) -> None:
    search = f"grep -rlE eyJ[A-Za-z0-9_-]{{20}} {PILOT.home} /tmp /var/tmp /dev/shm /proc/[0-9]*/environ 2> /dev/null"
    assert escaped(victims[0].host, outside, search) == ""
    for victim in victims:
        assert "eyJ" not in escaped(victim.host, outside, f"cat {victim.start_directory}/pool.token")


def test_what_escapes_changes_no_hook_no_configuration_and_no_other_pilot(
    victims: tuple[PilotRun, PilotRun], outside: HostProcess
) -> None:
    private = f"{inside(victims[0])}/private"
    targets = [f"{private}/condor/condor_config", f"{private}/condor/libexec/pilot_guard", f"{private}/condor/new"]
    targets += [f"{private}/journal.jsonl.new", f"{victims[0].start_directory}/x", f"{PILOT.home}/x"]
    targets += [f"{inside(victims[1])}/x", f"{victims[1].start_directory}/x"]
    for target in targets[:3] + targets[4:]:
        script = f"chmod u+w {target} {os.path.dirname(target)} 2> /dev/null; echo x >> {target} && echo WRITTEN"
        assert "WRITTEN" not in escaped(victims[0].host, outside, script), target
    # A file of this name can be made in the starter's own private directory, in memory: the pilot's has none.
    escaped(victims[0].host, outside, f"echo x > {targets[3]}")
    for victim in victims:
        assert victim.workspace is not None
        assert not (victim.workspace / "private" / "journal.jsonl.new").exists()
        assert victim.running


def test_what_escapes_reaches_no_process_of_the_pilot(victims: tuple[PilotRun, PilotRun], outside: HostProcess) -> None:
    host = victims[0].host
    kept = {one.pid: one.argv[0] for one in victims[0].processes() if one.pid != outside.pid}
    names = {os.path.basename(argv) for argv in kept.values()}
    assert {"condor_master", "condor_startd"} <= names
    seen = escaped(host, outside, "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'")
    assert "condor_starter" in seen
    assert not {"condor_master", "condor_startd", "_keeper"} & {os.path.basename(word) for word in seen.split("\n")}
    # Numbers that are the same inside belong to this job's own processes.
    own = '[ "$(readlink /proc/$pid/ns/pid)" = "$(readlink /proc/self/ns/pid)" ]'
    reached = "{ kill -0 $pid || [ -e /proc/$pid ]; } 2> /dev/null"
    loop = (
        f"for pid in {' '.join(map(str, kept))}; do {own} || {{ {reached} && echo REACHED $pid; }}; done; echo looked"
    )
    assert escaped(host, outside, loop) == "looked\n"
    # All that can be signalled at once are this job's own.
    escaped(host, outside, "kill -STOP -1; kill -CONT -1")
    assert all(victim.running for victim in victims)
    stopped = [one for one in victims[0].processes() if one.pid in kept and one.state in "Tt"]
    assert stopped == []


def test_what_escapes_finds_no_socket_and_no_channel(victims: tuple[PilotRun, PilotRun], outside: HostProcess) -> None:
    said = escaped(
        victims[0].host, outside, f"find {PILOT.home} /tmp /var/tmp /dev/shm -type s -o -type p 2> /dev/null"
    )
    # The starter's own family of processes, its own channel to the job, and the names of images that failed.
    allowed = ("image-failures.fifo", "procd", "docker_sock")
    assert not [line for line in said.splitlines() if not any(word in os.path.basename(line) for word in allowed)]


def test_what_escapes_dies_with_its_starter_and_leaves_nothing(
    grid: Grid, victims: tuple[PilotRun, PilotRun], jobs: Jobs
) -> None:
    run = victims[1]
    job = jobs.shell("touch doomed; exec sleep 600", pilot=run).wait_running()
    starter = starter_of(run, "doomed")
    place = run.job_file("doomed").parents[1]
    escaped(run.host, starter, "setsid sleep 4242 > /dev/null 2>&1 < /dev/null & sleep 0.2")
    run.host.run(["kill", "-KILL", str(starter.pid)])
    run.wait_until("the starter's directory is gone", lambda: not place.exists())
    assert not [one for one in run.processes() if "4242" in one.argv]
    assert job.events(5) == 0
    job.remove()


def test_memory_and_time_of_a_job_are_measured(victims: tuple[PilotRun, PilotRun], jobs: Jobs) -> None:
    script = "perl -e '$a = 1 x 90000000; $i++ while (times)[0] < 2; sleep 12'"
    job = jobs.shell(script, pilot=victims[1], extra="request_memory = 300M").wait_done(90)
    usage = next(line for line in job.log.splitlines() if "Memory (MB)" in line).split(":")[1].split()
    assert int(usage[0]) >= 80
    assert "Usr 0 00:00:00," not in job.log.partition("Normal termination")[2].splitlines()[1]


def test_transfers_over_https_work_and_files_of_the_node_are_not_offered(
    grid: Grid, server: ImageServer, victims: tuple[PilotRun, PilotRun], jobs: Jobs
) -> None:
    (server.files / "input.txt").write_text("over the network\n")
    job = jobs.shell("cat input.txt", pilot=victims[1], extra=f"transfer_input_files = {server.url}input.txt")
    assert job.wait_done().output() == "over the network\n"
    for ad in slot_ads(grid, victims[1], "PartitionableSlot"):
        methods = ad["HasFileTransferPluginMethods"].split(",")
        assert "https" in methods
        assert "file" not in methods


def test_a_file_url_finds_no_plugin_even_without_the_guard(victims: tuple[PilotRun, PilotRun]) -> None:
    run = victims[1]
    plugin = f"{inside(run)}/private/condor/libexec/curl_plugin"
    wanted = f'[ LocalFileName = "/tmp/taken"; Url = "file://{run.start_directory}/pool.token" ]'
    call = f"echo '{wanted}' > /tmp/wanted; {plugin} -infile /tmp/wanted -outfile /tmp/answer; echo $?; cat /tmp/taken;"
    call += " rm -f /tmp/wanted /tmp/answer /tmp/taken"
    said = run.host.run(["sh", "-c", call], user=PILOT.name)
    assert "1" in said.stdout.split()
    assert "files of the node" in said.stderr
    assert "eyJ" not in said.stdout


def test_htcondors_own_test_file_for_sif_runs(victims: tuple[PilotRun, PilotRun], grid: Grid) -> None:
    run = victims[0]
    image = f"{inside(run)}/private/condor/libexec/exit_37.sif"
    done = run.host.run(["apptainer", "exec", image, "/exit_37"], user=PILOT.name, timeout_seconds=30)
    assert done.returncode == 37, done.stderr
    assert all(ad["HasSIF"] is True for ad in slot_ads(grid, run, "PartitionableSlot"))


@pytest.mark.parametrize("contained", [True, False])
def test_each_job_has_a_session_and_a_process_group_of_its_own(pilot: StartPilot, jobs: Jobs, contained: bool) -> None:
    run = pilot(CONTAINED if contained else {"site": {"containers": "never"}}, host="wn2").start().joined()
    running = [jobs.shell(f"touch begun.{number}; exec sleep 60", pilot=run).wait_running() for number in range(2)]
    for number in range(2):
        run.job_file(f"begun.{number}")
    found = run.host.run(["ps", "-u", PILOT.name, "-o", "pid=,pgid=,sid=,args="]).stdout.splitlines()
    mine = [line.split(None, 3) for line in found]
    of_jobs = [(group, session) for _, group, session, words in mine if words == "sleep 60"]
    others = {session for _, _, session, words in mine if words != "sleep 60" and "condor" in words}
    assert len(of_jobs) == 2
    assert all(group == session for group, session in of_jobs)
    assert len(set(of_jobs)) == 2
    assert not others & {session for _, session in of_jobs}
    assert len(running) == 2


def test_without_pid_namespaces_jobs_run_and_the_ad_says_what_starters_are_kept_from(
    grid: Grid, pilot: StartPilot, jobs: Jobs
) -> None:
    run = pilot(CONTAINED, host="wn2", environment={"PATH": f"{PILOT.home}/refusing:/usr/sbin:/usr/bin:/sbin:/bin"})
    refusing = run.host.path(f"{PILOT.home}/refusing")
    refusing.mkdir()
    (refusing / "unshare").write_text(WITHOUT_PID_NAMESPACES)
    (refusing / "unshare").chmod(0o755)
    run.start().joined()
    job = jobs.shell("touch attacks; . /etc/os-release; echo $VERSION_CODENAME; sleep 6", pilot=run).wait_running()
    run.job_file("attacks")
    assert {ad["PilotStarterIsolation"] for ad in slot_ads(grid, run)} == {"secrets"}
    assert job.wait_done().output().strip() in ("bookworm", "trixie")
    shutil.rmtree(refusing)


def test_the_ad_says_that_jobs_are_isolated(grid: Grid, victims: tuple[PilotRun, PilotRun], attacker: Job) -> None:
    for victim in victims:
        assert {ad["PilotStarterIsolation"] for ad in slot_ads(grid, victim)} == {"job"}
        assert victim.running
