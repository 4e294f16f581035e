"""The payload on nodes as they are: hostile environments, broken standard streams, odd limits, old and no Python."""

from __future__ import annotations

import hashlib
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import StartPilot
from tests.probes import seccomp
from tests.testbed.grid import Grid
from tests.testbed.pilots import INSTALLED, PilotRun
from tests.testbed.trees import PILOT
from tests.testbed.user_jobs import Job, Jobs

HOSTILE_JSON = "import os, sys\nos.write(2, b'the hostile json was imported\\n')\nos._exit(99)\n"
POISON = {
    "CONDOR_CONFIG": "/etc/condor/condor_config",
    "CONDOR_INHERIT": "1 <10.77.0.9:1> 0 0",
    "CONDOR_PRIVATE_INHERIT": "SessionKey:nothing",
    "CONDOR_IDS": "0.0",
    "_CONDOR_DAEMON_LIST": "MASTER, SCHEDD",
    "_CONDOR_NUM_CPUS": "77",
    "_CONDOR_COLLECTOR_HOST": "10.77.0.99",
    "_CONDOR_START": "False",
    "_CONDOR_SEC_DEFAULT_ENCRYPTION": "NEVER",
    "_CONDOR_STARTD_NOCLAIM_SHUTDOWN": "1",
    "_condor_MEMORY": "7",
    "APPTAINER_BIND": "/nonexistent:/nonexistent,{start}:/mnt",
    "APPTAINER_BINDPATH": "/nonexistent",
    "APPTAINER_CONTAINALL": "maybe",
    "APPTAINER_NAME": "another",
    "APPTAINER_TMPDIR": "/nonexistent",
    "APPTAINER_CACHEDIR": "/nonexistent",
    "APPTAINERENV_LD_PRELOAD": "/nonexistent.so",
    "SINGULARITY_BIND": "/nonexistent:/nonexistent",
    "SINGULARITY_CONTAINER": "/an/image",
    "SINGULARITY_TMPDIR": "/nonexistent",
    "SINGULARITYENV_PATH": "/nonexistent",
    "PYTHONPATH": "{start}/hostile",
    "PYTHONHOME": "/nonexistent",
    "PYTHONSTARTUP": "/nonexistent",
    "PYTHONINSPECT": "1",
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONWARNINGS": "error",
    "PYTHONIOENCODING": "ascii",
    "LD_LIBRARY_PATH": "{start}/hostile",
    "LD_BIND_NOW": "1",
    "BASH_ENV": "/nonexistent",
    "ENV": "/nonexistent",
    "IFS": "x",
    "PERL5LIB": "/nonexistent",
    "http_proxy": "http://10.77.0.99:3128",
    "PATH": ":.::/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:relative",
}
SHELL = ("/bin/sh", "-c")
FILTER = "/var/tmp/seccomp-of-nodes.py"


@dataclass(frozen=True)
class Node:
    """How a node treats what it starts. `wrapper` are words before the payload's command."""

    environment: Mapping[str, str] = field(default_factory=dict)
    unset: Sequence[str] = ()
    wrapper: Sequence[str] = ()


def _shell(script: str) -> tuple[str, ...]:
    return (*SHELL, f'{script}; exec "$@"', "sh")


NODES = {
    "a poisoned environment": Node(POISON),
    "a missing library to be loaded first": Node({"LD_PRELOAD": "/nonexistent.so"}),
    "a library that every program loads first": Node({"LD_PRELOAD": "libm.so.6"}),
    "no HOME": Node(unset=["HOME"]),
    "a HOME that is not there": Node({"HOME": "/nonexistent/home"}),
    "a HOME that is a relative path": Node({"HOME": "home"}),
    "no TMPDIR and no HOME, USER, LOGNAME": Node(unset=["TMPDIR", "HOME", "USER", "LOGNAME"]),
    "a TMPDIR that is not there": Node({"TMPDIR": "/nonexistent/tmp"}),
    "an empty TMPDIR": Node({"TMPDIR": ""}),
    "no environment at all": Node(wrapper=["env", "-i", "PATH=/usr/bin:/bin:/usr/sbin:/sbin"]),
    "umask 000": Node(wrapper=_shell("umask 000")),
    "umask 077": Node(wrapper=_shell("umask 077")),
    "umask 777": Node(wrapper=_shell("umask 777")),
    "closed standard streams": Node(wrapper=_shell("exec <&- >&- 2>&-")),
    "a full standard output and error": Node(wrapper=_shell("exec >/dev/full 2>/dev/full")),
    "a pipe that nobody reads": Node(
        wrapper=[*SHELL, 'mkfifo pipe; { sleep 1; } < pipe & exec "$@" > pipe 2>&1', "sh"],
    ),
    "locale C": Node({"LANG": "C", "LC_ALL": "C"}),
    "a locale that is not there": Node({"LANG": "xx_YY.KOI8-R", "LC_ALL": "xx_YY.KOI8-R"}),
    "ignored signals": Node(wrapper=_shell("trap '' TERM INT HUP CHLD PIPE USR1")),
    "a low core and file size limit": Node(wrapper=_shell("ulimit -c 0; ulimit -n 256")),
    "a low priority": Node(wrapper=["nice", "-n", "19"]),
    "the kernel of Enterprise Linux 8": Node(wrapper=["python3", FILTER, "newer"]),
}


