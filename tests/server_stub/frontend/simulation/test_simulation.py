"""The frontend's real decisions over simulated sites: what must hold whatever the load is."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from server_stub.frontend.pressure import Totals
from server_stub.frontend.simulation.figures import Figures, figures, sign_changes
from server_stub.frontend.simulation.run import Simulation
from server_stub.frontend.simulation.scenario import Load, Scenario, Site

TWO = (Site("a"), Site("b", most_pilots=30))


@cache
def simulated(scenario: Scenario) -> tuple[Simulation, Figures]:
    simulation = Simulation(scenario)
    simulation.run()
    return simulation, figures(simulation)


STEPS = [
    Scenario(TWO, (Load(500, 7200.0),)),
    Scenario((*TWO, Site("c", cores=1, memory_mib=4000)), (Load(900, 7200.0),), seed=2),
    Scenario((Site("a", cores=1, memory_mib=2000),), (Load(150, 3600.0),)),
    Scenario((Site("slow", queue_seconds=7200.0), Site("quick", queue_seconds=60.0)), (Load(300, 10800.0),)),
    Scenario(TWO, (Load(60, 5400.0, cores=4, memory_mib=8000), Load(100, 3600.0))),
]


@pytest.mark.parametrize("scenario", STEPS, ids=range(len(STEPS)))
def test_after_a_step_of_load_requests_rise_and_fall_and_everything_drains(scenario: Scenario) -> None:
    simulation, told = simulated(scenario)
    assert told.sign_changes <= 2
    assert (told.jobs_done, told.left) == (told.jobs, 0)
    assert simulation.moments[-1].requested == 0
    assert told.over_oracle <= 0.15


def test_jobs_for_gpus_bring_pilots_only_where_gpus_are_and_as_many_as_those_allow() -> None:
    sites = (Site("plain"), Site("gpus", cores=8, gpus=2))
    simulation, told = simulated(Scenario(sites, (Load(100, 7200.0, gpus=1),)))
    assert (told.jobs_done, told.left) == (100, 0)
    assert {run.site for run in simulation.world.runs} == {1}
    assert {pilot.site for pilot in simulation.world.ended} == {1}
    assert told.sign_changes <= 2
    assert told.over_oracle <= 0.15, "an oracle that puts two of them into a pilot, too"


def test_no_cycle_makes_more_pilots_than_the_rate_allows() -> None:
    totals = Totals(new_per_cycle=7)
    simulation, told = simulated(Scenario(TWO, (Load(500, 7200.0),), totals=totals))
    assert told.most_new_pilots == 7
    assert told.left == 0
    assert max(moment.requested for moment in simulation.moments) > 7, "what waits in queues is no new pilot"


def test_a_steady_load_keeps_its_pilots() -> None:
    _, told = simulated(Scenario(TWO, (Load(20, 3600.0, times=40, every=600.0),)))
    assert told.left == 0
    assert told.over_oracle <= 0.15
    assert told.pilots < 40, "800 jobs, 8 at once in a pilot, 6 one after the other in every hour"
    assert told.mean_wait < 300


def test_jobs_leave_a_site_that_has_become_a_black_hole() -> None:
    hole = Site("a", black_hole_from=3600.0, black_hole_until=40000.0)
    simulation, told = simulated(Scenario((hole, Site("b")), (Load(40, 3600.0, times=15, every=1200.0),)))
    assert told.left == 0
    assert told.over_oracle <= 0.15
    lost = [run for run in simulation.world.runs if not run.good]
    assert 0 < len(lost) < 300
    in_hole = [pilot for pilot in simulation.world.ended if pilot.site == 0 and pilot.began > 7200]
    elsewhere = [pilot for pilot in simulation.world.ended if pilot.site == 1 and pilot.began > 7200]
    assert len(in_hole) < 40
    assert elsewhere


def test_preempted_jobs_begin_again() -> None:
    sites = (Site("a", preempted_per_day=3.0), Site("b", failure=0.3))
    simulation, told = simulated(Scenario(sites, (Load(200, 5400.0),)))
    assert any(run.preempted for run in simulation.world.runs)
    assert told.left == 0
    assert told.over_oracle <= 0.15


def test_nothing_is_taken_back_while_the_queue_cannot_be_asked() -> None:
    """Every pilot would look useless: there is no job to be seen."""
    load = (Load(200, 7200.0), Load(200, 7200.0, at=9000.0))
    scenario = Scenario((Site("a", queue_seconds=3000.0),), load, lost_from=600.0, lost_until=4000.0)
    simulation, told = simulated(scenario)
    before, during = (
        next(moment for moment in simulation.moments if moment.at >= at).pilots_queued for at in (540.0, 1200.0)
    )
    assert during >= before > 0
    assert told.left == 0


def test_a_policy_ranks_by_benchmarks() -> None:
    quick = partial(Site, queue_seconds=10.0, start_seconds=30.0)
    sites = (quick("plain", benchmark=10.0), quick("fast", benchmark=20.0))
    simulation, _ = simulated(Scenario(sites, (Load(60, 3600.0),), rank="MY.BENCHMARK_DB12"))
    assert {pilot.site for pilot in simulation.world.ended} == {1}


def test_jobs_run_where_the_policy_lets_them() -> None:
    sites = (Site("a", country="DE"), Site("b", country="US"))
    load = (Load(30, 3600.0, country="DE"), Load(30, 3600.0, country="US"))
    simulation, told = simulated(Scenario(sites, load, match="TARGET.country == MY.Country"))
    assert told.left == 0
    assert {pilot.site for pilot in simulation.world.ended} == {0, 1}


def test_the_same_scenario_goes_the_same_way() -> None:
    scenario = Scenario(TWO, (Load(30, 1800.0),))
    first, second = Simulation(scenario), Simulation(scenario)
    first.run()
    second.run()
    assert figures(first) == figures(second)


def test_turns_of_a_series_are_counted() -> None:
    assert [sign_changes(values) for values in ([], [5, 5], [1, 2, 2, 3], [5, 3, 3, 1], [1, 0, 1, 0])] == [
        0,
        0,
        0,
        1,
        3,
    ]


sites_of = st.lists(
    st.builds(
        Site,
        st.just("x"),
        cores=st.sampled_from([1, 4, 8]),
        memory_mib=st.just(16000),
        most_pilots=st.integers(5, 60),
        queue_seconds=st.floats(0.0, 3600.0),
        start_seconds=st.floats(30.0, 300.0),
        idle_seconds=st.just(300.0),
        failure=st.sampled_from([0.0, 0.0, 0.2]),
        preempted_per_day=st.sampled_from([0.0, 0.0, 0.5]),
    ),
    min_size=1,
    max_size=3,
)
load_of = st.lists(
    st.builds(
        Load,
        st.integers(1, 80),
        st.floats(3600.0, 14400.0),
        at=st.floats(0.0, 7200.0),
        times=st.integers(1, 3),
        every=st.floats(600.0, 7200.0),
    ),
    min_size=1,
    max_size=2,
)


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    # A simulation takes its time: the first example that fails is as good as the smallest.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(sites_of, load_of, st.integers(0, 1000), st.integers(3, 50))
def test_whatever_comes_every_job_is_served_and_little_is_wasted(
    sites: list[Site], load: list[Load], seed: int, rate: int
) -> None:
    named = tuple(replace(site, name=f"s{number}") for number, site in enumerate(sites))
    scenario = Scenario(named, tuple(load), seed, cycle_seconds=180.0, totals=Totals(new_per_cycle=rate))
    _, told = simulated(scenario)
    assert (told.jobs_done, told.left) == (told.jobs, 0)
    assert told.most_new_pilots <= rate
    assert told.oracle <= told.paid * (1 + 1e-9)
    assert told.over_oracle <= 0.15, told
