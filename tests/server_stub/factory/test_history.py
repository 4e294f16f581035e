"""Days are counted once whatever happens, and outlive the pilots that they count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from server_stub.factory.history import DAY_SECONDS, Kept, Tidied, count_day, day_name, day_number, tidy
from server_stub.factory.pilots import Pilot, PilotState
from server_stub.factory.store import Store
from server_stub.factory.tables import DayFailureRow, DayRow
from tests.server_stub.factory.test_store import pilot

DAY = 20_000
START = float(DAY * DAY_SECONDS)


def ended(name: str, day: int, **told: Any) -> Pilot:
    done = replace(pilot(name), state=PilotState.ENDED, ended=START + day * DAY_SECONDS + 5.0)
    return replace(done, **told)


def fill(store: Store) -> None:
    """Two pilots on the first day, one on the third, one that runs."""
    spent = {"validation_seconds": 10.0, "busy_seconds": 100.0, "idle_seconds": 20.0}
    store.save(ended("p1", 0, outcome="ok", jobs_started=3, jobs_evicted=1, **spent), report={"a": 1})
    failed = ended("p2", 0, outcome="failed", failure_kind="network", failure_code="clock.skew", validation_seconds=4.0)
    store.save(failed)
    store.save(ended("p3", 2, outcome="ok", jobs_started=0))
    store.save(replace(pilot("p4"), state=PilotState.RUNNING))
    store.add_events("p1", b"{}\n", upto=3, dropped=0, limit_bytes=100)


def days(store: Store) -> list[tuple[object, ...]]:
    query = select(DayRow.day, DayRow.pilots, DayRow.ok, DayRow.failed, DayRow.without_job, DayRow.jobs_started)
    with store.read() as session:
        return [tuple(row) for row in session.execute(query.order_by(DayRow.day))]


COUNTED = [(day_name(DAY), 2, 1, 1, 1, 3), (day_name(DAY + 2), 1, 1, 0, 1, 0)]


def test_days_are_counted_by_entry_with_what_the_time_went_to(store: Store) -> None:
    fill(store)
    assert tidy(store, Kept(), now=START + 2 * DAY_SECONDS + 9).days == 3
    assert days(store) == COUNTED
    with store.read() as session:
        row = session.get_one(DayRow, (day_name(DAY), "site-a"))
        assert (row.validation_seconds, row.busy_seconds, row.idle_seconds, row.jobs_evicted) == (14.0, 100.0, 20.0, 1)
        failure = session.scalars(select(DayFailureRow)).one()
        assert (failure.day, failure.kind, failure.code, failure.pilots) == (day_name(DAY), "network", "clock.skew", 1)


def test_a_day_that_is_counted_again_is_not_counted_twice(store: Store) -> None:
    fill(store)
    for _ in range(2):
        count_day(store, DAY)
        tidy(store, Kept(), now=START + 2 * DAY_SECONDS + 9)
    assert days(store) == COUNTED


def test_what_ends_later_on_a_day_that_was_counted_counts_too(store: Store) -> None:
    fill(store)
    tidy(store, Kept(), now=START + 2 * DAY_SECONDS + 9)
    store.save(ended("p5", 2, outcome="ok", jobs_started=1))
    tidy(store, Kept(), now=START + 3 * DAY_SECONDS + 9)
    assert days(store)[-1] == (day_name(DAY + 2), 2, 2, 0, 1, 1)


def test_documents_go_first_then_pilots_and_the_days_stay(store: Store) -> None:
    fill(store)
    kept = Kept(pilots_days=4, documents_days=2)
    assert tidy(store, kept, now=START + 3 * DAY_SECONDS) == Tidied(4, (), 2)
    assert (store.report("p1"), list(store.events("p1"))) == (None, [])
    assert len(store.pilots()) == 4
    assert tidy(store, kept, now=START + 5 * DAY_SECONDS).pilots == ("p1", "p2")
    assert [one.id for one in store.pilots()] == ["p3", "p4"]
    assert store.changes("p1") == []
    assert days(store) == COUNTED


def test_what_lives_is_never_dropped(store: Store) -> None:
    fill(store)
    tidy(store, Kept(2, 2), now=START + 1000 * DAY_SECONDS)
    assert [one.id for one in store.pilots()] == ["p4"]


@pytest.mark.parametrize("day", [0, 1, 19_999, 20_513])
def test_a_days_name_is_its_number(day: int) -> None:
    assert day_number(day_name(day)) == day
