"""The first code of every process of the pilot: `pilot.pyz`, `pilot.sh` and `python -m pilot_agent`.

It parses under any Python (2.7 and 3.6 too), so that a node with an old one gets a sentence and not a traceback:
no annotations, no f-strings. It imports as little as it can, because the resident processes and every probe's
child start here.

What it hands on in the environment:

PILOT_AGENT_INTERPRETER    JSON list: the interpreter command for every child (`sys.executable` alone is not enough)
PILOT_AGENT_PAYLOAD        absolute path that the interpreter runs: `[*interpreter, payload, "_child", ...]`
PILOT_AGENT_RUNTIME_CLEAN  only under `pilot.sh`: the directory of the unpacked interpreter, to be removed at the end
PILOT_AGENT_RUNTIME_PID    the process that removes it as its last act: `pilot.sh` becomes it by exec, so it is the
                           guardian under `run` and the command itself otherwise
PILOT_AGENT_PAYLOAD_FILE   only under `pilot.sh`: that file
"""

import os
import sys

TYPE_CHECKING = False  # type checkers take it as true; importing `typing` would cost as much as all the rest
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Optional

OLDEST_PYTHON = (3, 11)
EXIT_CONFIG = 66
INTERPRETER = "PILOT_AGENT_INTERPRETER"
PAYLOAD = "PILOT_AGENT_PAYLOAD"
RUNTIME_CLEAN = "PILOT_AGENT_RUNTIME_CLEAN"
RUNTIME_PID = "PILOT_AGENT_RUNTIME_PID"
RUNTIME_PREFIX = "pilot-runtime"
PRIVATE_COMMANDS = ("_pipeline", "_keeper", "_child", "_token", "_renew", "_upload", "_cvmfs")


def too_old(version):
    # type: (Sequence[object]) -> Optional[str]
    """The sentence for a Python that is too old (code `python.too_old`), or None when it is new enough."""
    if tuple(version[:2]) >= OLDEST_PYTHON:
        return None
    found = ".".join(str(part) for part in version[:3])
    needed = ".".join(str(part) for part in OLDEST_PYTHON)
    return (
        "pilot-agent: python.too_old: this is Python %s (%s); pilot.pyz needs %s or newer. The factory should send "
        "pilot.sh, which carries its own Python, or the site install a newer one.\n"
    ) % (found, sys.executable or "unknown path", needed)


def archive_path():
    # type: () -> Optional[str]
    """The zip file that this code runs from, or None in a checkout or an installed package."""
    return getattr(globals().get("__loader__"), "archive", None)


def payload_path():
    # type: () -> str
    """Absolute path of what the interpreter has to run to get back here."""
    return os.path.abspath(archive_path() or __file__)


def private_runtime():
    # type: () -> Optional[str]
    """The directory that `pilot.sh` unpacked, when this is the Python inside it."""
    own = os.path.join(sys.prefix, "bin", "python3.13")
    if sys.executable == own and os.path.exists(os.path.join(sys.prefix, "bin", "pilot-python")):
        return sys.prefix
    return None


def interpreter_command():
    # type: () -> list[str]
    """The command that starts Python for every child: isolated, no byte code written, UTF-8 in every locale.

    Under `pilot.sh` it goes through the private loader, so that no library path is in the environment. From the
    payload it leaves out the node's site-packages (-S); a checkout needs those of its virtual environment.
    """
    runtime = private_runtime()
    command = [sys.executable]
    if runtime:
        command = [os.path.join(runtime, "bin", "pilot-python"), "--library-path", os.path.join(runtime, "so")]
        command += ["--argv0", sys.executable, sys.executable + "-elf"]
    return command + ["-I"] + (["-S"] if archive_path() else []) + ["-B", "-X", "utf8"]


def json_list(items):
    # type: (Sequence[str]) -> str
    """A JSON list of strings, written here because importing `json` takes longer than the rest of the start."""
    quoted = []
    for item in items:
        escaped = item.replace("\\", "\\\\").replace('"', '\\"')
        quoted.append('"%s"' % "".join(c if c >= " " else "\\u%04x" % ord(c) for c in escaped))
    return "[%s]" % ", ".join(quoted)


