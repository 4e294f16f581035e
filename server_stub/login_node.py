"""What a login node needs so that HTCondor submits there over ssh (``batch slurm USER@HOST``): put there, and proven.

HTCondor's gridmanager starts two programs through ssh, below ``~/bosco/glite`` of the account: ``blahpd``, which speaks
to the batch system, and ``condor_ft-gahp``, which takes files to ``~/bosco/sandbox`` and brings them back. They are
copied from the HTCondor of this machine, with the libraries that they need; the login node gives the account alone.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from typing import Self

from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.process import Result, Runner
from server_stub.login_files import collect_files, packed

CONTACT = re.compile(r"(?:([A-Za-z_][A-Za-z0-9_-]*)@)?([A-Za-z0-9][A-Za-z0-9.-]*)(?::([0-9]{1,5}))?")
"""As HTCondor's own script reads it."""
DIRECTORY = "bosco"
CONNECT_SECONDS = 30
DEADLINE_SECONDS = 300.0
OUTPUT_LIMIT_BYTES = 64 << 10
SAID_LIMIT = 400

SYSTEMS = {"slurm": "sbatch", "pbs": "qsub", "lsf": "bsub", "sge": "qconf", "condor": "condor_submit"}
"""Batch systems of the blahp, and the program of each by which a login node is known to have it."""
ANSWERS = "pilot-login-node"

# The old installation is moved aside and not changed: a blahpd that runs keeps its files.
UNPACK = f"""set -e
umask 077
cd
mkdir -p {DIRECTORY}/sandbox
rm -rf {DIRECTORY}/glite.new {DIRECTORY}/glite.old
mkdir {DIRECTORY}/glite.new
tar -xzf - -C {DIRECTORY}/glite.new
if [ -e {DIRECTORY}/glite ]; then mv {DIRECTORY}/glite {DIRECTORY}/glite.old; fi
mv {DIRECTORY}/glite.new {DIRECTORY}/glite
rm -rf {DIRECTORY}/glite.old
"""

# One line for each thing found, behind a mark: a login shell may print a greeting.
LOOK = f"""
for each in {" ".join(f"{system}:{program}" for system, program in SYSTEMS.items())}; do
    at=$(command -v "${{each#*:}}") && echo "{ANSWERS} system ${{each%%:*}} ${{at%/*}}"
done
at=$(command -v python3) && echo "{ANSWERS} python $at"
[ -x ~/{DIRECTORY}/glite/bin/blahpd ] && echo "{ANSWERS} installed yes"
true
"""

PROVE = f"""
glite=$HOME/{DIRECTORY}/glite
echo QUIT | BLAHPD_LOCATION=$glite GLITE_LOCATION=$glite $glite/bin/blahpd | head -1 | sed 's/^/{ANSWERS} blahpd /'
echo QUIT | CONDOR_CONFIG=$glite/etc/condor_config.ft-gahp $glite/bin/condor_ft-gahp -f | head -1 |
    sed 's/^/{ANSWERS} transfer /'
"""


@dataclass(frozen=True, slots=True)
class LoginNode:
    """An account on a host that is reached with ssh. ``key`` is the file of the private key, None for ssh's choice."""

    host: str
    account: str = ""
    port: int = 22
    key: str | None = None

    @classmethod
    def parse(cls, contact: str, key: str | None = None) -> Self:
        """The login node of ``[USER@]HOST[:PORT]``. Raises ``PilotError`` (usage.invalid)."""
        found = CONTACT.fullmatch(contact)
        if found is None or not 0 < int(found[3] or 22) < 65536:
            message = f"{contact!r} names no login node"
            hint = "write USER@HOST or USER@HOST:PORT; whoever gave the command must act"
            raise PilotError(Failure(FailureKind.USAGE, "usage.invalid", message, hint))
        return cls(found[2], found[1] or "", int(found[3] or 22), key)

    @property
    def target(self) -> str:
        """``USER@HOST``."""
        return f"{self.account}@{self.host}" if self.account else self.host

    @property
    def contact(self) -> str:
        """As an entry's ``contact`` names it."""
        return self.target if self.port == 22 else f"{self.target}:{self.port}"

    def command(self, script: str) -> list[str]:
        """The argument list that runs a shell script there, in a login shell as HTCondor does. A host whose key is not
        known is refused, and nobody is asked for a password."""
        options = ["BatchMode=yes", "StrictHostKeyChecking=yes", f"ConnectTimeout={CONNECT_SECONDS}"]
        words = ["ssh", "-T", *(word for option in options for word in ("-o", option)), "-p", str(self.port)]
        if self.key is not None:
            words += ["-i", self.key, "-o", "IdentitiesOnly=yes"]
        return [*words, "--", self.target, f"/bin/bash -l -c {shlex.quote(script)}"]


