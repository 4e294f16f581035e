"""Benchmarks before the jobs: real functions and programs, and what becomes of those that do harm."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilot_agent import host, stages
from pilot_agent.benchmark_stage import plans_beside
from pilot_agent.config import Layer, load_config
from pilot_agent.configure import new_state
from pilot_agent.environment import clean_environment
from pilot_agent.events import EventLog
from pilot_agent.interpreter import interpreter_command
from pilot_agent.lifecycle import node_list
from pilot_agent.lifecycle.final_report import add_scores
from pilot_agent.lifecycle.processes import descendants
from pilot_agent.model import BenchmarkScore, Fact, Json
from pilot_agent.stages import Session
from pilot_agent.state import State, load_state, save_state
from pilot_agent.workspace import Workspace
from tests.conftest import MakePlugin

Run = Callable[..., State]


class Node:
    """Pilots on one node, each of which runs the benchmarks of a plugin with this source."""

    def __init__(self, directory: Path, plugins: Path, make_plugin: MakePlugin) -> None:
        self.directory = directory
        self.plugins = plugins
        self._make_plugin = make_plugin
        self.pilots = 0
        self.session: Session | None = None

    def prepared(self, source: str, document: dict[str, Json] | None = None) -> tuple[Session, State]:
        """A pilot just before its benchmarks."""
        self._make_plugin("example", source)
        settings = {"budget_seconds": 600, "cache_directory": str(self.directory / "kept")}
        config = load_config([Layer("factory", {"benchmarks": settings}), Layer("vo", document or {})])
        self.pilots += 1
        workspace = Workspace(str(self.directory / f"pilot-{self.pilots}"))
        os.mkdir(workspace.root)
        workspace.create()
        environment = clean_environment({}, home=workspace.temporary, temporary=workspace.temporary)
        around = host.Surroundings(tuple(interpreter_command()), environment, (str(self.plugins),))
        loaded = host.load_plugins(["example"], config.values, around, 60)
        state = new_state(config, {"SITE": "x"}, output=str(self.directory))
        state = replace(state, facts={"cpu.usable": Fact("cpu.usable", 2, "cores")})
        return Session(around, loaded, EventLog(workspace.events, state.started), workspace), state

    def run(self, source: str, document: dict[str, Json] | None = None) -> State:
        """The state after the stage."""
        session, state = self.prepared(source, document)
        self.session = session
        after = stages.benchmark(session, state)
        assert os.listdir(session.workspace.temporary) == [], "a benchmark's directory is still there"
        return after

    def score(self, source: str, document: dict[str, Json] | None = None) -> BenchmarkScore:
        """The score of the only one."""
        (score,) = self.run(source, document).benchmarks
        return score


@pytest.fixture
def node(make_plugin: MakePlugin, plugin_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node with a place for its list of its own."""
    monkeypatch.setattr(host, "BUILTIN_PLUGINS", ())
    (tmp_path / "place").mkdir()
    monkeypatch.setattr(node_list, "PLACE", str(tmp_path / "place"))
    return Node(tmp_path, plugin_directory, make_plugin)


def function(body: str, **fields: Any) -> str:
    """A plugin with one benchmark that is this function."""
    told = "".join(f", {name}={value!r}" for name, value in ({"cache_days": 0} | fields).items())
    return f"""
def work(context):
    {body}

@hookimpl
def pilot_benchmarks(config):
    yield Benchmark(name="b", run=f"{{__name__}}:work"{told})
"""


def program(text: str, **fields: Any) -> str:
    """A plugin with one benchmark that is this shell script."""
    given = {"cache_days": 0, "timeout_seconds": 120.0, "command": ("/bin/sh", "-c", text)} | fields
    told = "".join(f", {name}={value!r}" for name, value in given.items())
    return f"""
@hookimpl
def pilot_benchmarks(config):
    yield Benchmark(name="b"{told})
"""


GOOD = """echo working
echo '{"score": 12.5, "unit": "GB/s", "repetitions": [12, 12.5, 13], "attributes": {"Copy": 12}}'"""


def test_a_program_gives_its_score_as_its_last_line(node: Node) -> None:
    state = node.run(program(GOOD))
    (score,) = state.benchmarks
    assert (score.score, score.unit, score.status, score.version) == (12.5, "GB/s", "ok", "1")
    assert (score.repetitions, score.spread) == ((12, 12.5, 13), 0.08)
    assert score.attributes == {"Copy": 12, "BENCHMARK_B": 12.5, "BENCHMARK_B_UNIT": "GB/s"}
    assert {"load_1min", "governor", "smt", "neighbours", "cores"} <= set(score.conditions)
    assert [(entry.what, entry.status) for entry in state.timeline] == [("b", "ok")]


