"""Jobs that want the pilot's token or its files do not get them; the same pilot runs everybody else's jobs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import StartPilot
from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.trees import PILOT, USER
from tests.testbed.user_jobs import Job, Jobs, slot_ads

HELD, DONE, EVICTED = 12, 5, 4
PATIENCE_SECONDS = 60.0
ENDS = {HELD: "held", DONE: "done", EVICTED: "given back"}
WRITTEN = f"{PILOT.home}/written"
"""What no job may write."""


@pytest.fixture(scope="module")
def victim(grid: Grid, payload: Path, good_token: str) -> Iterator[PilotRun]:
    """One pilot for all hostile jobs."""
    run = PilotRun(grid.hosts["wn1"], good_token, {"site": {"containers": "required"}})
    try:
        yield run.start().joined()
    finally:
        run.destroy()


@pytest.fixture(scope="module", autouse=True)
def user_files(grid: Grid) -> None:
    """What the hostile user submits from the home directory."""
    write(grid, "steal.sh", f"#!/bin/sh\n(id; cat {PILOT.home}/run-*/pool.token) > {WRITTEN}\ncp {WRITTEN} stolen\n")
    write(grid, "squashfuse_ll", f'#!/bin/sh\ncat {PILOT.home}/run-*/pool.token > {WRITTEN}\nexec /usr/bin/$0 "$@"\n')
    write(grid, "input.txt", "an honest input\n")
    grid.pool.run(["cp", "/images/debian12.sif", f"{USER.home}/own.sif"], user=USER.name)


def write(grid: Grid, name: str, text: str) -> None:
    path = grid.pool.path(f"{USER.home}/{name}")
    path.write_text(text)
    path.chmod(0o755)
    os.chown(path, USER.uid, USER.uid)


def wait_for(job: Job, *events: int) -> str:
    """The first of the events that comes, as a word."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        for event in events:
            if job.events(event):
                return ENDS[event]
        time.sleep(0.1)
    pytest.fail(f"job {job.cluster} did not end\n{job.log}")


def nothing_was_taken(grid: Grid, run: PilotRun) -> None:
    """The token's secret part is in no file of the user's, and nothing was written where no job may write."""
    assert run.token is not None
    secret = run.token.rsplit(".", 1)[-1].strip().encode()
    home = grid.pool.path(USER.home)
    holders = [str(path) for path in home.rglob("*") if path.is_file() and secret in path.read_bytes()]
    assert not holders
    assert not grid.hosts["wn1"].path(WRITTEN).exists()


def token_path(run: PilotRun) -> str:
    return f"{run.start_directory}/pool.token"


# Tries numbers of processes and paths of the node, in one process so that none of its own has such a number.
REACH = r"""use Socket;
for my $pid (split ' ', $ARGV[0]) {
    print "signals\n" if kill 0, $pid;
    print "traces\n" if syscall(101, 0x4206, $pid, 0, 0) == 0;
    for my $file ("environ", "mem", "root/etc/passwd") { print "looks into\n" if open(my $f, "<", "/proc/$pid/$file"); }
}
for my $path (split ' ', $ARGV[1]) {
    print "reads $path\n" if open(my $f, "<", $path);
    print "writes $path\n" if open(my $f, ">>", $path);
    socket(my $s, PF_UNIX, SOCK_STREAM, 0);
    print "asks $path\n" if connect($s, pack_sockaddr_un($path));
}
print "tried\n";
"""


def own_processes(run: PilotRun) -> list[str]:
    """The numbers of the keeper, condor_master and condor_startd, once all of them are there."""
    daemons = ("condor_master", "condor_startd")
    found = [one for one in run.processes() if os.path.basename(one.argv[0]) in daemons or "_keeper" in one.argv]
    return [str(one.pid) for one in found] if len(found) >= 3 else []


def reached(grid: Grid, run: PilotRun, jobs: Jobs) -> set[str]:
    """What a job can do to the pilot's own processes and files."""
    assert run.workspace is not None
    write(grid, "reach.pl", REACH)
    workspace = f"{run.start_directory}/{run.workspace.name}"
    own = run.wait_until("its daemons", lambda: own_processes(run))
    names = ("private/control.sock", "private/journal.jsonl", "private/ads.fifo", "private/tokens/pool", "report.json")
    hooks = ("condor_config", "libexec/pilot_guard", "libexec/pilot_links", "libexec/pilot_runtime")
    paths = [f"{workspace}/{name}" for name in names] + [f"{workspace}/private/condor/{name}" for name in hooks]
    job = jobs.submit(
        f"executable = /usr/bin/perl\ntransfer_input_files = reach.pl\n"
        f"arguments = \"reach.pl '{' '.join(own)}' '{' '.join([token_path(run), *paths])}'\"\n",
        pilot=run,
    )
    lines = job.wait_done().output().splitlines()
    assert lines.pop() == "tried", job.error()
    return set(lines)


def test_a_job_reaches_no_process_no_file_and_no_socket_of_the_pilot(grid: Grid, victim: PilotRun, jobs: Jobs) -> None:
    assert reached(grid, victim, jobs) == set()


