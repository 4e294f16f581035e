"""What the keeper does while jobs run: the channel to the ads, services, periodic tasks, the pool, the deadline."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import time
import venv
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.lifecycle import finish
from pilot_agent.lifecycle.control import ask
from pilot_agent.workspace import Workspace
from tests.lifecycle.scenario import OBEDIENT_MASTER, Pilot, wait_until
from tests.startd.histories import history


def with_reader(pilot: Pilot) -> str:
    """A master that, like the startd, runs a cat on the channel and starts it again when it died."""
    return f"(while :; do cat {pilot.workspace}/private/ads.fifo >> {pilot.directory}/ads; done) & " + OBEDIENT_MASTER


def ads(pilot: Pilot) -> list[dict[str, str]]:
    """Every whole ad that the reader got."""
    path = pilot.directory / "ads"
    texts = re.split(r"^-.*\n", path.read_text(), flags=re.MULTILINE)[:-1] if path.exists() else []
    return [dict(line.split(" = ", 1) for line in text.splitlines()) for text in texts]


def last_ad(pilot: Pilot) -> dict[str, str]:
    found = ads(pilot)
    return found[-1] if found else {}


def service(argv: list[str], *, required: bool) -> dict[str, Any]:
    attributes = {"ExampleModels": "a,b"}
    return {"name": "example", "argv": argv, "required": required, "attributes": attributes,
            "restart": "never"}  # fmt: skip


def channel(pilot: Pilot, **attributes: object) -> dict[str, object]:
    return {"path": f"{pilot.workspace}/private/ads.fifo", "period_seconds": 1, "attributes": attributes}


def program_of(pid: int) -> str:
    """The program a process runs; empty when it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_the_channel_renews_the_ad_every_period(pilot: Pilot) -> None:
    pilot.plan(with_reader(pilot), channel=channel(pilot, Text='say "x"', Number=3, Nothing=None))
    pilot.start()
    wait_until(lambda: len(ads(pilot)) >= 2, "two ads came")
    first, second = ads(pilot)[:2]
    assert first["Text"] == '"say \\"x\\""'
    assert first["Number"] == "3"
    assert first["Nothing"] == "undefined"
    assert first["PilotAccepting"] == "true"
    assert int(second["PilotAdTime"]) >= int(first["PilotAdTime"])
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    assert pilot.nothing_left()


def test_a_reader_that_died_gets_whole_ads_again(pilot: Pilot) -> None:
    pilot.plan(with_reader(pilot))
    pilot.start()
    wait_until(lambda: ads(pilot), "the first ad came")
    cats = [pid for pid in pilot.processes() if program_of(pid) == "cat"]
    (pilot.directory / "ads").write_text("")
    for pid in cats:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "PilotAdTime" in last_ad(pilot), "an ad came to the next reader")
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143


def test_the_end_stops_accepting_jobs_first(pilot: Pilot) -> None:
    master = with_reader(pilot).replace("TERM QUIT", "QUIT").replace("trap", 'trap "" TERM; trap', 1)
    times = {"deadline": None, "budget_seconds": 20, "vacate_seconds": 3}
    pilot.plan(master, time=times)
    pilot.start()
    wait_until(lambda: ads(pilot), "the first ad came")
    pilot.send(signal.SIGTERM)
    wait_until(lambda: last_ad(pilot).get("PilotAccepting") == "false", "the ad says so")
    assert pilot.wait() == 143
    assert pilot.nothing_left()


def test_a_value_that_no_classad_holds_is_told_and_the_rest_sent(pilot: Pilot) -> None:
    pilot.plan(with_reader(pilot), channel=channel(pilot, Fine=1, **{"not a name": 1}, Huge=2**70))
    pilot.start()
    wait_until(lambda: last_ad(pilot).get("Fine") == "1", "the ad came")
    assert pilot.event_names().count("channel.refused") == 2
    assert "Huge" not in last_ad(pilot)


