"""Between the service stage and the keeper the services are looked after while the pipeline waits for other things."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pilot_agent.process import Interrupted, Runner, run
from pilot_agent.services.beside import Beside
from pilot_agent.services.plan import ServicePlan
from tests.services.bench import ENVIRONMENT, PATIENCE_SECONDS, Bench, Keep
from tests.wake_pipe import WakePipe

pytestmark = pytest.mark.usefixtures("each_kernel")
STAYS = ": > ready; exec sleep 600"


@pytest.fixture
def wake() -> Iterator[WakePipe]:
    with WakePipe() as made:
        yield made


@pytest.fixture
def beside(wake: WakePipe) -> Iterator[Beside]:
    made = Beside(wake)
    yield made
    made.close()


def wait_with(beside: Beside, come: Callable[[], bool], plan: ServicePlan) -> None:
    """Wait for short programs, one after the other, as later stages do, until something has come."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not come():
        assert time.monotonic() < end, plan.state()
        assert run(["/bin/sleep", "0.2"], deadline_seconds=60, environment=ENVIRONMENT, wake=beside).ok


def test_without_services_it_only_passes_the_wake_up_on(wake: WakePipe, beside: Beside) -> None:
    assert run(["/bin/true"], deadline_seconds=60, environment=ENVIRONMENT, wake=beside).ok
    wake.ring()
    with pytest.raises(Interrupted):
        run(["/bin/sleep", "600"], deadline_seconds=600, environment=ENVIRONMENT, wake=beside)


def test_a_service_that_dies_meanwhile_is_started_again(bench: Bench, beside: Beside) -> None:
    plan = bench.plan(STAYS)
    beside.start([plan], bench.events, bench.journal)
    assert plan.standing.status == "ready"
    os.kill(plan.standing.pid, signal.SIGKILL)
    wait_with(beside, lambda: plan.standing.starts == 2 and plan.standing.status == "ready", plan)
    assert bench.told("ended")[0]["how"].startswith("was ended by signal 9")
    assert beside.lost() == []


def test_one_wait_for_one_long_program_is_enough(bench: Bench, beside: Beside) -> None:
    """The wait itself attends, at the end of a process and when a timer is due."""
    plan = bench.plan(STAYS, backoff_seconds=0.2)
    beside.start([plan], bench.events, bench.journal)
    os.kill(plan.standing.pid, signal.SIGKILL)
    until_back = f"until test -e {bench.file('again')}; do sleep 0.05; done"
    plan.argv = ("/bin/sh", "-c", ": > again; " + STAYS)
    with Runner(beside) as runner:
        handle = runner.start(["/bin/sh", "-c", until_back], deadline_seconds=60, environment=ENVIRONMENT)
        assert isinstance(handle, int)
        assert runner.wait(handle).ok
    assert plan.standing.starts == 2


def test_a_program_that_talks_all_the_time_keeps_nobody_from_looking(bench: Bench, beside: Beside) -> None:
    plan = bench.plan(STAYS, backoff_seconds=0.2)
    beside.start([plan], bench.events, bench.journal)
    os.kill(plan.standing.pid, signal.SIGKILL)
    plan.argv = ("/bin/sh", "-c", ": > again; " + STAYS)
    talks = f"until test -e {bench.file('again')}; do echo on and on; done"
    assert run(["/bin/sh", "-c", talks], deadline_seconds=60, environment=ENVIRONMENT, wake=beside).ok
    assert plan.standing.starts == 2


def test_a_log_that_grows_meanwhile_stays_bounded(bench: Bench, beside: Beside) -> None:
    plan = bench.plan(": > ready; while :; do head -c 2000000 /dev/zero; sleep 0.02; done", log_mib=2)
    beside.start([plan], bench.events, bench.journal)
    wait_with(beside, lambda: len(bench.told("log_rotated")) >= 2, plan)
    kept = sum(bench.file(name).stat().st_size for name in ("log.log", "log.1.log"))
    assert kept < 32 << 20


def test_a_required_service_that_is_lost_meanwhile_is_told_once(bench: Bench, beside: Beside) -> None:
    plan = bench.plan(STAYS, restart="never")
    beside.start([plan], bench.events, bench.journal)
    os.kill(plan.standing.pid, signal.SIGKILL)
    wait_with(beside, lambda: plan.standing.status == "failed", plan)
    assert [one.name for one in beside.lost()] == ["s"]
    assert beside.lost() == []


@pytest.mark.parametrize("when", ["starting", "ready"])
def test_a_service_that_got_the_same_signal_a_moment_earlier_is_not_what_ends_the_pilot(
    bench: Bench, wake: WakePipe, beside: Beside, when: str
) -> None:
    end = "exit 3" if when == "starting" else ": > ready; until test -e go; do sleep 0.02; done; exit 3"
    plan = bench.plan(end, restart="never")
    later = threading.Timer(0.1, wake.ring)

    def wait() -> None:
        beside.start([plan], bench.events, bench.journal)
        bench.file("go").touch()
        wait_with(beside, lambda: plan.standing.status == "failed", plan)
        later.start()
        beside.lost()

    if when == "starting":
        wake.ring()
    with pytest.raises(Interrupted):
        wait()
    if when == "ready":
        later.join()


