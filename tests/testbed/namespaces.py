"""Starting and entering namespaces without leaving anything behind."""

from __future__ import annotations

import subprocess

# The kernel kills the child when the thread that started it ends, however it ends. So hosts are to be started
# from a thread that lives as long as they do.
DIE_WITH_STARTER = ("setpriv", "--pdeathsig", "KILL")

# A host's own process tree ends with its first process, the kernel sees to it.
NEW_HOST = (
    *DIE_WITH_STARTER,
    "unshare",
    "--mount",
    "--propagation=private",
    "--pid",
    "--fork",
    "--kill-child=KILL",
    "--uts",
    "--ipc",
    "--net",
)


class StartError(RuntimeError):
    """A host or network ended before it was ready."""


def read_line(process: subprocess.Popen[str], what: str) -> str:
    """Return the next line that a starting process prints. Raises StartError when it ends instead."""
    if process.stdout is None:
        raise ValueError("the process has no standard output to read")
    line = process.stdout.readline()
    if not line:
        raise StartError(f"{what} ended with status {process.wait()} before it was ready")
    return line.rstrip("\n")


def enter(pid: int) -> list[str]:
    """Return the words that run a program in all namespaces of a host whose first process is `pid`."""
    return ["nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid"]