def open_standard_streams():
    # type: () -> None
    """Give /dev/null to a closed 0, 1 or 2: otherwise the next file opened would become standard output."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            getattr(os, "set_inheritable", lambda fd, on: None)(number, True)
            stream = os.fdopen(number, "r" if number == 0 else "w")
            setattr(sys, ("stdin", "stdout", "stderr")[number], stream)


def write_out(text):
    # type: (str) -> None
    """Write to standard output; a closed pipe or a full disk there is no reason to fail."""
    try:
        os.write(1, text.encode("utf-8"))
    except OSError:
        return


def started_as_intended():
    # type: () -> bool
    """Whether this interpreter already runs with the flags of `interpreter_command` and from an absolute path."""
    archive = archive_path()
    flags = sys.flags
    clean = flags.isolated and flags.dont_write_bytecode and flags.utf8_mode
    return bool(clean and (archive is None or (flags.no_site and os.path.isabs(archive))))


def know_own_interpreter():
    # type: () -> None
    """Fill in `sys.executable`, which is empty where `python3` was found without an exported PATH."""
    if not sys.executable:
        sys.executable = os.path.realpath("/proc/self/exe")


def start_again_isolated(arguments):
    # type: (Sequence[str]) -> None
    """Replace this process by one with the intended flags, if it has others.

    Only a person who types `python3 pilot.pyz` comes here without them; the launcher, pilot.sh and all children pass
    them. One more start (about 15 ms) is cheaper than undoing by hand what PYTHONPATH, sitecustomize, the user's
    site-packages and the locale have already changed in this process.
    """
    if started_as_intended():
        return
    command = interpreter_command()
    command.append(payload_path())
    command.extend(arguments)
    os.execv(command[0], command)


def remove_runtime(directory):
    # type: (str) -> bool
    """Remove what `pilot.sh` unpacked. Refuses (False) what does not look like it; follows no link.

    Whoever calls this is running from that directory: everything it still needs must be imported.
    """
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    ours = status.st_uid == os.geteuid() and status.st_mode & 0o170000 == 0o040000
    if not ours or not os.path.basename(directory).startswith(RUNTIME_PREFIX):
        return False
    for parent, directories, files in os.walk(directory, topdown=False):
        for name in files:
            _quietly(os.unlink, os.path.join(parent, name))
        for name in directories:
            path = os.path.join(parent, name)
            _quietly(os.unlink if os.path.islink(path) else os.rmdir, path)
    _quietly(os.rmdir, directory)
    return not os.path.lexists(directory)


def hand_over_runtime(uid, gid):
    # type: (int, int) -> None
    """Give what `pilot.sh` unpacked for this pilot to the account that it is about to change to, for its removal.

    To be called as root before the change; without effect when there is nothing to remove at the end.
    """
    directory = os.environ.get(RUNTIME_CLEAN, "")
    if not directory or private_runtime() != directory:
        return
    for parent, _, files in os.walk(directory):
        os.chown(parent, uid, gid)
        for name in files:
            os.chown(os.path.join(parent, name), uid, gid, follow_symlinks=False)


def _quietly(function, path):
    # type: (Callable[[str], None], str) -> None
    try:
        function(path)
    except OSError:
        return


def remove_runtime_at_exit():
    # type: () -> None
    """Arrange that this process removes the unpacked interpreter when it ends, if that is its duty."""
    directory = os.environ.get(RUNTIME_CLEAN, "")
    if not directory or os.environ.get(RUNTIME_PID) != str(os.getpid()) or private_runtime() != directory:
        return
    import atexit
    import signal

    duty = os.getpid()
    # Registered first, so it runs last; a forked child that leaves through sys.exit must not do it.
    atexit.register(lambda: os.getpid() == duty and remove_runtime(directory))
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, lambda received, frame: sys.exit(128 + received))


def dispatch(arguments):
    # type: (Sequence[str]) -> int
    """Run the command. The private ones belong to resident and short-lived processes and import only their own."""
    command = arguments[0] if arguments else ""
    # As root `run` first changes its account, which needs the configuration; then it starts again, as that account.
    if command == "run" and os.geteuid() != 0:
        from pilot_agent.lifecycle import guardian

        return guardian.main(list(arguments[1:]))
    if command == "_keeper":
        from pilot_agent.lifecycle import keeper

        return keeper.main(list(arguments[1:]))
    if command == "_token":
        from pilot_agent.startd import token_reload

        return token_reload.main(list(arguments[1:]))
    if command == "_renew":
        from pilot_agent import renewing

        return renewing.main(list(arguments[1:]))
    if command == "_cvmfs":
        from pilot_agent.cvmfs import commands

        return commands.main(list(arguments[1:]))
    if command == "_upload":
        from pilot_agent import uploading

        return uploading.main(list(arguments[1:]))
    from pilot_agent import dataclass_code

    dataclass_code.use_carried()
    if command == "_child":
        from pilot_agent import child

        return child.main(list(arguments[1:]))
    from pilot_agent import cli

    return cli.main(list(arguments))


def main(arguments=None):
    # type: (Optional[Sequence[str]]) -> int
    """Start the command line; the exit code. Ends the process instead when it has to start again isolated."""
    open_standard_streams()
    old = too_old(sys.version_info)
    if old is not None:
        sys.stderr.write(old)
        return EXIT_CONFIG
    know_own_interpreter()
    arguments = sys.argv[1:] if arguments is None else arguments
    remove_runtime_at_exit()
    if list(arguments) == ["--version"]:
        from pilot_agent import __version__

        write_out("pilot-agent %s\n" % __version__)
        return 0
    if not arguments or arguments[0] not in PRIVATE_COMMANDS:
        start_again_isolated(arguments)
    os.environ[INTERPRETER] = json_list(interpreter_command())
    os.environ[PAYLOAD] = payload_path()
    return leave(dispatch(arguments))


def leave(code):
    # type: (int) -> int
    """Flush standard output and error; one that cannot take it goes to /dev/null instead of raising at exit."""
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    return code


if __name__ == "__main__":
    if archive_path() is None:
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        if root not in sys.path:
            sys.path.insert(0, root)
    sys.exit(main())