OWN_PYTHON = ("a poisoned environment", "closed standard streams", "no environment at all", "umask 777", "umask 000",
              "a library that every program loads first")  # fmt: skip
AT_ONCE = 4
"""Pilots that share a node: most of a pilot's short life is waiting for the pool."""
ALLOWED = ("report.json", "events.jsonl", "logs", "hostile", "pipe")


def runs_a_job(run: PilotRun, jobs: Jobs) -> None:
    """The pilot runs a job, ends by a signal as it should, and leaves nothing."""
    run.start()
    _ends_well(run, _job(run, jobs))
    run.nothing_left(allowed=ALLOWED)


def _job(run: PilotRun, jobs: Jobs) -> Job:
    return jobs.shell("env; ls /mnt; touch made", pilot=run)


def _ends_well(run: PilotRun, job: Job) -> None:
    job.wait_done(40)
    assert job.exit_codes() == [0], job.error()
    run.signal(signal.SIGTERM)
    assert run.wait() == 143, run.story()
    assert run.report()["outcome"]["status"] == "preempted"
    assert "hostile" not in run.stderr
    assert "Traceback" not in run.stderr + run.stdout


def _on(make: StartPilot, node: Node, **options: Any) -> PilotRun:
    run = make(unset=node.unset, wrapper=node.wrapper, **options)
    run.environment.update({name: value.replace("{start}", run.start_directory)
                            for name, value in node.environment.items()})  # fmt: skip
    if node.environment is POISON:
        (run.outer / "hostile").mkdir()
        for name in ("json", "os", "socket", "pluggy", "sitecustomize"):
            run.write(f"hostile/{name}.py", HOSTILE_JSON)
        run.look_again()
    return run


@pytest.fixture(scope="module")
def lives(request: pytest.FixtureRequest, grid: Grid, payload: Path, good_token: str) -> dict[tuple[str, str], str]:
    """For each node that a selected test asks for, what went wrong there ("" when nothing did)."""
    parameters = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    wanted = [one.params["life"] for one in parameters if one is not None and "life" in one.params]
    found: dict[tuple[str, str], str] = {}
    shutil.copyfile(Path(seccomp.__file__), grid.wn1.path(FILTER))
    for first in range(0, len(wanted), AT_ONCE):
        found |= _together(grid, good_token, wanted[first : first + AT_ONCE])
    grid.wn1.path(FILTER).unlink()
    return found


