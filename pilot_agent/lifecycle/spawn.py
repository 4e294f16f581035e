"""Start programs from the resident processes with ``posix_spawn``, which needs no further module."""

from __future__ import annotations

import os
import time

from pilot_agent.light import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


def spawn(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    output: str | int | None = None,
    errors: int | None = None,
    directory: str | None = None,
    keep_input: bool = False,
) -> int:
    """Start a program in a session of its own, all signals at their default; its pid. Raises ``OSError``.

    ``output`` is a file to append to or an open descriptor, for both outputs unless ``errors`` is given; None
    leaves the outputs of this process. Standard input is empty unless ``keep_input``.
    """
    actions: list[tuple[object, ...]] = []
    if not keep_input:
        actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
    if isinstance(output, str):
        actions.append((os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    elif output is not None:
        actions.append((os.POSIX_SPAWN_DUP2, output, 1))
    if output is not None:
        actions.append((os.POSIX_SPAWN_DUP2, 1 if errors is None else errors, 2))
    before = os.open(".", os.O_PATH | os.O_CLOEXEC) if directory else None
    try:
        if directory:
            os.chdir(directory)
        return os.posix_spawn(
            argv[0], list(argv), dict(environment), file_actions=actions, setsid=True, setsigmask=(),
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )  # fmt: skip
    finally:
        if before is not None:
            os.fchdir(before)
            os.close(before)


def find_program(name: str) -> str | None:
    """The absolute path of an executable, by PATH and then by the usual directories; None when it is missing."""
    return _find(name, f"{os.environ.get('PATH', '')}:{SEARCH_PATH}")


def find_in(name: str, search_path: str) -> str:
    """The path of an executable as ``execvp`` finds it, ``name`` itself where there is none."""
    return name if "/" in name else _find(name, search_path) or name


def _find(name: str, search_path: str) -> str | None:
    for directory in search_path.split(":"):
        path = os.path.join(directory, name)
        if os.path.isabs(path) and os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    return None


def run_short(
    argv: Sequence[str], environment: Mapping[str, str], seconds: float, *, directory: str | None = None
) -> int | None:
    """Run a helper to its end, without output; its exit code, or None when it could not start, was ended by a signal,
    or took longer than ``seconds`` (it is killed then)."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        pid = spawn(argv, environment, output=null, directory=directory)
    except OSError:
        return None
    finally:
        os.close(null)
    end = time.monotonic() + seconds
    pause = 0.001
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else None
        if time.monotonic() > end:
            kill_group(pid)
            return None  # whoever removes descendants reaps it: in an uninterruptible call a wait would hang here
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def kill_group(pid: int) -> None:
    """KILL to a child's group; one that became another account's, as by sudo, is left to its end."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        return
