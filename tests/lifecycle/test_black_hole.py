"""When a node is to blame for jobs that fail at once, and when it is not: ends as HTCondor 23.9 writes them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilot_agent.lifecycle.black_hole import Detector, Suspicion
from pilot_agent.lifecycle.job_ends import (
    FAILED,
    FINE,
    MOST_BYTES,
    NOT_STARTED,
    SAYS_NOTHING,
    HistoryTail,
    JobEnd,
)
from pilot_agent.lifecycle.plan import BlackHolePlan
from tests.startd.histories import banner, history

PLAN = BlackHolePlan(jobs=10, clusters=3, seconds=30.0, share=0.9, window_seconds=900.0)


def end(ending: str, number: int = 0, *, cluster: int = 1, user: str = "u", seconds: float = 0.2) -> JobEnd:
    return JobEnd(f"ap#{cluster}.{number}", f"ap#{cluster}", user, ending, seconds, "exit 1")


def suspicion_of(ends: Iterator[JobEnd] | list[JobEnd], *, every: float = 1.0) -> Suspicion | None:
    """The first suspicion when one end comes every so many seconds."""
    detector = Detector(PLAN)
    found = (detector.add(one, number * every) for number, one in enumerate(ends))
    return next((one for one in found if one is not None), None)


def test_ten_thousand_honest_short_jobs_are_no_black_hole() -> None:
    assert suspicion_of((end(FINE, n, cluster=n % 500) for n in range(10_000)), every=0.05) is None


def test_ten_thousand_ends_of_a_usual_day_are_no_black_hole() -> None:
    """Most jobs work, some fail late, some at once; one user's clusters are broken and come in bursts."""
    draw = random.Random(7)
    ends: list[JobEnd] = []
    while len(ends) < 10_000:
        cluster = len(ends)
        if draw.random() < 0.02:
            ends += [end(FAILED, n, cluster=cluster, user="broken") for n in range(draw.randint(5, 80))]
        ending = draw.choices((FINE, FAILED, SAYS_NOTHING, NOT_STARTED), (80, 12, 6, 2))[0]
        ends.append(end(ending, cluster=cluster, user=f"u{draw.randint(1, 9)}", seconds=draw.expovariate(1 / 1800)))
    assert suspicion_of(ends, every=30) is None


def test_a_node_that_breaks_is_found_among_ten_thousand_ends_before_many_jobs_were_lost() -> None:
    draw = random.Random(7)
    detector = Detector(PLAN)
    for n in range(10_000):
        broken = n >= 9_000
        one = end(FAILED if broken else FINE, n, cluster=draw.randint(1, 40), user=f"u{draw.randint(1, 5)}")
        found = detector.add(one, n * 20.0)
        if found is not None:
            break
    assert found is not None
    assert 9_000 <= n < 9_040


def test_one_cluster_that_fails_by_itself_is_no_fault_of_the_node() -> None:
    assert suspicion_of([end(FAILED, n) for n in range(500)]) is None


def test_one_cluster_that_fails_and_a_few_jobs_of_others_are_no_fault_of_the_node() -> None:
    ends = [end(FAILED, n, cluster=n if n % 12 == 0 else 1, user=f"u{n}" if n % 12 == 0 else "u") for n in range(36)]
    assert suspicion_of(ends) is None


def test_of_one_users_clusters_more_must_fail() -> None:
    assert suspicion_of([end(FAILED, n, cluster=n % 5) for n in range(200)]) is None
    found = suspicion_of([end(FAILED, n, cluster=n % 6) for n in range(200)])
    assert found is not None
    assert (found.failed, found.clusters, found.users) == (20, 6, 1)


def test_clusters_of_two_users_that_fail_at_once_are_enough() -> None:
    found = suspicion_of([end(FAILED, n, cluster=n % 3, user=f"u{n % 3}") for n in range(200)])
    assert found is not None
    assert found.failed == PLAN.jobs
    assert "10 of the last 10 jobs here failed at once; they are of 3 clusters of 3 users" in found.message()


