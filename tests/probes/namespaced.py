"""Work in a mount namespace of its own, so that tests can mount what they like and leave nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from pilot_agent.probes.namespaces import CLONE_NEWNS, MS_PRIVATE, MS_REC, enter_user_namespace, mount
from pilot_agent.process import Runner

NOBODY = 65534


def in_namespace(work: Callable[[], Any]) -> Any:
    """What ``work`` returns (as JSON) in a child with its own user and mount namespace."""

    def run() -> bytes:
        enter_user_namespace(CLONE_NEWNS)
        mount("none", "/", "", MS_REC | MS_PRIVATE)
        return json.dumps(work()).encode()

    return _answer(run, "namespaced work")


def as_nobody(work: Callable[[], Any]) -> Any:
    """What ``work`` returns (as JSON) in a child with an ordinary account, also when the tests run as root."""

    def run() -> bytes:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        return json.dumps(work()).encode()

    return _answer(run, "ordinary account")


def _answer(run: Callable[[], bytes], name: str) -> Any:
    with Runner() as runner:
        result = runner.wait(runner.start_call(run, name=name, deadline_seconds=30))
    assert result.ok, result.explain()
    return json.loads(result.answer)
