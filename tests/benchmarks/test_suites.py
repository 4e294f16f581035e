"""Documents of benchmark suites: the score and its parts are found in the form in which hep-benchmark-suite reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.benchmarks.answers import AnswerError, from_program
from pilot_agent.hookspecs import Benchmark
from pilot_agent.model import BenchmarkScore

SUITE = Benchmark(
    name="vo.hepscore",
    where="image",
    command=("bmkrun",),
    result="out/bmkrun_report.json",
    score_at="profiles.hepscore.score",
    parts_at="profiles.hepscore.wl-scores",
    unit="HS23",
    version="23",
)


def report(**hepscore: Any) -> dict[str, Any]:
    """What ``bmkrun`` writes, as far as it matters here."""
    found: dict[str, Any] = {
        "score": 612.4,
        "score_per_core": 19.1,
        "status": "success",
        "benchmarks": {"cms-gen-sim-run3-ma-bmk": {"run_info": {"copies": 8}}},
        "wl-scores": {"cms-gen-sim-run3-ma-bmk": {"gen-sim": 0.75}, "lhcb-sim-run3-ma-bmk": {"sim": 0.5}},
        "app_info": {"name": "HEPscore23", "config_version": "1.5"},
    }
    profiles = {"DB12": {"value": 21.5, "unit": "est. HS06"}, "hepscore": found | hepscore}
    return {"_id": "x", "json_version": "2.1", "host": {"hostname": "wn1"}, "profiles": profiles, "plugins": {}}


def scored(directory: Path, document: Any, record: Benchmark = SUITE) -> BenchmarkScore:
    """The score that is read from what a suite left in its directory."""
    (directory / "out").mkdir()
    (directory / "out" / "bmkrun_report.json").write_text(json.dumps(document))
    return from_program(record, str(directory), b"much that it said\n", truncated=False)


def test_score_unit_and_workloads_are_read(tmp_path: Path) -> None:
    found = scored(tmp_path, report())
    assert (found.score, found.unit, found.version, found.status) == (612.4, "HS23", "23", "ok")
    assert found.attributes == {
        "BENCHMARK_VO_HEPSCORE": 612.4,
        "BENCHMARK_VO_HEPSCORE_UNIT": "HS23",
        "BENCHMARK_VO_HEPSCORE_CMS_GEN_SIM_RUN3_MA_BMK_GEN_SIM": 0.75,
        "BENCHMARK_VO_HEPSCORE_LHCB_SIM_RUN3_MA_BMK_SIM": 0.5,
    }


def test_a_suite_without_parts_has_its_score(tmp_path: Path) -> None:
    document = report()
    del document["profiles"]["hepscore"]["wl-scores"]
    assert set(scored(tmp_path, document).attributes) == {"BENCHMARK_VO_HEPSCORE", "BENCHMARK_VO_HEPSCORE_UNIT"}


def test_another_score_of_the_same_document_is_as_near(tmp_path: Path) -> None:
    record = Benchmark(
        name="db12", command=("x",), result="out/bmkrun_report.json", score_at="profiles.DB12.value", unit="est. HS06"
    )
    assert (scored(tmp_path, report(), record).score, record.unit) == (21.5, "est. HS06")


@pytest.mark.parametrize("score", [-1, float("nan"), "612", None, True])
def test_a_suite_that_failed_has_no_score(tmp_path: Path, score: Any) -> None:
    with pytest.raises(AnswerError, match="score is "):
        scored(tmp_path, report(score=score))


def test_a_way_that_ends_is_told_with_where_it_ends(tmp_path: Path) -> None:
    with pytest.raises(AnswerError, match=r"has no profiles\.hepscore\.score; the way ends at profiles"):
        scored(tmp_path, {"profiles": {"DB12": {}}})