def test_jobs_that_failed_after_their_work_are_no_sign() -> None:
    assert suspicion_of([end(FAILED, n, cluster=n, user=f"u{n}", seconds=31) for n in range(200)]) is None


def test_what_the_starter_could_not_begin_is_the_nodes_fault_with_two_clusters() -> None:
    found = suspicion_of([end(NOT_STARTED, cluster=n % 2) for n in range(50)])
    assert found is not None
    assert (found.failed, found.not_started) == (10, 10)
    assert "10 of them before they began" in found.message()


def test_one_job_that_no_starter_can_bear_does_not_drain_a_pilot() -> None:
    assert suspicion_of([end(NOT_STARTED) for _ in range(500)]) is None


def test_a_production_of_one_cluster_that_is_never_begun_needs_more_ends() -> None:
    found = suspicion_of([end(NOT_STARTED, n) for n in range(500)])
    assert found is not None
    assert found.failed == 3 * PLAN.jobs


def test_users_who_remove_their_jobs_are_no_sign() -> None:
    assert suspicion_of([end(SAYS_NOTHING, n, cluster=n, user=f"u{n}") for n in range(500)]) is None


def test_jobs_that_do_their_work_meanwhile_speak_for_the_node() -> None:
    ends = [end(FINE if n % 5 == 0 else FAILED, n, cluster=n, user=f"u{n}") for n in range(500)]
    assert suspicion_of(ends) is None


def test_failures_that_are_far_apart_are_no_burst() -> None:
    assert suspicion_of([end(FAILED, n, cluster=n, user=f"u{n}") for n in range(500)], every=120) is None


def test_it_can_be_switched_off() -> None:
    detector = Detector(BlackHolePlan(jobs=0))
    assert not any(detector.add(end(NOT_STARTED, n, cluster=n, user=f"u{n}"), n) for n in range(100))


ENDS = st.builds(
    end,
    st.sampled_from((FINE, FAILED, NOT_STARTED, SAYS_NOTHING)),
    st.integers(0, 3),
    cluster=st.integers(0, 4),
    user=st.sampled_from("abc"),
    seconds=st.sampled_from((0.1, 29.9, 30.0, 900.0)),
)


@given(st.lists(st.tuples(ENDS, st.floats(0, 500)), max_size=60))
def test_a_suspicion_always_has_the_counts_that_the_thresholds_ask_for(ends: list[tuple[JobEnd, float]]) -> None:
    plan = BlackHolePlan(jobs=4, clusters=2, seconds=30, share=0.75, window_seconds=600)
    detector, now = Detector(plan), 0.0
    for one, gap in ends:
        now += gap
        found = detector.add(one, now)
        if found is not None:
            assert one.ending == NOT_STARTED or (one.ending == FAILED and one.seconds < 30)
            assert found.failed >= plan.jobs
            assert found.failed >= plan.share * found.ends
            assert found.clusters >= 2 or found.not_started >= 3 * plan.jobs


# What a starter writes, cut to what is read: seen with HTCondor 23.9.6.
JOB = 'ClusterId = 7\nProcId = 3\nGlobalJobId = "ap.example.org#7.3#1795273818"\nUser = "user@pool.test"\n'
BEGUN = JOB + "JobStartDate = 1795273819\nExitBySignal = false\nScratchDirFileCount = 12\n"
RAN = BEGUN + 'JobState = "Exited"\nJobDuration = 0.191509\n'
TICKET = 'ToE = [ How = "OF_ITS_OWN_ACCORD"; Who = "itself"; When = 1795273820; HowCode = 0; ExitCode = 127 ]\n'
STALE = TICKET.replace("820", "120")


def ends_of(path: Path, content: bytes) -> list[JobEnd]:
    """What a tail makes of a file with this content."""
    path.write_bytes(content)
    return HistoryTail(str(path)).read()