def _together(grid: Grid, token: str, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    queue, found, made = Jobs(grid), {}, {}
    try:
        for host, name in wanted:
            made[host, name] = _on(lambda **options: PilotRun(grid.hosts[host], token, **options), NODES[name])  # noqa: B023
        queued = {life: _job(run.start(), queue) for life, run in made.items()}
        for life, run in made.items():
            found[life] = _problem(lambda: _ends_well(run, queued[life]))  # noqa: B023
            found[life] += run.story() if found[life] else ""
            run.end_now()
        for life, run in made.items():
            found[life] = found[life] or _problem(lambda: run.nothing_left(allowed=ALLOWED))  # noqa: B023
    finally:
        for run in made.values():
            run.destroy()
    return found


def _problem(step: Callable[[], None]) -> str:
    try:
        step()
    except AssertionError as error:
        return str(error) or repr(error)
    return ""


@pytest.mark.parametrize(
    "life",
    [*(("wn1", name) for name in NODES), *(("wn2", name) for name in OWN_PYTHON)],
    ids="-".join,
)
def test_a_pilot_runs_a_job_on_a_node_with(lives: dict[tuple[str, str], str], life: tuple[str, str]) -> None:
    assert lives[life] == ""


def test_a_person_may_start_the_archive_with_a_hostile_python_path(pilot: StartPilot, jobs: Jobs) -> None:
    run = pilot()
    (run.outer / "hostile").mkdir()
    for name in ("json", "socket", "pluggy", "pilot_agent"):
        run.write(f"hostile/{name}.py", HOSTILE_JSON)
    run.look_again()
    run.environment["PYTHONPATH"] = f"{run.start_directory}/hostile"
    run.program = ["python3", f"{INSTALLED}/pilot.pyz"]
    runs_a_job(run, jobs)
    assert "hostile" not in run.stderr


def test_no_value_of_a_poisoned_environment_reaches_the_slot(pilot: StartPilot, jobs: Jobs) -> None:
    run = _on(pilot, NODES["a poisoned environment"]).start()
    job = _job(run, jobs).wait_done(40)
    guardian = run.process("run")
    assert guardian is not None
    assert b"_CONDOR_NUM_CPUS=77" in run.host.path(f"/proc/{guardian.pid}/environ").read_bytes()
    for value in ("nonexistent", "10.77.0.99", "pool.token"):
        assert value not in job.output()
    run.signal(signal.SIGTERM)
    assert run.wait() == 143
    assert run.report()["node"]["cpu"]["usable"]["value"] != 77


def _threads_of(uid: int) -> int:
    """How many threads on this machine are an account's."""
    found = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
            found += int(fields["Threads"]) if fields["Uid"].split()[0] == str(uid) else 0
    return found


@pytest.mark.parametrize("processes", [12, 25, 40, 80])
def test_a_low_limit_of_processes_is_enough_or_ends_the_pilot_cleanly(pilot: StartPilot, processes: int) -> None:
    # The kernel counts the account's processes on the whole machine, those of another testbed too.
    limit = processes + _threads_of(PILOT.uid)
    run = pilot({"pool": {"join_seconds": 6}}, wrapper=["prlimit", f"--nproc={limit}"]).start()
    run.wait_until(
        "the pool or the end",
        lambda: not run.running or any(event["event"] == "pool.joined" for event in run.events()),
    )
    if run.running:
        run.signal(signal.SIGTERM)
        assert run.wait() == 143, run.story()
    else:
        assert run.wait() in (64, 65, 66), run.story()
        assert run.failure()["message"]
    assert "Traceback" not in run.stderr
    run.nothing_left()


@pytest.mark.parametrize("megabytes", [60, 300])
def test_a_low_limit_of_memory_is_enough_or_ends_the_pilot_cleanly(pilot: StartPilot, megabytes: int) -> None:
    run = pilot({"pool": {"join_seconds": 6}}, wrapper=["prlimit", f"--as={megabytes << 20}"]).start()
    run.wait_until(
        "the pool or the end",
        lambda: not run.running or any(event["event"] == "pool.joined" for event in run.events()),
    )
    if run.running:
        run.signal(signal.SIGTERM)
    assert run.wait() != 0
    run.nothing_left()


@pytest.mark.parametrize("host", ["wn1", "wn2"])
@pytest.mark.parametrize("words", [["--version"], ["check", "--json", "--set", "site.containers=never"]])
def test_the_payload_answers_anywhere_with_a_home_that_cannot_be_written(
    pilot: StartPilot, host: str, words: list[str]
) -> None:
    run = pilot(host=host, environment={"HOME": "/root"})
    run.host.link.down()
    try:
        done = run.host.run(run.command(*words), user="pilot", cwd="/", env={"HOME": "/root"})
    finally:
        run.host.link.up()
    assert done.returncode == 0, done.stdout + done.stderr
    run.nothing_left(allowed=())


@pytest.mark.parametrize(("host", "payload"), [("wn1", "pyz"), ("wn1", "sh"), ("wn2", "sh")])
def test_the_launcher_starts_a_payload_with_the_right_digest(
    pilot: StartPilot, jobs: Jobs, grid: Grid, host: str, payload: str
) -> None:
    path = f"{INSTALLED}/pilot.{payload}"
    digest = hashlib.sha256(grid.hosts[host].path(path).read_bytes()).hexdigest()
    runs_a_job(_launched(pilot, host, payload, digest), jobs)


def _launched(pilot: StartPilot, host: str, payload: str, digest: str) -> PilotRun:
    """A pilot that is started through the launcher."""
    run = pilot(host=host, payload=payload)
    path = f"{INSTALLED}/pilot.{payload}"
    run.program = [f"{INSTALLED}/launcher.sh", "--payload", path, "--sha256", digest, "--"]
    return run


def test_the_launcher_refuses_a_payload_with_another_digest(pilot: StartPilot) -> None:
    run = _launched(pilot, "wn2", "sh", "0" * 64)
    assert run.run() == 68
    assert "artifact.digest" in run.stderr
    run.nothing_left(allowed=())


def test_the_launcher_finds_no_python_for_the_archive_where_there_is_none(pilot: StartPilot, grid: Grid) -> None:
    digest = hashlib.sha256(grid.wn2.path(f"{INSTALLED}/pilot.pyz").read_bytes()).hexdigest()
    run = _launched(pilot, "wn2", "pyz", digest)
    assert run.run() == 66
    assert "python.missing" in run.stderr
    run.nothing_left(allowed=())


def test_the_payload_may_be_deleted_under_a_running_pilot(pilot: StartPilot, jobs: Jobs, grid: Grid) -> None:
    run = pilot()
    copy = f"{run.start_directory}/pilot.pyz"
    grid.wn1.run(["cp", f"{INSTALLED}/pilot.pyz", copy])
    run.program = ["python3", "-I", "-S", "-B", "-X", "utf8", copy]
    run.start().wait_for("pool.joined")
    run.host.path(copy).unlink()
    jobs.shell("true", pilot=run).wait_done()
    run.signal(signal.SIGTERM)
    assert run.wait() == 143, run.story()
    run.nothing_left()


def test_the_workspace_may_be_deleted_under_a_running_pilot(pilot: StartPilot) -> None:
    run = pilot().start()
    run.wait_for("pool.joined")
    workspace = run.workspace
    assert workspace is not None
    run.host.run(["rm", "-rf", f"{run.start_directory}/{workspace.name}"])
    run.signal(signal.SIGTERM)
    assert run.wait() == 143, run.story()
    run.nothing_left()