def test_an_optional_service_that_dies_loses_its_attributes(pilot: Pilot) -> None:
    pilot.scenario["services"] = [service(["/bin/sleep", "2"], required=False)]
    pilot.plan(with_reader(pilot))
    pilot.start()
    wait_until(lambda: last_ad(pilot).get("ExampleModels") == '"a,b"', "the service is in the ad")
    assert last_ad(pilot)["Example_Ready"] == "true"
    wait_until(lambda: last_ad(pilot).get("ExampleModels") == "undefined", "the service left the ad")
    assert last_ad(pilot)["Example_Ready"] == "false"
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    assert "service.died" in pilot.event_names()


def test_a_required_service_that_dies_ends_the_pilot(pilot: Pilot) -> None:
    pilot.scenario["services"] = [service(["/bin/sh", "-c", "sleep 1.5; exit 4"], required=True)]
    pilot.plan()
    pilot.start()
    assert pilot.wait() == 69
    assert pilot.report()["outcome"]["failure"]["code"] == "service.died"
    assert pilot.nothing_left()


def test_a_required_service_whose_port_another_program_took_may_run_on_another_node(pilot: Pilot) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    dies = f"until test -e {pilot.directory}/taken; do sleep 0.1; done; exit 4"
    wanted = {"ports": {"http": port}, "restart": "always", "restart_limit": 1, "backoff_seconds": 0.01}
    pilot.scenario["services"] = [service(["/bin/sh", "-c", dies], required=True) | wanted]
    pilot.plan()
    pilot.start()
    wait_until(lambda: "service.ready" in pilot.event_names(), "the service is ready")
    with socket.create_server(("127.0.0.1", port)):
        (pilot.directory / "taken").touch()
        assert pilot.wait() == 64
    failure = pilot.report()["outcome"]["failure"]
    assert (failure["code"], failure["retry"]) == ("service.port_taken", True)
    assert pilot.nothing_left()


def test_services_are_stopped_by_their_signal(pilot: Pilot) -> None:
    script = (
        f"trap 'touch {pilot.directory}/stopped; exit' TERM; touch {pilot.directory}/up; while :; do sleep 0.1; done"
    )
    pilot.scenario["services"] = [service(["/bin/sh", "-c", script], required=True)]
    pilot.plan()
    pilot.start()
    pilot.running()
    wait_until((pilot.directory / "up").exists, "the service is up")
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    assert (pilot.directory / "stopped").exists()
    assert pilot.nothing_left()


def periodic(pilot: Pilot, script: str, on_failure: str = "report") -> list[dict[str, object]]:
    argv = ["/bin/sh", "-c", script]
    return [
        {"name": "load", "argv": argv, "environment": pilot.environment, "period_seconds": 1, "timeout_seconds": 1,
         "on_failure": on_failure}
    ]  # fmt: skip


def test_a_periodic_task_puts_its_answer_into_the_ad(pilot: Pilot) -> None:
    script = """echo noise >&2; echo '{"NodeLoad": 1.5}'"""
    pilot.plan(with_reader(pilot), periodics=periodic(pilot, script))
    pilot.start()
    wait_until(lambda: last_ad(pilot).get("NodeLoad") == "1.5", "the attribute is in the ad")


@pytest.mark.parametrize("script", ["exit 3", "sleep 60", "echo no json", "echo '[1]'", "kill -KILL $$"])
def test_a_periodic_task_that_fails_is_told(pilot: Pilot, script: str) -> None:
    pilot.plan(periodics=periodic(pilot, script))
    pilot.start()
    wait_until(lambda: "periodic.failed" in pilot.event_names(), "the failure was recorded")
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    assert pilot.nothing_left()


def test_a_periodic_task_can_close_the_pilot_for_jobs_and_open_it_again(pilot: Pilot) -> None:
    script = f"test -e {pilot.directory}/healthy && echo '{{}}'"
    pilot.plan(with_reader(pilot), periodics=periodic(pilot, script, "stop_accepting"))
    pilot.start()
    wait_until(lambda: last_ad(pilot).get("PilotAccepting") == "false", "no jobs are accepted")
    (pilot.directory / "healthy").touch()
    wait_until(lambda: last_ad(pilot).get("PilotAccepting") == "true", "jobs are accepted again")


