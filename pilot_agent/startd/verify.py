"""The last look before the start: does HTCondor read from the file what the plan says, and do the hooks work?"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.startd.asking import ask_all
from pilot_agent.startd.guard import GUARD, HELD
from pilot_agent.startd.links import LINKS
from pilot_agent.startd.slots import slot_knobs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pilot_agent.process import Result, WakeUp
    from pilot_agent.startd.plan import LayerExpression, StartdPlan

DEADLINE_SECONDS = 20.0


def expected(plan: StartdPlan) -> dict[str, str]:
    """Knob -> the value that must be in force, whatever fragments and HTCondor's own reading made of the file."""
    levels = ("DEFAULT", "CLIENT", "READ")
    features = ("AUTHENTICATION", "ENCRYPTION", "INTEGRITY")
    values = {
        **slot_knobs(plan.slot_groups, plan.memory_mib, plan.disk_mib),
        "DAEMON_LIST": "MASTER, SHARED_PORT, STARTD" if plan.shared_port else "MASTER, STARTD",
        "USE_SHARED_PORT": str(plan.shared_port).lower(),
        "SHARED_PORT_PORT": "0",
        "SEC_TOKEN_DIRECTORY": plan.token_directory,
        "EXECUTE": plan.execute_directory,
    }
    values |= {f"SEC_{level}_{feature}": "REQUIRED" for level in levels for feature in features}
    values |= {f"SEC_{level}_AUTHENTICATION_METHODS": "IDTOKENS" for level in levels}
    if not plan.gpus:
        values["MACHINE_RESOURCE_GPUs"] = "0"
    return values


@dataclass(frozen=True, slots=True)
class Question:
    """A program to run before the start. ``problem`` turns how it ended into what is wrong, None when nothing is.

    It runs in ``directory``, or where the pilot is.
    """

    command: list[str]
    problem: Callable[[Result], PilotError | None]
    directory: str | None = None


def verify(questions: Sequence[Question], environment: Mapping[str, str], *, wake: WakeUp | None = None) -> None:
    """Ask all of them at once. ``environment`` is the one that condor_master will get.

    Raises what the first in order that is not content says (``PilotError``), and ``Interrupted`` when ``wake`` becomes
    readable.
    """
    results = ask_all(
        [question.command for question in questions],
        environment,
        deadline_seconds=DEADLINE_SECONDS,
        directories=[question.directory for question in questions],
        wake=wake,
    )
    for question, result in zip(questions, results, strict=True):
        problem = question.problem(result)
        if problem is not None:
            raise problem


def configuration_question(plan: StartdPlan) -> Question:
    """HTCondor's own reader, in one process; every difference is ``startd.configuration``."""
    values = expected(plan)

    def problem(result: Result) -> PilotError | None:
        found = result.stdout.decode("utf-8", "replace").splitlines()[: len(values)]
        if not result.ok or len(found) != len(values):
            return _error(_complaint(result))
        wrong = [
            f"{name} is {value!r}, planned {planned!r}"
            for (name, planned), value in zip(values.items(), found, strict=True)
            if value != planned
        ]
        return _error("; ".join(wrong)) if wrong else None

    return Question([plan.condor.tool("condor_config_val"), "-subsystem", "STARTD", *values], problem)


def start_question(plan: StartdPlan) -> Question:
    """Whether START, as the startd finds it, still ends with what keeps an unattended pilot from taking jobs
    (``startd.configuration``)."""

    def problem(result: Result) -> PilotError | None:
        start, _, guard = result.stdout.decode("utf-8", "replace").strip().partition("\n")
        if result.ok and guard and start.endswith(f"&& ({guard})"):
            return None
        return _error(_complaint(result) if not result.ok else f"START is {start[:200]!r}, without the pilot's own")

    return Question([plan.condor.tool("condor_config_val"), "-subsystem", "STARTD", "START", "PILOT_START"], problem)


def expression_questions(plan: StartdPlan) -> list[Question]:
    """Each layer's expression, read by HTCondor itself (``startd.expression``); none where the tool is missing."""
    tool = plan.condor.tool("condor_status")
    if not os.access(tool, os.X_OK):
        return []
    return [
        Question([tool, "-ads", "/dev/null", "-constraint", each.text], _expression_problem(each))
        for each in plan.expressions
    ]


def _expression_problem(expression: LayerExpression) -> Callable[[Result], PilotError | None]:
    def problem(result: Result) -> PilotError | None:
        said = (result.stdout + result.stderr).decode("utf-8", "replace")
        if "nvalid constraint" not in said:
            return None
        return PilotError(
            Failure(
                FailureKind.CONFIG,
                "startd.expression",
                f"{expression.key} of the layer {expression.layer} is no ClassAd expression: {expression.text!r}",
                hint=f"who wrote {expression.key} into the layer {expression.layer} corrects it; "
                "condor_status -constraint EXPRESSION tells whether HTCondor can read one",
                stage="handoff",
            )
        )

    return problem


def hook_questions(libexec: str, empty: str) -> list[Question]:
    """Both hooks, started in the directory ``empty``: HTCondor holds every job whose hook cannot start
    (``startd.hook``)."""
    return [
        Question([os.path.join(libexec, name)], _hook_problem(os.path.join(libexec, name), code), empty)
        for name, code in ((GUARD, HELD), (LINKS, 0))
    ]


def fetcher_questions(fetcher: Sequence[str]) -> list[Question]:
    """The program that fetches images, which looks at its settings and its store (``startd.hook``); none without
    one."""

    def problem(result: Result) -> PilotError | None:
        if result.ok:
            return None
        message = f"the program that fetches the jobs' images does not work: {_complaint(result)}"
        hint = "the site looks at the directory that has containers.store_directory"
        return PilotError(Failure(FailureKind.NODE_RESOURCE, "startd.hook", message, hint=hint, stage="handoff"))

    return [Question([*fetcher[:-1], "--verify", fetcher[-1]], problem)] if fetcher else []


def _hook_problem(hook: str, expected_code: int) -> Callable[[Result], PilotError | None]:
    def problem(result: Result) -> PilotError | None:
        if result.code == expected_code:
            return None
        message = f"the program that guards jobs, {hook}, does not work: {_complaint(result)}"
        hint = "the site gives a scratch directory without noexec, and the usual find and coreutils"
        return PilotError(Failure(FailureKind.NODE_RESOURCE, "startd.hook", message, hint=hint, stage="handoff"))

    return problem


def _complaint(result: Result) -> str:
    said = result.stderr.decode("utf-8", "replace").strip().splitlines()
    return "; ".join(said[:5]) if said and result.error is None and not result.timed_out else result.explain()


def _error(what: str) -> PilotError:
    return PilotError(
        Failure(
            FailureKind.CONFIG,
            "startd.configuration",
            f"HTCondor does not read its configuration as planned: {what}",
            hint="look at the startd fragments of the plugins; without any, this is a fault of the pilot",
            stage="handoff",
        )
    )
