"""A pilot is followed to its end, and what it returned is judged before it is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import structlog

from pilot_agent.lifecycle.printed import printed
from pilot_agent.model import Failure, FailureKind, PilotError
from server_stub.batch import BatchJob
from server_stub.collect import ReportError, collect, judge, read_report
from server_stub.entries import Factory
from server_stub.factory.following import LOST_AFTER_SECONDS
from server_stub.factory.pilots import JobId, Pilot, PilotState
from server_stub.factory.store import Store
from server_stub.factory.texts import SHOWN_CHARACTERS
from server_stub.submit import submit_pilots
from tests.server_stub.conftest import ScriptedBatch

JOB = JobId(101, 0)


@pytest.fixture
def pilot(factory: Factory, store: Store, batch: ScriptedBatch) -> Pilot:
    """One submitted pilot."""
    return submit_pilots(factory, factory.entry("site-a"), 1, store, batch)[0]


def report(**changes: Any) -> dict[str, Any]:
    document = {
        "schema": "pilot-agent/report/1",
        "pilot": {"id": "p"},
        "outcome": {"status": "ok", "failure": None},
        "timeline": [],
        "node": {},
        "jobs": {"started": 8},
    }
    return {**document, **changes}


def returned(pilot: Pilot, content: str) -> None:
    Path(pilot.directory, "report.json").write_text(content)


def stored(store: Store, pilot: Pilot) -> Pilot:
    found = store.get(pilot.id)
    assert found is not None
    return found


def test_a_pilot_is_followed_from_the_queue_to_its_report(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot
) -> None:
    batch.waiting[JOB] = BatchJob(PilotState.QUEUED)
    assert collect(factory, store, batch) == []
    batch.waiting[JOB] = BatchJob(PilotState.RUNNING, host="wn1.example.org")
    assert [one.host for one in collect(factory, store, batch)] == ["wn1.example.org"]
    returned(pilot, json.dumps(report()))
    batch.waiting.clear()
    batch.gone[JOB] = BatchJob(PilotState.ENDED, exit_code=0)
    (ended,) = collect(factory, store, batch, now=50.0)
    assert (ended.state, ended.exit_code, ended.outcome, ended.jobs_started) == (PilotState.ENDED, 0, "ok", 8)
    assert (ended.ended, ended.host, ended.report) == (50.0, "wn1.example.org", True)
    assert store.report(pilot.id) == report()
    assert collect(factory, store, batch) == []


def test_a_failure_in_the_report_is_shown_with_the_pilot(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot
) -> None:
    failure = {"kind": "node_resource", "code": "fuse.missing", "message": "no /dev/fuse"}
    returned(pilot, json.dumps(report(outcome={"status": "failed", "failure": failure})))
    batch.gone[JOB] = BatchJob(PilotState.ENDED, exit_code=64)
    (ended,) = collect(factory, store, batch)
    assert (ended.failure_kind, ended.failure_code, ended.message) == ("node_resource", "fuse.missing", "no /dev/fuse")


def test_the_token_is_deleted_when_the_pilot_has_ended(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot
) -> None:
    token = Path(pilot.directory, "pilot.token")
    batch.waiting[JOB] = BatchJob(PilotState.RUNNING)
    collect(factory, store, batch)
    assert token.exists()
    batch.waiting.clear()
    batch.gone[JOB] = BatchJob(PilotState.REMOVED)
    collect(factory, store, batch)
    assert not token.exists()


def test_a_pilot_without_a_report_says_so(factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot) -> None:
    batch.gone[JOB] = BatchJob(PilotState.ENDED, exit_code=68)
    (ended,) = collect(factory, store, batch)
    assert (ended.message, ended.report, ended.exit_code) == ("no report came back", False, 68)
    assert store.report(pilot.id) is None


def test_the_last_words_of_a_pilot_without_a_report_are_shown(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot
) -> None:
    Path(pilot.directory, "pilot.err").write_text("noise\npilot-agent: artifact.digest: wrong payload\n")
    batch.gone[JOB] = BatchJob(PilotState.ENDED, exit_code=68)
    (ended,) = collect(factory, store, batch)
    assert ended.message.endswith("it last said: pilot-agent: artifact.digest: wrong payload")


def test_a_report_that_the_pilot_could_only_print_counts_too(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot
) -> None:
    Path(pilot.directory, "pilot.out").write_text(f"noise\n{printed(report())}noise\n")
    batch.gone[JOB] = BatchJob(PilotState.ENDED, exit_code=0)
    assert collect(factory, store, batch)[0].report
    assert store.report(pilot.id) == report()


def test_a_report_that_was_printed_only_in_part_is_none(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot
) -> None:
    Path(pilot.directory, "pilot.out").write_text(printed(report())[:120])
    batch.gone[JOB] = BatchJob(PilotState.ENDED, exit_code=137)
    assert collect(factory, store, batch)[0].message == "no report came back"


def test_a_held_pilot_shows_the_reason_and_is_followed_further(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot
) -> None:
    batch.waiting[JOB] = BatchJob(PilotState.HELD, reason="no route to the payload")
    (held,) = collect(factory, store, batch)
    assert (held.state, held.message) == (PilotState.HELD, "no route to the payload")
    batch.waiting[JOB] = BatchJob(PilotState.RUNNING)
    assert collect(factory, store, batch)[0].state is PilotState.RUNNING


def test_a_pilot_that_was_removed_while_held_keeps_the_reason(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot
) -> None:
    batch.waiting[JOB] = BatchJob(PilotState.HELD, reason="no route to the payload")
    collect(factory, store, batch)
    batch.waiting.clear()
    batch.gone[JOB] = BatchJob(PilotState.REMOVED)
    assert collect(factory, store, batch)[0].message == "no route to the payload"


def test_a_job_between_queue_and_history_is_waited_for_and_then_lost(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot
) -> None:
    collect(factory, store, batch, now=100.0)
    collect(factory, store, batch, now=100.0 + LOST_AFTER_SECONDS - 1)
    assert stored(store, pilot).state is PilotState.QUEUED
    collect(factory, store, batch, now=100.0 + LOST_AFTER_SECONDS)
    lost = stored(store, pilot)
    assert (lost.state, lost.message) == (PilotState.LOST, "neither the queue nor the history knows the job 101.0")


def test_a_job_that_shows_up_again_is_not_lost(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot
) -> None:
    collect(factory, store, batch, now=100.0)
    batch.waiting[JOB] = BatchJob(PilotState.RUNNING)
    collect(factory, store, batch, now=101.0)
    batch.waiting.clear()
    collect(factory, store, batch, now=101.0 + LOST_AFTER_SECONDS)
    assert stored(store, pilot).state is PilotState.RUNNING


def test_a_batch_system_that_does_not_answer_changes_nothing(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot
) -> None:
    batch.broken = True
    with pytest.raises(PilotError):
        collect(factory, store, batch)
    assert stored(store, pilot) == pilot


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "no report came back"),
        ("{", "is no JSON"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(ReportError, match=problem):
        read_report(str(tmp_path / "report.json"))


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "schema 'list'"),
        (report(schema="pilot-agent/report/9"), "schema 'pilot-agent/report/9'"),
        (report(timeline=None), "no proper 'timeline'"),
        (report(outcome={"status": "fine"}), "outcome 'fine'"),
        (report(jobs={}), "None jobs were started"),
        (report(outcome={"status": "failed", "failure": {"kind": "weather"}}), "no known kind"),
        (report(outcome={"status": "failed", "failure": {}}), "no known kind"),
        (report(outcome={"status": "failed", "failure": {"kind": ["config"]}}), "no known kind"),
        (report(outcome={"status": ["ok"]}), r"outcome \['ok'\]"),
        (report(jobs={"started": 10**30}), "jobs were started"),
        (report(jobs={"started": -1}), "-1 jobs were started"),
        (report(jobs={"started": True}), "True jobs were started"),
        (report(schema="x" * 1_000_000), "schema 'xxx"),
    ],
)
def test_a_document_that_is_no_report_is_refused_with_the_place(document: object, problem: str) -> None:
    with pytest.raises(ReportError, match=problem) as caught:
        judge(document)
    assert len(str(caught.value)) < 2 * SHOWN_CHARACTERS


def failed(message: object, code: object = "x.y") -> dict[str, Any]:
    """A report whose failure says ``message``."""
    return report(outcome={"status": "failed", "failure": {"kind": "config", "code": code, "message": message}})


def test_what_a_pilot_says_is_shown_in_one_short_line_without_control_characters() -> None:
    summary = judge(failed("\x1b[2Jgone\r\n\u202e\ud800" + "x" * 700_000, code="a\tb" * 10_000))
    assert summary.message.startswith(" [2Jgone")
    for text in (summary.message, summary.failure_code):
        assert len(text) <= SHOWN_CHARACTERS
        assert text.isprintable()
        assert text.encode()


@pytest.mark.parametrize("message", ["\ud800", "\0", "x" * 1_000_000, {"a": []}, None])
def test_whatever_a_pilot_says_can_be_stored(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot, message: object
) -> None:
    returned(pilot, json.dumps({**failed(message), "node": {message if isinstance(message, str) else "x": message}}))
    batch.gone[JOB] = BatchJob(PilotState.ENDED, exit_code=66)
    assert collect(factory, store, batch)[0].outcome == "failed"
    assert stored(store, pilot).state is PilotState.ENDED


def test_the_last_words_of_a_pilot_do_not_reach_the_terminal_as_commands(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot
) -> None:
    Path(pilot.directory, "pilot.err").write_bytes(b"\x1b]0;owned\x07\xff words\n")
    batch.gone[JOB] = BatchJob(PilotState.ENDED, exit_code=68)
    assert collect(factory, store, batch)[0].message.isprintable()


class PickyStore(Store):
    """A real store that refuses every report, as one does whose database cannot hold it."""

    def save(self, pilot: Pilot, *, known: Pilot | None = None, report: Any = None) -> None:
        if report is not None:
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        Store.save(self, pilot, known=known)


def test_a_report_that_cannot_be_stored_costs_nothing_but_itself(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot
) -> None:
    other = submit_pilots(factory, factory.entry("site-a"), 1, store, batch)[0]
    returned(pilot, json.dumps(report()))
    batch.gone[JOB] = BatchJob(PilotState.ENDED, exit_code=0)
    batch.gone[JobId(102, 0)] = BatchJob(PilotState.ENDED, exit_code=0)
    with PickyStore(factory.database) as picky:
        first, second = collect(factory, picky, batch)
    assert first.message.startswith("the pilot's report cannot be stored: OverflowError: Python int too large")
    assert (first.state, first.outcome, first.report) == (PilotState.ENDED, "", False)
    assert (second.id, second.message) == (other.id, "no report came back")
    assert stored(store, pilot).state is PilotState.ENDED
    assert not Path(pilot.directory, "pilot.token").exists()


def test_a_job_that_stays_held_is_removed_and_its_pilot_failed_for_the_cause(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot
) -> None:
    batch.waiting[JOB] = BatchJob(PilotState.HELD, reason="no such image", hold_code=35, holds=1, since=90.0)
    collect(factory, store, batch, now=100.0)
    assert batch.removed == {JOB: "it is held for a reason that stays (code 35)"}
    batch.waiting[JOB] = BatchJob(PilotState.RUNNING, leaving=True, since=101.0)
    collect(factory, store, batch, now=102.0)
    batch.waiting.clear()
    batch.gone[JOB] = BatchJob(PilotState.REMOVED)
    (ended,) = collect(factory, store, batch, now=103.0)
    assert (ended.outcome, ended.failure_kind, ended.failure_code) == ("failed", "node_resource", "job.held")
    assert stored(store, pilot).message == "no such image"


def test_a_pilot_whose_submission_was_not_answered_is_followed_once_its_job_is_seen(
    factory: Factory, store: Store, batch: ScriptedBatch
) -> None:
    batch.silent = True
    with pytest.raises(PilotError):
        submit_pilots(factory, factory.entry("site-a"), 1, store, batch)
    (prepared,) = store.pilots()
    batch.waiting[JOB] = BatchJob(PilotState.RUNNING, host="wn1", pilot=prepared.id)
    collect(factory, store, batch)
    collect(factory, store, batch)
    assert (stored(store, prepared).state, stored(store, prepared).job) == (PilotState.RUNNING, JOB)


def test_what_was_told_is_stored_although_a_removal_is_not_answered(
    factory: Factory, store: Store, batch: ScriptedBatch, pilot: Pilot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(jobs: object, reason: str) -> int:
        raise PilotError(Failure(FailureKind.NETWORK, "batch.failed", "no answer"))

    monkeypatch.setattr(batch, "remove", refuse)
    batch.waiting[JOB] = BatchJob(PilotState.HELD, reason="no such image", hold_code=35, since=90.0)
    with structlog.testing.capture_logs() as lines:
        changed = collect(factory, store, batch, now=100.0)
    assert [one.state for one in changed] == [PilotState.HELD], "it is told as well"
    assert stored(store, pilot).state is PilotState.HELD
    assert [line["code"] for line in lines if line["event"] == "tending.failed"] == ["batch.failed"]


def test_a_factory_without_pilots_notices_that_its_batch_system_is_away(
    factory: Factory, store: Store, batch: ScriptedBatch
) -> None:
    assert collect(factory, store, batch) == []
    batch.broken = True
    with pytest.raises(PilotError, match="does not answer"):
        collect(factory, store, batch)
