"""The benchmarks that are asked for by name: what is declared, that it fits its limits, and what it scores."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread

import pytest

from pilot_agent.codec import from_json, to_json
from pilot_agent.config import Layer, load_config
from pilot_agent.hookspecs import Benchmark, Context
from pilot_agent.model import BenchmarkScore, Fact, Json, PilotError
from pilot_agent.plugins.benchmarks import pilot_benchmarks
from pilot_agent.process import run

MIB = 1 << 20
ROOT = Path(__file__).parents[2]


def config(**settings: Json) -> dict[str, Json]:
    """The effective configuration with these settings of ``benchmarks``."""
    return dict(load_config([Layer("site", {"benchmarks": settings})]).values)


def declared(name: str, **settings: Json) -> Benchmark:
    """The declaration of one benchmark that is asked for."""
    (record,) = pilot_benchmarks(config(run=[name], **settings))
    return record


def scored(record: Benchmark, context: Context) -> BenchmarkScore:
    """What its function returns in a process of its own with its limit of memory."""
    source = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from pilot_agent import child; "
        "from pilot_agent.codec import from_json; from pilot_agent.hookspecs import Context; "
        "child.limit_memory(int(sys.argv[3])); "
        "print(json.dumps(child.call(sys.argv[2], from_json(Context, json.loads(sys.argv[4])))))"
    )
    words = [str(ROOT), record.run, str(record.memory_mib), json.dumps(to_json(context))]
    result = run([sys.executable, "-I", "-B", "-c", source, *words], deadline_seconds=120, environment={})
    assert result.ok, result.stderr.decode()
    return from_json(BenchmarkScore, json.loads(result.text))


def test_nothing_that_measures_is_loaded_before_it_runs() -> None:
    source = (
        "import sys; sys.path.insert(0, sys.argv[1]); import pilot_agent.plugins.benchmarks; "
        "measuring = ('pilot_agent.benchmarks.', 'pilot_agent.plugins.node'); "
        "print(*(name for name in sys.modules if name.startswith(measuring)))"
    )
    result = run([sys.executable, "-I", "-B", "-c", source, str(ROOT)], deadline_seconds=60, environment={})
    assert result.ok, result.explain()
    assert result.text == ""


def test_memory_scores_a_copy_on_all_cores_and_says_of_what(tmp_path: Path) -> None:
    record = declared("memory", memory_mib=64)
    assert (record.cores, record.memory_mib) == ("all", 64 + 1024)
    found = scored(record, Context(config=config(memory_mib=64), root=str(tmp_path)))
    assert (found.status, found.unit) == ("ok", "MB/s")
    assert found.score is not None
    assert found.score > 0
    assert found.attributes["BENCHMARK_MEMORY_ONE_CORE"] > 0
    assert found.conditions["threads"] == len(os.sched_getaffinity(0))
    assert found.conditions["cache_mib"] is None
    assert found.score == pytest.approx(max(found.repetitions), rel=0.01)
    assert "times the last-level cache" in found.message


def test_memory_is_not_measured_where_only_the_cache_would_be(tmp_path: Path) -> None:
    for processor in os.sched_getaffinity(0):
        place = tmp_path / f"sys/devices/system/cpu/cpu{processor}/cache/index3"
        place.mkdir(parents=True)
        for name, text in (("level", "3"), ("type", "Unified"), ("size", "256M"), ("shared_cpu_list", "0-63")):
            (place / name).write_text(text)
    found = scored(declared("memory"), Context(config=config(memory_mib=64), root=str(tmp_path)))
    assert (found.status, found.score) == ("skipped", None)
    assert "would stay in the cache" in found.message


def test_the_arrays_take_a_quarter_of_the_memory_at_most(tmp_path: Path) -> None:
    facts = {"memory.usable_mib": Fact("memory.usable_mib", 256)}
    found = scored(declared("memory"), Context(facts=facts, config=config(), root=str(tmp_path)))
    assert found.conditions["array_mib"] <= 32


def test_disk_scores_writing_and_says_how_it_was_measured(tmp_path: Path) -> None:
    record = declared("disk", disk_mib=16)
    assert record.disk_mib == 32
    context = Context(config=config(disk_mib=16), workspace=str(tmp_path), environment={"PATH": "/nonexistent"})
    found = scored(record, context)
    assert (found.status, found.unit, found.conditions["engine"]) == ("ok", "MB/s", "system calls")
    assert found.score is not None
    assert found.score > 0
    assert len(found.repetitions) == 3
    assert found.conditions["file_system"] not in ("", "unknown")
    assert found.conditions["direct"] == ("BENCHMARK_DISK_READ" in found.attributes)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server with one file of 2 MiB."""
    (tmp_path / "file").write_bytes(bytes(2 * MIB))

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_network_scores_the_first_server_that_answers_and_names_the_others(server: str) -> None:
    urls = ["http://127.0.0.1:1/file", f"{server}/file", f"{server}/missing"]
    found = scored(declared("network", network_urls=urls), Context(config=config(network_urls=urls)))
    assert (found.status, found.unit) == ("ok", "MB/s"), found
    assert found.score is not None
    assert found.score > 0
    assert found.attributes["BENCHMARK_NETWORK_CONNECT_MS"] > 0
    assert found.conditions["server_1"]["url"] == f"{server}/file"
    assert found.conditions["server_1"]["received_mib"] == 2.0
    assert "127.0.0.1:1/file: no connection" in found.message
    assert f"{server}/missing: the server says 404" in found.message


def test_network_without_any_server_is_a_failure_with_its_reason() -> None:
    urls = ["http://127.0.0.1:1/file"]
    found = scored(declared("network", network_urls=urls), Context(config=config(network_urls=urls)))
    assert (found.status, found.score) == ("failed", None)
    assert "Connection refused" in found.message


def test_network_without_an_address_is_refused_with_the_key_that_is_missing() -> None:
    with pytest.raises(PilotError) as caught:
        declared("network")
    assert "benchmarks.network_urls" in caught.value.failure.message


def test_time_for_the_network_grows_with_the_addresses() -> None:
    one, two = (declared("network", network_urls=["http://example.org/"] * count) for count in (1, 2))
    assert two.timeout_seconds > one.timeout_seconds
