"""A startd configured by the hand-off alone joins the real pool, runs jobs in real containers, and leaves by itself."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.testbed.grid import USER_POOL, Grid, GridPlan
from tests.testbed.hosts import Bind
from tests.testbed.runs import run_directory
from tests.testbed.trees import PILOT, USER

REPOSITORY = Path(__file__).resolve().parents[2]
INSIDE = "/srv/pilot-agent"
PATIENCE_SECONDS = 60.0
HARD_STRINGS = {"PilotHard1": 'q"\\x', "PilotHard2": "end\\", "PilotHard3": "$(HOME) #x", "PilotHard4": "é\ttab"}

# Runs on the worker as the pilot's account: prepares, starts condor_master, keeps the ad channel alive until told.
DRIVER = """
import json, os, signal, subprocess, sys, threading, time
sys.path.insert(0, "{inside}")
from pilot_agent.model import ContainerDecision, Fact, ImageVerdict, Runtime
from pilot_agent.plugins.condor import HandoffInputs, prepare
from pilot_agent.workspace import Workspace

told = json.loads(sys.argv[1])
root = told["workspace"]
os.makedirs(root, mode=0o700)
Workspace(root).create()
facts = (Fact("cpu.usable", 2), Fact("memory.usable_mib", 2000), Fact("disk.workspace_free_mib", 5000),
         Fact("gpu.devices", told["gpus"]))
runtime = Runtime("/usr/bin/apptainer", "1.4.5", "userns", True, True)
verdicts = tuple(ImageVerdict(name, path, True, True, "") for name, path in told["images"].items())
handoff = prepare(HandoffInputs(
    pilot_id=told["id"], workspace=root, started=time.time(), config=told["config"],
    facts={{fact.name: fact for fact in facts}},
    decision=ContainerDecision("REQUIRED", "", "", runtime, next(iter(told["images"])), verdicts),
    site_environment=dict(os.environ), attributes=told["attributes"],
))
channel = os.open(handoff.channel_path, os.O_RDWR)
silent = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: silent.set())
def speak():
    while not silent.is_set():
        os.write(channel, f"PilotAdTime = {{int(time.time())}}\\n- update:true\\n".encode())
        silent.wait(handoff.channel_period_seconds)
