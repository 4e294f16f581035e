"""The last look before the start: does HTCondor read from the file what the plan says?"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.process import run
from pilot_agent.startd.guard import GUARD, HELD
from pilot_agent.startd.links import LINKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilot_agent.process import Result, WakeUp
    from pilot_agent.startd.plan import StartdPlan

DEADLINE_SECONDS = 20.0


def expected(plan: StartdPlan) -> dict[str, str]:
    """Knob -> the value that must be in force, whatever fragments and HTCondor's own reading made of the file."""
    levels = ("DEFAULT", "CLIENT", "READ")
    features = ("AUTHENTICATION", "ENCRYPTION", "INTEGRITY")
    values = {
        "NUM_CPUS": str(plan.cores),
        "MEMORY": str(plan.memory_mib),
        "DISK": str(plan.disk_mib * 1024),
        "NUM_SLOTS": "1",
        "NUM_SLOTS_TYPE_1": "1",
        "SLOT_TYPE_1": f"cpus={plan.cores}, memory={plan.memory_mib}, disk=100%, gpus={len(plan.gpus)}",
        "SLOT_TYPE_1_PARTITIONABLE": "True",
        "DAEMON_LIST": "MASTER, STARTD",
        "SEC_TOKEN_DIRECTORY": plan.token_directory,
        "EXECUTE": plan.execute_directory,
    }
    values |= {f"SEC_{level}_{feature}": "REQUIRED" for level in levels for feature in features}
    values |= {f"SEC_{level}_AUTHENTICATION_METHODS": "IDTOKENS" for level in levels}
    if not plan.gpus:
        values["MACHINE_RESOURCE_GPUs"] = "0"
    return values


def verify(plan: StartdPlan, environment: Mapping[str, str], *, wake: WakeUp | None = None) -> None:
    """Ask HTCondor's own reader, in one process.

    ``environment`` is the one that condor_master will get. Raises ``PilotError`` (``startd.configuration``) that
    names every difference, and ``Interrupted`` when ``wake`` becomes readable.
    """
    values = expected(plan)
    command = [plan.condor.tool("condor_config_val"), "-subsystem", "STARTD", *values]
    result = run(command, deadline_seconds=DEADLINE_SECONDS, environment=environment, wake=wake)
    found = result.stdout.decode("utf-8", "replace").splitlines()[: len(values)]
    if not result.ok or len(found) != len(values):
        raise _error(_complaint(result))
    wrong = [
        f"{name} is {value!r}, planned {planned!r}"
        for (name, planned), value in zip(values.items(), found, strict=True)
        if value != planned
    ]
    if wrong:
        raise _error("; ".join(wrong))


def verify_hooks(libexec: str, temporary: str, environment: Mapping[str, str], *, wake: WakeUp | None = None) -> None:
    """Start both hooks once, in an empty directory of ``temporary``: HTCondor holds every job whose hook cannot start.

    Raises ``PilotError`` (``startd.hook``), ``OSError``, and ``Interrupted`` when ``wake`` becomes readable.
    """
    with tempfile.TemporaryDirectory(dir=temporary) as empty:
        for name, expected_code in ((GUARD, HELD), (LINKS, 0)):
            command = [os.path.join(libexec, name)]
            result = run(
                command, deadline_seconds=DEADLINE_SECONDS, environment=environment, directory=empty, wake=wake
            )
            if result.code != expected_code:
                raise PilotError(
                    Failure(
                        FailureKind.NODE_RESOURCE,
                        "startd.hook",
                        f"the program that guards jobs, {command[0]}, does not work: {_complaint(result)}",
                        hint="the site gives a scratch directory without noexec, and the usual find and coreutils",
                        stage="handoff",
                    )
                )


def verify_fetcher(fetcher: tuple[str, ...], environment: Mapping[str, str], *, wake: WakeUp | None = None) -> None:
    """Let the program that fetches images look at its settings and its store; without one, nothing is done.

    Raises ``PilotError`` (``startd.hook``), and ``Interrupted`` when ``wake`` becomes readable.
    """
    if not fetcher:
        return
    command = [*fetcher[:-1], "--verify", fetcher[-1]]
    result = run(command, deadline_seconds=DEADLINE_SECONDS, environment=environment, wake=wake)
    if not result.ok:
        message = f"the program that fetches the jobs' images does not work: {_complaint(result)}"
        hint = "the site looks at the directory that has containers.store_directory"
        raise PilotError(Failure(FailureKind.NODE_RESOURCE, "startd.hook", message, hint=hint, stage="handoff"))


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
