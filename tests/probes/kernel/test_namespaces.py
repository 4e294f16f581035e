from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pilot_agent.codec import from_json_or_none
from pilot_agent.probes.kernel import namespace_trial, namespaces
from pilot_agent.probes.kernel.namespace_trial import (
    IPC,
    MAPS,
    MOUNT,
    NESTED,
    NESTED_MOUNT,
    NETWORK,
    PID,
    PRIVATE,
    PROC,
    TMPFS,
    USER,
    UTS,
    NamespaceTrial,
    try_namespaces,
)
from pilot_agent.probes.kernel.namespaces import (
    Steps,
    enter_user_namespace,
    give_up_root,
    in_fork,
    mount_is_filtered,
    unshare_is_filtered,
)
from pilot_agent.probes.node import Node
from tests.probes.namespaced import as_nobody, in_namespace
from tests.probes.seccomp import refuse

ALL = {USER, MAPS, MOUNT, PRIVATE, TMPFS, IPC, UTS, NETWORK, PID, PROC, NESTED, NESTED_MOUNT}


def test_every_kind_of_namespace_is_made_on_this_machine_and_nested() -> None:
    answer = Node().ask(namespace_trial.TEST, try_namespaces)
    trial = from_json_or_none(NamespaceTrial, answer.value)
    assert trial is not None, answer.problem
    assert set(trial.steps) == ALL
    assert not trial.refused
    assert trial.gave_up_root == (os.geteuid() == 0)


def test_the_trial_leaves_nothing_behind() -> None:
    before = Path("/proc/self/mountinfo").read_text()
    Node().ask(namespace_trial.TEST, try_namespaces)
    assert Path("/proc/self/mountinfo").read_text() == before


def test_a_limit_below_this_one_stops_the_nested_namespace_only() -> None:
    def work() -> object:
        # Each user namespace counts those below it: one is left, which the trial takes, and none for the nested one.
        Path("/proc/sys/user/max_user_namespaces").write_text("1")
        return try_namespaces()

    trial = from_json_or_none(NamespaceTrial, in_namespace(work))
    assert trial is not None
    assert not trial.refused
    assert trial.steps[NESTED] == "ENOSPC"
    assert NESTED_MOUNT not in trial.steps


def test_a_chroot_is_refused_by_the_kernel_and_not_by_a_filter(tmp_path: Path) -> None:
    def work() -> object:
        os.chroot(tmp_path)
        return try_namespaces()

    trial = from_json_or_none(NamespaceTrial, in_namespace(work))
    assert trial is not None
    assert (trial.refused, trial.steps[USER], trial.filtered) == (USER, "EPERM", ())


@pytest.mark.parametrize("calls", [("userns",), ("mount",)])
def test_a_filter_is_told_apart_from_the_kernel(calls: tuple[str, ...]) -> None:
    def work() -> object:
        before = [unshare_is_filtered(), mount_is_filtered()]
        refuse(*calls)
        return [before, [unshare_is_filtered(), mount_is_filtered()]]

    found = as_nobody(work)
    assert found == [[False, False], ["userns" in calls, "mount" in calls]]


@pytest.mark.parametrize(("call", "step", "filtered"), [("userns", USER, "unshare"), ("mount", PRIVATE, "mount")])
def test_the_trial_names_the_filtered_call(call: str, step: str, filtered: str) -> None:
    def work() -> object:
        refuse(call)
        return try_namespaces()

    trial = from_json_or_none(NamespaceTrial, as_nobody(work))
    assert trial is not None
    assert (trial.refused, trial.steps[step], trial.filtered) == (step, "EPERM", (filtered,))


def test_root_is_given_up_with_everything_that_belongs_to_it() -> None:
    def work() -> object:
        gone = give_up_root()
        status = Path("/proc/self/status").read_text().splitlines()
        told = dict(line.split(":\t", 1) for line in status if ":\t" in line)
        return [gone, os.getresuid(), os.getresgid(), os.getgroups(), told["CapEff"], told["CapPrm"]]

    gone, users, groups, others, *capabilities = in_fork(work)
    assert gone == (os.geteuid() == 0)
    if gone:
        assert users == groups == [namespaces.NOBODY] * 3
        assert others == []
        assert capabilities == ["0" * 16] * 2


def test_root_of_a_user_namespace_has_nothing_to_give_up() -> None:
    assert in_namespace(lambda: [give_up_root(), os.geteuid()]) == [False, 0]


def test_steps_keep_their_order_and_the_names_of_their_errors() -> None:
    steps = Steps()
    assert steps.take("first", lambda: None)
    assert not steps.take("second", lambda: os.open("/nonexistent", os.O_RDONLY))
    assert list(steps.taken.items()) == [("first", ""), ("second", "ENOENT")]
    assert namespaces.errno_name(None) == "EIO"
    assert namespaces.errno_name(9999) == "E9999"


def test_work_in_a_fork_that_dies_tells_nothing() -> None:
    assert in_fork(lambda: {"a": 1}) == {"a": 1}
    assert in_fork(lambda: os._exit(3)) is None


def test_a_refused_user_namespace_raises_the_kernels_error(tmp_path: Path) -> None:
    def work() -> object:
        os.chroot(tmp_path)
        try:
            enter_user_namespace()
        except OSError as error:
            return error.errno
        return 0

    assert in_namespace(work) == errno.EPERM


@pytest.mark.parametrize("damaged", [None, [], {"steps": 3}, {"other": 1}, {"steps": {"user namespace": None}}])
def test_a_damaged_answer_is_no_trial(damaged: object) -> None:
    assert from_json_or_none(NamespaceTrial, damaged) is None