threading.Thread(target=speak, daemon=True).start()
master = subprocess.Popen(handoff.master_argv, env=dict(handoff.environment), stdin=subprocess.DEVNULL)
signal.signal(signal.SIGTERM, lambda *_: master.terminate())
sys.exit(master.wait())
"""


@pytest.fixture(scope="module")
def grid(testbed_machine: None) -> Iterator[Grid]:
    """A grid whose workers see the agent's source."""
    with (
        run_directory() as directory,
        Grid(directory, GridPlan(binds=(Bind(REPOSITORY / "pilot_agent", f"{INSIDE}/pilot_agent"),))) as running,
    ):
        home = running.wn1.path(PILOT.home)
        (home / "cm.token").write_text(running.token() + "\n")
        (home / "driver.py").write_text(DRIVER.format(inside=INSIDE))
        yield running


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > until:
            pytest.fail(f"no {what} after {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.2)


def start(
    grid: Grid, name: str, *, idle: int = 600, period: int = 20, gpus: tuple[object, ...] = ()
) -> subprocess.Popen[str]:
    told = {
        "id": name,
        "workspace": f"{PILOT.home}/pilot-{name}",
        "images": {"debian12": "/images/debian12", "debian13": "/images/debian13.sif"},
        "attributes": HARD_STRINGS,
        "gpus": gpus,
        "config": {
            "pool": {
                "collectors": [f"{USER_POOL.head}:9618"],
                "token": f"{PILOT.home}/cm.token",
                "ccb": True,
                "join_seconds": 20,
            },
            "site": {"name": "Testbed"},
            "entry": {"name": "wn1"},
            "containers": {
                "allowed_paths": ["/images"],
                "store_directory": None,
                "store_mib": None,
                "fetch_seconds": 900,
                "sources": None,
            },
            "startd": {
                "condor_directory": None,
                "no_dns": "auto",
                "domain": "pilot.local",
                "idle_shutdown_seconds": idle,
                "channel_period_seconds": period,
                "ssh_to_job": True,
            },
            "time": {"vacate_seconds": 2, "job_length": {}},
        },
    }
    command = ["python3", "-B", f"{PILOT.home}/driver.py", json.dumps(told)]
    with (grid.directory / f"driver-{name}.out").open("w") as output:
        return grid.wn1.popen(command, user=PILOT.name, stdout=output, stderr=output)


def slots(grid: Grid, name: str) -> list[dict[str, object]]:
    constraint = f'PilotId == "{name}" && PartitionableSlot'
    done = grid.pool.run(["condor_status", "-json", "-constraint", constraint])
    found: list[dict[str, object]] = json.loads(done.stdout or "[]")
    return found


def wait_for_slot(grid: Grid, name: str) -> None:
    said = grid.directory / f"driver-{name}.out"
    wait_for("slot or word of the driver", lambda: bool(slots(grid, name)) or bool(said.read_text()))
    assert slots(grid, name), said.read_text()


def stop(grid: Grid, door: subprocess.Popen[str]) -> None:
    grid.wn1.signal(door, 15)
    door.wait(30)


@pytest.fixture(scope="module")
def running(grid: Grid) -> Iterator[dict[str, object]]:
    """One pilot's startd for all tests that only look or run jobs: its slot ad."""
    door = start(grid, "jobs")
    try:
        wait_for_slot(grid, "jobs")
        yield slots(grid, "jobs")[0]
    finally:
        stop(grid, door)


def submit(grid: Grid, text: str) -> str:
    """Submit one job from a directory of its own and return that directory."""
    directory = f"{USER.home}/{time.monotonic_ns()}"
    inside = grid.pool.path(directory)
    inside.mkdir()
    common = "output = out\nerror = err\nlog = log\nrequest_cpus = 1\nrequest_memory = 100\nrequest_disk = 64M\n"
    (inside / "job.sub").write_text(common + text + "\nqueue\n")
    os.chown(inside, USER.uid, USER.uid)
    done = grid.pool.run(["condor_submit", "-terse", "job.sub"], user=USER.name, cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory


def ended(grid: Grid, directory: str) -> tuple[str, str, str]:
    """The job's own account of its end, and what it printed."""
    log, inside = grid.pool.path(f"{directory}/log"), grid.pool.path(directory)
    wait_for("end of the job", lambda: log.exists() and "Job terminated" in log.read_text())
    return log.read_text(), (inside / "out").read_text(), (inside / "err").read_text()


SHELL = "executable = /bin/sh\ntransfer_executable = false\nshould_transfer_files = yes\narguments = \"-c '{}'\"\n"
LOOK = ". /etc/os-release; echo $VERSION_CODENAME"


def test_the_slot_has_what_was_planned_and_no_more(running: dict[str, object]) -> None:
    assert (running["Cpus"], running["Memory"], running["TotalDisk"], running["GPUs"]) == (2, 2000, 5000 * 1024, 0)


def test_hard_strings_reach_the_ad_as_they_were(grid: Grid, running: dict[str, object]) -> None:
    names = list(HARD_STRINGS)
    done = grid.pool.run(["condor_status", "-constraint", 'PilotId == "jobs"', "-af:,", *names])
    assert done.stdout.strip() == ", ".join(HARD_STRINGS.values()).replace(", ", ",") or all(
        value in done.stdout for value in HARD_STRINGS.values()
    )


@pytest.mark.parametrize(
    ("more", "codename"),
    [
        ("", "bookworm"),
        ('+REQUIRED_OS = "debian13"', "trixie"),
        ('+REQUIRED_OS = "nosuch, debian13, debian12"', "trixie"),
        ('+SingularityImage = "/images/debian13"', "trixie"),
        ("container_image = /images/debian13.sif", "trixie"),
    ],
)
def test_a_job_runs_in_the_image_it_asks_for(grid: Grid, running: dict[str, object], more: str, codename: str) -> None:
    _, out, err = ended(grid, submit(grid, SHELL.format(LOOK) + more))
    assert out.strip() == codename, err


def test_a_jobs_exit_code_is_its_own(grid: Grid, running: dict[str, object]) -> None:
    log, _, _ = ended(grid, submit(grid, SHELL.format("exit 3")))
    assert "return value 3" in log


@pytest.mark.parametrize("more", ["", '+SingularityBind = "{private}"'])
def test_the_token_is_out_of_a_jobs_reach(grid: Grid, running: dict[str, object], more: str) -> None:
    private = f"{PILOT.home}/pilot-jobs/private"
    text = SHELL.format(f"ls {private}; cat {private}/tokens/pool; cat /proc/[0-9]*/environ | grep -c CONDOR_[I]NHERIT")
    _, out, err = ended(grid, submit(grid, text + more.format(private=private)))
    assert out.strip() == "0"
    assert err.count("No such file") == 2


def test_a_job_that_steers_the_runtime_is_refused_with_the_reason(grid: Grid, running: dict[str, object]) -> None:
    text = SHELL.format(LOOK) + f'environment = "APPTAINER_BINDPATH={PILOT.home}/pilot-jobs/private"'
    directory = submit(grid, text)
    log = grid.pool.path(f"{directory}/log")
    wait_for("hold of the job", lambda: "Job was held" in log.read_text())
    assert "may not set APPTAINER_ or SINGULARITY_ variables" in log.read_text()
    assert not grid.pool.path(f"{directory}/out").exists()


def test_a_startd_without_jobs_leaves_with_exit_0_and_nothing_behind_in_the_home(grid: Grid) -> None:
    assert start(grid, "idle", idle=8).wait(60) == 0
    assert not grid.wn1.path(f"{PILOT.home}/.apptainer").exists()


def test_gpus_are_those_that_were_told(grid: Grid) -> None:
    door = start(
        grid, "gpu", gpus=({"uuid": "GPU-11111111-aaaa", "name": "Told", "memory_mib": 1024, "capability": "9.0"},)
    )
    try:
        wait_for_slot(grid, "gpu")
        slot = slots(grid, "gpu")[0]
        assert slot["GPUs"] == 1
        assert slot["AssignedGPUs"] == "GPU-11111111-aaaa"
    finally:
        stop(grid, door)


def test_without_the_keepers_messages_no_job_is_taken(grid: Grid) -> None:
    door = start(grid, "silent", period=1)
    try:
        wait_for_slot(grid, "silent")
        grid.wn1.signal(door, 10)
        time.sleep(5)
        directory = submit(grid, SHELL.format(LOOK) + 'requirements = PilotId == "silent"')
        log = grid.pool.path(f"{directory}/log")
        time.sleep(10)
        assert "executing" not in log.read_text()
    finally:
        grid.pool.run(["condor_rm", "-all"], user=USER.name)
        stop(grid, door)