def test_a_periodic_task_that_outlasts_its_period_is_not_run_twice_at_a_time(pilot: Pilot) -> None:
    here = pilot.directory
    script = f"mkdir {here}/one || touch {here}/two; sleep 1.5; rmdir {here}/one; echo x >> {here}/runs; echo '{{}}'"
    plans = [{**plan, "timeout_seconds": 60} for plan in periodic(pilot, script)]
    pilot.plan(periodics=plans)
    pilot.start()
    wait_until(lambda: (here / "runs").exists() and len((here / "runs").read_text()) >= 4, "it ran twice")
    assert not (here / "two").exists()


def test_a_periodic_task_can_end_the_pilot(pilot: Pilot) -> None:
    pilot.plan(periodics=periodic(pilot, "exit 3", "drain"))
    pilot.start()
    assert pilot.wait() == 69
    assert pilot.report()["outcome"]["failure"]["code"] == "periodic.failed"


def join(pilot: Pilot, *scripts: str) -> dict[str, object]:
    commands = [["/bin/sh", "-c", script] for script in scripts]
    times = {"seconds": 3, "period_seconds": 0.2}
    collectors = ["cm.example.org"] * len(scripts)
    return {"commands": commands, "collectors": collectors, "environment": pilot.environment, **times}


def status(pilot: Pilot) -> dict[str, Any]:
    """What the guardian answers."""
    return ask(str(pilot.workspace / "private"), "control.sock", {"command": "status"}, 20)


def test_a_pilot_that_did_not_join_yet_says_so(pilot: Pilot) -> None:
    pilot.plan(join=join(pilot, "exit 1") | {"seconds": 600})
    pilot.start()
    pilot.running()
    wait_until(lambda: status(pilot)["joined"] is False, "the guardian says so")
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143


def test_joining_is_tried_until_one_collector_answers(pilot: Pilot) -> None:
    script = f"test -e {pilot.directory}/up || {{ touch {pilot.directory}/up; exit 1; }}"
    pilot.plan(join=join(pilot, "exit 1", script) | {"seconds": 600})
    pilot.start()
    wait_until(lambda: "pool.joined" in pilot.event_names(), "the pilot joined")
    wait_until(lambda: status(pilot)["joined"] is True, "the guardian says so")
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143


def test_the_collectors_clock_is_compared_with_the_nodes(pilot: Pilot) -> None:
    commands = [["/bin/sh", "-c", "echo 1700000100 1700000000"]]
    pilot.plan(join=join(pilot, "exit 0") | {"clock_commands": commands, "seconds": 600})
    pilot.start()
    [event] = wait_until(lambda: [e for e in pilot.events() if e["event"] == "clock.compared"], "clocks were compared")
    assert (event["offset_seconds"], event["skew"]) == (100, True)
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143


@pytest.mark.parametrize(
    ("script", "code", "kind"),
    [
        ("echo 'ERROR: failed to make connection to <1.2.3.4>'; exit 1", 65, "network"),
        ("echo 'failed to authenticate'; exit 1", 67, "credential"),
    ],
)
def test_a_pilot_that_cannot_join_says_who_must_act(pilot: Pilot, script: str, code: int, kind: str) -> None:
    # With a startd that came up: without one, a try that ends late would leave that as the reason.
    pilot.plan(with_reader(pilot), join=join(pilot, script))
    pilot.start()
    assert pilot.wait() == code
    failure = pilot.report()["outcome"]["failure"]
    assert failure["kind"] == kind
    [line] = (pilot.directory / "stderr").read_text().splitlines()
    assert line == f"pilot-agent: {kind}: {failure['code']}: {failure['message']} - {failure['hint']}"
    assert pilot.nothing_left()


DENIED = 'SECMAN:2010:Received "DENIED" from server for user x@pool using method IDTOKENS.'


