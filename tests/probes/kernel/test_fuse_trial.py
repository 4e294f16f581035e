from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from pilot_agent.codec import from_json_or_none
from pilot_agent.probes.kernel import fuse_mount, fuse_trial
from pilot_agent.probes.kernel.fuse_trial import (
    FUSE_MOUNT,
    HELPER,
    INSIDE,
    OUTSIDE,
    POINT,
    READ,
    FuseTrial,
    remove_left,
    try_helper,
    try_inside,
)
from pilot_agent.probes.kernel.namespace_trial import USER
from pilot_agent.probes.node import Node
from tests.probes.namespaced import WORKSPACE, bind, with_fuse
from tests.probes.seccomp import refuse

FUSERMOUNT = "/usr/bin/fusermount3"
MOUNT_POINT = f"{WORKSPACE}/fuse-trial"


def trial(answer: object) -> FuseTrial:
    found = from_json_or_none(FuseTrial, answer)
    assert found is not None, answer
    return found


def mounted() -> bool:
    return MOUNT_POINT in Path("/proc/self/mountinfo").read_text()


def _hang(*_: object) -> int:
    signal.pause()
    return 0


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_a_file_is_read_in_a_user_namespace() -> None:
    found = trial(with_fuse(lambda: Node().ask(INSIDE, try_inside).value))
    assert (found.worked, found.refused) == (True, ""), found


def test_a_file_is_read_through_the_helper_and_nothing_stays() -> None:
    def work() -> object:
        before = Path("/proc/self/mountinfo").read_text()
        answer = Node().ask(OUTSIDE, lambda: try_helper(FUSERMOUNT, WORKSPACE)).value
        return [answer, Path("/proc/self/mountinfo").read_text() == before, os.listdir(WORKSPACE)]

    answer, same, names = with_fuse(work)
    assert trial(answer) == FuseTrial({POINT: "", HELPER: "", READ: ""})
    assert same
    assert names == []


def test_root_of_the_machine_tries_both_as_an_ordinary_account() -> None:
    def work() -> object:
        inside = Node().ask(INSIDE, try_inside).value
        outside = Node().ask(OUTSIDE, lambda: try_helper(FUSERMOUNT, WORKSPACE)).value
        return [inside, outside, mounted(), os.listdir(WORKSPACE)]

    inside, outside, left, names = with_fuse(work, nobody=False)
    for answer in (inside, outside):
        assert trial(answer).worked, answer
        assert trial(answer).gave_up_root
    assert not left
    assert names == []


def test_a_closed_device_is_the_first_step_that_is_refused() -> None:
    def work() -> object:
        return [Node().ask(INSIDE, try_inside).value, try_helper(FUSERMOUNT, WORKSPACE)]

    inside, outside = with_fuse(work, mode=0o600)
    assert trial(inside).steps == {fuse_trial.OPEN: "EACCES"}
    assert trial(outside).refused == HELPER
    assert "failed to open /dev/fuse: Permission denied" in trial(outside).said


def test_a_missing_device_is_told() -> None:
    def work() -> object:
        os.mkdir("/mnt/dev")
        bind("/mnt/dev", "/dev")
        return try_inside()

    assert trial(with_fuse(work, nobody=False)).steps == {fuse_trial.OPEN: "ENOENT"}


def test_a_missing_helper_and_one_without_its_bit_are_told() -> None:
    def work() -> object:
        copy = f"{WORKSPACE}/fusermount3"
        Path(copy).write_bytes(Path(FUSERMOUNT).read_bytes())
        os.chmod(copy, 0o755)
        found = [try_helper("/nonexistent/fusermount3", WORKSPACE), try_helper(copy, WORKSPACE)]
        return [*found, os.listdir(WORKSPACE)]

    missing, powerless, names = with_fuse(work)
    assert trial(missing).steps == {POINT: "", HELPER: "ENOENT"}
    assert trial(powerless).steps == {POINT: "", HELPER: "EPERM"}
    assert "Operation not permitted" in trial(powerless).said
    assert names == ["fusermount3"]


def test_a_workspace_that_cannot_be_written_is_told() -> None:
    assert trial(with_fuse(lambda: try_helper(FUSERMOUNT, "/proc"))).refused == POINT


def test_filtered_calls_are_told() -> None:
    def work(call: str) -> object:
        refuse(call)
        return try_inside()

    userns, mount = trial(with_fuse(lambda: work("userns"))), trial(with_fuse(lambda: work("mount")))
    assert (userns.refused, userns.filtered) == (USER, ("unshare",))
    assert mount.filtered == ("mount",)


def test_a_file_system_that_hangs_is_given_up_and_nothing_stays() -> None:
    def work() -> object:
        vars(fuse_mount)["_serve"] = _hang
        answer = Node().ask(OUTSIDE, lambda: try_helper(FUSERMOUNT, WORKSPACE), seconds=0.5)
        gone = until(lambda: not mounted())
        left = Node().ask("removal", lambda: remove_left(FUSERMOUNT, WORKSPACE)).value
        return [answer.hung, answer.stuck, gone, left]

    assert with_fuse(work) == [True, False, True, ""]


def test_nothing_stays_of_a_trial_that_is_killed_while_it_is_mounted() -> None:
    def work() -> object:
        vars(fuse_mount)["_serve"] = _hang
        pid = os.fork()
        if pid == 0:
            os.setsid()
            try_helper(FUSERMOUNT, WORKSPACE)
        was = until(mounted)
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return [was, until(lambda: not mounted())]

    assert with_fuse(work) == [True, True]


def test_what_a_trial_left_is_unmounted_and_removed() -> None:
    def work() -> object:
        fuse_trial._unmount_by = lambda *_: os._exit(1)
        answer = try_helper(FUSERMOUNT, WORKSPACE)
        return [answer, mounted(), os.listdir(WORKSPACE)]

    answer, left, names = with_fuse(work)
    assert (trial(answer).worked, trial(answer).left) == (True, "")
    assert not left
    assert names == []


def test_a_mount_that_cannot_be_removed_is_told() -> None:
    def work() -> object:
        fuse_trial._unmount_by = lambda *_: os._exit(1)
        vars(fuse_trial)["remove_mount"] = lambda _, point: point
        return [try_helper(FUSERMOUNT, WORKSPACE), mounted()]

    answer, left = with_fuse(work)
    assert (trial(answer).left, left) == (MOUNT_POINT, True)


def test_damaged_answers_are_no_trial() -> None:
    assert from_json_or_none(FuseTrial, {"steps": [FUSE_MOUNT]}) is None
    assert from_json_or_none(FuseTrial, None) is None
