"""What the keeper does when disk, CVMFS, services or tasks are not well, with the real loop and stand-ins for nothing
but the startd."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pilot_agent import process
from pilot_agent.lifecycle import cvmfs_watch, disk_watch, service_telling
from pilot_agent.lifecycle.acceptance import REASONS_ATTRIBUTE
from pilot_agent.lifecycle.channel import ACCEPTING_ATTRIBUTE
from pilot_agent.lifecycle.disk_watch import FREE_ATTRIBUTE, LOW, SILENT, DiskWatch, free_mib, statfs_command
from pilot_agent.lifecycle.identity import read_stat
from pilot_agent.lifecycle.periodic_tasks import FAILING_ATTRIBUTE, MOST_ATTRIBUTES, Periodics
from pilot_agent.lifecycle.plan import DiskPlan, PeriodicPlan
from pilot_agent.lifecycle.processes import children
from pilot_agent.lifecycle.signals import Alarm
from pilot_agent.lifecycle.task_tally import FAILED_LAST_END, LAST_END, TALLY_ATTRIBUTES
from pilot_agent.light import signal
from pilot_agent.services.variables import PORTS_VARIABLE
from pilot_agent.startd import health_expressions
from tests.lifecycle.bench import ENVIRONMENT, PATIENCE_SECONDS, Bench
from tests.probes.hanging_fuse import STATFS, hanging_mount
from tests.probes.namespaced import in_namespace


def test_the_configuration_names_the_same_attributes() -> None:
    assert health_expressions.READY_SERVICES_ATTRIBUTE == service_telling.READY_SERVICES_ATTRIBUTE
    assert health_expressions.CVMFS_DOWN_ATTRIBUTE == cvmfs_watch.DOWN_ATTRIBUTE
    assert set(health_expressions.TALLY_ATTRIBUTES) == set(TALLY_ATTRIBUTES)


def test_jobs_are_taken_again_when_the_last_reason_is_gone(bench: Bench) -> None:
    bench.acceptance.refuse("disk")
    bench.acceptance.refuse("load")
    assert (bench.ad.now[ACCEPTING_ATTRIBUTE], bench.ad.now[REASONS_ATTRIBUTE]) == (False, "disk, load")
    bench.acceptance.accept("disk")
    assert bench.ad.now[ACCEPTING_ATTRIBUTE] is False
    bench.acceptance.accept("load")
    bench.acceptance.accept("load")
    assert (bench.ad.now[ACCEPTING_ATTRIBUTE], bench.ad.now[REASONS_ATTRIBUTE]) == (True, None)
    assert bench.calls == ["changed"] * 4


def test_a_pilot_that_ends_takes_no_job_whatever_becomes_well(bench: Bench) -> None:
    bench.acceptance.refuse("disk")
    bench.acceptance.close()
    bench.acceptance.accept("disk")
    assert bench.ad.now[ACCEPTING_ATTRIBUTE] is False


class Disk:
    """Free space as the test says: a number of MiB, or what else the program that is asked shall do."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, **plan: Any) -> None:
        self.directory = bench.log.parent
        self.set(a=1000, b=5000)
        monkeypatch.setattr(disk_watch, "statfs_command", lambda path: ["/bin/sh", f"{self.directory}{path}"])
        made = DiskPlan(paths=["/a", "/b"], period_seconds=0.01, **plan)
        DiskWatch(made, bench.loop, bench.ad, bench.events, bench.acceptance, bench.calls.append)  # type: ignore[arg-type]

    def set(self, **free: int | str) -> None:
        for name, value in free.items():
            script = f"echo {value} 1048576 0 0" if isinstance(value, int) else value
            (self.directory / "new").write_text(script + "\n")
            (self.directory / "new").rename(self.directory / name)


