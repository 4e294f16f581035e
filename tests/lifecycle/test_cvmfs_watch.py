"""CVMFS under a running pilot: what is told of each repository, which jobs are kept out, and what is mounted again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.interpreter import interpreter_command
from pilot_agent.lifecycle import cvmfs_remount
from pilot_agent.lifecycle.cvmfs_remount import MOST_TRIES
from pilot_agent.lifecycle.cvmfs_repository import BEHIND_SECONDS, CALM_LOOKS, Repository
from pilot_agent.lifecycle.cvmfs_watch import DOWN_ATTRIBUTE, REQUIRED_DOWN, STALE_ATTRIBUTE, CvmfsWatch
from pilot_agent.lifecycle.plan import CvmfsPlan
from pilot_agent.lifecycle.signals import Alarm
from pilot_agent.light import signal
from tests.lifecycle.bench import ENVIRONMENT, Bench
from tests.probes.hanging_fuse import hanging_mount
from tests.probes.namespaced import in_namespace

A, B = "a.example.org", "b-2.example.org"
REAL = (*interpreter_command(), "_cvmfs", "look")


def watch(bench: Bench, place: Path, **plan: Any) -> None:
    """Watch two repositories below this place with the real command, unless the plan says otherwise."""
    given = {
        "repositories": [A, B], "command": REAL, "environment": ENVIRONMENT, "mount_point": str(place),
        "period_seconds": 0.1, "timeout_seconds": 30.0, **plan,
    }  # fmt: skip
    CvmfsWatch(CvmfsPlan(**given), bench.loop, bench.ad, bench.events, bench.acceptance)  # type: ignore[arg-type]


def directories(place: Path) -> None:
    """Two repositories as an NFS server exports them: directories with something in them and without attributes."""
    for name in (A, B):
        (place / name).mkdir()
        (place / name / "new_repository").touch()


def scripted(place: Path) -> dict[str, Any]:
    """A plan whose looks say what ``answer`` wrote."""
    return {"command": ["/bin/sh", "-c", f'cat "{place}/${{0##*/}}.json"']}


def answer(place: Path, name: str, **told: Any) -> None:
    """What the next look at this repository says."""
    written = place / f"{name}.new"
    written.write_text(json.dumps({"state": "ok", "reason": "", **told}))
    written.rename(place / f"{name}.json")


def test_a_repository_that_goes_away_is_told_and_that_it_came_back(bench: Bench, tmp_path: Path) -> None:
    directories(tmp_path)
    watch(bench, tmp_path)
    (tmp_path / B).rename(tmp_path / "gone")
    bench.until("it is down", lambda: bench.ad.now.get(DOWN_ATTRIBUTE) == B)
    assert bench.ad.now["HAS_CVMFS_b_2_example_org"] is False
    assert bench.ad.now["HAS_CVMFS_a_example_org"] is True
    (tmp_path / A / "new_repository").unlink()
    bench.until("an empty one is down too", lambda: bench.ad.now.get(DOWN_ATTRIBUTE) == f"{A} {B}")
    (tmp_path / A / "new_repository").touch()
    (tmp_path / "gone").rename(tmp_path / B)
    bench.until("both are back", lambda: bench.ad.now.get(DOWN_ATTRIBUTE) is None)
    assert bench.ad.now["HAS_CVMFS_b_2_example_org"] is True
    assert sorted(bench.names()) == ["cvmfs.back", "cvmfs.back", "cvmfs.down", "cvmfs.down"]
    first, second = (event for event in bench.all_events() if event["event"] == "cvmfs.down")
    assert first["state"] == "missing"
    assert "No such file" in first["reason"]
    assert "the site mounts it again" in first["repair"]
    assert "nothing is mounted there" in second["reason"]
    assert {DOWN_ATTRIBUTE, "HAS_CVMFS_a_example_org"} <= bench.ad.states, "what decides about jobs is told at once"


def test_a_mount_that_hangs_is_down_when_its_time_is_over_and_only_one_child_waits_for_it(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that waits in the kernel does not even end by SIGKILL: this one gets none."""
    monkeypatch.setattr("pilot_agent.lifecycle.loop.os.killpg", lambda group, number: None)
    wait = f"until test -e {tmp_path}/go; do sleep 0.1; done"
    well = """echo '{"state": "ok"}'"""
    script = f"case $0 in */a.*) echo x >> {tmp_path}/a;; *) echo x >> {tmp_path}/b; {wait}; esac; {well}"
    watch(bench, tmp_path, command=["/bin/sh", "-c", script], timeout_seconds=0.3)
    bench.until("it is down", lambda: bench.ad.now.get(DOWN_ATTRIBUTE) == B)
    assert bench.all_events()[0]["state"] == "hung"
    assert "does not answer within 0.3 s" in bench.all_events()[0]["reason"]
    asked = len((tmp_path / "a").read_text().split())
    bench.until("the other was asked again", lambda: len((tmp_path / "a").read_text().split()) >= asked + 2)
    assert (tmp_path / "b").read_text() == "x\n"
    (tmp_path / "go").touch()
    bench.until("it is back", lambda: bench.ad.now.get(DOWN_ATTRIBUTE) is None)


