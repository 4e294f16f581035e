"""What a declared benchmark may be, and the reason where it may not."""

from __future__ import annotations

from typing import Any

import pytest

from pilot_agent.benchmarks.declaration import problem_of
from pilot_agent.hookspecs import Benchmark
from pilot_agent.programs import ProgramError, settled


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cores": "al"}, "cores='al' is none of one, all, slot; did you mean all?"),
        ({"when": "besides"}, "did you mean beside?"),
        ({"timeout_seconds": 0}, "timeout_seconds=0 is less than 0.1"),
        ({"timeout_seconds": float("inf")}, "endless"),
        ({"timeout_seconds": True}, "is no number"),
        ({"memory_mib": 0}, "memory_mib=0"),
        ({"disk_mib": -1}, "disk_mib=-1"),
        ({"cache_days": float("nan")}, "cache_days=nan"),
        ({"when": "periodic", "period_seconds": 1}, "period_seconds=1 is less than 60"),
        ({"version": ""}, "is no version"),
        ({"unit": "x" * 33}, "is no unit"),
        ({"result": "/etc/passwd"}, "no file below"),
        ({"result": "a/../../b"}, "no file below"),
        ({"result": "."}, "no file below"),
        ({"score_at": "a..b"}, "leads nowhere"),
    ],
)
def test_what_no_benchmark_can_be_is_refused_with_the_reason(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ProgramError) as caught:
        settled(Benchmark(name="x", command=("/bin/true",), **given), None)
    assert words in str(caught.value)


@pytest.mark.parametrize("given", [{"result": "out.json"}, {"unit": "s"}, {"score_at": "a.b"}])
def test_a_function_says_itself_what_it_found(given: dict[str, Any]) -> None:
    assert "a function returns a BenchmarkScore" in problem_of(Benchmark(name="x", run="a:b", **given))


@pytest.mark.parametrize("record", [Benchmark(name="x"), Benchmark(name="x", run="a:b", command=("/bin/true",))])
def test_either_a_function_or_a_program_measures(record: Benchmark) -> None:
    with pytest.raises(ProgramError):
        settled(record, None)


def test_a_program_in_an_image_may_answer_with_a_file_of_its_own_form() -> None:
    record = Benchmark(
        name="x",
        command=("/suite",),
        where="image",
        platform="el9",
        result="out/report.json",
        score_at="report.score.0",
        unit="HS23",
        cores="slot",
        when="periodic",
        period_seconds=3600,
    )
    assert settled(record, None) is record
