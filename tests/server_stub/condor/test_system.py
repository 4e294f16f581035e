"""The bindings in a child of their own: what it answers, and what becomes of one that refuses, hangs, or dies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pilot_agent.model import PilotError
from server_stub.condor.asking import ask
from server_stub.condor.system import HTCondor
from server_stub.factory.pilots import JobId, PilotState

Script = Callable[[str], None]


def described(directory: Path, *texts: str) -> list[str]:
    paths = []
    for number, text in enumerate(texts):
        path = directory / f"{number}.sub"
        path.write_text(text)
        paths.append(str(path))
    return paths


def test_each_of_many_descriptions_is_answered_in_its_place(tmp_path: Path, bindings: Script) -> None:
    bindings("return []")
    first, second, third = HTCondor().submit_all(described(tmp_path, "queue 7", "universe = grid", "queue 9"))
    assert (first, third) == (JobId(7, 0), JobId(9, 0))
    assert isinstance(second, PilotError)
    assert second.failure.code == "batch.failed"
    assert "no queue statement" in second.failure.message


def test_a_description_that_is_refused_is_a_failure_in_htcondors_words(tmp_path: Path, bindings: Script) -> None:
    bindings("return []")
    with pytest.raises(PilotError, match="no queue statement"):
        HTCondor().submit(described(tmp_path, "universe = grid")[0])


def test_a_job_that_leaves_but_is_still_in_the_queue_has_not_ended(bindings: Script) -> None:
    bindings('return [{"ClusterId": 1, "ProcId": 0, "JobStatus": 3}, {"ClusterId": 2, "ProcId": 0, "JobStatus": 1}]')
    told = HTCondor().queue("example")
    assert (told[JobId(1, 0)].state, told[JobId(1, 0)].leaving) == (PilotState.RUNNING, True)
    assert (told[JobId(2, 0)].state, told[JobId(2, 0)].leaving) == (PilotState.QUEUED, False)


def test_the_history_is_asked_for_those_that_are_wanted_and_gives_no_others(bindings: Script) -> None:
    bindings(
        "assert constraint.count('ClusterId') == 2, constraint; "
        'return [{"ClusterId": number, "ProcId": 0, "JobStatus": 4, "ExitCode": 0} for number in (1, 5)]'
    )
    told = HTCondor().ended([JobId(1, 0), JobId(2, 0)])
    assert {job: one.state for job, one in told.items()} == {JobId(1, 0): PilotState.ENDED}


def test_the_queue_of_the_named_access_point_is_asked(bindings: Script) -> None:
    bindings("raise HTCondorException(self.location['MyAddress'])")
    with pytest.raises(PilotError, match=r"<cm\.example\.org/ap>"):
        HTCondor("ap", "cm.example.org").queue("example")


def test_removal_says_how_many_jobs_it_took(bindings: Script) -> None:
    bindings("return []")
    jobs = [JobId(1, 0), JobId(2, 0)]
    assert (HTCondor().remove(jobs, "too old"), HTCondor().release(jobs, "again")) == (2, 2)
    with pytest.raises(PilotError, match="does not let this account remove 1 jobs"):
        HTCondor().remove([JobId(9, 0)], "too old")


def test_the_schedd_is_named_by_the_ad_that_it_writes(
    tmp_path: Path, bindings: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    bindings("return []")
    assert HTCondor().schedd() == ""
    (tmp_path / "ad").write_text('MyType = "Scheduler"\nName = "schedd@factory.test"\n')
    monkeypatch.setenv("SCHEDD_AD", str(tmp_path / "ad"))
    assert HTCondor().schedd() == "schedd@factory.test"
    assert HTCondor("ap").schedd() == "ap"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("os.abort()", "was ended by signal 6"),
        ("os._exit(3)", "exited 3"),
        ("time.sleep(600)", "did not end within"),
        ("return [{'ClusterId': 'x' * 100_000}]", "more than is taken"),
    ],
)
def test_a_library_that_dies_hangs_or_floods_is_a_failure_of_the_batch_system(
    bindings: Script, script: str, said: str
) -> None:
    bindings(script)
    question = {"constraint": "true", "attributes": ["ClusterId"]}
    seconds = 1.0 if "sleep" in script else 60.0
    with pytest.raises(PilotError, match=said) as caught:
        ask("queue", question, deadline_seconds=seconds, output_limit_bytes=1000)
    assert caught.value.failure.code == "batch.failed"


def test_what_the_library_prints_is_no_part_of_the_answer(bindings: Script) -> None:
    bindings("print('WARNING: weather'); return []")
    assert HTCondor().queue("example") == {}


def test_an_answer_that_is_no_list_of_jobs_is_a_failure(bindings: Script) -> None:
    bindings('return [{"ClusterId": 1}]')
    with pytest.raises(PilotError, match="no list of jobs"):
        HTCondor().queue("example")


def test_a_machine_without_htcondor_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real bindings, with a configuration that names no pool."""
    monkeypatch.setenv("CONDOR_CONFIG", "/dev/null")
    with pytest.raises(PilotError) as caught:
        HTCondor().queue("example")
    assert caught.value.failure.code == "batch.failed"
    assert caught.value.failure.message.startswith("queue: ")


def test_one_job_with_an_endless_reason_or_an_expression_that_fails_hides_no_other(bindings: Script) -> None:
    bindings(
        """
        class Odd:
            def eval(self):
                raise ValueError("cycle")
        return [{"ClusterId": n, "ProcId": 0, "JobStatus": 5, "HoldReason": "x" * 10_000_000, "NumHolds": Odd()}
                for n in range(10)]
"""
    )
    queue = HTCondor().queue("example")
    assert len(queue) == 10
    assert all(len(job.reason) < 10_000 and job.holds == 0 for job in queue.values())
