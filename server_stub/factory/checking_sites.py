"""Whether HTCondor's blahp can give pilots to the batch systems that entries name, on this machine or a login node."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from pilot_agent.files import read_bounded
from pilot_agent.model import PilotError
from pilot_agent.process import run
from server_stub.entries import Factory
from server_stub.findings import Finding, bad, doubtful, failed, good

BLAHP = "usr/libexec/blahp/blah.py"
READS_OLD = b"self.readfp("
KNOWS_OLD = "import configparser; configparser.RawConfigParser.readfp"
PYTHON = "/usr/bin/python3"
PYTHON_SECONDS = 20.0
FILE_LIMIT_BYTES = 1 << 20


def check_sites(factory: Factory, root: str = "/") -> Iterator[Finding]:
    """Each batch system and each login node that an entry names; ``root`` is where this machine's HTCondor is."""
    batch = [entry for entry in factory.entries if entry.type.startswith("batch ")]
    here = sorted({entry.type for entry in batch if not entry.contact})
    if here:
        yield check_blahp(root)
    for kind in here:
        yield check_system(kind)
    for contact, kind in sorted({(entry.contact, entry.type) for entry in batch if entry.contact}):
        yield check_login_node(contact, kind)


def check_blahp(root: str = "/") -> Finding:
    """It is installed, and its scripts run with this machine's Python."""
    if shutil.which("blahpd") is None:
        hint = "install it (Debian: condor; RPM: condor-blahp)"
        return bad("blahp", "blahpd is not in the PATH: no job can be given to a batch system of this machine", hint)
    path = os.path.join(root, BLAHP)
    try:
        old = READS_OLD in read_bounded(path, limit_bytes=FILE_LIMIT_BYTES)
    except OSError:  # a release that lies elsewhere
        return good("blahp", "blahpd is installed")
    words = [PYTHON, "-I", "-c", KNOWS_OLD]
    if old and not run(words, deadline_seconds=PYTHON_SECONDS, environment={"PATH": os.defpath}).ok:
        message = f"{path} calls readfp, which {PYTHON} has no more: jobs would be held, as no state of them is known"
        return bad(
            "blahp", message, f"sed -i 's/\\.readfp(/.read_file(/' {path}; an administrator of this machine acts"
        )
    return good("blahp", "blahpd is installed, and its scripts run with this Python")


def check_system(kind: str) -> Finding:
    """The batch system's own program is here; ``kind`` is an entry's type."""
    from server_stub.login_node import SYSTEMS

    system = kind.split()[1]
    program = SYSTEMS.get(system, "")
    if program and shutil.which(program) is None:
        hint = "run the factory on a host that submits to this cluster, or name a login node as the entry's contact"
        return bad(kind, f"{program} is not in the PATH, by which the blahp submits to {system}", hint)
    return good(kind, f"the blahp submits with {program or 'its own program'} of this machine")


def check_login_node(contact: str, kind: str) -> Finding:
    """It lets this account in, and has what HTCondor needs."""
    from server_stub.login_node import LoginNode, prove

    name, system = f"login node {contact}", kind.split()[1]
    try:
        found = prove(LoginNode.parse(contact))
    except PilotError as error:
        if error.failure.code == "site.refused":  # it may let the frontends in
            hint = "well where its frontends give an ssh key, otherwise the site must let this account in"
            return doubtful(name, error.failure.message, hint)
        return failed(name, error.failure)
    if system not in found.systems:
        known = ", ".join(found.systems) or "no batch system"
        hint = "correct the entry's type, or let the PATH of a login shell there have its programs"
        return bad(name, f"it has {known}, and not {system}", hint)
    return good(name, f"it takes jobs for {system}")
