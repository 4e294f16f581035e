"""The keeper's uploads: a child where there is news, a sign of life from time to time, and else nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pilot_agent.lifecycle import uploads
from pilot_agent.lifecycle.last_words import TAIL_BYTES, last_words
from pilot_agent.lifecycle.uploads import Uploader
from pilot_agent.workspace import Workspace
from tests.lifecycle.bench import ENVIRONMENT, Bench

SAY = "import sys; open({place!r}, 'a').write(' '.join(sys.argv[1:]) + '!'); sys.exit({code})"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(str(tmp_path / "pilot-1"))
    Path(made.upload).mkdir(parents=True)
    Path(made.condor_log).mkdir(parents=True)
    return made


def begin(bench: Bench, workspace: Workspace, *, period: float, heartbeat: float, code: int = 0) -> Path:
    """The file in which each child leaves its words."""
    place = Path(workspace.root, "called")
    place.write_text("")
    plan = {
        "period_seconds": period,
        "heartbeat_seconds": heartbeat,
        "argv": [sys.executable, "-c", SAY.format(place=str(place), code=code)],
        "environment": ENVIRONMENT,
    }
    Path(workspace.upload, "plan.json").write_text(json.dumps(plan))
    Uploader(workspace, bench.loop, bench.events)
    return place


def test_there_is_a_child_for_news_and_none_where_nothing_happened(bench: Bench, workspace: Workspace) -> None:
    turns: list[int] = []
    place = begin(bench, workspace, period=0.02, heartbeat=3600)
    bench.until("the first began", lambda: place.read_text() == "heartbeat!")
    bench.events.write("a")
    bench.until("the second began", lambda: place.read_text() == "heartbeat!!")
    for _ in range(10):
        bench.loop.call_later(0.05, lambda: turns.append(1))
        bench.until("time passed", lambda: turns.pop() if turns else 0)
    assert place.read_text() == "heartbeat!!"


def test_a_pilot_of_which_nothing_is_heard_gives_signs_of_life(bench: Bench, workspace: Workspace) -> None:
    place = begin(bench, workspace, period=3600, heartbeat=0.05)
    bench.until("three signs", lambda: place.read_text().count("heartbeat!") >= 3)


def test_what_was_not_taken_is_offered_again(bench: Bench, workspace: Workspace) -> None:
    place = begin(bench, workspace, period=0.02, heartbeat=3600, code=1)
    bench.until("three attempts", lambda: place.read_text().count("!") >= 3)
    assert bench.names().count("upload.failed") == 1


@pytest.mark.parametrize("byte", [0, 255])
def test_signs_of_life_of_many_pilots_spread(monkeypatch: pytest.MonkeyPatch, byte: int) -> None:
    monkeypatch.setattr("os.urandom", lambda _: bytes([byte]))
    assert uploads._about(300) == pytest.approx(240 if byte == 0 else 360)


def problem(kind: str, code: str) -> dict[str, str]:
    return {"kind": kind, "code": code, "message": "it was killed", "hint": "look for the out-of-memory killer"}


def test_a_survivor_tells_the_ends_of_the_logs(workspace: Workspace) -> None:
    lines = [f"line {number}" for number in range(TAIL_BYTES)]
    Path(workspace.condor_log, "MasterLog").write_text("\n".join(lines))
    Path(workspace.condor_log, "StartLog").symlink_to("/etc/passwd")
    told = last_words(problem("internal", "keeper.killed"), workspace).splitlines()
    assert told[:3] == [
        "internal: keeper.killed: it was killed",
        "look for the out-of-memory killer",
        "--- the end of MasterLog ---",
    ]
    assert set(told[3:]) < set(lines)
    assert told[-1] == lines[-1]


@pytest.mark.parametrize("kind", ["preempted", "node_resource"])
def test_of_an_end_that_the_report_explains_there_are_no_last_words(workspace: Workspace, kind: str) -> None:
    assert last_words(problem(kind, "x"), workspace) == ""
    assert last_words(None, workspace) == ""
    assert last_words(problem("preempted", "guardian.gone"), workspace) != ""
