"""``bench`` as people use it: in processes of its own, with plugins of their own."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pilot_agent.commands.bench import together
from pilot_agent.environment import clean_environment
from pilot_agent.interpreter import interpreter_command
from pilot_agent.model import BenchmarkScore
from pilot_agent.output.score_chart import Bars, terminal_bars
from pilot_agent.process import Result, run
from pilot_agent.report import report_schema
from tests.conftest import MakePlugin

Bench = Callable[..., Result]

PLUGIN = """
@hookimpl
def pilot_benchmarks(config):
    yield Benchmark(name="copy", command=("/bin/sh", "-c", COPY), cache_days=0)
    yield Benchmark(name="broken", command=("/bin/sh", "-c", "echo no disk >&2; exit 3"), cache_days=0, when="beside")

COPY = '''echo '{"score": 4, "unit": "GB/s", "repetitions": [3, 4, 5]}' '''
"""


@pytest.fixture
def bench(make_plugin: MakePlugin, plugin_directory: Path, tmp_path: Path) -> Bench:
    """Runs the command with a plugin, 80 columns wide."""
    make_plugin("benches", PLUGIN)
    environment = clean_environment({}, home=str(tmp_path), temporary=str(tmp_path))

    def call(*words: str) -> Result:
        settings = [
            f'plugins.directories=["{plugin_directory}"]',
            'plugins.load=["benches"]',
            "benchmarks.seconds=0.02",
        ]
        options = [text for setting in settings for text in ("--set", setting)]
        return run(
            [*interpreter_command(), "bench", *words, *options],
            deadline_seconds=180,
            environment=environment | {"COLUMNS": "80"},
            directory=str(tmp_path),
        )

    return call


def report_of(result: Result) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(result.stdout)
    jsonschema.Draft202012Validator(report_schema()).validate(report)
    return report


def test_all_are_run_and_one_that_fails_says_why(bench: Bench) -> None:
    result = bench()
    assert result.code == 69
    assert "hash" in result.text
    assert "4 GB/s" in result.text
    assert "it exited 3: no disk" in result.text
    assert max(map(len, result.text.splitlines())) <= 80


def test_the_named_one_alone_with_its_rounds_as_bars(bench: Bench) -> None:
    result = bench("copy")
    assert result.code == 0, result.explain()
    assert "hash" not in result.text
    assert "spread 50 % of 3" in result.text
    assert [line.split()[1] for line in result.text.splitlines() if line.startswith("  run ")] == ["1", "2", "3"]


def test_several_runs_become_their_median_and_a_report(bench: Bench) -> None:
    report = report_of(bench("hash", "--repeat", "3", "--json"))
    (score,) = report["benchmarks"]
    assert len(score["repetitions"]) == 3
    assert score["score"] == sorted(score["repetitions"])[1]
    assert score["attributes"]["PilotBenchmarkCores"] >= 1


def test_another_node_stands_beside_this_one_and_in_the_picture(bench: Bench, tmp_path: Path) -> None:
    report = report_of(bench("copy", "--json"))
    report["pilot"]["host"] = "far<node>"
    report["benchmarks"][0]["score"] = 8
    (tmp_path / "far.json").write_text(json.dumps(report))
    result = bench("copy", "--compare", "far.json", "--plot", "scores.svg")
    assert result.code == 0, result.explain()
    assert "far<node>" in result.text
    texts = [node.text for node in ET.parse(tmp_path / "scores.svg").iter() if node.tag.endswith("text")]
    assert "far<node>" in texts
    assert "8" in texts


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("hasch",), "there is no benchmark hasch; did you mean hash?"),
        (("--compare", "nothing.json"), "cannot be read: No such file"),
        (("--compare", "list.json"), "is no report"),
        (("--compare", "bad.json"), "is no JSON"),
        (("copy", "--plot", "/nowhere/x.svg"), "the file cannot be written"),
        (("--repeat", "0"), "not between 1 and 1000"),
    ],
)
def test_a_wrong_wish_is_named(bench: Bench, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "bad.json").write_text("{")
    result = bench(*words)
    assert result.code == 2
    assert said in result.stderr.decode()


def test_the_list_runs_none(bench: Bench) -> None:
    rows = json.loads(bench("--list", "--json").stdout)
    assert {(row["plugin"], row["name"], row["when"]) for row in rows} >= {
        ("benches", "copy", "before"),
        ("benches", "broken", "beside"),
        ("builtin.benchmarks", "hash", "before"),
    }
    assert "beside" in bench("--list", "broken").text


def test_a_failed_round_is_told_and_no_median() -> None:
    good = BenchmarkScore("x", 3.0, "s", 1.0)
    bad = BenchmarkScore("x", None, "", 1.0, status="failed", message="m")
    assert together([good, bad]) == bad
    assert together([good]) == good


@pytest.mark.parametrize("width", [20, 80])
def test_bars_fit_the_terminal_and_nothing_is_longer_than_the_largest(width: int) -> None:
    text = terminal_bars([Bars("x", "s", (("first", 0.0), ("second", 2.5), ("third", 5.0)))], width, plain=True)
    lengths = [line.count("#") for line in text.splitlines()[1:]]
    assert lengths[0] == 0
    assert lengths[2] == max(lengths)
    assert abs(lengths[1] * 2 - lengths[2]) <= 1
    assert width < 40 or max(map(len, text.splitlines())) <= width


def test_nothing_but_zeros_can_be_shown() -> None:
    text = terminal_bars([Bars("x", "s", (("a", 0.0), ("b", 0.0)))], 80, plain=True)
    assert [line.split() for line in text.splitlines()[1:]] == [["a", "0"], ["b", "0"]]
