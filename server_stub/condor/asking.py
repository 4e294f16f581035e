"""Asking HTCondor through its bindings: the question goes to a child, which has a deadline and a limit."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from pilot_agent.interpreter import interpreter_command
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.process import Result, Runner

DEADLINE_SECONDS = 60.0
OUTPUT_LIMIT_BYTES = 64 << 20
CHILD = "server_stub.condor"


def ask(
    operation: str,
    question: Mapping[str, Json],
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
    output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """What HTCondor answered; ``child.OPERATIONS`` says what each operation takes and gives. ``environment`` is in the
    place of this process's, of which HTCondor's own variables (``CONDOR_CONFIG``, ``_CONDOR_*``) count.

    Raises ``PilotError`` (batch.failed) with what HTCondor said, or with how the child ended.
    """
    with Runner() as runner:
        started = runner.start(
            [interpreter_command()[0], "-B", "-X", "utf8", "-m", CHILD, operation, "{give}", "{answer}"],
            deadline_seconds=deadline_seconds,
            environment=_environment(os.environ if environment is None else environment),
            output_limit_bytes=output_limit_bytes,
            give=json.dumps(dict(question)).encode(),
        )
        done = started if isinstance(started, Result) else runner.wait(started)
    return _answer(operation, done)


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """The child finds the same modules as this process."""
    return {**given, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}


def _answer(operation: str, done: Result) -> Any:
    if not done.ok:
        raise failed(f"HTCondor's bindings did not answer ({operation}): {_ended(done)}")
    if done.truncated:
        raise failed(
            f"HTCondor's bindings answered more than is taken ({operation}): {len(done.answer)} bytes and more"
        )
    try:
        answer: Mapping[str, Json] = json.loads(done.answer)
        if "failed" in answer:
            raise failed(f"{operation}: {answer['failed']}")
        return answer["answer"]
    except (ValueError, KeyError, TypeError) as error:
        raise failed(f"HTCondor's bindings answered something that is no answer ({operation}): {error}") from error


def _ended(done: Result) -> str:
    return done.explain().replace(done.argv[0], "the child", 1)


def failed(message: str) -> PilotError:
    """The failure of a batch system that did not do what it was asked."""
    hint = "see whether the site's access point runs here and accepts this account; the factory's operator must act"
    return PilotError(Failure(FailureKind.NETWORK, "batch.failed", message, hint, retry=True))
