"""What giving a control group back costs the rest of a teardown. That it is given back is shown with the kernel's own
groups (``tests/integration/test_job_cgroups.py``)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.lifecycle import budget, control_groups, teardown
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.journal import Journal
from pilot_agent.workspace import Workspace


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_groups_that_cannot_be_removed_leave_time_to_remove_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job makes groups below its own, as deep as it likes; and it may have written them down more than once."""
    clock = Clock()
    for module in (budget, control_groups):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(control_groups, "_in_version_2", lambda path: True)
    workspace = Workspace(str(tmp_path / "pilot-0123456789ab"))
    os.makedirs(workspace.private)
    group = tmp_path / control_groups.group_of(workspace)
    (group / "jobs" / "/".join("x" * (control_groups.DEEPEST + 2))).mkdir(parents=True)
    for _ in range(50):
        Journal(workspace.journal).group(str(group), [])
    whole = Budget(10.0)
    leftovers = teardown.undo_groups(workspace, whole)
    assert {item["path"] for item in leftovers} == {str(group)}
    assert whole.left() > teardown.REMOVAL_SHARE_SECONDS / 2
