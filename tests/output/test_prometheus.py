"""Exposition text that a strict reader takes whatever the report holds, with the names and units of the convention."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given

from pilot_agent.output.prometheus import prometheus
from tests.output import hostile
from tests.output.exposition import Metric, parse
from tests.output.reports import check, fact, fit, full, of_node


def metrics(report: Any) -> dict[str, Metric]:
    """The metrics of a report without their common prefix."""
    found = parse(prometheus(report))
    assert all(name.startswith("pilot_agent_") for name in found)
    assert {metric.kind for metric in found.values()} <= {"gauge"}
    assert all(metric.series for metric in found.values())
    return {name.removeprefix("pilot_agent_"): metric for name, metric in found.items()}


def one(report: Any, name: str, /, **labels: str) -> float:
    """The only series of a metric with these labels."""
    series = metrics(report)[name].series
    (found,) = [number for key, number in series.items() if labels.items() <= dict(key).items()]
    return found


@given(hostile.reports)
def test_any_report_makes_valid_exposition_text(report: Any) -> None:
    found = metrics(report)
    if isinstance(report, dict):
        assert "node_fit" in found


def test_the_node_is_fit_for_one_vo_and_not_for_the_other() -> None:
    assert one(full(), "node_fit", vo="example") == 1
    assert one(full(), "node_fit", vo="lattice") == 0
    assert one(full(), "node_unfit_info", vo="lattice", kind="node_resource", code="userns.unusable") == 1


def test_each_check_has_one_of_four_statuses() -> None:
    series = metrics(full())["check_status"].series
    assert len(series) == 4 * len(full()["checks"])
    assert sum(series.values()) == len(full()["checks"])
    assert one(full(), "check_status", check="gpu", status="warn") == 1


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("cpu_usable_cores", 4),
        ("memory_usable_bytes", 15872 * 2**20),
        ("disk_workspace_free_bytes", 411234 * 2**20),
        ("clock_offset_seconds", 0.184),
        ("batch_end_timestamp_seconds", 1790000000),
        ("gpu_count", 2),
        ("userns_usable", 0),
        ("fuse_usable", 1),
        ("leftovers", 1),
        ("check_timestamp_seconds", 1789969753.459),
    ],
)
def test_numbers_are_in_base_units_that_their_names_end_in(name: str, number: float) -> None:
    assert one(full(), name) == number


def test_facts_that_are_no_numbers_or_not_known_are_left_out() -> None:
    found = metrics(full())
    assert not [name for name in found if name.startswith(("os_", "network_", "software_"))]


def test_each_gpu_has_its_series() -> None:
    assert one(full(), "gpu_usable", gpu="0") == 1
    assert one(full(), "gpu_usable", gpu="1") == 0
    assert one(full(), "gpu_memory_bytes", gpu="1", name="NVIDIA H100") == 81559 * 2**20


def test_probes_tell_how_long_they_took_and_whether_they_ended() -> None:
    assert one(full(), "probe_duration_seconds", probe="disk") == 0.318
    assert one(full(), "probe_success", probe="software") == 0
    assert one(full(), "stage_duration_seconds", stage="probe") == 5.05


def test_services_and_benchmarks_are_told() -> None:
    assert one(full(), "service_ready", service="triton") == 1
    assert one(full(), "service_ready", service="proxy") == 0
    assert one(full(), "benchmark_score", benchmark="db12", unit="DB12") == 21.7


def test_a_fact_cannot_take_the_place_of_a_verdict() -> None:
    report = fit()
    report["node"]["node"] = {"fit": fact(0)}
    assert one(report, "node_fit") == 1


def test_two_facts_of_one_metric_give_one_series() -> None:
    report = fit()
    report["node"]["x"] = {"a-b": fact(1), "a b": fact(2)}
    assert one(report, "x_a_b") == 1


def test_labels_are_escaped_and_come_back() -> None:
    report = fit() | {"checks": [check('a"b\\c')]}
    assert one(report, "check_status", check='a"b\\c', status="pass") == 1


def test_of_thousands_of_checks_some_hundred_series_are_kept() -> None:
    report = fit() | {"checks": [check(f"c{n}") for n in range(5000)]}
    assert len(metrics(report)["check_status"].series) == 500


def test_no_sample_carries_a_time_stamp() -> None:
    """The textfile collector refuses a file with one."""
    samples = [line for line in prometheus(full()).splitlines() if not line.startswith("#")]
    assert not [line for line in samples if not re.fullmatch(r"\S+(?:\{.*\})? [\d.e+-]+", line)]


def test_the_report_of_a_recorded_node_has_its_cores() -> None:
    assert one(of_node("slurm_cgroup2"), "cpu_usable_cores") == 4


@pytest.mark.parametrize(
    "text",
    [
        "a 1\n",
        "# HELP a x\n# TYPE a gauge\na 1",
        "# HELP a x\n# TYPE a gauge\na 1\na 1\n",
        '# HELP a x\n# TYPE a gauge\na{b="\\x"} 1\n',
        '# HELP a x\n# TYPE a gauge\na{b="1",b="2"} 1\n',
        "# HELP a x\n# TYPE a gauge\na one\n",
        "# HELP a x\n# TYPE a gauge\na 1 1700000000\n",
        "# HELP a x\n# TYPE a gauge\n\n",
        "# HELP a x\na 1\n# TYPE a gauge\n",
    ],
)
def test_the_reader_of_these_tests_refuses_what_the_format_does(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(text)