@dataclass(frozen=True, slots=True)
class Found:
    """What a login node has: the directories of its batch systems' programs by the system's name, its Python, whether
    HTCondor's part is installed and, where that was tried, what its two programs said first."""

    systems: dict[str, str]
    python: str = ""
    installed: bool = False
    blahpd: str = ""
    transfer: str = ""


def look(node: LoginNode) -> Found:
    """What is there. Raises ``PilotError`` (site.host_key, site.refused, site.unreachable)."""
    return _found(_answered(node, LOOK))


def install(node: LoginNode) -> Found:
    """Copy what HTCondor needs there, and prove that both programs start; what is there now.

    Raises ``PilotError``: those of ``look``, site.no_batch_system, htcondor.incomplete (on this machine), and
    site.unusable where what was copied does not run.
    """
    before = look(node)
    if not before.systems:
        programs = ", ".join(SYSTEMS.values())
        message = f"{node.contact} has no batch system: none of {programs} is in the PATH of a login shell there"
        hint = "name a login node of the batch system, or let the account's profile set its PATH; the site must act"
        raise PilotError(Failure(FailureKind.NODE_RESOURCE, "site.no_batch_system", message, hint))
    _answered(node, UNPACK, packed(collect_files(before.systems)))
    return prove(node)


def prove(node: LoginNode) -> Found:
    """What is there, once both programs were started. Raises ``PilotError``: those of ``look``, site.not_installed, and
    site.unusable."""
    done = _answered(node, LOOK + PROVE)
    found = _found(done)
    if not found.installed:
        message = f"HTCondor's part is not on {node.contact}: there is no ~/{DIRECTORY}/glite/bin/blahpd"
        hint = f"`pilot-factory site install {node.contact}` puts it there; the factory's operator must act"
        raise PilotError(Failure(FailureKind.CONFIG, "site.not_installed", message, hint))
    missing = [name for name, said in (("blahpd", found.blahpd), ("condor_ft-gahp", found.transfer)) if not said]
    if missing:
        message = f"{' and '.join(missing)} of {node.contact} does not start: {_said(done) or 'it says nothing'}"
        hint = "a system older than this machine's needs HTCondor's own release for it; the factory's operator must act"
        raise PilotError(Failure(FailureKind.CONFIG, "site.unusable", message, hint))
    return found


def _found(done: Result) -> Found:
    systems: dict[str, str] = {}
    told: dict[str, str] = {}
    for line in done.text.splitlines():
        mark, _, rest = line.partition(" ")
        name, _, value = rest.partition(" ")
        if mark == ANSWERS and name == "system":
            system, _, directory = value.partition(" ")
            systems[system] = directory
        elif mark == ANSWERS:
            told[name] = value
    return Found(
        {name: systems[name] for name in SYSTEMS if name in systems},
        told.get("python", ""),
        "installed" in told,
        told.get("blahpd", ""),
        told.get("transfer", ""),
    )


def _answered(node: LoginNode, script: str, standard_input: bytes | None = None) -> Result:
    with Runner() as runner:
        started = runner.start(
            node.command(script),
            deadline_seconds=DEADLINE_SECONDS,
            environment=os.environ,
            output_limit_bytes=OUTPUT_LIMIT_BYTES,
            standard_input=standard_input,
        )
        done = started if isinstance(started, Result) else runner.wait(started)
    if not done.ok:
        raise PilotError(_failure(node, done))
    return done


def _failure(node: LoginNode, done: Result) -> Failure:
    said = _said(done)
    if "Host key verification failed" in said or "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
        message = f"the key of the host {node.host} is not the one that this account knows, or it knows none: {said}"
        hint = "ask the site for its key and put it into ~/.ssh/known_hosts; the factory's operator must act"
        return Failure(FailureKind.CREDENTIAL, "site.host_key", message, hint)
    if "Permission denied" in said and done.code == 255:
        message = f"{node.contact} does not let this account in: {said}"
        hint = f"the public key belongs into ~/.ssh/authorized_keys of {node.target}, and the private one has mode 0600"
        return Failure(FailureKind.CREDENTIAL, "site.refused", message, f"{hint}; site or operator must act")
    message = f"{node.contact} did not do what it was asked: {done.explain()}"
    hint = f"try `ssh {node.target} true` as this account; site or operator must act"
    return Failure(FailureKind.NETWORK, "site.unreachable", message, hint, retry=True)


def _said(done: Result) -> str:
    return " ".join(done.stderr.decode("utf-8", "replace").split())[-SAID_LIMIT:]
