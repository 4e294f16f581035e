"""The reference page of the formats shows what the code writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pilot_agent.config import load_config
from pilot_agent.output.junit import junit_xml
from pilot_agent.output.nagios import nagios
from pilot_agent.output.prometheus import prometheus
from pilot_agent.plugins import checks, profile
from tests.output.exposition import parse
from tests.output.reports import full, small

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs/reference/check-output.md").read_text(encoding="utf-8")
CHECKS = (REPOSITORY / "docs/reference/check.md").read_text(encoding="utf-8")
PICTURE = REPOSITORY / "docs/images/check-page.png"


def examples(heading: str) -> list[str]:
    """The examples below a heading: what the blocks hold that are no commands."""
    part = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (text,) = [section for section in part if section.startswith(heading)]
    return re.findall(r"```(?:xml|text)\n(.*?)```", text, flags=re.DOTALL)


def test_the_junit_example_is_what_the_code_writes() -> None:
    assert examples("JUnit") == [junit_xml(small())]


def test_the_nagios_example_is_what_the_code_writes() -> None:
    assert examples("Nagios") == [nagios(small())[1]]


def test_the_examples_are_of_a_report_that_check_can_give() -> None:
    config = dict(load_config([]).values)
    config["checks"] = {**config["checks"], "profile": "pilot"}
    required = {check.name: check.required for module in (checks, profile) for check in module.pilot_checks(config)}
    for check in small()["checks"]:
        if check["status"] in ("fail", "warn"):
            assert required[check["name"]] is (check["status"] == "fail"), check["name"]
            assert f"`{check['code']}`" in CHECKS, check["name"]


def test_the_prometheus_examples_are_what_the_code_writes() -> None:
    *found, _alerts = examples("Prometheus")
    assert len(found) == 2
    assert all(example in prometheus(small()) for example in found)


@pytest.mark.parametrize("report", [small(), full()], ids=["small", "full"])
def test_every_metric_that_is_no_fact_is_in_the_table(report: dict[str, object]) -> None:
    facts = r"pilot_agent_(cpu|memory|disk|userns|fuse|batch|clock)_|pilot_agent_gpu_count"
    names = [name for name in parse(prometheus(report)) if not re.match(facts, name)]
    assert [name for name in names if f"`{name}`" not in PAGE] == []


def test_the_picture_of_the_page_is_small_enough_for_a_repository() -> None:
    assert PICTURE.read_bytes().startswith(b"\x89PNG")
    assert PICTURE.stat().st_size < 300_000