def test_a_disk_below_its_floor_keeps_jobs_out_until_there_is_more_than_the_floor(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(bench, monkeypatch, floor_mib=400)
    bench.until("the disk was looked at", lambda: bench.ad.now == {FREE_ATTRIBUTE: 1000})
    assert FREE_ATTRIBUTE not in bench.ad.states
    disk.set(b=399)
    bench.until("jobs are kept out", lambda: bench.acceptance.reasons == {"disk"})
    disk.set(b=450)
    bench.until("the disk was looked at", lambda: bench.ad.now[FREE_ATTRIBUTE] == 450)
    assert bench.acceptance.reasons == {"disk"}, "a job's first files would close it again"
    disk.set(b=500)
    bench.until("jobs are taken", lambda: not bench.acceptance.reasons)
    assert bench.names() == ["disk.low", "disk.free_again"]
    assert bench.all_events()[0]["path"] == "/b"


def test_a_disk_below_its_hard_floor_is_told_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(bench, monkeypatch, floor_mib=400, hard_floor_mib=50)
    disk.set(a=49)
    full = "49 MiB are free in /a, and below 50 MiB jobs lose what they write"
    bench.until("it was told", lambda: full in bench.calls)
    disk.set(a=10)
    bench.until("it was looked at again", lambda: bench.ad.now[FREE_ATTRIBUTE] == 10)
    assert [call for call in bench.calls if call != "changed"] == [full]


def test_a_directory_that_nobody_can_ask_says_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(bench, monkeypatch, floor_mib=400)
    disk.set(a="exit 1", b=450)
    bench.until("the other was looked at", lambda: bench.ad.now.get(FREE_ATTRIBUTE) == 450)
    assert not bench.acceptance.reasons


def test_without_floors_no_disk_is_looked_at(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(bench, monkeypatch)
    assert not bench.loop._timers


def free_in(path: Path) -> int | None:
    """What the program says of a directory."""
    result = process.run(statfs_command(str(path)), deadline_seconds=PATIENCE_SECONDS, environment=ENVIRONMENT)
    return free_mib(result.stdout)


def test_free_space_is_what_statvfs_says(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    found = free_in(tmp_path)
    assert found is not None
    assert abs(found - (status.f_bavail * status.f_frsize >> 20)) < 1 + status.f_bavail * status.f_frsize * 0.2 / 2**20
    assert free_in(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("output", "free"),
    [(b"256 4096 10 3\n", 1), (b"256 4096 10 0", 0), (b"256 4096 0 0", 1), (b"", None), (b"? 4096 0 0", None)],
)
def test_a_file_system_without_inodes_is_full_and_one_that_counts_none_is_not(output: bytes, free: int | None) -> None:
    assert free_mib(output) == free


def test_a_directory_that_does_not_answer_takes_no_job_until_it_does(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(bench, monkeypatch, floor_mib=400, answer_seconds=0.3)
    bench.until("the disk was looked at", lambda: bench.ad.now == {FREE_ATTRIBUTE: 1000})
    disk.set(a="sleep 600")
    bench.until("jobs are kept out", lambda: bench.acceptance.reasons == {SILENT})
    disk.set(b=300)
    bench.until("the other is watched all the same", lambda: LOW in bench.acceptance.reasons)
    disk.set(a=1000, b=5000)
    bench.until("jobs are taken", lambda: not bench.acceptance.reasons)
    assert sorted(bench.names()) == ["disk.answers_again", "disk.free_again", "disk.low", "disk.silent"]
    assert bench.all_events()[0] | {"seconds": 0} == {
        "seconds": 0, "event": "disk.silent", "path": "/a", "seconds_waited": 0.3,
    }  # fmt: skip


def test_a_mount_that_really_hangs_neither_keeps_the_keeper_nor_gets_a_second_child(tmp_path: Path) -> None:
    """Nothing ends the child that asked for its free space, not even SIGKILL, until the mount is gone."""

    def work() -> Any:
        alarm = Alarm.install(None, also=(signal.SIGCHLD,), sticky=False)
        bench = Bench(tmp_path, alarm)
        hung = tmp_path / "hung"
        with hanging_mount(hung, silent_about=(STATFS,)) as server:
            plan = DiskPlan(paths=[str(hung), str(tmp_path)], floor_mib=1, period_seconds=0.1, answer_seconds=0.5)
            DiskWatch(plan, bench.loop, bench.ad, bench.events, bench.acceptance, bench.calls.append)  # type: ignore[arg-type]
            bench.until("it is silent", lambda: SILENT in bench.acceptance.reasons)
            looked = time.monotonic()
            bench.until("the loop goes on", lambda: time.monotonic() > looked + 1)
            asking = [pid for pid in children(os.getpid()) if str(hung) in Path(f"/proc/{pid}/cmdline").read_text()]
            states = [stat.state for pid in asking if (stat := read_stat(pid)) is not None]
            server.die()
            bench.until("the child is gone", lambda: not bench.loop._children)
        alarm.close()
        return [bench.names(), sorted(bench.acceptance.reasons), states, bench.ad.now.get(FREE_ATTRIBUTE, 0) > 0]

    names, reasons, states, told = in_namespace(work)
    assert (names, reasons, states, told) == (["disk.silent"], [SILENT], ["D"], True)


def task(script: str, on_failure: str = "report", seconds: float = 30.0, name: str = "load") -> PeriodicPlan:
    return PeriodicPlan(
        name=name,
        argv=["/bin/sh", "-c", script],
        environment=ENVIRONMENT,
        period_seconds=1,
        timeout_seconds=seconds,
        on_failure=on_failure,
    )


def periodic(bench: Bench, script: str, on_failure: str = "report", seconds: float = 30.0) -> None:
    run(bench, task(script, on_failure, seconds))


def run(bench: Bench, *tasks: PeriodicPlan) -> None:
    Periodics(
        tasks,
        bench.loop,
        bench.ad,  # type: ignore[arg-type]
        bench.events,
        failed=lambda plan, message: bench.calls.append(("failed", plan.on_failure, message)),
        recovered=lambda plan: bench.calls.append(("recovered", plan.name)),
        told=lambda attributes: bench.calls.append(("told", len(attributes))),
        services=lambda: {"triton": {"http": 8000, "grpc": 8001}},
    )


def test_a_task_that_fails_the_same_way_again_is_told_once_and_so_is_its_recovery(bench: Bench, tmp_path: Path) -> None:
    periodic(bench, f"echo x >> {tmp_path}/runs; test -e {tmp_path}/well", "stop_accepting")
    bench.until("it failed", lambda: bench.calls)
    assert bench.ad.now[FAILING_ATTRIBUTE] == "load"
    bench.until("it ran again", lambda: (tmp_path / "runs").read_text().count("x") >= 3)
    (tmp_path / "well").touch()
    bench.until("it recovered", lambda: ("recovered", "load") in bench.calls)
    assert bench.ad.now[FAILING_ATTRIBUTE] is None
    assert [call[0] for call in bench.calls] == ["failed", "told", "recovered"]
    assert bench.names() == ["periodic.failed", "periodic.recovered"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 4", "exited 4"),
        ("echo '[1]'", "answered no mapping of attributes"),
        ("echo nothing", "answered no JSON"),
        ("printf '[%.0s' $(seq 20000)", "answered no JSON"),
        ("head -c 300000 /dev/zero", "answered more than 64 KiB"),
        ("sleep 60", "did not end by itself within 0.5 s"),
        ("yes", "did not end by itself within 0.5 s"),
    ],
)
def test_whatever_a_task_does_it_only_fails(bench: Bench, script: str, reason: str) -> None:
    periodic(bench, script, seconds=0.5 if "0.5" in reason else 30.0)
    bench.until("it failed", lambda: bench.calls)
    assert bench.calls[0] == ("failed", "report", f"the periodic task load {reason}")


@pytest.mark.parametrize(
    "name",
    [
        *("PilotAccepting", "pilotadtime", "GLIDEIN_ToDie", "SERVICE_X_READY", "START", "Cpus", "a b", "x" * 200),
        *("GLIDEIN_PS_OK", "glidein_ps_last"),
    ],
)
def test_a_task_cannot_set_what_the_pilot_or_htcondor_says_itself(bench: Bench, name: str) -> None:
    answer = json.dumps({name: 1, "Fine": 2})
    periodic(bench, f"echo '{answer}'")
    bench.until("it answered twice", lambda: len(bench.calls) >= 2)
    assert bench.ad.without_tally() == {"Fine": 2}
    assert bench.ad.states <= set(TALLY_ATTRIBUTES)
    assert bench.names() == ["periodic.refused"]


def test_what_a_task_may_say_is_bounded(bench: Bench) -> None:
    answer = json.dumps({"Long": "x" * 5000, "Huge": 2**70, **{f"A{n}": n for n in range(MOST_ATTRIBUTES + 5)}})
    periodic(bench, f"echo '{answer}'")
    bench.until("it answered", lambda: bench.calls)
    assert set(bench.ad.without_tally()) == {f"A{n}" for n in range(MOST_ATTRIBUTES)}
    assert len(bench.names()) == 7


def test_a_task_is_told_the_ports_of_the_services_that_are_ready(bench: Bench, tmp_path: Path) -> None:
    periodic(bench, f'printf %s "${PORTS_VARIABLE}" > {tmp_path}/told')
    bench.until("it ran", lambda: bench.calls)
    assert json.loads((tmp_path / "told").read_text()) == {"triton": {"http": 8000, "grpc": 8001}}


def test_a_task_may_set_other_attributes_with_the_prefix_of_periodic_scripts(bench: Bench) -> None:
    periodic(bench, """echo '{"GLIDEIN_PS_Load": 3}'""")
    bench.until("it answered", lambda: bench.calls)
    assert bench.ad.without_tally() == {"GLIDEIN_PS_Load": 3}


def test_the_ad_says_how_the_tasks_went(bench: Bench, tmp_path: Path) -> None:
    began = int(time.time())
    run(bench)
    assert bench.ad.now == {"GLIDEIN_PS_OK": True, "GLIDEIN_PS_FAILING_LIST": "", "GLIDEIN_PS_FAILED_LIST": ""}
    run(bench, task(f"test -e {tmp_path}/well", name="load"), task("exit 4", name="disk"))
    bench.until("both failed", lambda: bench.ad.now["GLIDEIN_PS_FAILED_LIST"] == "disk,load")
    assert bench.ad.now["GLIDEIN_PS_OK"] is False
    (tmp_path / "well").touch()
    bench.until("one recovered", lambda: bench.ad.now["GLIDEIN_PS_FAILING_LIST"] == "disk")
    assert (bench.ad.now["GLIDEIN_PS_OK"], bench.ad.now["GLIDEIN_PS_FAILED_LIST"]) == (False, "disk,load")
    bench.until("the other ran again", lambda: bench.ad.now["GLIDEIN_PS_FAILED_LAST"] == "disk")
    assert bench.ad.now["GLIDEIN_PS_FAILED_LAST_REASON"] == "the periodic task disk exited 4"
    assert began <= bench.ad.now[FAILED_LAST_END] <= bench.ad.now[LAST_END] <= int(time.time())
    assert bench.ad.now["GLIDEIN_PS_LAST"] in ("disk", "load")


def test_all_is_well_again_when_every_task_passed(bench: Bench, tmp_path: Path) -> None:
    periodic(bench, f"test -e {tmp_path}/well")
    bench.until("it failed", lambda: bench.ad.now["GLIDEIN_PS_OK"] is False)
    (tmp_path / "well").touch()
    bench.until("it recovered", lambda: bench.ad.now["GLIDEIN_PS_OK"])
    assert bench.ad.now["GLIDEIN_PS_FAILING_LIST"] == ""
    assert bench.ad.now["GLIDEIN_PS_FAILED_LAST"] == "load"