def test_real_mounts_that_hang_that_died_and_that_cannot_be_served_are_told_apart(tmp_path: Path) -> None:
    names = ["hung.example.org", "dead.example.org", "failing.example.org", "good.example.org", "other.example.org"]
    told = {"user.revision": "7", "user.nioerr": "3", "user.timestamp_last_ioerr": "1700000000", "user.host": "h"}

    def work() -> Any:
        alarm = Alarm.install(None, also=(signal.SIGCHLD,), sticky=False)
        bench = Bench(tmp_path, alarm)
        with (
            hanging_mount(tmp_path / names[0], told) as hung,
            hanging_mount(tmp_path / names[1], told) as dead,
            hanging_mount(tmp_path / names[2], told) as failing,
            hanging_mount(tmp_path / names[3], told | {"user.fqrn": names[3]}),
            hanging_mount(tmp_path / names[4], told | {"user.fqrn": "another.example.org"}),
        ):
            watch(bench, tmp_path, repositories=names[:4], timeout_seconds=5.0)
            values = ("CVMFS_dead_example_org_REVISION", "CVMFS_dead_example_org_NIOERR")
            bench.until("all are well", lambda: [bench.ad.now.get(name) for name in values] == [7, 3])
            hung.become("silent")
            failing.become("io_error")
            dead.die()
            bench.until("they are down", lambda: len((bench.ad.now.get(DOWN_ATTRIBUTE) or "").split()) == 3)
            failing.become("answer")
            bench.until("one is back", lambda: len((bench.ad.now.get(DOWN_ATTRIBUTE) or "").split()) == 2)
            watch(bench, tmp_path, repositories=names[4:])
            bench.until("one is another", lambda: bench.ad.now.get("HAS_CVMFS_other_example_org") is False)
            told_so_far = [bench.all_events(), dict(bench.ad.now)]
            hung.die()
            bench.until("nobody waits for it", lambda: len(bench.loop._children) < 4)
        while bench.loop._children:
            bench.loop.turn()
        alarm.close()
        return told_so_far

    events, ad = in_namespace(work)
    states = {event["repository"]: event["state"] for event in events if event["event"] == "cvmfs.down"}
    assert states["dead.example.org"] == "broken"
    assert states["failing.example.org"] == "io_error"
    assert states["other.example.org"] == "missing"
    hung = [
        event["state"] for event in events if event.get("repository") == names[0] and event["event"] == "cvmfs.down"
    ]
    assert hung[0] == "hung"
    assert ad["HAS_CVMFS_good_example_org"] is True
    assert ad["CVMFS_good_example_org_LAST_IOERR"] == 1700000000
    assert "another.example.org" in next(event["reason"] for event in events if event.get("repository") == names[4])


def test_without_attributes_the_values_are_those_of_osgs_pilots(bench: Bench, tmp_path: Path) -> None:
    directories(tmp_path)
    watch(bench, tmp_path, revisions={A: 12}, absent=["c.example.org"])
    assert bench.ad.now == {
        "HAS_CVMFS_c_example_org": False,
        "HAS_CVMFS_a_example_org": True,
        "CVMFS_a_example_org_REVISION": 12,
        "CVMFS_a_example_org_NIOERR": -1,
        "CVMFS_a_example_org_LAST_IOERR": -1,
        "HAS_CVMFS_b_2_example_org": True,
        "CVMFS_b_2_example_org_REVISION": 0,
        "CVMFS_b_2_example_org_NIOERR": -1,
        "CVMFS_b_2_example_org_LAST_IOERR": -1,
    }
    bench.until("it was looked at", lambda: bench.ad.now["CVMFS_a_example_org_REVISION"] == 0)


def test_where_not_every_job_sees_a_repository_no_attribute_says_that_it_is_there(bench: Bench, tmp_path: Path) -> None:
    watch(bench, tmp_path, advertised=False)
    bench.until("they are down", lambda: bench.ad.now.get(DOWN_ATTRIBUTE) == f"{A} {B}")
    assert not [name for name in bench.ad.now if "HAS_CVMFS" in name or "REVISION" in name]


