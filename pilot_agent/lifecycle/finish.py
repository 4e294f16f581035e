"""The end of a pilot, the same for whoever comes to it: undo, publish, leave the outcome, remove the rest."""

from __future__ import annotations

import os
import sys
import time

from pilot_agent.files import read_bounded, write_json
from pilot_agent.lifecycle import final_report
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.last_words import last_words
from pilot_agent.lifecycle.owner import RUNTIME_VARIABLE
from pilot_agent.lifecycle.publish import print_for_factory, save_events, save_logs, save_report
from pilot_agent.lifecycle.removal import NotOurs, remove_tree
from pilot_agent.lifecycle.teardown import remove_workspace, stop_everything
from pilot_agent.lifecycle.uploads import upload_at_end
from pilot_agent.light import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot_agent.lifecycle.signals import Alarm
    from pilot_agent.workspace import Workspace

KEPT = ("private", "artifacts", "report.json", "events.jsonl")
"""What stays until the guardian removes it: the outcome survives whoever wrote it, and a pilot that brought its own
HTCondor can tell the pool of its failure while it holds its slot."""
FINAL_SECONDS = 3.0
RUNTIME_SECONDS = 20.0
"""Hundreds of files, which a busy node takes longer for than for all that is left of a workspace by then."""
RUNTIME_PREFIX = "pilot-runtime"


PLANNED_ENDS = (0, *range(129, 192))
"""Exit codes that mean no fault: the end that was meant, and that of a pilot that was told to end by a signal."""


def zero_or_one(exit_code: int) -> int:
    """The exit code for factories that know only these two."""
    return int(exit_code not in PLANNED_ENDS)


class Outcome:
    """How a pilot ended, as the guardian learns it."""

    __slots__ = ("exit_code", "leftovers", "outcome")

    def __init__(self, exit_code: int, outcome: dict[str, Any], leftovers: list[dict[str, Any]]) -> None:
        self.exit_code = exit_code
        self.outcome = outcome
        self.leftovers = leftovers

    def to_json(self) -> dict[str, Any]:
        """The form of ``private/outcome.json`` and of the message to the guardian."""
        return {"exit_code": self.exit_code, "outcome": self.outcome, "leftovers": self.leftovers}

    @classmethod
    def from_json(cls, data: Any) -> Outcome | None:
        """The outcome of that form; None for anything else."""
        if not (isinstance(data, dict) and isinstance(data.get("outcome"), dict)):
            return None
        code, leftovers = data.get("exit_code"), data.get("leftovers", [])
        return cls(code, data["outcome"], leftovers) if isinstance(code, int) and isinstance(leftovers, list) else None


def conclude(
    workspace: Workspace,
    *,
    output: str | None,
    report: dict[str, Any],
    exit_code: int,
    budget_seconds: float,
    alarm: Alarm | None = None,
    started: float | None = None,
) -> list[dict[str, Any]]:
    """Undo what the pilot made, publish ``report`` with its end in it, and leave the outcome for the guardian.

    ``report`` holds its outcome already. ``output`` gets report.json, events.jsonl and logs/. ``alarm`` tells whether a
    guardian is there to remove the last files; without one this does it. Returns what is left over. Kills every
    descendant of the calling process; raises nothing for a full disk or a workspace that is gone.
    """
    budget = Budget(budget_seconds)
    began = time.monotonic()
    leftovers = stop_everything(workspace, budget)
    words = last_words(report["outcome"]["failure"], workspace)
    if output is not None:
        save_logs(workspace, output)
    leftovers += remove_workspace(workspace, budget, keep=KEPT)
    final_report.set_end(report, leftovers, time.monotonic() - began, started)
    if output is not None:
        save_events(workspace, output)
    save_report(report, output, also_print=not os.path.lexists(workspace.unprinted))
    print_for_factory(workspace, report, zero_or_one(exit_code))
    upload_at_end(workspace, report, budget.left(), words)
    result = Outcome(exit_code, report["outcome"], leftovers)
    leave_outcome(workspace, result, alarm)
    return remove_if_alone(workspace, result, output, alarm)


def remove_if_alone(
    workspace: Workspace, known: Outcome, output: str | None, alarm: Alarm | None
) -> list[dict[str, Any]]:
    """Do the guardian's part when there is none; what is left over.

    Whoever goes on for a while after ``conclude`` calls it again at last."""
    if alarm is None or not alarm.alone:
        return known.leftovers
    return remove_the_rest(workspace, known, output)


def leave_outcome(workspace: Workspace, result: Outcome, alarm: Alarm | None) -> None:
    """Tell the guardian twice: by message, which survives a full disk, and by file, which survives this process."""
    if alarm is not None:
        alarm.tell({"ended": result.to_json()})
    try:
        write_json(workspace.outcome, result.to_json())
    except OSError:  # workspace gone or disk full: the message and the exit code remain
        return


def read_outcome(workspace: Workspace) -> Outcome | None:
    """What ``leave_outcome`` wrote; None when nothing, or nothing whole, is there."""
    try:
        return Outcome.from_json(loads(read_bounded(workspace.outcome)))
    except (OSError, ValueError):
        return None


def remove_the_rest(workspace: Workspace, known: Outcome, output: str | None) -> list[dict[str, Any]]:
    """The last act upon a workspace: end whatever still runs, remove everything, and correct the published report if
    more or less is left over than it says. What is left over. Nothing can be imported after it."""
    budget = Budget(FINAL_SECONDS)
    leftovers = stop_everything(workspace, budget)
    left_seconds = budget.left()
    # Before the workspace: as long as that is there the next pilot knows of a runtime that was not all removed.
    remove_runtime()
    leftovers += remove_workspace(workspace, Budget(left_seconds))
    if leftovers != known.leftovers and output is not None:
        path = os.path.join(output, "report.json")
        report = final_report.read_report(path)
        if report is not None:
            report["leftovers"] = leftovers
            save_report(report, output)
    return leftovers


def leave_note(output: str | None, problem: dict[str, Any]) -> None:
    """Write and print a report that holds nothing but a failure, for a pilot that ended before it had a workspace."""
    report = final_report.empty_report()
    final_report.set_outcome(report, problem)
    report["pilot"]["finished"] = report["pilot"]["started"]
    save_report(report, output, also_print=True)


def remove_runtime() -> bool:
    """Remove the interpreter that the self-extracting payload unpacked for this pilot, if it did; True when it is gone.

    Nothing can be imported after it. Only the directory that this process's own interpreter runs
    from is taken for one, named and owned as the payload makes it: the variable may come from anywhere.
    """
    directory = os.environ.get(RUNTIME_VARIABLE, "")
    if not directory or directory != sys.prefix or not os.path.exists(os.path.join(directory, "bin", "pilot-python")):
        return False
    try:
        return not remove_tree(directory, Budget(RUNTIME_SECONDS), prefix=RUNTIME_PREFIX)
    except NotOurs:
        return False