def test_a_program_gives_its_score_in_a_file_of_another_form(node: Node) -> None:
    script = """mkdir out; echo '{"report": {"scores": [{"value": 3}]}}' > out/result.json; echo noise"""
    score = node.score(program(script, result="out/result.json", score_at="report.scores.0.value", unit="HS23"))
    assert (score.score, score.unit, score.message) == (3, "HS23", "")


def test_a_function_measures_in_its_own_directory_on_as_many_processors_as_it_says(node: Node) -> None:
    body = """open("x", "w").close()
    assert os.getcwd() == context.workspace == os.environ["TMPDIR"]
    return BenchmarkScore("b", float(len(os.sched_getaffinity(0))), "cores", 0.0)"""
    assert node.score(function(body)).score == 1
    assert node.score(function(body, cores="all")).score == min(2, len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ('{"score": NaN, "unit": "x"}', "score is nan"),
        ('{"score": Infinity, "unit": "x"}', "score is inf"),
        ('{"score": -1, "unit": "x"}', "not negative"),
        ('{"score": true, "unit": "x"}', "a bool and no number"),
        ('{"score": "12", "unit": "x"}', "a str and no number"),
        ('{"score": null, "unit": "x"}', "no number"),
        ('{"score": 1}', "names no unit"),
        ('{"score": 1, "unit": "' + "x" * 40 + '"}', "the unit"),
        ('{"unit": "x"}', "has no score"),
        ("[1, 2]", "has no score"),
        ('{"score": 1, "unit', "its output is no JSON"),
        ("12.5 GB/s", "its output is no JSON"),
        ("", "it said nothing"),
        ('{"score": 1, "unit": "x", "repetitions": [1, "2"]}', "a repetition is '2'"),
        ('{"score": 1, "unit": "x", "repetitions": 3}', "repetitions are no list"),
        ('{"score": 1, "unit": "x", "spread": -1}', "spread is -1"),
        ('{"score": 1, "unit": "x", "attributes": {"a b": 1}}', "cannot name a ClassAd attribute"),
        ('{"score": 1, "unit": "x", "attributes": {"Start": true}}', "itself gives it a value"),
        ('{"score": 1, "unit": "x", "attributes": [1]}', "attributes in its output is no mapping"),
        ('{"score": 1, "unit": "x", "conditions": {"a": NaN}}', "conditions"),
    ],
)
def test_what_is_no_score_is_refused_with_the_reason(node: Node, answer: str, words: str) -> None:
    state = node.run(program(f"echo '{answer}'"))
    (score,) = state.benchmarks
    assert (score.status, score.score, score.attributes) == ("failed", None, {})
    assert words in score.message
    assert not state.failures


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("true", "out.json cannot be read: No such file"),
        ("echo no > out.json", "out.json is no JSON"),
        ("mkfifo out.json", "no plain file"),
        ("ln -s /proc/self/stat out.json", "leads out of its directory"),
        ("head -c 2000000 /dev/zero > out.json", "2000000 bytes"),
        ("exit 3", "it exited 3"),
        ("echo sorry >&2; exit 3", "it exited 3: sorry"),
        ("kill -9 $$", "ended by signal 9"),
    ],
)
def test_a_result_that_cannot_be_used_is_named(node: Node, script: str, words: str) -> None:
    score = node.score(program(script, result="out.json", disk_mib=8))
    assert score.status == "failed"
    assert words in score.message