def test_a_token_that_every_collector_denies_its_rights_ends_the_pilot_at_once(pilot: Pilot) -> None:
    """Not in the 600 seconds that a collector has to be reached."""
    deny = f"echo x >> {pilot.directory}/asked; echo '{DENIED}'; exit 1"
    pilot.plan(join=join(pilot, deny, deny) | {"seconds": 600})
    pilot.start()
    assert pilot.wait() == 67
    assert pilot.report()["outcome"]["failure"]["code"] == "token.unauthorized"
    assert (pilot.directory / "asked").read_text() == "x\nx\n"


def test_one_collector_that_denies_is_not_all_of_them(pilot: Pilot) -> None:
    pilot.plan(join=join(pilot, f"echo '{DENIED}'; exit 1", "exit 0") | {"seconds": 600})
    pilot.start()
    wait_until(lambda: "pool.joined" in pilot.event_names(), "the pilot joined")
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143


def test_a_startd_that_never_comes_up_is_noticed(pilot: Pilot) -> None:
    pilot.plan(join=join(pilot, "exit 0"))
    pilot.start()
    assert pilot.wait() == 70
    assert pilot.report()["outcome"]["failure"]["code"] == "condor.startd_missing"
    assert pilot.nothing_left()


@pytest.mark.parametrize(
    ("said", "code", "failure"),
    [
        ("The STARTD (pid 7) exited with status 99 (daemon will not restart automatically)", 0, None),
        ("The STARTD died", 70, "condor.startd_died"),
    ],
)
def test_a_startd_that_left_by_a_condition_of_its_own_is_a_planned_end_and_one_that_died_is_told(
    pilot: Pilot, said: str, code: int, failure: str | None
) -> None:
    pilot.plan(f"echo '{said}'; exit 99")
    pilot.start()
    assert pilot.wait() == code
    told = pilot.report()["outcome"]["failure"]
    assert (told and told["code"]) == failure
    assert pilot.nothing_left()


def test_why_a_pilot_drained_stays_in_the_report_when_a_signal_ends_it_first(pilot: Pilot) -> None:
    starter = pilot.directory / "condor_starter"
    shutil.copy("/bin/sleep", starter)
    pilot.plan(f"setsid {starter} 600 & {OBEDIENT_MASTER}", periodics=periodic(pilot, "exit 3", "drain"))
    pilot.start()
    wait_until(lambda: "periodic.failed" in pilot.event_names(), "the failure was recorded")
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    report = pilot.report()
    assert [failure["code"] for failure in report["failures"]] == ["periodic.failed", "signal.15"]
    assert report["outcome"]["status"] == "preempted"
    assert pilot.nothing_left()


def deadline(seconds: float) -> dict[str, float]:
    return {"deadline": time.time() + seconds, "budget_seconds": 12, "vacate_seconds": 0.5}


def test_an_idle_pilot_ends_at_its_deadline_with_0(pilot: Pilot) -> None:
    pilot.plan(time=deadline(1.0))
    pilot.start()
    assert pilot.wait() == 0
    assert "deadline.reached" in pilot.event_names()
    assert pilot.nothing_left()


def test_a_deadline_that_cuts_jobs_is_a_preemption(pilot: Pilot) -> None:
    starter = pilot.directory / "condor_starter"
    shutil.copy("/bin/sleep", starter)
    # Later than the other's: on a busy machine the job must have begun by then.
    pilot.plan(f"setsid {starter} 600 & {OBEDIENT_MASTER}", time=deadline(5.0))
    pilot.start()
    assert pilot.wait() == 143
    assert pilot.report()["outcome"]["failure"]["code"] == "deadline.reached"
    assert pilot.nothing_left()


