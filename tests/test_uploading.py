"""An upload sends what is new and no more, whatever the factory does with it."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot_agent import uploading
from pilot_agent.events import EventLog
from pilot_agent.lifecycle.uploads import upload_at_end
from pilot_agent.uploading import BATCH_BYTES, BUFFER_BYTES, batches
from pilot_agent.workspace import Workspace
from tests.probes.servers import TLS
from tests.small_factory import Factory, small_factory

ROOT = Path(__file__).parents[1]
MAIN = str(ROOT / "pilot_agent" / "__main__.py")


@pytest.fixture
def factory() -> Iterator[Factory]:
    with small_factory() as server:
        yield server


@pytest.fixture
def workspace(tmp_path: Path, factory: Factory) -> Workspace:
    made = Workspace(str(tmp_path / "pilot-1"))
    os.makedirs(made.upload)
    plan = {
        "url": f"http://127.0.0.1:{factory.server_port}/p",
        "token": None,
        "authorities": None,
        "period_seconds": 60,
        "heartbeat_seconds": 300,
        "pilot_id": "4f3a",
        "version": "1",
        "argv": [sys.executable, MAIN, "_upload", made.root],
        "environment": {"PATH": os.environ["PATH"]},
    }
    Path(made.upload, "plan.json").write_text(json.dumps(plan))
    return made


def write(workspace: Workspace, *numbers: int) -> None:
    with open(workspace.events, "a", encoding="utf-8") as file:
        file.writelines(json.dumps({"event": number}) + "\n" for number in numbers)


def upload(workspace: Workspace, *more: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, MAIN, "_upload", workspace.root, *more]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def test_every_event_is_sent_once(workspace: Workspace, factory: Factory) -> None:
    write(workspace, 1, 2)
    assert upload(workspace).returncode == 0
    write(workspace, 3)
    assert upload(workspace).returncode == 0
    assert upload(workspace).returncode == 0
    assert [event["event"] for event in factory.events] == [1, 2, 3]
    assert {headers["X-Pilot-Id"] for _, headers, _ in factory.posts} == {"4f3a"}


def test_an_event_that_is_not_all_written_waits_for_the_next_time(workspace: Workspace, factory: Factory) -> None:
    write(workspace, 1)
    Path(workspace.events).write_text(Path(workspace.events).read_text() + '{"event"')
    assert upload(workspace).returncode == 0
    assert [event["event"] for event in factory.events] == [1]


def test_the_report_goes_at_the_end_with_the_last_events(workspace: Workspace, factory: Factory) -> None:
    write(workspace, 1)
    upload_at_end(workspace, {"schema": "x"}, 60.0)
    assert [path for path, _, _ in factory.posts] == ["/p/events", "/p/report"]
    assert json.loads(factory.posts[1][2]) == {"schema": "x"}


def test_last_words_go_before_all_else(workspace: Workspace, factory: Factory) -> None:
    write(workspace, 1)
    upload_at_end(workspace, {"schema": "x"}, 60.0, "internal: keeper.killed: \u2620\n")
    assert factory.kinds == ["last-words", "events", "report"]
    assert factory.posts[0][2].decode() == "internal: keeper.killed: \u2620\n"
    assert upload(workspace).returncode == 0
    assert len(factory.posts) == 3


def test_a_sign_of_life_is_sent_where_nothing_else_is(workspace: Workspace, factory: Factory) -> None:
    write(workspace, 1)
    assert upload(workspace, "heartbeat").returncode == 0
    assert factory.kinds == ["events"]
    assert upload(workspace, "heartbeat").returncode == 0
    assert factory.kinds == ["events", "heartbeat"]


def ended(name: str, score: float | None, *, cached: bool = False) -> str:
    event = {"seconds": 1.0, "event": "benchmark.ended", "name": name, "status": "ok", "score": score, "unit": "u"}
    return json.dumps(event | {"cached": cached, "message": ""}) + "\n"


def test_scores_are_sent_as_benchmarks_end_with_the_processor_they_are_of(
    workspace: Workspace, factory: Factory
) -> None:
    told = [ended("hash", 7.5), ended("kept", 8.0, cached=True), ended("broken", None), '{"event": "benchmark.ended"\n']
    Path(workspace.events).write_text("".join(told))
    Path(workspace.report).write_text(json.dumps({"node": {"cpu": {"model": {"value": "EPYC"}}}}))
    assert upload(workspace).returncode == 0
    (body,) = factory.bodies("benchmarks")
    hashed = {"name": "hash", "score": 7.5, "unit": "u", "cached": False}
    kept = {"name": "kept", "score": 8.0, "unit": "u", "cached": True}
    assert json.loads(body) == {"cpu_model": "EPYC", "benchmarks": [hashed, kept]}
    assert upload(workspace).returncode == 0
    assert len(factory.posts) == 2


def test_scores_that_could_not_be_taken_now_are_sent_again(workspace: Workspace, factory: Factory) -> None:
    Path(workspace.events).write_text(ended("hash", 7.5))
    factory.refused = {"benchmarks": 503}
    assert "answered 503 to benchmarks" in upload(workspace).stdout
    factory.refused = {}
    assert upload(workspace).returncode == 0
    assert len(factory.bodies("benchmarks")) == 1


@pytest.mark.parametrize("status", [400, 404, 405])
def test_a_factory_with_no_place_for_them_gets_events_and_report_all_the_same(
    workspace: Workspace, factory: Factory, status: int
) -> None:
    factory.refused = {"benchmarks": status, "last-words": status, "heartbeat": status}
    Path(workspace.events).write_text(ended("hash", 7.5))
    upload_at_end(workspace, {"schema": "x"}, 60.0, "died\n")
    assert factory.kinds == ["events", "report"]
    assert upload(workspace, "heartbeat").returncode == 0


@pytest.mark.parametrize(
    ("authorities", "certificate", "problem"),
    [
        ("ca.pem", "good.pem", ""),
        ("other_ca.pem", "good.pem", "certificate verify failed"),
        ("ca.pem", "other_host.pem", "mismatch"),
        (None, "good.pem", "certificate verify failed"),
    ],
)
def test_with_https_nothing_is_sent_to_whom_the_authorities_do_not_vouch_for(
    workspace: Workspace, factory: Factory, authorities: str | None, certificate: str, problem: str
) -> None:
    behind_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    behind_tls.load_cert_chain(TLS / certificate, TLS / "server_key.pem")
    factory.socket = behind_tls.wrap_socket(factory.socket, server_side=True)
    plan = Path(workspace.upload, "plan.json")
    changes = {
        "url": f"https://127.0.0.1:{factory.server_port}/p",
        "authorities": authorities and str(TLS / authorities),
    }
    plan.write_text(json.dumps(json.loads(plan.read_text()) | changes))
    write(workspace, 1)
    done = upload(workspace)
    assert done.returncode == (1 if problem else 0)
    assert problem in done.stdout
    assert len(factory.posts) == (0 if problem else 1)


@pytest.mark.parametrize("newer", ["newer.token", "no token", ""])
def test_a_newer_token_replaces_the_one_in_the_file(
    workspace: Workspace, factory: Factory, tmp_path: Path, newer: str
) -> None:
    behind_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    behind_tls.load_cert_chain(TLS / "good.pem", TLS / "server_key.pem")
    factory.socket = behind_tls.wrap_socket(factory.socket, server_side=True)
    factory.newer = newer
    token, plan = tmp_path / "upload.token", Path(workspace.upload, "plan.json")
    token.write_text("older\n")
    url = f"https://127.0.0.1:{factory.server_port}/p"
    told = {"url": url, "authorities": str(TLS / "ca.pem"), "token": str(token)}
    plan.write_text(json.dumps(json.loads(plan.read_text()) | told))
    write(workspace, 1)
    Path(workspace.upload, "report.json").write_text("{}")
    assert upload(workspace).returncode == 0
    kept = "newer.token" if newer == "newer.token" else "older"
    assert token.read_text() == f"{kept}\n"
    assert kept == "older" or token.stat().st_mode & 0o777 == 0o600
    assert [headers["Authorization"] for _, headers, _ in factory.posts] == ["Bearer older", f"Bearer {kept}"]


@pytest.mark.parametrize("status", [302, 403, 500])
def test_what_a_factory_refuses_is_sent_again(workspace: Workspace, factory: Factory, status: int) -> None:
    write(workspace, 1)
    factory.status = status
    refused = upload(workspace)
    assert refused.returncode == 1
    assert f"answered {status}" in refused.stdout
    factory.status = 200
    assert upload(workspace).returncode == 0
    assert [event["event"] for event in factory.events] == [1]


def test_a_factory_that_is_not_there_is_said_in_one_line(workspace: Workspace, factory: Factory) -> None:
    write(workspace, 1)
    plan = Path(workspace.upload, "plan.json")
    plan.write_text(plan.read_text().replace(str(factory.server_port), "1"))
    failed = upload(workspace)
    assert (failed.returncode, failed.stderr) == (1, "")
    assert failed.stdout.count("\n") == 1
    assert "refused" in failed.stdout


@pytest.mark.parametrize("content", ["secret-one\nsecret-two\n", "secret-\u00e9\n", "\n", "secret-one secret-two"])
def test_what_is_no_token_is_not_repeated_to_anybody(
    workspace: Workspace, factory: Factory, tmp_path: Path, content: str
) -> None:
    write(workspace, 1)
    token = tmp_path / "upload.token"
    token.write_text(content)
    path = Path(workspace.upload, "plan.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "token": str(token)}))
    failed = upload(workspace)
    assert failed.returncode == 1
    assert str(token) in failed.stdout
    assert "secret" not in failed.stdout + failed.stderr
    assert factory.posts == []


def test_a_factory_that_stalls_does_not_hold_the_end_up(workspace: Workspace, factory: Factory) -> None:
    factory.stall = threading.Event()
    write(workspace, 1)
    upload_at_end(workspace, {}, 1.0)
    os.waitpid(-1, 0)  # killed: in a pilot, whoever ends all descendants reaps it
    assert factory.posts == []


def test_without_time_or_without_a_plan_nothing_is_sent(workspace: Workspace, factory: Factory) -> None:
    write(workspace, 1)
    upload_at_end(workspace, {}, 0.0)
    Path(workspace.upload, "plan.json").unlink()
    upload_at_end(workspace, {}, 60.0)
    assert factory.posts == []


def test_of_too_many_events_the_oldest_are_dropped_and_counted(workspace: Workspace, factory: Factory) -> None:
    line = json.dumps({"event": "x" * 1000}) + "\n"
    count = 2 * BUFFER_BYTES // len(line)
    Path(workspace.events).write_text(line * count)
    assert upload(workspace).returncode == 0
    dropped = int(factory.posts[-1][1]["X-Pilot-Dropped"])
    assert dropped > 0
    assert len(factory.events) + dropped == count
    assert all(len(body) <= BATCH_BYTES for _, _, body in factory.posts)


def test_an_event_that_is_too_long_is_cut_and_later_ones_go(workspace: Workspace, factory: Factory) -> None:
    """Also one that is longer than all that is kept for a factory that does not answer."""
    log = EventLog(workspace.events, 0.0)
    log.write("one")
    log.write("large", text="x" * BATCH_BYTES)
    log.write("two")
    log.write("huge", text="x" * 2 * BUFFER_BYTES)
    log.write("three")
    assert upload(workspace).returncode == 0
    assert [event["event"] for event in factory.events] == ["one", "large", "two", "huge", "three"]
    large, huge = factory.events[1], factory.events[3]
    assert large.keys() == huge.keys() == {"seconds", "event", "cut_bytes"}
    assert BATCH_BYTES < large["cut_bytes"] < BATCH_BYTES + 100
    assert {headers["X-Pilot-Dropped"] for _, headers, _ in factory.posts} == {"0"}
    log.write("four")
    assert upload(workspace).returncode == 0
    assert factory.events[-1]["event"] == "four"


def test_a_long_line_of_somebody_else_is_cut_too(workspace: Workspace, factory: Factory) -> None:
    Path(workspace.events).write_text("x" * 2 * BATCH_BYTES + "\n")
    write(workspace, 1)
    assert upload(workspace).returncode == 0
    assert factory.events[0] == {"event": "event.cut", "cut_bytes": 2 * BATCH_BYTES + 1}
    assert factory.events[1]["event"] == 1


def test_a_long_event_that_is_not_all_written_waits_for_the_next_time(workspace: Workspace, factory: Factory) -> None:
    write(workspace, 1)
    written = Path(workspace.events).read_text()
    Path(workspace.events).write_text(written + '{"event": "' + "x" * 3 * BATCH_BYTES)
    assert upload(workspace).returncode == 0
    assert [event["event"] for event in factory.events] == [1]


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=60).filter(lambda line: b"\n" not in line), max_size=30), st.integers(-5, 2000))
def test_batches_are_whole_lines_from_any_offset(tmp_path_factory: Any, lines: list[bytes], offset: int) -> None:
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    content = b"".join(line + b"\n" for line in lines)
    path.write_bytes(content)
    start = offset if 0 <= offset <= len(content) else 0
    assert b"".join(batch.lines for batch in batches(str(path), offset)) == content[start:]


def test_a_log_that_is_cut_off_while_it_is_read_ends_the_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job without a container may do that between the two looks."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"x" * 99 + b"\n")
    os.truncate(path, BUFFER_BYTES + 200)

    def counted(file: BinaryIO) -> int:
        os.truncate(path, 100)
        return 2 * BUFFER_BYTES

    monkeypatch.setattr(uploading, "_left", counted)
    assert list(batches(str(path), 0)) == []
