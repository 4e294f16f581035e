"""The account of jobs as rows that people read, whatever the report holds."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.output.html import html_page
from pilot_agent.output.jobs import jobs_told
from pilot_agent.startd.history import JobRecord, no_jobs, summarize
from tests.output.reports import full

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def account() -> dict[str, Any]:
    records = [
        JobRecord(
            identifier="1.0", user="a<b>@pool", project="atlas", ending=ending, cores=2, wall_seconds=10, begun=100,
            finished=110,
        )
        for ending in ("exit 0", "evicted")
    ]  # fmt: skip
    return summarize(records, began=90, ended=150, cores=4, validation_seconds=4)


def test_endings_users_projects_and_times_are_rows() -> None:
    rows = {row.name: row for row in jobs_told(account())}
    assert rows["started"].status == "2 runs"
    assert (rows["exit 0"].status, rows["evicted"].status) == ("1 run", "1 run")
    assert rows["user a<b>@pool"].words == (("exit_zero", "1"), ("busy_seconds", "20 s"), ("busy_core_seconds", "40 s"))
    assert rows["project atlas"].status == "2 runs"
    assert rows["idle core"].status == "3 min 20 s"


def test_a_pilot_without_jobs_has_no_rows() -> None:
    assert jobs_told(no_jobs(3.0)) == ()


def test_the_page_shows_them_and_nothing_of_a_users_name_is_markup() -> None:
    page = html_page({**full(), "jobs": account()})
    assert "user a&lt;b&gt;@pool" in page
    assert "a<b>" not in page


@given(JSON | st.fixed_dictionaries({"started": st.just(1), "ended": JSON, "users": JSON, "projects": JSON}))
def test_no_report_breaks_the_rows(value: Any) -> None:
    jobs_told(value)
