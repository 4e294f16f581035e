"""The view of the pool: whole, or with a name for everything that is missing."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from pilot_agent.process import Interrupted
from server_stub.frontend.configuration import PoolPlan
from server_stub.frontend.pool import PoolView, environment
from server_stub.frontend.wake import Wake
from tests.server_stub.frontend.builders import NOW
from tests.server_stub.frontend.pool_double import PoolDouble


@pytest.fixture
def pool(tmp_path: Path) -> PoolDouble:
    return PoolDouble(tmp_path / "pool")


def jobs(view: PoolView) -> dict[str, int]:
    names = view.jobs.access_points
    return {name: int((view.jobs.access_point == place).sum()) for place, name in enumerate(names)}


def test_all_access_points_and_the_slots_are_seen(pool: PoolDouble) -> None:
    view = pool.reader().read(NOW, {})
    assert jobs(view) == {"ap1": 2, "ap2": 3}
    assert view.slots.entries == ("e@f",)
    assert view.missing == {}
    assert view.heard == {"ap1": NOW, "ap2": NOW}


def test_only_those_in_the_file_are_asked_where_it_names_some(pool: PoolDouble) -> None:
    view = pool.reader(names=("ap2", "ap3")).read(NOW, {"ap1": NOW - 60})
    assert jobs(view) == {"ap2": 3}
    assert list(view.missing) == ["ap3"]


def test_one_that_does_not_answer_is_missing_with_what_it_said(pool: PoolDouble) -> None:
    pool.loses("jobsap2")
    view = pool.reader().read(NOW, {})
    assert view.missing == {"ap2": "SECMAN:2010:no answer for jobsap2"}
    assert jobs(view) == {"ap1": 2}


def test_one_that_hangs_costs_its_deadline_only(pool: PoolDouble) -> None:
    pool.hangs("jobsap2")
    view = pool.reader(seconds=3).read(NOW, {})
    assert "did not end within 3.0 s" in view.missing["ap2"]
    assert jobs(view) == {"ap1": 2}


def test_one_that_the_collector_forgot_is_missing_until_the_time_is_over_and_then_has_no_jobs(pool: PoolDouble) -> None:
    pool.tells("ap1")
    heard = {"ap1": NOW - 10.0, "ap2": NOW - 60.0}
    view = pool.reader().read(NOW, heard)
    assert list(view.missing) == ["ap2"]
    assert view.heard == {"ap1": NOW, "ap2": NOW - 60}
    later = pool.reader().read(NOW + 40, view.heard)
    assert later.missing == {}
    assert later.given_up == ("ap2",)
    assert pool.reader().read(NOW + 50, later.heard).given_up == ()


def test_where_none_answers_none_is_ever_given_up(pool: PoolDouble) -> None:
    pool.tells()
    view = pool.reader().read(NOW + 1e6, {"ap1": NOW, "ap2": NOW})
    assert set(view.missing) == {"ap1", "ap2"}
    assert view.given_up == ()


def test_a_collector_that_knows_no_access_point_is_no_answer(pool: PoolDouble) -> None:
    pool.tells()
    assert "the access points" in pool.reader().read(NOW, {}).missing


def test_without_the_collector_nothing_is_known_and_nothing_forgotten(pool: PoolDouble) -> None:
    pool.loses("access_points")
    pool.loses("slots")
    view = pool.reader().read(NOW + 1e6, {"ap1": NOW})
    assert set(view.missing) == {"the collector cm.example.org", "the pool's slots"}
    assert view.heard == {"ap1": NOW}
    assert len(view.jobs) == len(view.slots) == 0


def test_half_an_answer_is_none(pool: PoolDouble) -> None:
    for name in ("jobsap1", "slots"):
        path = pool.directory / name
        path.write_bytes(path.read_bytes()[:100])
    assert set(pool.reader().read(NOW, {}).missing) == {"the jobs", "the pool's slots"}


def test_one_that_starts_no_more_jobs_is_not_asked_and_not_missing(pool: PoolDouble) -> None:
    pool.tells("ap1", "ap2", ap2="it curbs its matchmaking")
    pool.hangs("jobsap2")
    view = pool.reader().read(NOW, {})
    assert view.closed == {"ap2": "it curbs its matchmaking"}
    assert view.missing == {}
    assert jobs(view) == {"ap1": 2}


def test_a_signal_ends_what_is_under_way(pool: PoolDouble) -> None:
    pool.hangs("jobsap2")
    with Wake() as wake:
        timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        with pytest.raises(Interrupted):
            pool.reader(wake=wake).read(NOW, {})
        timer.join()


def test_children_see_of_htcondor_only_what_the_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_CONDOR_SEC_CLIENT_AUTHENTICATION", "NEVER")
    told = environment(PoolPlan(("cm",), tokens="/t", parameters={"NO_DNS": "true"}))
    assert told["CONDOR_CONFIG"] == "ONLY_ENV"
    assert told["_CONDOR_SEC_CLIENT_AUTHENTICATION"] == "REQUIRED"
    assert told["_CONDOR_SEC_TOKEN_DIRECTORY"] == "/t"
    assert told["_CONDOR_NO_DNS"] == "true"
    own = environment(PoolPlan(("cm",), condor_config="/etc/condor/condor_config"))
    assert own["CONDOR_CONFIG"] == "/etc/condor/condor_config"
    assert "_CONDOR_SEC_CLIENT_AUTHENTICATION" not in own