def test_without_pid_namespaces_a_job_can_signal_the_pilot_and_the_ad_calls_that_weak(
    grid: Grid, pilot: StartPilot, jobs: Jobs
) -> None:
    settings = grid.hosts["wn2"].path("/etc/apptainer/apptainer.conf")
    before = settings.read_text()
    assert "allow pid ns = yes" in before
    settings.write_text(before.replace("allow pid ns = yes", "allow pid ns = no"))
    try:
        run = pilot({"site": {"containers": "required"}}, host="wn2").start().joined()
        assert reached(grid, run, jobs) == {"signals"}
        assert {ad["PilotJobIsolation"] for ad in slot_ads(grid, run)} == {"weak"}
    finally:
        settings.write_text(before)


HELD_AT_ONCE = {
    "an option as image": '+SingularityImage = "--bind=/:/host"',
    "the root as image": '+SingularityImage = "/"',
    "the root by proc as image": '+SingularityImage = "/proc/self/root"',
    "the root by dots as image": '+SingularityImage = "/images/../"',
    "the root relative as image": '+SingularityImage = "../../../"',
    "the home as image": f'+SingularityImage = "{PILOT.home}"',
    "a path of the node as container image": '+ContainerImage = "/opt"',
    "a program before": '+PreCmd = "steal.sh"\ntransfer_input_files = steal.sh',
    "a program after": '+PostCmd = "steal.sh"\ntransfer_input_files = steal.sh',
    "a program before that hides": '+PreArguments = "-c id>/home/pilot/written"\n'
    '+PreCmd = ifThenElse(isUndefined(TARGET.Cpus),"/bin/sh",undefined)',
    "a tool": "tool_daemon_cmd = steal.sh",
    "a transfer plugin": "transfer_plugins = evil=steal.sh\ntransfer_input_files = evil://h/f",
    "a variable in quotes": "My.Environment = \"APPT'AINER_BINDPA'TH=/home:/host\"",
    "a variable in the old form": 'My.Env = "A=1;APPTAINER_BIND=/home:/host"\nMy.Environment = undefined',
    "a variable by chance": 'My.Environment = ifThenElse(random(2)==0,"APPTAINER_BINDPATH=/home:/host","A=1")',
    "a library": 'environment = "LD_PRELOAD=./steal.so"',
    "an output elsewhere": "transfer_output_files = {token}",
    "an output above": "transfer_output_files = ../../../../pool.token",
    "a standard input elsewhere": "input = {token}\ntransfer_input = false",
    "an input to elsewhere": f'transfer_input_files = input.txt\n+TransferInputRemaps = "input.txt={WRITTEN}"',
    "a log elsewhere": f'+StarterUserLog = "{WRITTEN}"',
    "a bind in the target": '+ContainerTargetDir = "/srv,/home:/host"',
    "a shared file system": 'should_transfer_files = IF_NEEDED\n+FileSystemDomain = "pilot-x"',
    "a checkpoint": "checkpoint_exit_code = 85\ntransfer_checkpoint_files = lnk",
    "a working directory elsewhere": f'+RemoteIwd = "{PILOT.home}"',
    "a file URL as standard input": 'My.In = "file://{token}"',
    "a file URL as program": 'transfer_executable = true\nMy.Cmd = "FILE://{token}"',
    "a file URL as proxy": 'My.x509userproxy = "file://{token}"',
    "a shell that traces": f"environment = \"SHELLOPTS=xtrace PS4='$(DOLLAR)(id>{WRITTEN})'\"",
}


@pytest.mark.parametrize("attack", HELD_AT_ONCE)
def test_a_job_that_reaches_out_is_held_with_a_reason(grid: Grid, victim: PilotRun, jobs: Jobs, attack: str) -> None:
    extra = HELD_AT_ONCE[attack].format(token=token_path(victim))
    job = jobs.shell("cat /host/home/pilot/run-*/pool.token; cat *", pilot=victim, extra=extra)
    assert wait_for(job, HELD, DONE) == "held", job.log
    assert "This pilot refuses the job: " in job.log
    nothing_was_taken(grid, victim)


@pytest.mark.parametrize(
    "extra",
    [
        "transfer_input_files = file://{token}",
        f'transfer_output_files = x\ntransfer_output_remaps = "x=file://{WRITTEN}"',
    ],
)
def test_a_job_with_files_of_the_node_asks_for_what_no_pilot_offers(
    grid: Grid, victim: PilotRun, jobs: Jobs, extra: str
) -> None:
    job = jobs.shell("cat *", pilot=victim, extra=extra.format(token=token_path(victim)))
    wanted = grid.pool.run(["condor_q", str(job.cluster), "-af:r", "Requirements"], user=USER.name).stdout
    assert 'stringListIMember("file",TARGET.HasFileTransferPluginMethods)' in wanted.replace(" ", "")
    offered = ["condor_status", "-constraint", "PartitionableSlot", "-af", "HasFileTransferPluginMethods"]
    methods = set(grid.pool.run(offered).stdout.replace(",", " ").split())
    assert "https" in methods
    assert "file" not in methods