def test_no_job_is_taken_while_a_required_repository_is_down(bench: Bench, tmp_path: Path) -> None:
    directories(tmp_path)
    watch(bench, tmp_path, required=[B])
    (tmp_path / A).rename(tmp_path / "a")
    bench.until("another is down", lambda: bench.ad.now.get(DOWN_ATTRIBUTE) == A)
    assert not bench.acceptance.reasons
    (tmp_path / B).rename(tmp_path / "b")
    bench.until("jobs are kept out", lambda: bench.acceptance.reasons == {REQUIRED_DOWN})
    (tmp_path / "b").rename(tmp_path / B)
    bench.until("jobs are taken", lambda: not bench.acceptance.reasons)
    assert bench.ad.now[DOWN_ATTRIBUTE] == A


def test_values_that_change_are_told_and_only_more_errors_are_an_alarm(bench: Bench, tmp_path: Path) -> None:
    for name in (A, B):
        answer(tmp_path, name, revision=7, io_errors=40, last_io_error=1600000000, offline=False)
    watch(bench, tmp_path, **scripted(tmp_path))
    bench.until("it is told", lambda: bench.ad.now["CVMFS_a_example_org_NIOERR"] == 40)
    answer(tmp_path, B, revision=8, io_errors=0)
    bench.until("a new client began again", lambda: bench.ad.now["CVMFS_b_2_example_org_NIOERR"] == 0)
    assert bench.names() == []
    answer(tmp_path, A, revision=8, io_errors=42, last_io_error=1700000000)
    bench.until("it is stale", lambda: bench.ad.now.get(STALE_ATTRIBUTE) == A)
    assert bench.ad.now["CVMFS_a_example_org_REVISION"] == 8
    assert bench.ad.now["CVMFS_a_example_org_LAST_IOERR"] == 1700000000
    assert bench.ad.now["HAS_CVMFS_a_example_org"] is True
    bench.until("it calms down", lambda: bench.ad.now.get(STALE_ATTRIBUTE) is None)
    assert bench.names() == ["cvmfs.io_errors", "cvmfs.stale", "cvmfs.fresh"]
    assert [bench.all_events()[0][key] for key in ("more", "so_far")] == [2, 42]


@pytest.mark.parametrize(
    ("told", "stale"),
    [
        ({"offline": True}, "offline"),
        ({"expires": -30}, "30 min ago"),
        ({"expires": -3}, ""),
        ({"offline": False, "expires": 4, "io_errors": 9}, ""),
        ({"expires": "soon", "offline": "yes", "io_errors": None}, ""),
    ],
)
def test_an_answer_may_be_stale(told: dict[str, Any], stale: str) -> None:
    repository = Repository(A)
    repository.told({"state": "ok"} | told)
    assert (stale in repository.stale) if stale else not repository.stale
    assert not repository.down


def test_errors_are_counted_from_the_last_answer_of_the_same_client() -> None:
    repository = Repository(A)
    assert [repository.told({"state": "ok", "io_errors": errors}) for errors in (5, 5, 7, 1, 2)] == [0, 0, 2, 0, 1]
    for _ in range(CALM_LOOKS):
        assert repository.stale
        assert repository.told({"state": "ok", "io_errors": 2}) == 0
    assert not repository.stale


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'Traceback'; echo 'MemoryError' >&2; exit 1", "MemoryError"),
        ("exit 3", "cannot be looked at (exit code 3)"),
        ("echo '[]'", "[]"),
        ("echo '{'", "{"),
    ],
)
def test_a_look_that_says_nothing_of_use_is_no_sign_of_life(
    bench: Bench, tmp_path: Path, script: str, reason: str
) -> None:
    watch(bench, tmp_path, repositories=[A], command=["/bin/sh", "-c", script])
    bench.until("it is down", lambda: bench.ad.now.get(DOWN_ATTRIBUTE) == A)
    assert (bench.all_events()[0]["state"], bench.all_events()[0]["reason"]) == ("unreadable", reason)


def test_without_repositories_nothing_is_looked_at(bench: Bench, tmp_path: Path) -> None:
    watch(bench, tmp_path, repositories=[])
    assert not bench.loop._timers


def mending(place: Path, script: str) -> list[str]:
    """A command in the place of the one that mounts again; it notes what it was called with."""
    return ["/bin/sh", "-c", f'echo "$@" >> {place}/calls; {script}', "remount"]


