"""Where the node keeps its HTCondor: found by looking, without starting a program."""

from __future__ import annotations

import mmap
import os
import re
from typing import TYPE_CHECKING

from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.startd.plan import CondorPaths

if TYPE_CHECKING:
    from collections.abc import Mapping

# Where sbin may be beside the caller's PATH, which on many nodes of the field leaves it out.
USUAL_SBIN = ("/usr/sbin", "/usr/local/sbin", "/opt/condor/sbin")
NEEDED_SBIN = ("condor_master", "condor_startd", "condor_starter", "condor_procd")
NEEDED_BIN = ("condor_config_val", "condor_ping")
# The plugins among HTCondor's own that are compiled: those in Python cost 130 ms each whenever a starter starts.
TRANSFER_PLUGINS = ("curl_plugin", "data_plugin")

MISSING_HINT = (
    "the site installs HTCondor's execute package, or the factory names an installation in startd.condor_directory or "
    "tarballs in startd.condor_tarballs"
)

_VERSION = re.compile(rb"\$CondorVersion: (\d+\.\d+\.\d+)")


def find_condor(directory: str | None, environment: Mapping[str, str]) -> CondorPaths:
    """The node's HTCondor: below ``directory`` if given, else by ``environment``'s PATH and the usual places.

    Raises ``PilotError`` (``condor.missing``, ``condor.incomplete``) that names what was looked for.
    """
    if directory is not None:
        places = [os.path.join(directory, "sbin"), os.path.join(directory, "usr", "sbin")]
    else:
        places = [place for place in environment.get("PATH", "").split(os.pathsep) if place.startswith("/")]
        places += USUAL_SBIN
    sbin = next((place for place in places if _is_program(os.path.join(place, "condor_master"))), None)
    if sbin is None:
        where = f"in {' or '.join(places)}" if directory else f"on the search path or in {' or '.join(USUAL_SBIN)}"
        raise _missing("condor.missing", f"no HTCondor on this node: condor_master is not {where}")
    return _complete(os.path.normpath(sbin))


def _complete(sbin: str) -> CondorPaths:
    release = os.path.dirname(sbin)
    binaries = os.path.join(release, "bin")
    libexec = _first_with(
        "condor_shared_port", (os.path.join(release, "libexec", "condor"), os.path.join(release, "libexec"))
    )
    lacking = [os.path.join(sbin, name) for name in NEEDED_SBIN if not _is_program(os.path.join(sbin, name))]
    lacking += [os.path.join(binaries, name) for name in NEEDED_BIN if not _is_program(os.path.join(binaries, name))]
    if libexec is None:
        lacking.append(os.path.join(release, "libexec", "condor"))
    plugins = tuple(
        os.path.join(libexec or "", name) for name in TRANSFER_PLUGINS if _is_program(os.path.join(libexec or "", name))
    )
    if libexec is not None and not plugins:
        # HTCondor 23.9's starter crashes when its list of transfer plugins is empty.
        lacking.append(os.path.join(libexec, TRANSFER_PLUGINS[0]))
    if lacking:
        raise _missing("condor.incomplete", f"the HTCondor in {release} lacks {', '.join(lacking)}")
    return CondorPaths(
        release=release,
        bin=binaries,
        sbin=sbin,
        libexec=libexec or "",
        lib=_library_directory(release),
        version=_version(sbin),
        plugins=plugins,
    )


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _first_with(name: str, directories: tuple[str, ...]) -> str | None:
    return next((d for d in directories if _is_program(os.path.join(d, name))), None)


def _library_directory(release: str) -> str:
    """Where the template of condor_ssh_to_job's sshd configuration lies; RPMs, Debian and tarballs differ."""
    template = "condor_ssh_to_job_sshd_config_template"
    places = ("lib64/condor", "lib/condor", "lib64", "lib")
    found = (os.path.join(release, place) for place in places)
    return next((d for d in found if os.path.isfile(os.path.join(d, template))), os.path.join(release, "lib"))


def _version(sbin: str) -> str:
    """The version stamp that the binaries carry; a search in mapped memory takes a millisecond, a process ten."""
    for name in ("condor_starter", "condor_startd", "condor_master"):
        try:
            with (
                open(os.path.join(sbin, name), "rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            ):
                found = _VERSION.search(content)
                if found:
                    return found.group(1).decode()
        except (OSError, ValueError):
            continue
    return "unknown"


def _missing(code: str, message: str) -> PilotError:
    return PilotError(Failure(FailureKind.NODE_RESOURCE, code, message, hint=MISSING_HINT, stage="handoff", retry=True))
