"""The one exception to ``process``: a child that talks to the person who started it.

It keeps the caller's standard streams, and on a terminal it becomes the foreground job as under a shell, so that an
interactive program with its keys works. Signals that this process gets are handed on to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

HANDED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
STANDARD_INPUT = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended: by itself with ``code``, by ``signal``, or not started for the reason ``error``, an errno name."""

    code: int | None = None
    signal: int | None = None
    error: str = ""

    @property
    def exit_code(self) -> int:
        """What a shell would return: 128+N for signal N, 127 for a program that is not there, 126 for one that cannot
        be run."""
        if self.error:
            return 127 if self.error in ("ENOENT", "ENOTDIR") else 126
        return 128 + self.signal if self.signal is not None else self.code or 0


def run_in_foreground(argv: Sequence[str], *, environment: Mapping[str, str], directory: str) -> Ended:
    """Run a program to its end with the caller's standard streams; a name without a slash is looked for in the PATH of
    ``environment``.

    Without a terminal it gets a session of its own, on a terminal a process group that is the foreground one. Nothing
    limits its time. Raises ``OSError`` where the node allows no further process.
    """
    with _terminal() as terminal, _held_back():
        told, telling = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            _become(argv, environment, directory, terminal, telling)
        os.close(telling)
        with os.fdopen(told, "rb") as pipe, _handing_on(pid):
            error = pipe.read().decode()
            ended = _waited(pid, terminal)
    return Ended(error=error) if error else ended


@contextlib.contextmanager
def _terminal() -> Iterator[int | None]:
    """The descriptor of a terminal whose foreground group is ours, as it was again afterwards; None without one."""
    try:
        ours = os.tcgetpgrp(STANDARD_INPUT) == os.getpgrp()
    except OSError:
        ours = False
    if not ours:
        yield None
        return
    import termios

    before = termios.tcgetattr(STANDARD_INPUT)
    try:
        yield STANDARD_INPUT
    finally:
        with contextlib.suppress(OSError, termios.error):
            _give_terminal(STANDARD_INPUT, os.getpgrp())
            termios.tcsetattr(STANDARD_INPUT, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Signals wait until it is settled who gets them; afterwards everything is as it was."""
    wake = signal.set_wakeup_fd(-1)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDED_ON)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.set_wakeup_fd(wake)


@contextlib.contextmanager
def _handing_on(pid: int) -> Iterator[None]:
    def hand_on(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)

    before = {number: signal.signal(number, hand_on) for number in HANDED_ON}
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDED_ON)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)


def _waited(pid: int, terminal: int | None) -> Ended:
    while True:
        _, status = os.waitpid(pid, os.WUNTRACED if terminal is not None else 0)
        if not os.WIFSTOPPED(status):
            break
        # Ctrl-Z: this process stops with it, so that the shell gets the terminal, and goes on with it.
        assert terminal is not None
        _give_terminal(terminal, os.getpgrp())
        before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, before)
        with contextlib.suppress(OSError):
            _give_terminal(terminal, pid)
        os.killpg(pid, signal.SIGCONT)
    code = os.waitstatus_to_exitcode(status)
    # What it left in its group ends with it, as after every child.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    return Ended(code=code) if code >= 0 else Ended(signal=-code)


def _give_terminal(terminal: int, group: int) -> None:
    """Make a process group the foreground one; the caller need not be in it (termios(4): SIGTTOU)."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
    try:
        os.tcsetpgrp(terminal, group)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _become(
    argv: Sequence[str], environment: Mapping[str, str], directory: str, terminal: int | None, telling: int
) -> None:
    """The forked child's way to the program; never returns."""
    try:
        if terminal is None:
            os.setsid()
        else:
            os.setpgid(0, 0)
            _give_terminal(terminal, os.getpid())
        for number in signal.valid_signals():
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        os.chdir(directory)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execvpe(argv[0], list(argv), dict(environment))
    except OSError as error:
        os.write(telling, errno.errorcode.get(error.errno or 0, "EINVAL").encode())
    except BaseException:  # noqa: BLE001 - the last frame of a process
        os.write(telling, b"EINVAL")
    finally:
        os._exit(127)
