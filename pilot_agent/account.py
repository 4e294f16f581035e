"""Leaving root: a pilot never runs as root, and a probe run for somebody runs as that account."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

from pilot_agent.__main__ import hand_over_runtime
from pilot_agent.model import Failure, FailureKind, PilotError

ORDINARY_UMASK = 0o022
OWN_VARIABLES = frozenset({"KRB5CCNAME", "MAIL"})
OWN_PREFIXES = ("XDG_", "SSH_", "SUDO_")


def become(name: str) -> None:
    """Change to the account for good: groups, gid, uid, umask, environment. Raises ``PilotError`` (account.unknown,
    account.root, account.denied, account.python)."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        hint = "name an existing ordinary account; the site must act"
        message = f"there is no account {name!r} on this node"
        raise PilotError(Failure(FailureKind.CONFIG, "account.unknown", message, hint)) from None
    if entry.pw_uid == 0:
        message = f"the account {name!r} is root; an ordinary account is needed"
        raise PilotError(Failure(FailureKind.CONFIG, "account.root", message, "name an ordinary account"))
    try:
        hand_over_runtime(entry.pw_uid, entry.pw_gid)
        os.initgroups(name, entry.pw_gid)  # also groups that a directory service gives without listing them
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    except PermissionError as error:
        message = f"this process may not change to the account {name!r}: {error.strerror}"
        raise PilotError(Failure(FailureKind.CONFIG, "account.denied", message, "start as root, or as it")) from error
    os.umask(ORDINARY_UMASK)
    for variable in surroundings_of_another(os.environ):
        del os.environ[variable]
    os.environ.update(HOME=entry.pw_dir, USER=name, LOGNAME=name)
    _require_readable_python(name)


def _require_readable_python(name: str) -> None:
    """Raises ``PilotError`` (account.python) when the account cannot read the library that this process still needs."""
    library = os.path.dirname(os.__file__)  # the file itself need not be there: byte code or an archive may do
    if not os.access(library, os.R_OK | os.X_OK):
        message = f"the account {name!r} may not read the Python that runs this, {library}"
        hint = "use pilot.sh, or a Python that every account can read"
        raise PilotError(Failure(FailureKind.CONFIG, "account.python", message, hint))


def surroundings_of_another(environment: Mapping[str, str]) -> list[str]:
    """Names of the variables that point at files, agents and sessions of the account that a process had before."""
    return [name for name in environment if name in OWN_VARIABLES or name.startswith(OWN_PREFIXES)]


def refuse_root(account: str | None) -> None:
    """Change to ``account`` when started as root. Raises ``PilotError`` (root.refused) when none is configured."""
    if os.geteuid() != 0:
        return
    if account is None:
        raise PilotError(
            Failure(
                FailureKind.CONFIG,
                "root.refused",
                "the pilot was started as root, and an ordinary account is needed",
                hint="start it as an ordinary account, or set site.account to the one it shall change to",
            )
        )
    become(account)
