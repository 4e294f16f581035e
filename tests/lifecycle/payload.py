"""A payload for the tests: the guardian and keeper of the project, with a small pipeline of its own between them.

``payload.py run SCENARIO`` is what a batch system would start. SCENARIO is a JSON file, see ``scenario.py``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from pilot_agent.events import EventLog
from pilot_agent.files import write_json
from pilot_agent.interpreter import interpreter_command
from pilot_agent.lifecycle import final_report, finish, guardian, keeper, plan
from pilot_agent.lifecycle.journal import Journal
from pilot_agent.lifecycle.lock import keep_across_exec, lock
from pilot_agent.lifecycle.master import start_master
from pilot_agent.lifecycle.record import PlanError
from pilot_agent.lifecycle.signals import Alarm
from pilot_agent.lifecycle.spawn import spawn
from pilot_agent.lifecycle.subreaper import become_subreaper
from pilot_agent.services.plan import ServicePlan
from pilot_agent.services.stage import start_all
from pilot_agent.workspace import BEING_MADE, Workspace


def pipeline(path: str) -> int:  # noqa: RET503 - it ends by exec
    """What the real pipeline does around its stages."""
    with open(path, encoding="utf-8") as file:
        scenario = json.load(file)
    if "exit_early" in scenario:
        return int(scenario["exit_early"])
    if "die_early" in scenario:
        os.kill(os.getpid(), signal.SIGKILL)
    become_subreaper()
    alarm = Alarm.install(int(os.environ["PILOT_AGENT_GUARDIAN_FD"]))
    workspace = Workspace(scenario["workspace"])
    alarm.tell({"workspace": workspace.root, "output": scenario["output"], "started": time.time()})
    make(workspace)
    alarm.tell({"role": "pipeline"})
    report = final_report.empty_report("test")
    write_json(workspace.report, report)
    journal = Journal(workspace.journal)
    services = start_services(workspace, journal, scenario.get("services", []))
    for argv in scenario.get("strays", ()):
        spawn(argv, os.environ)
    write_json(os.path.join(workspace.root, "tmp", "pids"), {"pipeline": os.getpid()})
    if scenario.get("stay"):
        while alarm.reason() is None:
            time.sleep(0.02)
        number = alarm.signal
        problem = (
            final_report.failure("preempted", "guardian.gone", "") if number is None else final_report.preempted(number)
        )
        final_report.set_outcome(report, problem)
        code = 70 if number is None else 128 + number
        finish.conclude(
            workspace, output=scenario["output"], report=report, exit_code=code, budget_seconds=10, alarm=alarm
        )
        return code
    os.mkfifo(workspace.ad_channel, 0o600)
    hand_over(workspace, journal, {**scenario["plan"], "services": services, "workspace": workspace.root})
    alarm.keep_across_exec()
    keep_across_exec()
    command = [*interpreter_command(), "_keeper", workspace.root]
    os.execv(command[0], command)


def make(workspace: Workspace) -> None:
    """Make the workspace and hold it as ``configure.make_workspace`` does: the guardian, which knows of it, must
    not find its lock before this process has it."""
    made = Workspace(workspace.root + BEING_MADE)
    os.mkdir(made.root, 0o700)
    made.create()
    lock(made)
    os.rename(made.root, workspace.root)


def hand_over(workspace: Workspace, journal: Journal, made: dict[str, Any]) -> None:
    """Start condor_master as the real pipeline does, and leave the plan for the keeper; a damaged one as it is."""
    try:
        the_plan = plan.KeeperPlan.from_json(made)
    except PlanError:
        write_json(workspace.keeper_plan, made)
        return
    start_master(the_plan.master, the_plan.time, journal)
    write_json(workspace.keeper_plan, plan.to_json(the_plan))


def start_services(workspace: Workspace, journal: Journal, wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Start the services of the scenario as the service stage does: ready when it lives after a second."""
    plans = [ServicePlan(**{"environment": dict(os.environ), "directory": f"{workspace.services}/{one['name']}",
                            "stop_seconds": 1.0, **one}) for one in wanted]  # fmt: skip
    start_all(plans, EventLog(workspace.events, time.time()), journal, None)
    return [plan.to_json() for plan in plans]


def main() -> int:
    """Dispatch, as ``__main__`` does."""
    signal.alarm(120)  # a test that goes wrong must not leave a process for ever
    command, *arguments = sys.argv[1:]
    if command == "run":
        return guardian.main(arguments)
    return keeper.main(arguments) if command == "_keeper" else pipeline(arguments[0])


if __name__ == "__main__":
    sys.exit(main())
