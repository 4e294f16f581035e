"""A workspace on a mount that died holds what touches it in the kernel: the guardian ends all the same, and says so."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.lifecycle.silence import answers
from tests.lifecycle.scenario import WITH_ESCAPED_JOBS, Pilot
from tests.probes.hanging_fuse import hanging_mount
from tests.probes.namespaced import in_namespace


def test_a_file_system_answers_whatever_is_there(tmp_path: Path) -> None:
    assert answers(str(tmp_path))
    assert answers(str(tmp_path / "absent"))


def test_a_file_system_that_keeps_silent_keeps_the_child_that_asked_it(tmp_path: Path) -> None:
    def work() -> Any:
        with hanging_mount(tmp_path / "hung") as server:
            before = answers(str(tmp_path / "hung"))
            server.become("silent")
            return [before, answers(str(tmp_path / "hung"), 0.3)]

    assert in_namespace(work) == [True, False]


@pytest.mark.parametrize("killed", [False, True])
def test_a_pilot_whose_workspace_keeps_silent_ends_with_its_last_words(tmp_path: Path, killed: bool) -> None:
    """Told to stop, or with a keeper that was killed. What the kernel holds in the mount is left over."""

    def work() -> Any:
        pilot = Pilot(tmp_path)
        pilot.plan(WITH_ESCAPED_JOBS)
        pilot.start()
        pilot.running()
        keeper = pilot.main_pid
        try:
            with hanging_mount(pilot.workspace) as server:
                server.become("silent")
                if killed:
                    os.kill(keeper, signal.SIGKILL)
                else:
                    pilot.send(signal.SIGTERM)
                code = pilot.wait()
                names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in pilot.processes()]
                said = [pilot.printed(), (tmp_path / "stderr").read_text(), pilot.report()]
        finally:
            pilot.destroy()
        return [code, names, *said]

    code, names, printed, stderr, report = in_namespace(work)
    assert code == (64 if killed else 143)
    failure = printed["outcome"]["failure"]
    assert failure["code"] == ("workspace.silent" if killed else "signal.15")
    assert "workspace.silent: the file system of the workspace" in stderr
    assert {"kind": "path", "path": f"{tmp_path}/pilot-test", "cause": "its file system does not answer"} in printed[
        "leftovers"
    ]
    assert report["outcome"] == printed["outcome"]
    assert not {"sh", "sleep"} & set(names), "what can be killed is"