def gone(marker: str) -> bool:
    """Whether no process of this node has the marker in its command line."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if marker in Path(f"/proc/{pid}/cmdline").read_text(errors="replace"):
                return False
        except OSError:
            continue
    return True


def test_one_that_hangs_is_ended_with_all_that_it_forked_away(node: Node) -> None:
    marker = f"6{os.getpid()}1"
    script = f"trap '' TERM; (setsid sh -c 'trap \"\" TERM; setsid sleep {marker} & sleep {marker}' &) ; sleep {marker}"
    score = node.score(program(script, timeout_seconds=1.0))
    assert (score.status, score.message) == ("timeout", "it did not end within 1 s")
    assert gone(marker)


def test_what_one_that_ended_well_left_running_is_ended_too(node: Node) -> None:
    marker = f"6{os.getpid()}2"
    score = node.score(program(f"(setsid sleep {marker} &) ; {GOOD}"))
    assert score.score == 12.5
    assert gone(marker)
    assert descendants(os.getpid()) == []


def test_one_that_eats_memory_in_one_process_fails_there(node: Node) -> None:
    assert "MemoryError" in node.score(function("return len(bytearray(2 << 30))", memory_mib=256)).message


def test_one_that_eats_memory_in_many_processes_is_ended(node: Node) -> None:
    body = """import subprocess
    code = "import time; kept = bytearray(60 << 20); kept[::4096] = b'x' * len(kept[::4096]); time.sleep(600)"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    time.sleep(600)"""
    score = node.score(function(body, memory_mib=150, timeout_seconds=300.0))
    assert score.status == "failed"
    assert "of memory, and memory_mib is 150" in score.message


def test_one_that_fills_the_disk_with_one_file_fails_there(node: Node) -> None:
    score = node.score(program("head -c 50000000 /dev/zero > big || exit 5", disk_mib=4))
    assert "it exited 5" in score.message


def test_one_that_fills_the_disk_with_many_files_is_ended(node: Node) -> None:
    script = "i=0; while :; do i=$((i+1)); head -c 1000000 /dev/zero > f$i; done"
    score = node.score(program(script, disk_mib=4, timeout_seconds=300.0))
    assert score.status == "failed"
    assert "into its directory, and disk_mib is 4" in score.message


def test_endless_output_is_no_answer_and_takes_no_memory(node: Node) -> None:
    score = node.score(program("yes", timeout_seconds=1.0))
    assert score.status == "timeout"
    score = node.score(program(f"yes | head -c 3000000; {GOOD}"))
    assert "its answer must be its last line" in score.message


def test_a_program_that_is_not_there_is_named(node: Node) -> None:
    message = node.score(program("", command=("/nowhere/fio",))).message
    assert "/nowhere/fio could not be started: No such file or directory" in message


def test_one_for_an_image_where_jobs_get_none_fails_with_that_reason(node: Node) -> None:
    assert node.score(program("true", where="image")).status == "failed"


def test_one_that_would_not_fit_the_budget_is_skipped_with_the_reason(node: Node) -> None:
    mark = node.directory / "ran"
    score = node.score(program(f"touch {mark}; {GOOD}"), {"benchmarks": {"budget_seconds": 3}})
    assert score.status == "skipped"
    assert "it may take 120 s, and 3 s are left of benchmarks.budget_seconds" in score.message
    assert not mark.exists()
    assert node.score(program(f"touch {mark}; {GOOD}")).status == "ok"
    assert mark.exists()


def test_a_score_is_kept_for_the_next_pilot_even_when_there_is_no_time(node: Node) -> None:
    first = node.score(program(GOOD, cache_days=1))
    again = node.score(program(GOOD, cache_days=1), {"benchmarks": {"budget_seconds": 0}})
    assert again == replace(first, cached=True)


@pytest.mark.parametrize(
    "change", [{"version": "2"}, {"cores": "all"}, {"unit": "x", "command": ("/bin/sh", "-c", "echo 3")}]
)
def test_another_version_or_another_benchmark_is_measured_anew(node: Node, change: dict[str, Any]) -> None:
    node.score(program(GOOD, cache_days=1))
    assert not node.score(program(GOOD, **{"cache_days": 1, **change})).cached


def test_what_failed_is_not_kept(node: Node) -> None:
    node.score(program("exit 1", cache_days=1))
    assert not (node.directory / "kept").exists()


def test_those_beside_the_jobs_wait(node: Node) -> None:
    assert node.run(program(GOOD, when="beside")).benchmarks == ()


def test_one_beside_the_jobs_that_cannot_be_prepared_is_in_the_report_with_the_reason(node: Node) -> None:
    session, state = node.prepared(program(GOOD, when="beside", where="image"))
    assert plans_beside(session, state, {}) == []
    report: dict[str, Any] = {}
    add_scores(report, session.workspace.private)
    (score,) = report["benchmarks"]
    assert (score["name"], score["status"]) == ("b", "failed")
    assert score["message"]


def test_a_function_may_say_that_there_is_nothing_to_measure(node: Node) -> None:
    body = 'return BenchmarkScore("b", None, "", 0.0, status="skipped", message="no GPU")'
    score = node.score(function(body))
    assert (score.status, score.message, score.attributes) == ("skipped", "no GPU", {})


def test_the_state_with_all_of_it_can_be_saved(node: Node) -> None:
    state = node.run(program(GOOD))
    assert node.session is not None
    save_state(state, node.session.workspace.state)
    assert load_state(node.session.workspace.state).benchmarks == state.benchmarks