@pytest.mark.parametrize(
    "script",
    [
        "ln -s {token} lnk",
        "mkdir d; ln -s {token} d/lnk; ln -s d/lnk lnk; chmod 111 d",
        "ln -s . dot; ln -s dot/../../../../../pool.token lnk",
        "rm _condor_stdout; ln -s {token} _condor_stdout",
        "ln -s {token} .job_wrapper_failure",
    ],
)
def test_a_link_brings_nothing_home(grid: Grid, victim: PilotRun, jobs: Jobs, script: str) -> None:
    extra = "transfer_output_files = lnk"
    job = jobs.shell(script.format(token=token_path(victim)), pilot=victim, extra=extra)
    assert wait_for(job, HELD, EVICTED, DONE) != "done"
    nothing_was_taken(grid, victim)


def test_a_link_brings_nothing_home_when_the_job_is_sent_away(grid: Grid, victim: PilotRun, jobs: Jobs) -> None:
    extra = "transfer_output_files = lnk\nwhen_to_transfer_output = ON_EXIT_OR_EVICT"
    job = jobs.shell(f"ln -s {token_path(victim)} lnk; sleep 60", pilot=victim, extra=extra).wait_running()
    grid.pool.run(["condor_vacate_job", str(job.cluster)], user=USER.name)
    wait_for(job, HELD, EVICTED)
    nothing_was_taken(grid, victim)


def test_a_link_shows_nothing_to_condor_tail(grid: Grid, victim: PilotRun, jobs: Jobs) -> None:
    extra = "transfer_output_files = lnk"
    script = f"ln -s {token_path(victim)} lnk; echo words > new; mv new made; sleep 60"
    job = jobs.shell(script, pilot=victim, extra=extra).wait_running()
    victim.job_file("made")
    # Where the starter is, the token does not exist, and condor_tail waits for a file that does not exist yet.
    words = ["timeout", "10", "condor_tail", f"{job.cluster}.0", "lnk"]
    done = grid.pool.run(words, user=USER.name, timeout_seconds=30)
    assert done.returncode != 0
    assert "eyJ" not in done.stdout + done.stderr
    nothing_was_taken(grid, victim)


def test_a_jobs_path_does_not_choose_the_runtimes_helpers(grid: Grid, victim: PilotRun, jobs: Jobs) -> None:
    extra = (
        "container_image = own.sif\ntransfer_input_files = squashfuse_ll\n"
        'environment = "PATH=/proc/self/cwd:/usr/bin:/bin"'
    )
    job = jobs.shell("echo $PATH", pilot=victim, extra=extra).wait_done()
    assert job.output().strip() == "/proc/self/cwd:/usr/bin:/bin"
    nothing_was_taken(grid, victim)


HONEST = {
    "plain": ("", "bookworm|trixie"),
    "platform": ('+REQUIRED_OS = "debian12"', "bookworm"),
    "dictionary": ('+SingularityImage = "/images/debian12"', "bookworm"),
    "transferred image": ("container_image = own.sif", "bookworm"),
    "IF_NEEDED": ("should_transfer_files = IF_NEEDED", "bookworm|trixie"),
}


@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_job_runs_in_its_image(victim: PilotRun, jobs: Jobs, kind: str) -> None:
    extra, codename = HONEST[kind]
    job = jobs.shell(". /etc/os-release; echo $VERSION_CODENAME", pilot=victim, extra=extra).wait_done()
    assert job.output().strip() in codename.split("|"), job.error()


def test_an_honest_job_has_its_files_and_variables(grid: Grid, victim: PilotRun, jobs: Jobs) -> None:
    extra = (
        "input = input.txt\ntransfer_input_files = steal.sh\ntransfer_output_files = one, d/two, link\n"
        "environment = \"A=1 B='x y' C=it''s\""
    )
    script = "cat; echo $A-$B-$C; test -s steal.sh; echo 1 > one; mkdir d; echo 2 > d/two; ln -s d/../one link"
    job = jobs.shell(script, pilot=victim, extra=extra).wait_done()
    assert job.output().splitlines()[0] == "an honest input"
    assert job.output().splitlines()[1].startswith("1-x y-")
    names = ("one", "two", "link")
    assert [grid.pool.path(f"{USER.home}/{name}").read_text() for name in names] == ["1\n", "2\n", "1\n"]


def test_a_job_whose_ad_fills_every_pipe_ends_like_others(grid: Grid, victim: PilotRun, jobs: Jobs) -> None:
    """Not every hook reads the ad: HTCondor goes on all the same."""
    extra = f'+Padding = "{"x" * 200_000}"\ntransfer_output_files = made\n'
    job = jobs.shell("echo whole > made", pilot=victim, extra=extra).wait_done()
    assert grid.pool.path(f"{USER.home}/made").read_text() == "whole\n", job.log


def test_the_ad_says_that_jobs_are_isolated(grid: Grid, victim: PilotRun) -> None:
    done = grid.pool.run(["condor_status", "-constraint", "PartitionableSlot", "-af", "PilotJobIsolation"])
    assert "strong" in done.stdout.split()
    assert victim.running
