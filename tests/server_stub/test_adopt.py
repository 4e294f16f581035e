"""A factory that is killed at any point of a submission loses no pilot, and submits none for one that is on its way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.model import PilotError
from server_stub.adopt import GIVEN_UP_SECONDS, logged_job, sweep
from server_stub.batch import BatchJob
from server_stub.collect import collect
from server_stub.control import Controller
from server_stub.entries import Factory, read_factory
from server_stub.factory import demand
from server_stub.factory.entry import Limits
from server_stub.factory.frontends import Frontend
from server_stub.factory.pilots import JobId, Pilot, PilotState
from server_stub.factory.requests import Request, RequestSet, judge_set
from server_stub.factory.store import Store
from server_stub.submit import submit_pilots
from tests.server_stub.conftest import ScriptedBatch

LOG = "000 (42.007.000) 2026-11-22 08:00:00 Job submitted from host: <127.0.0.1:9618?addrs=127.0.0.1-9618>\n...\n"


def prepared(name: str, directory: Path, submitted: float | None = None, **more: Any) -> Pilot:
    moment = time.time() if submitted is None else submitted
    return Pilot(name, "site-a", "S", "pyz", "0", PilotState.PREPARED, moment, str(directory), **more)


def test_a_job_in_the_queue_is_recognised_by_its_pilots_name(
    factory: Factory, store: Store, batch: ScriptedBatch, tmp_path: Path
) -> None:
    store.save(prepared("p1", tmp_path))
    batch.waiting = {
        JobId(7, 0): BatchJob(PilotState.RUNNING, "wn1", pilot="p1"),
        JobId(8, 0): BatchJob(PilotState.QUEUED, pilot="stranger"),
    }
    collect(factory, store, batch)
    found = store.get("p1")
    assert found is not None
    assert (found.job, found.state, found.host) == (JobId(7, 0), PilotState.RUNNING, "wn1")
    assert [state for _, state in store.changes("p1")] == [PilotState.PREPARED, PilotState.QUEUED, PilotState.RUNNING]
    assert len(store.pilots()) == 1


def test_a_job_that_has_ended_meanwhile_is_known_by_its_log(
    factory: Factory, store: Store, batch: ScriptedBatch, tmp_path: Path
) -> None:
    (tmp_path / "pilot.log").write_text(LOG)
    store.save(prepared("p1", tmp_path))
    batch.gone = {JobId(42, 7): BatchJob(PilotState.ENDED, exit_code=0)}
    collect(factory, store, batch)
    found = store.get("p1")
    assert found is not None
    assert (found.job, found.state, found.exit_code) == (JobId(42, 7), PilotState.ENDED, 0)


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"001 (42.007.000) Job executing", b"000 (99999999999.0.0)"])
def test_a_log_that_tells_no_job_is_none(tmp_path: Path, content: bytes) -> None:
    assert logged_job(str(tmp_path)) is None
    (tmp_path / "pilot.log").write_bytes(content)
    assert logged_job(str(tmp_path)) is None


def test_a_pilot_without_a_job_counts_until_no_submission_can_be_under_way(
    factory: Factory, store: Store, batch: ScriptedBatch, tmp_path: Path
) -> None:
    (tmp_path / "pilot.token").write_text("secret")
    store.save(prepared("p1", tmp_path))
    collect(factory, store, batch, now=time.time() + GIVEN_UP_SECONDS - 10)
    assert store.count_unfinished("site-a") == 1
    collect(factory, store, batch, now=time.time() + GIVEN_UP_SECONDS + 10)
    found = store.get("p1")
    assert found is not None
    assert (found.state, found.ended is not None) == (PilotState.REFUSED, True)
    assert "stopped before this pilot was submitted" in found.message
    assert not (tmp_path / "pilot.token").exists()


def test_a_job_that_appears_after_its_pilot_was_given_up_is_taken_all_the_same(
    factory: Factory, store: Store, batch: ScriptedBatch, tmp_path: Path
) -> None:
    given_up = replace(prepared("p1", tmp_path), state=PilotState.REFUSED, ended=time.time())
    store.save(given_up)
    store.save(replace(prepared("p2", tmp_path), state=PilotState.RUNNING, job=JobId(1, 0)))
    batch.waiting = {
        JobId(1, 0): BatchJob(PilotState.RUNNING, pilot="p2"),
        JobId(2, 0): BatchJob(PilotState.RUNNING, pilot="p1"),
    }
    collect(factory, store, batch)
    found = store.get("p1")
    assert found is not None
    assert (found.state, found.job, found.ended) == (PilotState.RUNNING, JobId(2, 0), None)


def test_no_answer_to_a_submission_is_no_second_submission(
    factory: Factory, store: Store, batch: ScriptedBatch
) -> None:
    batch.silent = True
    with pytest.raises(PilotError):
        submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    (pilot,) = store.pilots()
    assert (pilot.state, pilot.job) == (PilotState.PREPARED, None)
    batch.waiting = {JobId(5, 0): BatchJob(PilotState.QUEUED, pilot=pilot.id)}
    collect(factory, store, batch)
    assert [(one.id, one.job) for one in store.pilots()] == [(pilot.id, JobId(5, 0))]


def test_only_what_was_never_stored_or_submitted_is_swept(factory: Factory, store: Store, tmp_path: Path) -> None:
    pilots = Path(factory.state, "pilots")
    for name in ("begun", "young", "stored", "elsewhere"):
        (pilots / name).mkdir()
        (pilots / name / "pilot.token").write_text("secret")
        os.utime(pilots / name, (1.0, 1.0))
    (pilots / "young" / "report.json").write_text("")
    (pilots / "elsewhere" / "pilot.log").write_text(LOG)
    os.utime(pilots / "elsewhere", (1.0, 1.0))
    (tmp_path / "other").mkdir()
    (pilots / "link").symlink_to(tmp_path / "other")
    store.save(prepared("stored", pilots / "stored"))
    assert sweep(factory, store, time.time()) == ["begun"]
    assert sorted(path.name for path in pilots.iterdir()) == ["elsewhere", "link", "stored", "young"]


def test_a_pilot_that_could_not_be_prepared_leaves_no_directory(
    factory: Factory, store: Store, batch: ScriptedBatch
) -> None:
    roomy = replace(factory.entry("site-a"), limits=Limits(total=9))
    with pytest.raises(PilotError, match="is empty"):
        submit_pilots(factory, roomy, 3, store, batch)
    assert len(list(Path(factory.state, "pilots").iterdir())) == 2


@dataclass
class FileBatch(ScriptedBatch):
    """An access point that outlives its clients: its queue is a file, to which it adds one job at a time."""

    path: Path = Path()
    kill_after: int = 1 << 30

    def jobs(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.path.read_text()) if self.path.exists() else {}
        return found

    def submit_all(self, descriptions: Any) -> Any:
        made = []
        for place, description in enumerate(descriptions):
            if place == self.kill_after:
                signal.raise_signal(signal.SIGKILL)
            jobs = self.jobs()
            made.append(JobId(len(jobs) + 1, 0))
            self.path.write_text(json.dumps({**jobs, str(made[-1]): pilot_in(description)}))
        if self.kill_after == len(descriptions):
            signal.raise_signal(signal.SIGKILL)
        return made

    def queue(self, factory: str) -> dict[JobId, BatchJob]:
        return {
            JobId(int(job.partition(".")[0]), 0): BatchJob(PilotState.QUEUED, pilot=pilot)
            for job, pilot in self.jobs().items()
        }


def pilot_in(description: str) -> str:
    """The pilot that a submit description is for."""
    told = next(line for line in Path(description).read_text().splitlines() if line.startswith("My.PilotId"))
    return told.partition('"')[2].rstrip('"')


def with_frontend(factory: Factory) -> Factory:
    entries = tuple(replace(entry, tokens=None) for entry in factory.entries)
    return replace(factory, entries=entries, frontends=(Frontend("f", "", ("example",)),))


def killed(config: str, queue: str, after: str) -> None:
    """Submit until the kill; run as a process of its own."""
    factory = with_frontend(read_factory(config))
    with Store(factory.database) as store:
        batch = FileBatch(path=Path(queue), kill_after=int(after))
        Controller(store, batch).round(factory, observed=time.time())


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_factory_killed_while_it_submits_ends_up_with_what_was_asked_for(
    document: dict[str, Any], factory: Factory, store: Store, tmp_path: Path, after: int
) -> None:
    document["entries"][0]["max_pilots"] = 20
    config, queue = tmp_path / "factory.json", tmp_path / "queue.json"
    config.write_text(json.dumps(document))
    factory = with_frontend(read_factory(str(config)))
    wanted = Request(entry="site-a", vo="example", queued=4, pilots=4)
    given = RequestSet(sequence=1, lifetime_seconds=86400, requests=[wanted])
    demand.take_set(store, "f", given, "d", judge_set(given, factory.frontends[0], factory))
    script = "import sys; from tests.server_stub.test_adopt import killed; killed(*sys.argv[1:])"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script, str(config), str(queue), str(after)], cwd=root)
    assert done.returncode == -signal.SIGKILL
    batch = FileBatch(path=queue)
    assert len(batch.jobs()) == after
    controller = Controller(store, batch)
    for later in (0.0, GIVEN_UP_SECONDS + 60):
        now = time.time() + later
        collect(factory, store, batch, now=now)
        controller.round(factory, observed=now, now=now)
        assert len(batch.jobs()) <= 4, "never more than was asked for"
    known = {str(pilot.job): pilot.id for pilot in store.pilots(unfinished=True)}
    assert known == batch.jobs()
    assert len(known) == 4