@pytest.mark.parametrize(
    ("logged", "code", "failure"),
    [
        ("No resources have been claimed for 20 seconds\nShutting down Condor on this machine.", 0, None),
        ("Got SIGTERM. Performing graceful shutdown.", 143, "condor.told_to_end"),
        ("", 143, "condor.told_to_end"),
        (None, 0, None),
    ],
)
def test_a_master_that_ends_well_was_told_by_its_idle_startd_or_by_somebody_else(
    pilot: Pilot, logged: str | None, code: int, failure: str | None
) -> None:
    log = pilot.workspace / "condor" / "log" / "StartLog"
    pilot.plan("exit 0" if logged is None else f"echo '{logged}' > {log}; exit 0")
    pilot.start()
    assert pilot.wait() == code
    outcome = pilot.report()["outcome"]
    assert (outcome["failure"] or {"code": None})["code"] == failure
    assert outcome["status"] == ("preempted" if failure else "ok")
    assert pilot.nothing_left()


def test_a_master_that_ended_before_the_keeper_came_is_told(pilot: Pilot) -> None:
    pilot.plan("exit 7")
    pilot.start()
    assert pilot.wait() == 70
    assert pilot.report()["outcome"]["failure"]["code"] == "condor.master_died"
    assert pilot.nothing_left()


def test_a_plan_that_cannot_be_read_is_an_internal_failure(pilot: Pilot) -> None:
    pilot.plan()
    del pilot.scenario["plan"]["master"]
    pilot.start()
    assert pilot.wait() == 70
    assert "keeper.plan" in (pilot.directory / "stdout").read_text()
    assert pilot.nothing_left()


def test_logs_and_events_come_back(pilot: Pilot) -> None:
    pilot.plan("echo out; echo err >&2; exit 0")
    pilot.start()
    assert pilot.wait() == 0
    assert (pilot.output / "logs" / "MasterLog").read_text() == "out\nerr\n"
    assert "pilot.ending" in pilot.event_names()


def test_jobs_are_counted_from_the_history(pilot: Pilot) -> None:
    path = pilot.directory / "history"
    ad = 'ClusterId = {n}\nProcId = 0\nOwner = "u"\nJobStatus = 4\nExitBySignal = false\nExitCode = {code}\n'
    ad += "RemoteWallClockTime = 5\nCompletionDate = {n}00\n"
    path.write_bytes(history(*((ad.format(n=n, code=code), f"{n}.0") for n, code in ((1, 0), (2, 0), (3, 3)))))
    pilot.plan("sleep 0.1", history=str(path))
    pilot.start()
    assert pilot.wait() == 0
    jobs = pilot.report()["jobs"]
    assert (jobs["started"], jobs["ended"]) == (3, {"exit 0": 2, "exit 3": 1})


def test_the_unpacked_interpreter_goes_with_the_keeper_when_the_guardian_is_gone(pilot: Pilot) -> None:
    runtime = pilot.directory / "pilot-runtime-1"
    venv.create(runtime, symlinks=True)
    (runtime / "bin" / "pilot-python").touch()
    command = [str(runtime / "bin" / "python"), "-I", "-B"]
    pilot.extra_environment["PILOT_AGENT_INTERPRETER"] = json.dumps(command)
    pilot.extra_environment["PILOT_AGENT_RUNTIME_CLEAN"] = str(runtime)
    pilot.plan()
    pilot.start()
    pilot.running()
    pilot.send(signal.SIGKILL)
    assert pilot.nothing_left()
    wait_until(lambda: not runtime.exists(), "the interpreter is gone")


def test_a_workspace_outlives_the_unpacked_interpreter_so_that_the_next_pilot_finds_what_is_left_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(str(tmp_path / "pilot-0123456789ab"))
    os.mkdir(workspace.root)
    workspace.create()
    order: list[bool] = []
    monkeypatch.setattr(finish, "stop_everything", lambda *_: [])  # it would end this process's other children
    monkeypatch.setattr(finish, "remove_runtime", lambda: order.append(os.path.exists(workspace.private)))
    assert finish.remove_the_rest(workspace, finish.Outcome(0, {}, []), None) == []
    assert order == [True]
    assert not os.path.exists(workspace.root)


