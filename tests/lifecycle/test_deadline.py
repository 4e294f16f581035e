"""The first limit that counts decides, everything ends before it, and what does not count says why."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.codec import from_json, to_json
from pilot_agent.lifecycle.deadline import Deadline, Rules, Said, decide, drawn

STARTED = 1_795_000_000.0
DAY = 86400
RULES = Rules(margin=30, teardown=25, minimum=600, spread=0)


def decided(*said: Said, rules: Rules = RULES, pilot_id: str = "x", behind_seconds: float = 0.0) -> Deadline:
    return decide(said, rules, pilot_id=pilot_id, started=STARTED, behind_seconds=behind_seconds)


def batch(after_seconds: float, source: str = "SLURM_JOB_END_TIME") -> Said:
    return Said("batch", source, STARTED + after_seconds)


def test_the_first_limit_decides_and_all_are_kept() -> None:
    token = Said("token", "expiry of pool.token", STARTED + 7200)
    found = decided(batch(DAY), token, Said("features", "MACHINEFEATURES shutdowntime", STARTED + 2 * DAY))
    assert found.decided is not None
    assert found.decided.source == "expiry of pool.token"
    assert [(limit.kind, limit.counts) for limit in found.limits] == [
        ("batch", True),
        ("token", True),
        ("features", True),
    ]


def test_everything_has_its_place_before_the_end() -> None:
    found = decided(batch(7255))
    assert found.leaves == STARTED + 7255 - 30
    assert found.to_die == found.leaves - 25
    assert found.to_retire == found.to_die - 720
    assert found.left_seconds(STARTED) == 7200 - 720


@pytest.mark.parametrize(("life", "retirement"), [(300, 60), (7200, 720), (DAY, 1800)])
def test_without_a_configured_retirement_a_tenth_takes_no_jobs(life: int, retirement: int) -> None:
    found = decided(batch(life + 55))
    assert found.to_die is not None
    assert found.to_retire == found.to_die - retirement


def test_a_configured_retirement_is_taken_as_it_is() -> None:
    found = decided(batch(DAY), rules=Rules(margin=30, teardown=25, minimum=600, spread=0, retirement=36000))
    assert found.to_die is not None
    assert found.to_retire == found.to_die - 36000


def test_without_a_limit_there_are_no_moments() -> None:
    found = decided()
    assert (found.decided, found.to_retire, found.to_die, found.leaves) == (None, None, None, None)
    assert found.left_seconds(STARTED) == math.inf


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (Said("batch", "x", None, "SLURM_JOB_END_TIME is 'x', which is no number"), "'x', which is no number"),
        (Said("batch", "x", None), "it tells no time"),
        (Said("walltime", "x", math.nan), "it tells no time"),
        (Said("token", "x", math.inf), "it tells no time"),
        (batch(-7200), "it had passed 7200 s before the pilot began"),
        (Said("features", "x", 0.0), "before the pilot began"),
        (Said("batch", "x", 4_294_967_295.0), "stands for no limit"),
        (Said("token", "x", 1_795_000_000_000.0), "stands for no limit"),
    ],
)
def test_what_cannot_be_true_does_not_count_and_says_why(said: Said, why: str) -> None:
    found = decided(said, batch(DAY, "other"))
    assert found.decided is not None
    assert found.decided.source == "other"
    (limit,) = (limit for limit in found.limits if limit.source != "other")
    assert (limit.counts, limit.ends) == (False, None)
    assert why in limit.why


@pytest.mark.parametrize("said", [batch(-60), Said("walltime", "x", STARTED - 2 * DAY)])
def test_an_end_that_just_passed_and_a_configured_one_do_count(said: Said) -> None:
    assert decided(said).left_seconds(STARTED) < 0


def test_a_clock_that_is_behind_sees_the_ends_of_others_earlier() -> None:
    own = Said("walltime", "start of the process below pbs_mom + x", STARTED + 7000, own_clock=True)
    found = decided(batch(7200), own, behind_seconds=300)
    assert found.decided is not None
    assert found.decided.ends == STARTED + 6900
    assert found.decided.moment == STARTED + 7200
    assert "300.0 s behind" in found.decided.why
    assert found.limits[1].ends == STARTED + 7000


def test_a_clock_that_is_ahead_gains_nothing() -> None:
    assert decided(batch(7200), behind_seconds=-300) == decided(batch(7200))


def test_each_pilot_draws_its_own_part_of_the_spread_and_always_the_same() -> None:
    rules = Rules(margin=30, teardown=25, minimum=600, spread=1000)
    ends = [decided(batch(DAY), rules=rules, pilot_id=f"{number:012x}").to_die for number in range(400)]
    assert ends == [decided(batch(DAY), rules=rules, pilot_id=f"{number:012x}").to_die for number in range(400)]
    whole = DAY - 55
    early = sorted(STARTED + whole - end for end in ends if end is not None)
    assert 0 <= early[0] < 50
    assert 950 < early[-1] <= 1000
    assert 400 < sum(early) / len(early) < 600


def test_the_spread_takes_nothing_that_the_minimum_needs() -> None:
    rules = Rules(margin=30, teardown=25, minimum=600, spread=1000, retirement=60)
    for number in range(50):
        found = decided(batch(55 + 60 + 605), rules=rules, pilot_id=str(number))
        assert found.left_seconds(STARTED) >= 600


def test_without_a_configured_spread_it_is_a_small_part_of_a_short_life() -> None:
    rules = Rules(margin=30, teardown=25, minimum=0)
    assert max(decided(batch(3655), rules=rules, pilot_id=str(n)).spread_seconds for n in range(100)) <= 72
    assert max(decided(batch(9 * DAY), rules=rules, pilot_id=str(n)).spread_seconds for n in range(100)) <= 600


anything = st.none() | st.floats() | st.integers(-(10**18), 10**18).map(float)
kinds = st.sampled_from(["batch", "walltime", "features", "token"])
seconds = st.floats(0, 10**6)
rules_of_any = st.builds(
    Rules,
    margin=seconds,
    teardown=seconds,
    minimum=seconds,
    spread=st.none() | seconds,
    retirement=st.none() | seconds,
)


@given(
    st.lists(st.builds(Said, kinds, st.text(min_size=1), anything, st.text(), st.booleans()), max_size=5),
    rules_of_any,
    st.text(),
    st.floats(-1e6, 1e6),
)
def test_whatever_is_said_the_order_holds_before_every_limit_that_counts(
    said: list[Said], rules: Rules, pilot_id: str, behind: float
) -> None:
    found = decide(said, rules, pilot_id=pilot_id, started=STARTED, behind_seconds=behind)
    assert len(found.limits) == len(said)
    assert from_json(Deadline, to_json(found)) == found
    if found.decided is None:
        assert not any(limit.counts for limit in found.limits)
        return
    assert found.to_retire is not None
    assert found.to_die is not None
    assert found.leaves is not None
    assert found.to_retire <= found.to_die <= found.leaves
    for limit in found.limits:
        assert limit.counts == (limit.ends is not None)
        assert limit.ends is None or found.leaves <= limit.ends - rules.margin
        assert limit.ends is None or limit.moment is None or limit.ends <= limit.moment
    assert all(limit.why for limit in found.limits if not limit.counts)


@given(st.text())
def test_what_a_pilot_draws_lies_between_0_and_1(pilot_id: str) -> None:
    assert 0 <= drawn(pilot_id) < 1


def test_without_its_token_the_pilot_would_end_as_the_next_limit_says() -> None:
    token = Said("token", "expiry of pool.token", STARTED + 4000)
    found = decided(token, batch(9000), behind_seconds=5)
    assert found.to_die == STARTED + 4000 - 5 - 55
    assert (found.without_token(), found.behind_seconds()) == (STARTED + 9000 - 5 - 55, 5)
    assert decided(batch(9000)).without_token() == decided(batch(9000)).to_die
    assert decided(token).without_token() is None
    assert decided().behind_seconds() == 0
