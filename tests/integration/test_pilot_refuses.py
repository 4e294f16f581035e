"""A pilot that cannot do what it should says what it found, what it needed and who must act, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pilot_agent.output.printed import find_printed
from tests.integration.conftest import StartPilot
from tests.testbed.grid import IMAGES_INSIDE, PILOT_IDENTITY, Grid
from tests.testbed.hosts import Host
from tests.testbed.pilots import PilotRun
from tests.testbed.tokens import forged_token
from tests.testbed.trees import PILOT
from tests.testbed.user_jobs import Jobs, slot_ads

IDLE = {"startd": {"idle_shutdown_seconds": 2}}
UNREACHABLE = "10.77.0.99:9618"


def refused(run: PilotRun, exit_code: int, kind: str, code: str) -> dict[str, Any]:
    """The pilot ended with this failure, told it in one line, and left nothing; the failure."""
    assert run.run() == exit_code, run.story()
    failure = run.failure()
    assert (failure["kind"], failure["code"]) == (kind, code), run.story()
    assert run.report()["outcome"]["status"] == "failed"
    assert run.report()["leftovers"] == []
    run.nothing_left()
    return failure


def said_in_one_line(run: PilotRun, failure: dict[str, Any]) -> None:
    """The failure is one line on standard error, without a traceback."""
    assert "Traceback" not in run.stderr
    lines = [line for line in run.stderr.splitlines() if failure["code"] in line]
    assert len(lines) == 1
    assert failure["message"] in lines[0]
    assert failure["hint"] in lines[0]


def test_an_unknown_key_is_named_with_its_path_and_a_better_one(pilot: StartPilot) -> None:
    run = pilot({"startd": {"idle_shutdown_second": 2}, "sitte": {"name": "x"}})
    failure = refused(run, 66, "config", "config.invalid")
    for text in ("startd.idle_shutdown_second", "startd.idle_shutdown_seconds", "sitte", "(factory)"):
        assert text in failure["message"], failure
    said_in_one_line(run, failure)


def test_a_value_of_the_wrong_type_is_refused(pilot: StartPilot) -> None:
    failure = refused(pilot({"startd": {"idle_shutdown_seconds": "soon"}}), 66, "config", "config.invalid")
    assert "startd.idle_shutdown_seconds" in failure["message"]


def test_a_configuration_that_does_not_exist_is_refused(pilot: StartPilot) -> None:
    run = pilot()
    (run.outer / "factory.json").unlink()
    assert run.run() == 66, run.story()
    assert "factory.json" in run.failure()["message"]
    run.nothing_left()


def test_a_wrong_command_line_is_the_callers(pilot: StartPilot) -> None:
    run = pilot(arguments=["--no-such-option"])
    assert run.run() == 2, run.story()
    assert "--no-such-option" in run.stderr
    run.nothing_left(allowed=())


def test_no_token_is_a_credential_failure(pilot: StartPilot) -> None:
    refused(pilot(token=None), 67, "credential", "token.missing")


def test_an_expired_token_is_told_before_anything_starts(pilot: StartPilot, grid: Grid) -> None:
    token = grid.token(lifetime_seconds=1)
    time.sleep(2)
    run = pilot(token=token)
    failure = refused(run, 67, "credential", "token.expired")
    said_in_one_line(run, failure)
    assert "condor.started" not in [event["event"] for event in run.events()]
    assert token not in (run.outer / "report.json").read_text() + (run.outer / "events.jsonl").read_text()


def test_a_token_that_somebody_else_signed_is_refused_by_the_pool(pilot: StartPilot) -> None:
    token = forged_token(PILOT_IDENTITY)
    run = pilot({"pool": {"join_seconds": 4}}, token=token)
    refused(run, 67, "credential", "token.rejected")
    assert token not in (run.outer / "report.json").read_text() + (run.outer / "events.jsonl").read_text()


def test_a_token_without_the_right_to_advertise_is_refused_by_the_pool(pilot: StartPilot, grid: Grid) -> None:
    run = pilot({"pool": {"join_seconds": 3600}}, token=grid.token(authorizations=("READ",)))
    refused(run, 67, "credential", "token.unauthorized")


def test_a_collector_that_does_not_answer_is_given_up_in_the_configured_time(pilot: StartPilot) -> None:
    run = pilot({"pool": {"collectors": [UNREACHABLE], "join_seconds": 4}})
    failure = refused(run, 65, "network", "collector.unreachable")
    assert UNREACHABLE in failure["message"]


def test_a_port_where_nobody_listens_is_told_as_such(pilot: StartPilot) -> None:
    run = pilot({"pool": {"collectors": ["10.77.0.2:9999"], "join_seconds": 4}})
    refused(run, 65, "network", "collector.unreachable")


def test_a_cut_cable_is_a_network_failure(pilot: StartPilot, grid: Grid) -> None:
    run = pilot({"pool": {"join_seconds": 4}})
    run.host.link.down()
    try:
        refused(run, 65, "network", "collector.unreachable")
    finally:
        run.host.link.up()


def test_a_pool_that_is_late_is_waited_for(pilot: StartPilot, jobs: Jobs) -> None:
    run = pilot({"pool": {"join_seconds": 60}})
    run.host.link.down()
    try:
        run.start().joined()
        time.sleep(3)
    finally:
        run.host.link.up()
    run.wait_for("pool.joined")
    jobs.shell("true", pilot=run).wait_done()


@pytest.mark.parametrize("host", ["wn1", "wn2"])
def test_root_is_refused(pilot: StartPilot, host: str) -> None:
    run = pilot(user="root", host=host)
    assert run.run() == 66, run.story()
    assert "root" in run.stderr
    assert "site.account" in run.stderr
    assert "Traceback" not in run.stderr
    assert not run.workspace
    run.nothing_left()


@pytest.mark.parametrize("host", ["wn1", "wn2"])
def test_root_becomes_the_account_that_the_site_names(pilot: StartPilot, jobs: Jobs, host: str) -> None:
    run = pilot({"site": {"account": "pilot"}}, user="root", host=host).start()
    job = jobs.shell("id -u", pilot=run).wait_done()
    assert job.output().split() == [str(PILOT.uid)]
    daemons = [process for process in run.host.processes() if "_keeper" in process.argv or "run" in process.argv]
    assert daemons
    assert {process.uid for process in daemons} == {PILOT.uid}
    run.signal(signal.SIGTERM)
    assert run.wait() == 143
    assert run.report()["pilot"]["user"] == "pilot"
    run.nothing_left()


def test_an_account_that_does_not_exist_is_refused(pilot: StartPilot) -> None:
    run = pilot({"site": {"account": "nobody-here"}}, user="root")
    assert run.run() == 66, run.story()
    assert "nobody-here" in run.stderr
    run.nothing_left()


@pytest.mark.parametrize("command", ["check", "probe", "explain"])
def test_looking_around_as_root_works_with_a_warning(pilot: StartPilot, command: str) -> None:
    run = pilot(user="root")
    os.chown(run.outer / "pool.token", 0, 0)
    # Without containers: whether root may start them depends on the machine under the testbed.
    without = ["--set", "site.containers=never"]
    done = run.call(command, "--json", "--config", f"factory={run.factory_file}", *without)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: running as root" in done.stderr
    run.nothing_left()


@pytest.mark.parametrize("command", ["check", "probe", "explain"])
@pytest.mark.parametrize("host", ["wn1", "wn2"])
def test_root_may_look_as_another_account(pilot: StartPilot, command: str, host: str) -> None:
    run = pilot(user="root", host=host)
    done = run.call(command, "--json", "--user", "pilot", "--config", f"factory={run.factory_file}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stderr
    if command != "explain":
        assert '"user": "pilot"' in done.stdout
    run.nothing_left()


def test_the_first_candidate_that_works_is_taken(pilot: StartPilot, jobs: Jobs) -> None:
    run = pilot(
        {
            "images": {
                "debian13": [
                    {"path": "/images/not-there"},
                    {"path": "{start}/broken"},
                    {"path": "{start}/broken.sif"},
                    {"path": f"{IMAGES_INSIDE}/debian13.sif"},
                ],
                "debian12": [{"path": f"{IMAGES_INSIDE}/debian12", "arch": "aarch64"}, f"{IMAGES_INSIDE}/debian12"],
            }
        }
    )
    (run.outer / "broken" / "bin").mkdir(parents=True)
    run.write("broken.sif", "no image at all")
    run.start()
    job = jobs.shell(". /etc/os-release; echo $VERSION_ID", pilot=run).wait_done()
    assert job.output().split() == ["13"]
    run.signal(signal.SIGTERM)
    run.wait()
    why = {item["candidate"]: item for item in run.report()["container"]["why"]}
    for name in ("/images/not-there", f"{run.start_directory}/broken", f"{run.start_directory}/broken.sif"):
        assert why[name]["taken"] is False
        assert why[name]["reason"]
    assert why[f"{IMAGES_INSIDE}/debian13.sif"]["taken"] is True
    run.nothing_left(allowed=("report.json", "events.jsonl", "logs", "broken", "broken/bin", "broken.sif"))


def test_no_image_that_works_ends_a_pilot_that_must_contain_its_jobs(pilot: StartPilot) -> None:
    run = pilot({"images": {"debian13": [{"path": "/images/not-there"}]}})
    assert run.run() == 66, run.story()
    assert (run.failure()["kind"], run.failure()["code"]) == ("config", "image.missing")
    assert "/images/not-there" in run.failure()["message"]
    assert run.failure()["hint"]
    run.nothing_left()


def test_vo_and_site_that_do_not_agree_on_containers_are_told(pilot: StartPilot) -> None:
    refused(pilot({"vo": {"containers": "never"}}), 66, "config", "container.conflict")


@pytest.fixture
def no_apptainer(grid: Grid) -> Iterator[Host]:
    """A worker node whose Apptainer is gone for the time of a test."""
    host = grid.wn1
    hidden = [name for name in ("apptainer", "singularity") if host.path(f"/usr/bin/{name}").is_symlink()
              or host.path(f"/usr/bin/{name}").exists()]  # fmt: skip
    for name in hidden:
        host.path(f"/usr/bin/{name}").rename(host.path(f"/usr/bin/.{name}.hidden"))
    yield host
    for name in hidden:
        host.path(f"/usr/bin/.{name}.hidden").rename(host.path(f"/usr/bin/{name}"))


def test_no_apptainer_ends_a_pilot_that_must_contain_its_jobs(pilot: StartPilot, no_apptainer: Host) -> None:
    run = pilot()
    assert run.run() == 64, run.story()
    failure = run.failure()
    assert failure["kind"] == "node_resource"
    assert "apptainer" in (failure["message"] + failure["hint"]).lower()
    run.nothing_left()


def test_no_apptainer_leaves_jobs_uncontained_where_that_is_allowed(
    pilot: StartPilot, jobs: Jobs, no_apptainer: Host, grid: Grid
) -> None:
    run = pilot({"site": {"containers": "optional"}, "vo": {"containers": "preferred"}}).start()
    job = jobs.shell("echo ${APPTAINER_CONTAINER:-none}; uname -n", pilot=run).wait_done()
    assert job.output().split() == ["none", "wn1"]
    ad = slot_ads(grid, run)[0]
    assert ad["HAS_SINGULARITY"] is False
    assert ad["PilotJobIsolation"] == "none"
    run.signal(signal.SIGTERM)
    run.wait()
    assert run.report()["container"]["runtime"] is None
    run.nothing_left()


@pytest.fixture
def mounted(grid: Grid) -> Iterator[Any]:
    """Mounts file systems on wn1 and unmounts them at the end."""
    made: list[str] = []

    def mount(path: str, options: str) -> None:
        done = grid.wn1.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path])
        assert done.returncode == 0, done.stderr
        made.append(path)

    yield mount
    for path in reversed(made):
        grid.wn1.run(["umount", "-l", path])


ELSEWHERE = ("/tmp", "/var/tmp")


def _with_files(run: PilotRun) -> None:
    """Put the input files on what was just mounted over them."""
    run.write("factory.json", json.dumps(run.configuration))
    if run.token is not None:
        run.write("pool.token", run.token, mode=0o600)


def test_a_noexec_start_directory_is_left_for_another(pilot: StartPilot, mounted: Any, jobs: Jobs) -> None:
    run = pilot()
    mounted(run.start_directory, f"noexec,uid={PILOT.uid},mode=755")
    _with_files(run)
    run.look_again()
    run.start()
    jobs.shell("true", pilot=run).wait_done()
    run.signal(signal.SIGTERM)
    assert run.wait() == 143
    run.nothing_left()


@pytest.mark.parametrize(
    ("options", "reason"), [("noexec", "noexec"), ("size=1m", "MiB"), ("ro", "Read-only"), ("nr_inodes=20", "inodes")]
)
def test_no_place_for_a_workspace_is_told_with_every_reason(
    pilot: StartPilot, mounted: Any, options: str, reason: str
) -> None:
    run = pilot(arguments=["--output", "/home/pilot"])
    for path in (run.start_directory, *ELSEWHERE):
        mounted(path, f"{options.replace('ro', 'rw')},mode=1777")
    _with_files(run)
    if options == "ro":
        for path in (run.start_directory, *ELSEWHERE):
            run.host.run(["mount", "-o", "remount,ro", path])
    run.host.path("/home/pilot/report.json").unlink(missing_ok=True)
    code = run.run()
    failure = _failure_at_home(run)
    assert code == 64, run.story()
    assert failure["code"] == "scratch.none"
    for path in (run.start_directory, *ELSEWHERE):
        assert path in failure["message"]
    assert reason in failure["message"]


def _failure_at_home(run: PilotRun) -> dict[str, Any]:
    path = run.host.path("/home/pilot/report.json")
    report = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    failure: dict[str, Any] = report["outcome"]["failure"]
    return failure


def test_a_disk_that_fills_up_ends_the_pilot_with_its_report(pilot: StartPilot, mounted: Any) -> None:
    filler = """
import os
from pilot_agent.hookspecs import Setup, SetupResult, hookimpl

def work(context):
    with open(os.path.join(context.workspace, "tmp", "filler"), "wb") as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
    return SetupResult()

@hookimpl
def pilot_setups():
    yield Setup(name="filler", run=f"{__name__}:work", stage="early")
"""
    run = pilot({"site": {"scratch": ["/mnt"]}}, plugins={"filler": filler})
    mounted("/mnt", "size=80m,mode=1777")
    run.look_again()
    assert run.run() == 64, run.story()
    assert "full" in run.failure()["code"] or "No space" in run.failure()["message"]
    run.nothing_left()


def test_an_output_directory_that_cannot_be_written_gets_the_report_to_standard_output(pilot: StartPilot) -> None:
    run = pilot(IDLE, arguments=["--output", "/proc/nowhere"])
    assert run.run() == 0, run.story()
    (found,) = find_printed(run.stdout)
    assert found.report is not None, found.problem
    assert found.report["schema"] == "pilot-agent/report/1"
    run.nothing_left(allowed=())
