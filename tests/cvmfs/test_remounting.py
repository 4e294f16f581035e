"""What a pilot has mounted itself is mounted again after its client died, with real mounts in a namespace."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.cvmfs.distribution import Distribution
from pilot_agent.cvmfs.mounting import mount
from pilot_agent.cvmfs.remounting import remount
from pilot_agent.interpreter import interpreter_command
from pilot_agent.lifecycle.mounts import is_mount_point
from pilot_agent.process import run
from tests.cvmfs.distributions import CONFIGURATION, make, tell
from tests.probes.hanging_fuse import hanging_mount
from tests.probes.namespaced import in_namespace

A, B = "a.example.org", "b.example.org"
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
NEEDS_CONFIGURATION = f'[ -e "$here/dist/cvmfs/{CONFIGURATION}/new_repository" ] || {{ echo offline >&2; exit 16; }}'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "cvmfs")


def after_deaths(root: Path, dead: list[str], then: Callable[[Distribution], Any]) -> Any:
    """What ``then`` finds when clients that served these repositories have died, and the other of A and B is well."""

    def work() -> Any:
        laid = Distribution(str(root))
        mount(laid, [name for name in (A, B) if name not in dead], environment=ENVIRONMENT)
        for name in dead:
            if is_mount_point(laid.point(name)):
                run(["/bin/umount", laid.point(name)], deadline_seconds=30, environment=ENVIRONMENT)
        (root / "asked").unlink()
        served = [hanging_mount(laid.point(name)) for name in dead]
        for one in served:
            one.__enter__().die()
        return then(laid)

    return in_namespace(work)


def texts(laid: Distribution) -> list[str]:
    return [Path(laid.point(name), "new_repository").read_text() for name in (CONFIGURATION, A, B)]


def asked(root: Path) -> list[str]:
    return (root / "asked").read_text().split()


def test_a_dead_one_is_mounted_again_and_the_others_stay(root: Path) -> None:
    def again(laid: Distribution) -> Any:
        before = os.stat(laid.point(B)).st_dev
        reasons = list(remount(laid, [A], environment=ENVIRONMENT))
        return [reasons, texts(laid), os.stat(laid.point(B)).st_dev == before]

    reasons, read, same = after_deaths(root, [A], again)
    assert reasons == []
    assert read == [f"this is {name}\n" for name in (CONFIGURATION, A, B)]
    assert same


def test_a_dead_configuration_repository_comes_before_those_that_need_it(root: Path) -> None:
    tell(root, A, NEEDS_CONFIGURATION)
    tell(root, B, NEEDS_CONFIGURATION)

    def again(laid: Distribution) -> Any:
        return [list(remount(laid, [B, A], environment=ENVIRONMENT)), texts(laid)]

    reasons, read = after_deaths(root, [CONFIGURATION, A, B], again)
    assert reasons == []
    assert asked(root)[0] == CONFIGURATION
    assert len(read) == 3


def test_the_command_says_why_one_is_not_well(root: Path) -> None:
    tell(root, A, 'echo "reached nobody" >&2; exit 16')

    def again(laid: Distribution) -> Any:
        argv = [*interpreter_command(), "_cvmfs", "remount", laid.root, A, B]
        ended = run(argv, deadline_seconds=60, environment=ENVIRONMENT)
        return [ended.code, ended.stdout.decode(), is_mount_point(laid.point(A)), is_mount_point(laid.point(B))]

    code, said, a, b = after_deaths(root, [A, B], again)
    assert (code, a, b) == (1, False, True)
    reason = json.loads(said)["reason"]
    assert reason.startswith(f"{A}: mountrepo exited 16")
    assert "reached nobody" in reason
