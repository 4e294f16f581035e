"""The benchmark: bounded, alone and together, and what it puts into the ad."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable

import pytest

from pilot_agent.benchmarks.hashing import HashRate, measure
from pilot_agent.config import Layer, load_config
from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, PilotError
from pilot_agent.plugins.benchmarks import hash_rate, pilot_benchmarks
from pilot_agent.process import Runner


def test_one_core_and_all_cores_have_a_rate() -> None:
    found = measure(2, 0.02)
    assert found.one_core > 0
    assert found.all_cores > 0
    assert found.threads == 2
    assert found.seconds >= 0.02


@pytest.mark.parametrize("cores", [0, 1])
def test_a_node_has_at_least_one_core(cores: int) -> None:
    assert measure(cores, 0.01).threads == 1


def test_no_thread_is_left() -> None:
    before = threading.active_count()
    measure(4, 0.01)
    assert threading.active_count() == before


def test_scaling_compares_a_busy_core_with_a_lone_one() -> None:
    assert HashRate(one_core=100.0, all_cores=300.0, threads=4, seconds=0.1).scaling == 0.75
    assert HashRate(one_core=0.0, all_cores=0.0, threads=1, seconds=0.1).scaling == 0.0


def test_where_the_node_grants_no_more_threads_fewer_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "Thread", Refused)
    assert measure(8, 0.01).threads == 1


def test_many_cores_fit_the_benchmarks_memory() -> None:
    (declared,) = pilot_benchmarks(load_config([]).values)

    def bounded() -> bytes:
        limit = declared.memory_mib << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        return str(measure(64, 0.02).threads).encode()

    with Runner() as runner:
        result = runner.wait(runner.start_call(bounded, name="hash", deadline_seconds=60))
    assert result.answer == b"64", result.explain()


def test_the_score_and_its_attributes_are_those_of_the_ad() -> None:
    config = load_config([Layer("site", {"benchmarks": {"seconds": 0.02}})]).values
    score = hash_rate(Context(facts={"cpu.usable": Fact("cpu.usable", 2)}, config=config))
    assert (score.name, score.unit) == ("hash", "MB/s")
    assert score.score == score.attributes["PilotBenchmarkHash"]
    assert score.attributes["PilotBenchmarkCores"] == 2
    assert set(score.attributes) == {
        "PilotBenchmarkHash",
        "PilotBenchmarkHashPerCore",
        "PilotBenchmarkHashScaling",
        "PilotBenchmarkCores",
    }


@pytest.mark.parametrize(("enabled", "names"), [(True, ["hash"]), (False, [])])
def test_the_configuration_switches_it(enabled: bool, names: list[str]) -> None:
    config = load_config([Layer("site", {"benchmarks": {"enabled": enabled}})]).values
    assert [benchmark.name for benchmark in pilot_benchmarks(config)] == names


def test_a_benchmark_that_there_is_not_is_named_with_its_place() -> None:
    config = load_config([Layer("site", {"benchmarks": {"run": ["hash", "hasch"]}})]).values
    with pytest.raises(PilotError, match=r"benchmarks\.run .*'hasch'.* did you mean hash\?"):
        list(pilot_benchmarks(config))


def test_it_names_a_function_that_exists() -> None:
    (declared,) = pilot_benchmarks(load_config([]).values)
    module, _, name = declared.run.partition(":")
    function: Callable[..., object] = hash_rate
    assert (module, name) == (function.__module__, function.__name__)