@pytest.mark.parametrize("name", ["precious", "pilot-runtime-of-another-pilot"])
def test_a_directory_that_this_interpreter_does_not_run_from_is_left_alone(pilot: Pilot, name: str) -> None:
    precious = pilot.directory / name
    (precious / "bin").mkdir(parents=True)
    (precious / "bin" / "pilot-python").touch()
    pilot.extra_environment["PILOT_AGENT_RUNTIME_CLEAN"] = str(precious)
    pilot.plan()
    pilot.start()
    pilot.running()
    pilot.send(signal.SIGKILL)
    assert pilot.nothing_left()
    assert precious.exists()


def test_a_report_that_was_deleted_is_published_from_memory(pilot: Pilot) -> None:
    pilot.plan()
    pilot.start()
    pilot.running()
    (pilot.workspace / "report.json").unlink()
    pilot.send(signal.SIGTERM)
    assert pilot.wait() == 143
    assert json.loads((pilot.output / "report.json").read_text())["pilot"]["id"] == "test"


def test_a_pilot_that_takes_no_more_jobs_leaves_when_the_last_has_ended(pilot: Pilot) -> None:
    starter = pilot.directory / "condor_starter"
    shutil.copy("/bin/sleep", starter)
    times = {"retire": time.time() + 0.5, "deadline": time.time() + 3600, "budget_seconds": 12, "vacate_seconds": 0.5}
    pilot.plan(f"setsid {starter} 7 & {OBEDIENT_MASTER}", time=times)
    pilot.start()
    assert pilot.wait() == 0
    names = pilot.event_names()
    assert names.index("pilot.retiring") < names.index("pilot.retired")
    assert pilot.nothing_left()


def test_a_failed_pilot_holds_its_slot_no_longer_than_it_may_live(pilot: Pilot) -> None:
    times = {"leaves": time.time() + 2, "budget_seconds": 12, "vacate_seconds": 0.5, "hold_seconds": 3600}
    pilot.plan("exit 3", time=times)
    pilot.start()
    assert pilot.wait() == 70
    assert pilot.nothing_left()


def test_while_a_failed_pilot_holds_its_slot_nothing_is_watched_any_more(pilot: Pilot) -> None:
    times = {"budget_seconds": 12, "vacate_seconds": 0.5, "hold_seconds": 6}
    pilot.plan("sleep 1; exit 3", time=times, periodics=periodic(pilot, f"echo x >> {pilot.directory}/runs; exit 4"))
    pilot.start()
    wait_until((pilot.output / "report.json").exists, "the report was written")
    runs = (pilot.directory / "runs").read_text()
    assert pilot.wait() == 70
    assert (pilot.directory / "runs").read_text() == runs
    assert "event not recorded" not in (pilot.directory / "stderr").read_text()
    assert pilot.nothing_left()


def test_an_end_that_a_periodic_task_announces_ends_the_pilot(pilot: Pilot) -> None:
    answer = json.dumps({"PilotShutdownTime": int(time.time()) + 15})
    task = {"name": "features", "argv": ["/bin/echo", answer], "environment": {}, "period_seconds": 60,
            "timeout_seconds": 10}  # fmt: skip
    pilot.plan(periodics=[task], time={"budget_seconds": 12, "vacate_seconds": 0.5, "margin_seconds": 1})
    pilot.start()
    assert pilot.wait() == 0
    assert {"time.shortened", "deadline.reached"} <= set(pilot.event_names())
    assert pilot.nothing_left()


@pytest.mark.parametrize("moment", ["1e400", "-1", "true", '"soon"', "null", "1e12"])
def test_what_cannot_be_an_end_ends_nothing(pilot: Pilot, moment: str) -> None:
    task = {"name": "features", "argv": ["/bin/echo", f'{{"PilotShutdownTime": {moment}}}'], "environment": {},
            "period_seconds": 1, "timeout_seconds": 10}  # fmt: skip
    pilot.plan("sleep 2", periodics=[task])
    pilot.start()
    assert pilot.wait() == 0
    assert "time.shortened" not in pilot.event_names()