def test_a_start_that_is_under_way_goes_on_in_the_next_process(bench: Bench, beside: Beside, keep: Keep) -> None:
    plan = bench.plan("until test -e go; do sleep 0.05; done; echo all is up; exec sleep 600", name="slow",
                      ready_way="log", ready_of="is up", required=False)  # fmt: skip
    gone = bench.plan("exit 3", name="gone")
    beside.start([plan, gone], bench.events, bench.journal)  # the required one is lost: nobody waits for the other
    assert (plan.standing.status, gone.standing.status) == ("starting", "failed")
    beside.leave()
    bench.file("go", "slow").touch()
    kept = keep(ServicePlan.from_json(plan.to_json()))
    kept.until_status("ready", "slow")
    assert kept.supervisor.units["slow"].standing.starts == 1


def test_words_of_an_earlier_start_do_not_make_the_next_process_believe_it_is_ready(
    bench: Bench, beside: Beside, keep: Keep
) -> None:
    script = "test -e again || { echo is up; : > again; exec sleep 600; }; until test -e go; do sleep 0.05; done; "
    plan = bench.plan(script + "echo is up; exec sleep 600", ready_way="log", ready_of="is up")
    beside.start([plan], bench.events, bench.journal)
    os.kill(plan.standing.pid, signal.SIGKILL)
    wait_with(beside, lambda: plan.standing.starts == 2 and plan.standing.status == "starting", plan)
    beside.leave()
    kept = keep(ServicePlan.from_json(plan.to_json()))
    for _ in range(20):
        kept.loop.call_later(0.02, lambda: None)
        kept.loop.turn()
    assert kept.supervisor.statuses() == {"s": "starting"}
    bench.file("go").touch()
    kept.until_status("ready")


def test_an_end_that_is_under_way_is_waited_for_before_the_next_process(bench: Bench, beside: Beside) -> None:
    script = "trap 'sleep 0.5; exit 0' TERM; : > ready; while :; do sleep 0.05; done"
    liveness: dict[str, Any] = {"live_argv": ("/bin/false",), "live_period_seconds": 0.05, "live_failures": 1}
    plan = bench.plan(script, live_way="command", stop_seconds=60.0, **liveness)
    beside.start([plan], bench.events, bench.journal)
    pid = plan.standing.pid
    wait_with(beside, lambda: plan.standing.status == "unhealthy", plan)
    beside.leave()
    assert plan.standing.pid != pid
    assert plan.standing.ends[0].startswith("was hung")


def test_services_that_are_asked_all_the_time_do_not_keep_the_pilot_from_going_on(
    bench: Bench, wake: WakePipe, beside: Beside
) -> None:
    """Each for itself has a moment between two questions; all together hardly ever have one."""
    plans = []
    for number in range(6):
        argv = ("/bin/sh", "-c", f"echo asked >> asked; exec sleep {0.3 + 0.07 * number}")
        liveness: dict[str, Any] = {"live_way": "command", "live_argv": argv, "live_period_seconds": 0.01}
        plans.append(bench.plan(STAYS, name=f"s{number}", **liveness))
    beside.start(plans, bench.events, bench.journal)
    asked = [bench.file("asked", plan.name) for plan in plans]
    wait_with(beside, lambda: all(one.exists() and len(one.read_text().split()) > 2 for one in asked), plans[0])
    too_late = threading.Timer(PATIENCE_SECONDS, wake.ring)
    too_late.start()
    beside.leave()
    too_late.cancel()
    too_late.join()
    assert {plan.standing.status for plan in plans} == {"ready"}


# ---- causes ------------------------------------------------------------------------------------------------------


def test_why_a_service_failed_is_known(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        taken = bench.plan(STAYS, name="taken", ports={"http": foreign.getsockname()[1]}, required=False)
        missing = bench.plan(name="missing", argv=("/nowhere/program",), required=False)
        hides = bench.plan("sleep 600 & exit 0", name="hides", required=False)
        broken = bench.plan("exit 3", name="broken", required=False)
        behind = bench.plan(STAYS, name="behind", needs=("missing",), required=False)
        bench.stage(taken, missing, hides, broken, behind)
    causes = {plan.name: plan.standing.cause for plan in (taken, missing, hides, broken, behind)}
    assert causes == {
        "taken": "port",
        "missing": "program",
        "hides": "background",
        "broken": "",
        "behind": "program",
    }


def test_a_service_that_waits_at_the_stop_was_stopped_and_has_not_failed(bench: Bench, keep: Keep) -> None:
    plan = bench.plan(STAYS, backoff_seconds=600.0, backoff_limit_seconds=600.0)
    behind = bench.plan(STAYS, name="behind", needs=("s",))
    bench.stage(plan, behind)
    kept = keep(plan, behind)
    os.kill(kept.pid("behind"), signal.SIGKILL)
    kept.until_status("backoff", "behind")
    kept.stop()
    assert kept.supervisor.statuses() == {"s": "stopped", "behind": "stopped"}
