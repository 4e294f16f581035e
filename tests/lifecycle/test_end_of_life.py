"""The end of a pilot, whoever brings it about: real processes, real signals, nothing left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import jsonschema
import pytest

from pilot_agent.report import report_schema
from tests.lifecycle.scenario import DEAF_MASTER, WITH_ESCAPED_JOBS, Pilot, wait_until
from tests.small_factory import small_factory
from tests.startd.histories import banner


def test_a_master_that_ends_by_itself_with_0_is_a_planned_end(pilot: Pilot) -> None:
    pilot.plan("sleep 0.3; exit 0")
    pilot.start()
    assert pilot.wait() == 0
    assert pilot.report()["outcome"] == {"status": "ok", "failure": None}
    assert pilot.report()["leftovers"] == []
    assert pilot.report()["pilot"]["finished"]
    assert pilot.nothing_left()


@pytest.mark.parametrize("ending", ["exit 44", "kill -KILL $$"])
def test_a_master_that_dies_is_an_internal_failure(pilot: Pilot, ending: str) -> None:
    pilot.plan(f"setsid sleep 600 & sleep 0.3; {ending}")
    pilot.start()
    assert pilot.wait() == 70
    assert pilot.report()["outcome"]["failure"]["code"] == "condor.master_died"
    assert pilot.nothing_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU])
def test_a_stop_signal_preempts_the_pilot_with_128_plus_its_number(pilot: Pilot, number: signal.Signals) -> None:
    pilot.plan(WITH_ESCAPED_JOBS)
    pilot.start()
    pilot.running()
    pilot.send(number)
    assert pilot.wait() == 128 + number
    assert pilot.report()["outcome"]["status"] == "preempted"
    assert pilot.report()["outcome"]["failure"]["signal"] == number
    assert pilot.nothing_left()


def test_a_master_that_ignores_term_is_ended_after_the_vacate_time(pilot: Pilot) -> None:
    pilot.plan(DEAF_MASTER)
    pilot.start()
    pilot.running()
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    assert pilot.nothing_left()


def test_a_master_that_ignores_every_signal_is_killed_within_the_budget(pilot: Pilot) -> None:
    pilot.plan('trap "" TERM QUIT; while :; do sleep 0.1; done')
    pilot.start()
    pilot.running()
    pilot.send(signal.SIGQUIT)
    assert pilot.wait() == 131
    assert pilot.nothing_left()


def test_a_second_signal_does_not_begin_the_end_again(pilot: Pilot) -> None:
    pilot.plan(DEAF_MASTER)
    pilot.start()
    pilot.running()
    pilot.send(signal.SIGTERM)
    wait_until(lambda: "pilot.ending" in pilot.event_names(), "the end began")
    pilot.send(signal.SIGINT)
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    assert pilot.event_names().count("pilot.ending") == 1
    assert pilot.nothing_left()


@pytest.mark.parametrize("phase", ["pipeline", "keeper"])
def test_a_killed_main_process_is_undone_by_the_guardian(pilot: Pilot, phase: str) -> None:
    start_in(pilot, phase)
    os.kill(pilot.main_pid, signal.SIGKILL)
    assert pilot.wait() == 70
    failure = pilot.report()["outcome"]["failure"]
    assert failure["code"] == f"{phase}.killed"
    assert "SIGKILL" in failure["message"]
    assert pilot.nothing_left()


@pytest.mark.parametrize("phase", ["pipeline", "keeper"])
def test_without_its_guardian_the_main_process_undoes_everything(pilot: Pilot, phase: str) -> None:
    start_in(pilot, phase)
    pilot.send(signal.SIGKILL)
    assert pilot.wait() == -signal.SIGKILL
    assert pilot.nothing_left()
    assert pilot.report()["outcome"]["failure"]["code"] == "guardian.gone"


def test_who_survives_tells_the_factory_what_died(pilot: Pilot) -> None:
    start_in(pilot, "keeper")
    with small_factory() as factory:
        pilot.upload_to(factory.server_port)
        os.kill(pilot.main_pid, signal.SIGKILL)
        assert pilot.wait() == 70
    assert factory.kinds == ["last-words", "events", "report"]
    words = factory.bodies("last-words")[0].decode()
    assert words.startswith("internal: keeper.killed: the keeper was killed by signal 9 (SIGKILL)")
    assert pilot.nothing_left()


@pytest.mark.parametrize("phase", ["pipeline", "keeper"])
def test_term_to_every_process_at_once_is_a_preemption(pilot: Pilot, phase: str) -> None:
    start_in(pilot, phase)
    for pid in pilot.processes():
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    assert pilot.wait() == 143
    assert pilot.report()["outcome"]["status"] == "preempted"
    assert pilot.nothing_left()


def test_term_and_then_kill_of_the_guardian_leaves_the_rest_to_the_keeper(pilot: Pilot) -> None:
    pilot.plan(DEAF_MASTER, time={"deadline": None, "budget_seconds": 20, "vacate_seconds": 10})
    pilot.start()
    pilot.running()
    pilot.send(signal.SIGTERM)
    wait_until(lambda: "pilot.ending" in pilot.event_names(), "the end began")
    pilot.send(signal.SIGKILL)
    pilot.wait()
    assert pilot.nothing_left()
    assert pilot.report()["outcome"]["failure"]["signal"] == signal.SIGTERM


def test_a_suspended_keeper_is_woken_to_end(pilot: Pilot) -> None:
    pilot.plan()
    pilot.start()
    pilot.running()
    os.kill(pilot.main_pid, signal.SIGSTOP)
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    assert pilot.nothing_left()


def test_suspending_and_continuing_the_whole_pilot_changes_nothing(pilot: Pilot) -> None:
    pilot.plan()
    pilot.start()
    pilot.running()
    pids = pilot.processes()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        time.sleep(0.1)
    assert "pilot.ending" not in pilot.event_names()
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    assert pilot.nothing_left()


def test_a_workspace_that_somebody_deleted_does_not_hide_the_outcome(pilot: Pilot) -> None:
    pilot.plan(WITH_ESCAPED_JOBS)
    pilot.start()
    pilot.running()
    shutil.rmtree(pilot.workspace)
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    assert pilot.report()["pilot"]["id"] == "test"
    assert pilot.nothing_left()


def test_a_deleted_workspace_and_a_killed_keeper_leave_no_process(pilot: Pilot) -> None:
    pilot.plan(WITH_ESCAPED_JOBS)
    pilot.start()
    pilot.running()
    main = pilot.main_pid
    shutil.rmtree(pilot.workspace)
    os.kill(main, signal.SIGKILL)
    assert pilot.wait() == 70
    assert pilot.nothing_left()


def test_an_end_before_there_is_a_workspace_returns_the_exit_code_as_it_is(pilot: Pilot) -> None:
    pilot.scenario["exit_early"] = 66
    pilot.start()
    assert pilot.wait() == 66
    assert pilot.nothing_left()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_standard_stream_is_no_reason_to_fail(pilot: Pilot, stream: str) -> None:
    pilot.output.write_text("a file where the output directory should be")
    pilot.plan("sleep 0.2")
    reader, writer = os.pipe()
    os.close(reader)
    pilot.start(**{stream: writer})
    os.close(writer)
    assert pilot.wait() == 0
    assert pilot.nothing_left()


def test_an_unwritable_output_directory_puts_the_report_on_standard_output(pilot: Pilot) -> None:
    pilot.output.write_text("a file where the output directory should be")
    pilot.plan("sleep 0.2")
    pilot.start()
    assert pilot.wait() == 0
    assert pilot.printed()["outcome"]["status"] == "ok"
    assert pilot.nothing_left()


def test_a_pipeline_that_is_killed_before_it_has_a_workspace_leaves_a_printed_report(pilot: Pilot) -> None:
    pilot.scenario["die_early"] = True
    pilot.start()
    assert pilot.wait() == 70
    report = pilot.printed()
    assert report["outcome"]["failure"]["code"] == "pipeline.killed"
    jsonschema.validate(report, report_schema())


def test_the_jobs_of_a_pilot_whose_keeper_was_killed_are_counted(pilot: Pilot) -> None:
    run = {"ClusterId": 1, "ProcId": 0, "User": '"a@pool"', "ExitCode": 3, "JobDuration": 1}
    ad = "".join(f"{name} = {value}\n" for name, value in run.items()) + banner(0)
    line = {"stage": "handoff", "what": "stage", "start": 0.1, "seconds": 0.1, "status": "ok"}
    pilot.plan()
    pilot.start()
    wait_until(lambda: "condor.started" in pilot.event_names(), "the keeper started condor_master")
    (pilot.workspace / "condor" / "log" / "startd_history").write_text(ad)
    report = json.loads((pilot.workspace / "report.json").read_text())
    report["timeline"].append({"plugin": "agent", "detail": "", **line})
    (pilot.workspace / "report.json").write_text(json.dumps(report))
    os.kill(pilot.main_pid, signal.SIGKILL)
    assert pilot.wait() == 70
    assert pilot.printed() == pilot.report()
    assert pilot.report()["jobs"]["ended"] == {"exit 3": 1}


def test_a_full_standard_output_that_nobody_reads_does_not_hold_the_end_up(pilot: Pilot) -> None:
    pilot.output.write_text("a file where the output directory should be")
    pilot.plan("sleep 0.2")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(writer, True)
    pilot.start(stdout=writer)
    os.close(writer)
    assert pilot.wait() == 0
    os.close(reader)
    assert pilot.nothing_left()


def test_a_full_disk_under_the_output_puts_the_report_on_standard_output(pilot: Pilot) -> None:
    pilot.output.mkdir()
    os.symlink("/dev/full", pilot.output / "events.jsonl")
    pilot.plan("sleep 0.2")
    pilot.start()
    assert pilot.wait() == 0
    assert pilot.nothing_left()


def test_inherited_ignored_and_blocked_signals_are_undone(pilot: Pilot) -> None:
    def harass() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGCHLD))

    pilot.plan("grep -E '^Sig(Ign|Blk)' /proc/self/status >&2; while :; do sleep 0.1; done")
    pilot.start(preexec_fn=harass)
    pilot.running()
    log = pilot.workspace / "condor" / "log" / "MasterLog"
    text = wait_until(lambda: log.exists() and log.read_text(), "the master wrote its signal masks")
    masks = [int(line.split()[1], 16) for line in text.splitlines()]
    # 32 and 33 are private to the C library, whose posix_spawn ignores them in every program.
    assert [mask & ~(3 << 31) for mask in masks] == [0, 0]
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    assert pilot.nothing_left()


def start_in(pilot: Pilot, phase: str) -> None:
    """Start a pilot that is in its pipeline or in its keeper, with processes that tried to escape."""
    pilot.scenario["services"] = [
        {"name": "cache", "argv": ["/bin/sleep", "600"], "required": False, "attributes": {}, "stop_signal": "SIGTERM",
         "stop_seconds": 1.0}
    ]  # fmt: skip
    if phase == "pipeline":
        pilot.scenario["stay"] = True
        pilot.scenario["strays"] = [["/bin/sh", "-c", "(setsid sleep 600 &); (setsid sh -c 'sleep 600 & sleep 600' &)"]]
        pilot.start()
        pilot.staying()
    else:
        pilot.plan(WITH_ESCAPED_JOBS)
        pilot.start()
        pilot.running()
