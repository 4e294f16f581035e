"""A child's end is seen on every kernel, and only ever that child is signalled."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from pilot_agent import pidfd
from pilot_agent.pidfd import Ending, open_pidfd, send_signal

PATIENCE_SECONDS = 60


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        yield process
        process.kill()


def raising(error: Exception) -> Callable[..., int]:
    """A call that the kernel refuses so."""

    def refuse(*_: int) -> int:
        raise error

    return refuse


@pytest.mark.usefixtures("each_kernel")
def test_the_end_of_a_child_is_seen_and_the_child_stays_to_be_waited_for(child: subprocess.Popen[bytes]) -> None:
    ending = Ending(child.pid)
    try:
        assert not ending.came()
        assert not ending.wait(0.05)
        ending.signal(signal.SIGTERM)
        assert ending.wait(PATIENCE_SECONDS)
        assert ending.came()
        assert child.wait() == -signal.SIGTERM
        assert ending.came(), "somebody else has waited for it"
    finally:
        ending.close()


def test_a_descriptor_tells_the_end_where_the_kernel_has_them(child: subprocess.Popen[bytes]) -> None:
    ending = Ending(child.pid)
    try:
        assert ending.limited(1000.0) == 1000.0
        child.kill()
        assert select.select(ending.descriptors, [], [], PATIENCE_SECONDS)[0] == list(ending.descriptors)
    finally:
        ending.close()


@pytest.mark.usefixtures("old_kernel")
def test_without_one_the_owner_looks_again_soon(child: subprocess.Popen[bytes]) -> None:
    ending = Ending(child.pid)
    assert ending.descriptors == ()
    assert ending.limited(1000.0) == pidfd.LOOK_SECONDS
    assert ending.limited(0.001) == 0.001


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EINVAL])
def test_a_filter_that_refuses_the_call_is_an_old_kernel(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "pidfd_open", raising(OSError(number, os.strerror(number))))
    assert open_pidfd(child.pid) is None


def test_a_python_that_was_built_on_an_old_system_is_an_old_kernel(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.delattr("pilot_agent.light.signal.pidfd_send_signal")
    assert open_pidfd(child.pid) is None
    send_signal(open_pidfd(os.getpid()), child.pid, signal.SIGTERM)
    assert child.wait(PATIENCE_SECONDS) == -signal.SIGTERM


def test_a_signal_reaches_its_process_where_only_the_one_call_is_refused(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = raising(PermissionError(errno.EPERM, "a filter"))
    monkeypatch.setattr("pilot_agent.light.signal.pidfd_send_signal", refused)
    ending = Ending(child.pid)
    ending.signal(signal.SIGTERM)
    ending.close()
    assert child.wait(PATIENCE_SECONDS) == -signal.SIGTERM


def test_a_process_that_is_gone_is_told() -> None:
    with subprocess.Popen(["/bin/true"]) as gone:
        descriptor = open_pidfd(gone.pid)
        assert descriptor is not None
    try:
        with pytest.raises(ProcessLookupError):
            open_pidfd(gone.pid)
        with pytest.raises(ProcessLookupError):
            send_signal(descriptor, gone.pid, signal.SIGTERM)
    finally:
        os.close(descriptor)


@pytest.mark.usefixtures("old_kernel")
def test_a_process_that_is_gone_is_told_without_descriptors_too() -> None:
    with subprocess.Popen(["/bin/true"]) as gone:
        pass
    with pytest.raises(ProcessLookupError):
        send_signal(open_pidfd(gone.pid), gone.pid, signal.SIGTERM)
