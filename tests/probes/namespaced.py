"""Work in a mount namespace of its own, so that tests can mount what they like and leave nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from pilot_agent.probes.kernel.namespaces import (
    CLONE_NEWNS,
    MS_PRIVATE,
    MS_REC,
    enter_user_namespace,
    give_up_root,
    load,
    mount,
    private_mounts,
    unshare,
)
from pilot_agent.process import Runner

NOBODY = 65534
PLACE = "/mnt"
WORKSPACE = f"{PLACE}/workspace"
"""Where ``with_fuse`` lets every account write."""
_MS_BIND = 0x1000
_FUSE = os.makedev(10, 229)


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


def with_fuse(work: Callable[[], Any], *, mode: int = 0o666, nobody: bool = True) -> Any:
    """What ``work`` returns (as JSON) in a child whose /dev/fuse has this mode and that may write in ``WORKSPACE``;
    an ordinary account's unless ``nobody`` is false. Needs root of the machine."""

    def run() -> bytes:
        load()
        unshare(CLONE_NEWNS)
        private_mounts()
        mount("tmpfs", PLACE, "tmpfs", 0, "mode=755")
        os.mknod(f"{PLACE}/fuse", 0o020000, _FUSE)
        os.chmod(f"{PLACE}/fuse", mode)
        mount(f"{PLACE}/fuse", "/dev/fuse", "", _MS_BIND)
        os.mkdir(WORKSPACE)
        os.chmod(WORKSPACE, 0o1777)
        if nobody:
            assert give_up_root()
        return json.dumps(work()).encode()

    return _answer(run, "with FUSE")


def bind(source: str, target: str) -> None:
    """Let ``target`` be ``source`` for the work in a namespace."""
    mount(source, target, "", _MS_BIND)


def _answer(run: Callable[[], bytes], name: str) -> Any:
    with Runner() as runner:
        result = runner.wait(runner.start_call(run, name=name, deadline_seconds=90))
    assert result.ok, result.explain()
    return json.loads(result.answer)
