"""Whatever is asked for: no limit is exceeded, room is shared, every lack has a reason, nothing is done in the dark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server_stub.factory.controller import (
    MOST_REMOVED,
    PACE,
    STALE_SECONDS,
    Plan,
    Situation,
    decide,
)
from server_stub.factory.demand import Held, Key, Wanted
from server_stub.factory.entry import Entry, Limits
from server_stub.factory.frontends import Frontend, FrontendLimits
from server_stub.frontend.removal import Removal

NOW = 1_000_000.0
WIDE = Limits(total=1000, idle=1000, held=1000, per_minute=1000)


def entry(name: str = "e", limits: Limits = WIDE, vos: tuple[str, ...] = ()) -> Entry:
    return Entry(name, "Site", "pyz", limits=limits, vos=vos)


def frontend(name: str = "f", vos: tuple[str, ...] = ("v", "w"), limits: FrontendLimits | None = None) -> Frontend:
    return Frontend(name, "", vos, limits=limits or FrontendLimits())


def want(
    queued: int = 5, pilots: int = 100, *, key: Key = ("e", "f", "v"), remove: Removal = Removal.NO,
    idle: tuple[str, ...] = (), expires: float = NOW + 60,
) -> Wanted:  # fmt: skip
    return Wanted(key[1], key[0], key[2], queued, pilots, remove, idle, expires=expires)


def situation(
    *wanted: Wanted,
    held: Mapping[Key, Held] | None = None,
    entries: tuple[Entry, ...] = (entry(),),
    frontends: tuple[Frontend, ...] = (frontend(), frontend("g")),
) -> Situation:
    return Situation(
        now=NOW,
        observed=NOW - 1,
        entries={one.name: one for one in entries},
        frontends={one.name: one for one in frontends},
        wanted=wanted,
        held=held or {},
    )


def submitted(plan: Plan) -> dict[Key, int]:
    return dict(plan.submit)


def test_what_the_queue_lacks_is_submitted() -> None:
    held = {("e", "f", "v"): Held(waiting=2, running=9)}
    plan = decide(situation(want(5, 100), held=held))
    assert submitted(plan) == {("e", "f", "v"): 3}
    assert plan.limited_by == {("e", "f", "v"): ""}


def test_there_are_never_more_in_all_than_asked_for() -> None:
    assert submitted(decide(situation(want(5, 10), held={("e", "f", "v"): Held(1, 8)}))) == {("e", "f", "v"): 1}
    assert submitted(decide(situation(want(5, 10), held={("e", "f", "v"): Held(0, 12)}))) == {}


@pytest.mark.parametrize(
    ("limits", "of_frontend", "said"),
    [
        (replace(WIDE, total=14), FrontendLimits(), "limits.total"),
        (replace(WIDE, idle=4), FrontendLimits(), "limits.idle"),
        (replace(WIDE, per_vo={"v": 14}), FrontendLimits(), "limits.per_vo.v"),
        (replace(WIDE, per_minute=2), FrontendLimits(), "limits.per_minute"),
        (WIDE, FrontendLimits(total=14), "frontend.limits.total"),
        (WIDE, FrontendLimits(idle=4), "frontend.limits.idle"),
        (WIDE, FrontendLimits(per_minute=2), "frontend.limits.per_minute"),
    ],
)
def test_each_limit_leaves_the_room_it_has_and_is_named(limits: Limits, of_frontend: FrontendLimits, said: str) -> None:
    held = {("e", "f", "v"): Held(waiting=2, running=9, held=1)}
    asked = situation(want(9), held=held, entries=(entry(limits=limits),), frontends=(frontend(limits=of_frontend),))
    plan = decide(asked)
    assert submitted(plan) == {("e", "f", "v"): 2}
    assert plan.limited_by == {("e", "f", "v"): said}


@pytest.mark.parametrize(
    ("limits", "of_frontend", "said"),
    [
        (replace(WIDE, held=3), FrontendLimits(), "limits.held"),
        (WIDE, FrontendLimits(held=3), "frontend.limits.held"),
    ],
)
def test_where_as_many_are_held_as_may_be_no_more_are_sent(
    limits: Limits, of_frontend: FrontendLimits, said: str
) -> None:
    made = {"entries": (entry(limits=limits),), "frontends": (frontend(limits=of_frontend),)}
    full = decide(situation(want(9), held={("e", "f", "v"): Held(held=3)}, **made))  # type: ignore[arg-type]
    assert (submitted(full), full.limited_by) == ({}, {("e", "f", "v"): said})
    rest = decide(situation(want(9), held={("e", "f", "v"): Held(held=2)}, **made))  # type: ignore[arg-type]
    assert submitted(rest) == {("e", "f", "v"): 9}


def test_pilots_that_are_held_by_one_frontends_credentials_shut_no_entry_for_the_others() -> None:
    made = {"entries": (entry(limits=replace(WIDE, held=3)),), "frontends": (frontend(), frontend("g"))}
    held = {("e", "g", "v"): Held(held=900)}
    plan = decide(situation(want(9), want(9, key=("e", "g", "v")), held=held, **made))  # type: ignore[arg-type]
    assert submitted(plan) == {("e", "f", "v"): 9}
    assert plan.limited_by[("e", "g", "v")] == "limits.held"


def test_pilots_that_nobody_asked_for_count_too() -> None:
    held = {("e", "", ""): Held(running=6), ("e", "g", "w"): Held(waiting=1)}
    assert submitted(decide(situation(want(9), held=held, entries=(entry(limits=Limits(total=10)),)))) == {
        ("e", "f", "v"): 3
    }


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"closed": {"e": "downtime: power"}}, "closed: downtime: power"),
        ({"paused": {("e", ""): "batch.failed: no answer"}}, "batch.failed: no answer"),
        ({"paused": {("e", "f"): "token.missing: none"}}, "token.missing: none"),
        ({"frontends": {}}, "not a frontend of this factory any more"),
        ({"entries": {}}, "there is no entry 'e' for f"),
        ({"frontends": {"f": frontend(vos=("w",))}}, "f may not ask for v; it may for w"),
        ({"entries": {"e": entry(vos=("w",))}}, "the entry takes no pilots of v"),
        ({"now": NOW + 61, "observed": NOW + 60}, "expired"),
        ({"observed": None}, "the batch system has not answered lately"),
        ({"observed": NOW - STALE_SECONDS - 1}, "the batch system has not answered lately"),
        ({"observed": NOW + 1}, "the batch system has not answered lately"),
    ],
)
def test_nothing_is_submitted_where_nothing_may_be_and_the_reason_is_told(
    changed: dict[str, object], said: str
) -> None:
    plan = decide(replace(situation(want()), **changed))  # type: ignore[arg-type]
    assert (plan.submit, plan.limited_by) == ((), {("e", "f", "v"): said})


def test_a_pause_of_one_frontend_is_none_of_another() -> None:
    asked = situation(want(), want(key=("e", "g", "v")))
    assert submitted(decide(replace(asked, paused={("e", "g"): "token.missing"}))) == {("e", "f", "v"): 5}


def test_room_that_is_short_goes_to_whoever_has_fewest() -> None:
    held = {("e", "f", "v"): Held(running=60), ("e", "g", "v"): Held(running=10)}
    asked = situation(
        want(50, 500), want(50, 500, key=("e", "g", "v")), held=held, entries=(entry(limits=Limits(total=100)),)
    )
    assert submitted(decide(asked)) == {("e", "g", "v"): 30}
    assert submitted(decide(replace(asked, held={}))) == {("e", "f", "v"): 50, ("e", "g", "v"): 50}


def test_a_second_vo_gets_its_frontend_no_second_share() -> None:
    asked = situation(
        want(50),
        want(50, key=("e", "f", "w")),
        want(50, key=("e", "g", "v")),
        entries=(entry(limits=Limits(total=20)),),
    )
    assert submitted(decide(asked)) == {("e", "f", "v"): 5, ("e", "f", "w"): 5, ("e", "g", "v"): 10}


def test_one_decision_is_not_larger_than_its_pace() -> None:
    asked = situation(want(50), want(50, key=("e", "g", "v")))
    plan = decide(asked, most=7)
    assert sum(submitted(plan).values()) == 7
    assert set(plan.limited_by.values()) == {PACE}


def test_nothing_is_taken_back_unless_it_is_asked_for() -> None:
    held = {("e", "f", "v"): Held(waiting=9, running=9)}
    assert decide(situation(want(0, 0), held=held)).remove == ()
    assert decide(situation(held=held)).remove == ()
    assert decide(situation(want(0, 0, remove=Removal.IDLE, expires=NOW), held=held)).remove == ()


def test_queued_ones_go_first_and_some_at_a_time() -> None:
    held = {("e", "f", "v"): Held(waiting=4, running=9)}
    for kind in (Removal.WAIT, Removal.IDLE, Removal.WHOLE):
        (take,) = decide(situation(want(1, 0, remove=kind, idle=("p",)), held=held)).remove
        assert (take.queued, take.running, take.unsubmitted) == (3, 0, kind is Removal.WAIT)
    (take,) = decide(situation(want(0, 0, remove=Removal.IDLE), held={("e", "f", "v"): Held(waiting=500)})).remove
    assert take.queued == MOST_REMOVED


def test_of_those_that_run_only_named_ones_beyond_the_number_go() -> None:
    held = {("e", "f", "v"): Held(running=9)}
    named = tuple("abcd")
    (take,) = decide(situation(want(0, 7, remove=Removal.WHOLE, idle=named), held=held)).remove
    assert (take.queued, take.running, take.names) == (0, 2, named)
    assert decide(situation(want(0, 7, remove=Removal.WHOLE), held=held)).remove == ()
    assert decide(situation(want(0, 7, remove=Removal.IDLE, idle=named), held=held)).remove == ()
    assert decide(situation(want(0, 9, remove=Removal.WHOLE, idle=named), held=held)).remove == ()


def test_what_is_leaving_is_not_taken_back_again() -> None:
    key = ("e", "f", "v")
    asked = situation(want(2, 0, remove=Removal.IDLE), held={key: Held(waiting=5)})
    assert decide(replace(asked, leaving={key: Held(waiting=3)})).remove == ()
    (take,) = decide(replace(asked, leaving={key: Held(waiting=2)})).remove
    assert take.queued == 1


def test_a_downtime_of_the_entry_takes_nothing_back() -> None:
    asked = situation(want(0, 0, remove=Removal.IDLE), held={("e", "f", "v"): Held(waiting=5)})
    assert decide(replace(asked, closed={"e": "downtime"})).remove == ()


SMALL = st.integers(0, 12)
LIMITS = st.builds(
    Limits, total=SMALL, idle=SMALL, held=SMALL, per_vo=st.dictionaries(st.sampled_from("vw"), SMALL), per_minute=SMALL
)
OF_FRONTEND = st.builds(FrontendLimits, total=SMALL, idle=SMALL, held=SMALL, per_minute=SMALL)
HELD = st.builds(Held, SMALL, SMALL, st.integers(0, 3))
KEYS = st.tuples(st.sampled_from("de"), st.sampled_from("fg"), st.sampled_from("vw"))


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    entries = tuple(entry(name, draw(LIMITS), draw(st.sampled_from([(), ("v",), ("v", "w")]))) for name in ("d", "e"))
    keys = draw(st.sets(KEYS))
    removals = st.sampled_from(list(Removal))
    ends = st.sampled_from([NOW - 1, NOW + 60])
    wanted = [
        want(draw(SMALL), draw(SMALL), key=key, remove=draw(removals), idle=("a", "b"), expires=draw(ends))
        for key in sorted(keys)
    ]
    held = draw(st.dictionaries(KEYS | st.just(("e", "", "")), HELD))
    found = situation(
        *wanted,
        held=held,
        entries=entries,
        frontends=tuple(frontend(name, ("v", "w"), draw(OF_FRONTEND)) for name in "fg"),
    )
    recent = draw(st.dictionaries(st.tuples(st.sampled_from("de"), st.sampled_from("fg")), SMALL))
    closed = draw(st.dictionaries(st.sampled_from("de"), st.just("downtime"), max_size=1))
    return replace(found, recent=recent, closed=closed)


def after(before: Situation, plan: Plan) -> Situation:
    """When everything was submitted."""
    held, recent = dict(before.held), Counter(before.recent)
    for key, number in plan.submit:
        one = held.get(key, Held())
        held[key] = replace(one, waiting=one.waiting + number)
        recent[key[:2]] += number
    return replace(before, held=held, recent=recent)


def uses(found: Situation) -> dict[tuple[str, str], tuple[int, int]]:
    """What of each limit is used, beside the limit."""
    told: dict[tuple[str, str], tuple[int, int]] = {}
    for place, name in enumerate(("entries", "frontends")):
        for one, has in getattr(found, name).items():
            mine = {key: held for key, held in found.held.items() if key[place] == one}
            limits = has.limits
            told[("total", one)] = (sum(held.all for held in mine.values()), limits.total)
            told[("idle", one)] = (sum(held.waiting for held in mine.values()), limits.idle)
            minute = sum(number for key, number in found.recent.items() if key[place] == one)
            told[("per_minute", one)] = (minute, limits.per_minute)
            for vo, most in getattr(limits, "per_vo", {}).items():
                told[(f"per_vo.{vo}", one)] = (sum(held.all for key, held in mine.items() if key[2] == vo), most)
    for one in found.wanted:
        held = found.held.get(one.key, Held())
        told[("queued", str(one.key))] = (held.waiting, one.queued)
        told[("pilots", str(one.key))] = (held.waiting + held.running, one.pilots)
    return told


@settings(max_examples=300, deadline=None)
@given(situations(), st.integers(0, 40))
def test_no_limit_is_ever_exceeded(found: Situation, most: int) -> None:
    plan = decide(found, most=most)
    assert sum(submitted(plan).values()) <= most
    before = uses(found)
    for name, (used, limit) in uses(after(found, plan)).items():
        assert used <= max(limit, before[name][0]), name


@settings(max_examples=200, deadline=None)
@given(situations())
def test_done_once_there_is_nothing_more_to_do_and_every_lack_has_its_reason(found: Situation) -> None:
    plan = decide(found)
    assert plan == decide(found)
    done = after(found, plan)
    again = decide(done)
    assert again.submit == ()
    for one in found.wanted:
        held = done.held.get(one.key, Held())
        lacks = one.queued > held.waiting and one.pilots > held.waiting + held.running
        may = one.expires > NOW
        assert bool(again.limited_by[one.key]) or not lacks, "a lack without a reason"
        assert not (may and lacks and again.limited_by[one.key] == PACE)


@settings(max_examples=100, deadline=None)
@given(situations(), st.sampled_from([None, NOW - STALE_SECONDS - 0.1, NOW + 5]))
def test_on_an_old_answer_nothing_is_done(found: Situation, observed: float | None) -> None:
    plan = decide(replace(found, observed=observed))
    assert (plan.submit, plan.remove) == ((), ())


@settings(max_examples=200, deadline=None)
@given(situations())
def test_never_more_is_taken_back_than_is_too_many(found: Situation) -> None:
    asked = {one.key: one for one in found.wanted}
    for take in decide(found).remove:
        one, held = asked[take.key], found.held[take.key]
        assert one.remove is not Removal.NO
        assert 0 < take.queued + take.running <= MOST_REMOVED
        assert held.waiting - take.queued >= one.queued or not take.queued
        assert held.waiting + held.running - take.running >= one.pilots or not take.running
        assert not (take.running and one.remove is not Removal.WHOLE)


@settings(max_examples=200, deadline=None)
@given(situations())
def test_nobody_who_lacks_has_less_than_one_who_got_more(found: Situation) -> None:
    plan = decide(found)
    done = after(found, plan)
    whole: Counter[tuple[str, str]] = Counter()
    for key, held in done.held.items():
        whole[key[:2]] += held.all
    for key, reason in plan.limited_by.items():
        if reason == "limits.total":
            for other in submitted(plan):
                if other[0] == key[0] and other[1] != key[1]:
                    assert whole[other[:2]] <= whole[key[:2]] + 1