def test_the_pilots_own_mounts_are_mounted_again_when_their_client_died(bench: Bench, tmp_path: Path) -> None:
    answer(tmp_path, A)
    answer(tmp_path, B, state="broken", reason="Transport endpoint is not connected")
    script = f"cp {tmp_path}/{A}.json {tmp_path}/{B}.json"
    watch(bench, tmp_path, **scripted(tmp_path), remount=mending(tmp_path, script))
    bench.until("it was down", lambda: "cvmfs.down" in bench.names())
    bench.until("it is back", lambda: bench.ad.now.get(DOWN_ATTRIBUTE) is None)
    assert sorted(bench.names()) == ["cvmfs.back", "cvmfs.down", "cvmfs.remounted"]
    assert bench.all_events()[0]["repair"] == "the pilot mounts it again"
    assert (tmp_path / "calls").read_text() == f"{B}\n"


def test_it_is_tried_again_after_longer_and_longer_pauses_and_not_for_ever(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cvmfs_remount, "FIRST_PAUSE_SECONDS", 0.001)
    answer(tmp_path, A, state="broken")
    answer(tmp_path, B, state="hung")
    failing = mending(tmp_path, """echo '{"reason": "16: no server"}'; exit 1""")
    watch(bench, tmp_path, **scripted(tmp_path), remount=failing)
    bench.until("it gave up", lambda: bench.names().count("cvmfs.not_remounted") == MOST_TRIES)
    tries = [event for event in bench.all_events() if event["event"] == "cvmfs.not_remounted"]
    assert tries[0]["reason"] == "16: no server"
    pauses = [event.get("again_in_seconds") for event in tries]
    assert pauses == [0.001 * 2**number for number in range(MOST_TRIES - 1)] + [None]
    answer(tmp_path, B, revision=3)
    bench.until("the other was looked at", lambda: bench.ad.now["CVMFS_b_2_example_org_REVISION"] == 3)
    assert (tmp_path / "calls").read_text() == f"{A}\n" * MOST_TRIES


def test_what_only_others_can_mount_again_is_said_to_be_so(bench: Bench, tmp_path: Path) -> None:
    answer(tmp_path, A, state="broken")
    answer(tmp_path, B, state="io_error")
    watch(bench, tmp_path, **scripted(tmp_path), repair="the next pilot has it again")
    bench.until("both are down", lambda: bench.ad.now.get(DOWN_ATTRIBUTE) == f"{A} {B}")
    repairs = {event["repository"]: event["repair"] for event in bench.all_events()}
    assert repairs == {A: "the next pilot has it again", B: "it is looked at again"}


def test_a_client_that_does_not_follow_its_repository_is_told_once_it_is_far_behind() -> None:
    repository = Repository(A)
    repository.told({"state": "ok", "revision": 7})
    repository.published({"revision": 8, "ttl": 240, "age": 60}, 10_000.0)
    assert repository.stale == "", "a client has minutes to follow"
    repository.published({"revision": 9, "ttl": 240, "age": 5}, 10_000.0 + BEHIND_SECONDS)
    assert repository.stale == "behind: it serves revision 7, and 8 was published 61 min ago"
    repository.told({"state": "ok", "revision": 7, "host": ""})
    assert repository.stale.startswith("behind")
    repository.told({"state": "ok", "revision": 8})
    assert repository.stale == "", "it follows, if later than others"


@pytest.mark.parametrize(
    "answer",
    [{"reason": "HTTP status 404"}, {"revision": 7, "age": 99_999}, {"revision": 6, "age": 99_999}, {"revision": True}],
)
def test_nothing_is_said_of_a_client_that_has_what_was_published_or_when_nobody_answers(answer: Any) -> None:
    repository = Repository(A)
    repository.told({"state": "ok", "revision": 7})
    repository.published(answer, 10_000.0)
    assert repository.stale == ""


def test_where_a_catalog_is_good_for_long_a_client_may_be_behind_for_long() -> None:
    repository = Repository(A)
    repository.told({"state": "ok", "revision": 7})
    repository.published({"revision": 8, "ttl": 86_400, "age": 90_000}, 10_000.0)
    assert repository.stale == ""


def test_a_repository_that_is_far_behind_is_advertised_and_taken_back_when_it_follows(
    bench: Bench, tmp_path: Path
) -> None:
    for name in (A, B):
        answer(tmp_path, name, revision=7)
    told = """echo '{"revision": 8, "age": 90000}'"""
    watch(bench, tmp_path, **scripted(tmp_path), compare=["/bin/sh", "-c", told], compare_seconds=0.1)
    bench.until("both are behind", lambda: bench.ad.now.get(STALE_ATTRIBUTE) == f"{A} {B}")
    assert "revision 7, and 8 was published 1500 min ago" in bench.all_events()[0]["reason"]
    assert DOWN_ATTRIBUTE not in bench.ad.now or bench.ad.now[DOWN_ATTRIBUTE] is None
    answer(tmp_path, A, revision=8)
    bench.until("one follows", lambda: bench.ad.now.get(STALE_ATTRIBUTE) == B)
