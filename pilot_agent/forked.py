"""What a forked child of the payload does with itself, so that nothing of its parent reaches what it runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Callable, Collection
from typing import NoReturn


def live(function: Callable[[], bytes], ends: dict[str, int], keep: Collection[int] = ()) -> NoReturn:
    """The whole life of a child that was forked just now: call ``function``, write what it returns to the answer's
    descriptor, exit. ``ends`` are the ends it writes to, by stream; of other descriptors it has those in ``keep``, all
    above 3. Never returns."""
    code = 70
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGHUP,
            signal.SIGQUIT,
            signal.SIGUSR1,
            signal.SIGUSR2,
        ):
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        # All three are lifted above the numbers they are put on, so that none overwrites another; the rest is closed.
        lifted = {stream: fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 4) for stream, end in ends.items()}
        os.dup2(null, 0)
        os.dup2(lifted["stdout"], 1)
        os.dup2(lifted["stderr"], 2)
        answer = os.dup2(lifted["answer"], 3, inheritable=False)
        _close_others(keep)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", 1, closefd=False)
        content = memoryview(function())
        while content:
            content = content[os.write(answer, content) :]
        code = 0
    except BaseException as error:  # noqa: BLE001 - the last frame of a process: the parent is told as text
        with contextlib.suppress(OSError):
            os.write(2, _told(error).encode())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)


def _close_others(keep: Collection[int]) -> None:
    low = 4
    for kept in sorted(keep):
        os.closerange(low, kept)
        low = kept + 1
    os.closerange(low, 65536)


def _told(error: BaseException) -> str:
    """The traceback; only the error itself where the standard library can no longer be read."""
    try:
        import traceback
    except ImportError:
        return f"{type(error).__name__}: {error}\n"
    lines = traceback.format_exception(error)
    if isinstance(error, SyntaxError):
        # Its last line alone, which is what people are shown, does not name the place.
        lines[-1] = f"{type(error).__name__}: {error}\n"
    return "".join(lines)