@pytest.mark.parametrize(
    ("ad", "ending", "how"),
    [
        (RAN + "ExitCode = 0\n" + TICKET, FINE, "exit 0"),
        (RAN + "ExitCode = 127\n" + TICKET, FAILED, "exit 127"),
        (RAN.replace("= false", "= true") + "ExitSignal = 11\n" + TICKET, FAILED, "signal 11"),
        (RAN + "ExitCode = 143\n", SAYS_NOTHING, ""),  # removed, held or vacated
        (RAN + "ExitCode = 143\n" + STALE, SAYS_NOTHING, ""),  # and it had run before
        (BEGUN, NOT_STARTED, "not started"),  # the runtime could not be run
        (BEGUN + STALE, NOT_STARTED, "not started"),
        (JOB + "STARTER_DISCONNECTED_FROM_SUBMIT_NODE = true\n", SAYS_NOTHING, ""),  # a hook refused it
        (JOB, SAYS_NOTHING, ""),  # its files could not be brought
        (RAN + 'ExitCode = "zero"\n' + TICKET, SAYS_NOTHING, ""),
        (RAN + "ExitCode = 1\nToE = [[[\n", SAYS_NOTHING, ""),
    ],
)
def test_how_a_job_ended_is_read_from_its_ad(tmp_path: Path, ad: str, ending: str, how: str) -> None:
    [found] = ends_of(tmp_path / "startd_history", history((ad, "7.3")))
    assert (found.ending, found.how) == (ending, how)
    assert (found.job, found.cluster, found.user) == ("ap.example.org#7.3", "ap.example.org#7", "user@pool.test")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400), st.binary(max_size=400))
def test_no_content_of_a_history_raises(tmp_path: Path, first: bytes, second: bytes) -> None:
    content = first + b"\n" + history((JOB, "7.3"), begin=len(first) + 1) + second
    assert len(ends_of(tmp_path / "startd_history", content)) <= 2


def test_the_tail_gives_each_end_once_whatever_the_pieces_in_which_it_is_written(tmp_path: Path) -> None:
    content = history(*((BEGUN if number % 2 else RAN, f"7.{number}") for number in range(40)))
    path = tmp_path / "startd_history"
    tail, draw = HistoryTail(str(path)), random.Random(3)
    assert tail.read() == []
    jobs: list[str] = []
    with path.open("ab", buffering=0) as file:
        while content:
            size = draw.randint(1, 200)
            file.write(content[:size])
            content = content[size:]
            jobs += [one.job for one in tail.read()]
    assert jobs == [f"ap.example.org#7.{n}" for n in range(40)]
    assert tail.read() == []


def test_the_tail_follows_a_rotated_file(tmp_path: Path) -> None:
    path = tmp_path / "startd_history"
    path.write_bytes(history((BEGUN, "7.3")))
    tail = HistoryTail(str(path))
    assert len(tail.read()) == 1
    path.rename(tmp_path / "startd_history.20261121T151018")
    assert tail.read() == []
    path.write_bytes(history(*[(BEGUN, "7.3")] * 3))
    assert len(tail.read()) == 3


def test_far_behind_the_tail_reads_the_newest_only(tmp_path: Path) -> None:
    path = tmp_path / "startd_history"
    one = BEGUN + banner(10**6)
    content = history(*[(BEGUN, "7.3")] * (3 * MOST_BYTES // len(one)))
    found = ends_of(path, content)
    assert 0 < len(found) <= MOST_BYTES // len(one) + 1


@pytest.mark.parametrize("make", ["missing", "directory", "link"])
def test_what_is_no_history_has_no_ends(tmp_path: Path, make: str) -> None:
    path = tmp_path / "startd_history"
    if make == "directory":
        path.mkdir()
    elif make == "link":
        (tmp_path / "other").write_bytes(history((BEGUN, "7.3")))
        path.symlink_to(tmp_path / "other")
    assert HistoryTail(str(path)).read() == []
