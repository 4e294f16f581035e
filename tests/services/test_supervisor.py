"""While jobs run: a service that ends, hangs, leaks or talks without end, and what is done about it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from pilot_agent.lifecycle.journal import read_journal
from pilot_agent.services.members import is_same, send
from pilot_agent.services.plan import ServicePlan
from tests.services.bench import Bench, Kept, left_alone

pytestmark = pytest.mark.usefixtures("each_kernel")
STAYS = ": > ready; exec sleep 600"
Keep = Callable[..., Kept]


def staged(bench: Bench, keep: Keep, *plans: ServicePlan) -> Kept:
    """Started in the stage, and then handed over as JSON."""
    bench.stage(*plans)
    return keep(*(ServicePlan.from_json(plan.to_json()) for plan in plans))


def test_the_keeper_goes_on_with_what_the_stage_started(bench: Bench, keep: Keep) -> None:
    plan = bench.plan(STAYS)
    kept = staged(bench, keep, plan)
    assert kept.pid() == plan.standing.pid
    assert bench.changes == [("s", "ready")]


def test_a_service_that_is_killed_is_started_again_on_the_same_port(bench: Bench, keep: Keep) -> None:
    kept = staged(bench, keep, bench.http())
    port, first = kept.supervisor.units["s"].standing.ports, kept.pid()
    os.kill(first, signal.SIGKILL)
    kept.until_start(2)
    (state,) = kept.supervisor.states()
    assert (state["ports"], state["starts"], state["restarts"]) == (port, 2, 1)
    assert state["ends"] == ["was ended by signal 9; it said nothing"]
    assert state["ready_seconds"] > 0
    assert [status for _, status in bench.changes] == ["ready", "backoff", "waiting", "starting", "ready"]
    assert bench.told("ended")[0]["again_in_seconds"] == 0.01


def test_one_that_ended_between_stage_and_keeper_is_started_again(bench: Bench, keep: Keep) -> None:
    plan = bench.plan(STAYS)
    bench.stage(plan)
    os.kill(plan.standing.pid, signal.SIGKILL)
    kept = keep(plan)
    kept.until_start(2)


def test_one_that_just_ended_is_not_settled_before_it_is_ready_again(bench: Bench, keep: Keep) -> None:
    """Else the keeper would take over a service that says ready and has no process."""
    kept = staged(bench, keep, bench.plan("setsid sleep 600 & : > ready; exec sleep 600"))
    os.kill(kept.pid(), signal.SIGKILL)
    kept.until(lambda: kept.pid() == 0, "its end")
    assert not kept.supervisor.settled()
    kept.until_start(2)
    assert kept.supervisor.settled()


def test_only_the_open_entry_of_the_last_start_stays_in_the_journal(bench: Bench, keep: Keep) -> None:
    kept = staged(bench, keep, bench.plan(STAYS))
    os.kill(kept.pid(), signal.SIGKILL)
    kept.until_start(2)
    (entry,) = read_journal(bench.workspace.journal).processes
    assert entry.identity is not None
    assert entry.identity.pid == kept.pid()


def test_a_crash_loop_is_slower_each_time_and_ends(bench: Bench, keep: Keep) -> None:
    script = "[ -e worked ] && exit 5; : > worked; : > ready; sleep 0.3; exit 4"
    kept = staged(bench, keep, bench.plan(script, restart_limit=3, backoff_seconds=0.02, backoff_limit_seconds=0.06))
    kept.until_status("failed")
    assert [told["again_in_seconds"] for told in bench.told("ended")] == [0.02, 0.04, 0.06]
    assert "started again 3 times within 3600 s" in bench.lost[0]
    (state,) = kept.supervisor.states()
    assert state["ends"][0] == "exited 4; it said nothing"
    assert [end.partition(" before")[0] for end in state["ends"][1:]] == ["exited 5"] * 3


@pytest.mark.parametrize(
    ("restart", "code", "status"),
    [("never", 1, "failed"), ("never", 0, "stopped"), ("on_failure", 0, "stopped"), ("on_failure", 1, "ready"),
     ("always", 0, "ready")],
)  # fmt: skip
def test_the_policy_says_after_which_end_it_is_started_again(
    bench: Bench, keep: Keep, restart: str, code: int, status: str
) -> None:
    script = (
        f"[ -e go ] && {{ : > ready; exec sleep 600; }}; : > ready; until [ -e go ]; do sleep 0.02; done; exit {code}"
    )
    kept = staged(bench, keep, bench.plan(script, restart=restart))
    bench.file("go").touch()
    kept.until(lambda: bool(kept.supervisor.states()[0]["ends"]), "the end")
    kept.until_status(status)
    assert kept.supervisor.states()[0]["starts"] == (2 if status == "ready" else 1)
    assert bool(bench.lost) == (status != "ready")


def test_a_server_that_hangs_is_unhealthy_and_then_started_again(bench: Bench, keep: Keep) -> None:
    live: dict[str, Any] = {"live_way": "http", "live_of": "http/health", "live_period_seconds": 0.1}
    kept = staged(bench, keep, bench.http(live_failures=2, live_timeout_seconds=1.0, **live))
    os.kill(kept.pid(), signal.SIGSTOP)
    kept.until_start(2)
    assert [status for _, status in bench.changes][:3] == ["ready", "unhealthy", "backoff"]
    assert "was hung: 2 times in a row" in kept.supervisor.states()[0]["ends"][0]
    assert "no answer within 1 s" in bench.told("unhealthy")[0]["message"]


def test_a_server_that_is_ill_for_a_moment_becomes_ready_again(bench: Bench, keep: Keep) -> None:
    live: dict[str, Any] = {"live_way": "http", "live_of": "http/health", "live_period_seconds": 0.1}
    kept = staged(bench, keep, bench.http(live_failures=100000, **live))
    bench.file("ill").touch()
    kept.until_status("unhealthy")
    assert "503" in bench.told("unhealthy")[0]["message"]
    bench.file("ill").unlink()
    kept.until_status("ready")
    assert kept.supervisor.states()[0]["starts"] == 1


@pytest.mark.parametrize("way", [{"live_way": "command", "live_argv": ("/bin/sh", "-c", "test ! -e ill")}])
def test_a_command_may_tell_that_it_works(bench: Bench, keep: Keep, way: dict[str, Any]) -> None:
    kept = staged(bench, keep, bench.plan(STAYS, live_period_seconds=0.1, live_failures=100000, **way))
    bench.file("ill").touch()
    kept.until_status("unhealthy")
    bench.file("ill").unlink()
    kept.until_status("ready")


def test_a_service_that_uses_more_memory_than_its_limit_is_ended_and_started_again(bench: Bench, keep: Keep) -> None:
    child = "import time; kept = bytearray(120 << 20); time.sleep(600)"
    script = f": > ready; [ -e second ] && exec sleep 600; : > second; python3 -c '{child}' & exec sleep 600"
    kept = staged(bench, keep, bench.plan(script, memory_mib=60, stop_seconds=0.1))
    kept.until_start(2)
    assert "its limit is 60 MiB (memory_mib)" in kept.supervisor.states()[0]["ends"][0]
    assert left_alone(kept.pid())


def test_a_log_without_end_stays_below_its_limit(bench: Bench, keep: Keep) -> None:
    script = ": > ready; exec yes this service talks without end"
    kept = staged(bench, keep, bench.plan(script, log_mib=2))
    kept.until(lambda: len(bench.told("log_rotated")) >= 3, "a third rotation")
    assert bench.file("log.1.log").stat().st_size <= 1 << 20
    assert set(bench.file("log.1.log").read_text().splitlines()[1:-1]) == {"this service talks without end"}


def test_a_service_is_not_started_again_while_its_need_is_down(bench: Bench, keep: Keep) -> None:
    back = bench.plan(f"[ -e down ] && exit 5; {STAYS}", name="back", restart_limit=10**6)
    back.backoff_limit_seconds = 0.05
    front = bench.plan(STAYS, name="front", needs=("back",))
    kept = staged(bench, keep, back, front)
    bench.file("down", "back").touch()
    os.kill(kept.pid("back"), signal.SIGKILL)
    kept.until(lambda: kept.supervisor.states()[0]["starts"] > 3, "back in a crash loop")
    os.kill(kept.pid("front"), signal.SIGKILL)
    starts = kept.supervisor.states()[0]["starts"]
    kept.until(lambda: kept.supervisor.states()[0]["starts"] > starts + 3, "back was tried further")
    assert kept.supervisor.states()[1]["starts"] == 1
    bench.file("down", "back").unlink()
    kept.until_start(2, "front")


def test_metrics_reach_the_report(bench: Bench, keep: Keep) -> None:
    names = ("requests_total", "no_such_family")
    metrics = bench.http(metrics_http="http/metrics", metrics_names=names, metrics_period_seconds=0.1)
    kept = staged(bench, keep, metrics)
    kept.until(lambda: kept.supervisor.states()[0]["metrics"] == {"requests_total": 5.0}, "the sum of its samples")


def test_services_are_stopped_before_what_they_need_and_by_their_signals(bench: Bench, keep: Keep) -> None:
    def script(name: str) -> str:
        return (
            f"trap 'echo {name} >> {bench.workspace.root}/order; exit 0' USR1; : > ready; while :; do sleep 0.02; done"
        )

    names = {"back": (), "middle": ("back",), "front": ("middle",)}
    stop = {"stop_signal": "SIGUSR1", "stop_seconds": 60.0}
    plans = [bench.plan(script(name), name=name, needs=needs, **stop) for name, needs in names.items()]
    kept = staged(bench, keep, *plans)
    os.kill(kept.pid("back"), signal.SIGKILL)
    kept.until_start(2, "back")
    kept.stop()
    with open(os.path.join(bench.workspace.root, "order"), encoding="utf-8") as file:
        assert file.read().split() == ["front", "middle", "back"]
    assert kept.supervisor.statuses() == dict.fromkeys(names, "stopped")
    assert bench.lost == []


def test_one_that_ignores_its_signal_is_killed_at_the_end_with_what_it_started(bench: Bench, keep: Keep) -> None:
    kept = staged(bench, keep, bench.plan("trap '' TERM; setsid sleep 600 & : > ready; wait", stop_seconds=0.1))
    kept.stop()
    assert kept.supervisor.statuses() == {"s": "stopped"}
    assert left_alone()


def test_a_service_that_is_no_child_and_is_gone_has_ended(bench: Bench, keep: Keep) -> None:
    gone = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(gone, 0)
    plan = bench.plan(STAYS, restart="never")
    plan.standing.status, plan.standing.pid, plan.standing.was_ready = "ready", gone, True
    kept = keep(plan)
    kept.until_status("failed")
    assert kept.supervisor.states()[0]["ends"] == ["ended"]


@pytest.mark.parametrize("pid", [-1, 0, 1])
def test_no_signal_goes_to_everybody_to_the_own_group_or_to_the_first_process(
    monkeypatch: pytest.MonkeyPatch, pid: int
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda number, _: sent.append(number))
    send(pid, signal.SIGKILL)
    assert sent == []


def test_a_process_is_the_same_only_with_its_time_of_start(bench: Bench) -> None:
    plan = bench.plan(STAYS)
    bench.stage(plan)
    assert is_same(plan.standing.pid, plan.standing.start_ticks)
    assert not is_same(plan.standing.pid, plan.standing.start_ticks + 1)
    assert not is_same(1, 0)
