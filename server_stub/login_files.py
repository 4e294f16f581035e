"""The files of HTCondor that go to a login node: the blahp and what moves files, taken from this machine."""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

from pilot_agent.files import read_bounded
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.process import run

BLAHP = "usr/libexec/blahp"
CONFIGURATION = "etc/blah.config"
ATTRIBUTES = "etc/blahp"
PROGRAMS = ("usr/bin/blahpd", "usr/sbin/blahpd_daemon", "usr/sbin/condor_ft-gahp")
FILE_LIMIT_BYTES = 64 << 20
LDD_SECONDS = 30.0

LIBRARY = re.compile(r"^\s*\S+ => (/\S+) \(", re.MULTILINE)
OF_THE_SYSTEM = re.compile(r"/(ld-linux[^/]*|lib(c|m|dl|rt|pthread|resolv|nsl|util|anl))\.so[^/]*$")
"""Parts of the C library, which must be those of the system that they run on."""

READS = b"self.readfp(vfile)"
READS_EVERYWHERE = b"(self.read_file if hasattr(self, 'read_file') else self.readfp)(vfile)"
"""Python 2 knows only the first of the two, and 3.12 and newer only the second."""

# What runs in the batch system must not look for its libraries here: the blahp's scripts read this, and so clear it.
CLEARED = "\nLD_LIBRARY_PATH=\n"
WRAPPER = """\
#!/bin/sh
here=${{0%/*}}
LD_LIBRARY_PATH=$here/../lib exec "$here/../programs/{name}" "$@"
"""
TRANSFER_CONFIGURATION = """\
BOSCO_SANDBOX_DIR = $ENV(HOME)/bosco/sandbox
LOG = $ENV(HOME)/bosco/glite/log
FT_GAHP_LOG = $(LOG)/FTGahpLog
MAX_FT_GAHP_LOG = 10 Mb
SEC_CLIENT_AUTHENTICATION_METHODS = FS
USE_SHARED_PORT = False
ENABLE_URL_TRANSFERS = False
"""


@dataclass(frozen=True, slots=True)
class File:
    """A file's content, and whether it is a program."""

    content: bytes
    program: bool = False


def collect_files(directories: Mapping[str, str], root: str = "/") -> dict[str, File]:
    """What a login node needs, by the path below ``~/bosco/glite``. ``directories`` are those of its batch systems'
    programs, by the system's name; ``root`` is where this machine's HTCondor is.

    Raises ``PilotError`` (htcondor.incomplete) with what this machine lacks.
    """
    files: dict[str, File] = {}
    for path in PROGRAMS:
        name = os.path.basename(path)
        files[f"programs/{name}"] = File(_read(root, path), program=True)
    for name in ("blahpd", "condor_ft-gahp"):
        files[f"bin/{name}"] = File(WRAPPER.format(name=name).encode(), program=True)
    files["sbin/blahpd_daemon"] = File(WRAPPER.format(name="blahpd_daemon").encode(), program=True)
    for path in _libraries(root):
        files[f"lib/{os.path.basename(path)}"] = File(_read("/", path.lstrip("/")), program=True)
    for below, target in ((BLAHP, "libexec"), (ATTRIBUTES, "libexec")):
        for name in _listed(root, below):
            content = _read(root, f"{below}/{name}")
            files[f"{target}/{name}"] = File(content.replace(READS, READS_EVERYWHERE), program=True)
    configuration = _read(root, CONFIGURATION).decode() + CLEARED
    for system, directory in directories.items():
        configuration += f"{system}_binpath={directory}\n"
    files["etc/blah.config"] = File(configuration.encode())
    files["etc/condor_config.ft-gahp"] = File(TRANSFER_CONFIGURATION.encode())
    files["log/README"] = File(b"What condor_ft-gahp writes of itself.\n")
    return files


def packed(files: Mapping[str, File]) -> bytes:
    """A compressed archive of the files, readable by their owner alone."""
    raw = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as archive,
    ):
        for path in sorted(files):
            info = tarfile.TarInfo(path)
            info.size = len(files[path].content)
            info.mode = stat.S_IRWXU if files[path].program else stat.S_IRUSR | stat.S_IWUSR
            archive.addfile(info, io.BytesIO(files[path].content))
    return raw.getvalue()


def _libraries(root: str) -> list[str]:
    """What the programs are linked with but for the C library."""
    found: set[str] = set()
    for path in PROGRAMS:
        program = os.path.join(root, path)
        done = run(["ldd", program], deadline_seconds=LDD_SECONDS, environment={"PATH": os.defpath, "LC_ALL": "C"})
        if not done.ok:
            raise _incomplete(f"the libraries of {program} cannot be told: {done.explain()}")
        if "not found" in done.text:
            raise _incomplete(f"{program} lacks libraries here: {' '.join(done.text.split())[:300]}")
        found |= {one for one in LIBRARY.findall(done.text) if not OF_THE_SYSTEM.search(one)}
    return sorted(found)


def _listed(root: str, below: str) -> list[str]:
    directory = os.path.join(root, below)
    try:
        return sorted(name for name in os.listdir(directory) if os.path.isfile(os.path.join(directory, name)))
    except OSError as error:
        raise _incomplete(f"{directory} cannot be read: {error.strerror}") from error


def _read(root: str, path: str) -> bytes:
    try:
        return read_bounded(os.path.join(root, path), limit_bytes=FILE_LIMIT_BYTES)
    except OSError as error:
        raise _incomplete(f"{os.path.join(root, path)} cannot be read: {error.strerror}") from error


def _incomplete(message: str) -> PilotError:
    hint = "install HTCondor here with its grid programs (Debian: condor; RPM: condor and condor-blahp)"
    failure = Failure(FailureKind.CONFIG, "htcondor.incomplete", message, f"{hint}; the factory's operator must act")
    return PilotError(failure)
