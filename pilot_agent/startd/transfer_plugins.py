"""HTCondor's file transfer plugins: those that answer are offered to jobs, and those that do not are left out.

The starter asks each for what it can do before every job, and a job whose URL nobody takes is held.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.startd.asking import ask_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pilot_agent.process import Result, WakeUp

DEADLINE_SECONDS = 10.0
_METHODS = re.compile(r'(?mi)^\s*SupportedMethods\s*=\s*"([^"\n]*)"')


@dataclass(frozen=True, slots=True)
class TransferPlugin:
    """One plugin: the URL schemes that it takes, or why it is left out."""

    path: str
    schemes: tuple[str, ...] = ()
    problem: str = ""


def ask_plugins(
    paths: Sequence[str], environment: Mapping[str, str], *, wake: WakeUp | None = None
) -> tuple[TransferPlugin, ...]:
    """Ask all of them at once what they can do (``-classad``).

    Raises ``PilotError`` (node, ``condor.transfer_plugins``) when none can be used: HTCondor 23.9's starter crashes
    when its list is empty. Raises ``Interrupted`` when ``wake`` becomes readable.
    """
    commands = [(path, "-classad") for path in paths]
    results = ask_all(commands, environment, deadline_seconds=DEADLINE_SECONDS, wake=wake)
    tested = tuple(_judge(path, result) for path, result in zip(paths, results, strict=True))
    if not any(plugin.schemes for plugin in tested):
        told = "; ".join(f"{plugin.path}: {plugin.problem}" for plugin in tested) or "none was found"
        raise PilotError(
            Failure(
                FailureKind.NODE_RESOURCE,
                "condor.transfer_plugins",
                f"no file transfer plugin of HTCondor works here, and without one no job starts: {told}",
                hint="the site repairs HTCondor's installation, or startd.condor_directory names a complete one",
                stage="handoff",
                retry=True,
            )
        )
    return tested


def plugin_paths(found: Iterable[str], wanted: Iterable[str], libexec: str) -> tuple[str, ...]:
    """Those that were found with HTCondor, then those of the configuration: a path, or a name in ``libexec``."""
    named = [name if name.startswith("/") else os.path.join(libexec, name) for name in wanted]
    return tuple(dict.fromkeys((*found, *named)))


def _judge(path: str, result: Result) -> TransferPlugin:
    if not result.ok:
        return TransferPlugin(path, problem=result.explain())
    found = _METHODS.search(result.stdout.decode("utf-8", "replace"))
    schemes = tuple(word.strip() for word in found[1].split(",") if word.strip()) if found else ()
    return TransferPlugin(path, schemes, "" if schemes else "it names no methods (SupportedMethods)")
