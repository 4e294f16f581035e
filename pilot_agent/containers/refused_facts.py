"""What an image is in which no program ran: read from its files, so that the report of a refused one says as much as
that of a good one."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Sequence

from pilot_agent.containers.inside_directory import exists_inside, read_inside
from pilot_agent.containers.inspection import PROGRAMS, architecture_inside, system_of
from pilot_agent.containers.sif import ARCHITECTURE_OFFSET, ARCHITECTURES, MAGIC, MAGIC_OFFSET, SifError, read_sif
from pilot_agent.model import Json
from pilot_agent.process import Runner, WakeUp

LOOK_SECONDS = 5.0
"""For all of them; what was not read by then is left out."""

NEEDED = ("/bin/sh", "/dev", "/etc/passwd", "/proc", "/sys", "/tmp", "/var/tmp")  # noqa: S108 - places in an image
"""What the runtime, HTCondor or the proof needs in every image."""

_RELEASE_BYTES = 1 << 16


def facts_of_refused(paths: Sequence[str], wake: WakeUp | None = None) -> dict[str, dict[str, Json]]:
    """The facts of each image that could be read, by path: ``os.arch``, ``os.id``, ``os.version`` as far as they are
    known, and ``lacks``, what of ``NEEDED`` a directory does not have, or what a file is cut short by. Of a path that
    leads nowhere ``nearest_existing`` is the last directory on the way, and ``leads_to`` where its links point.

    Raises ``Interrupted``.
    """
    with Runner(wake) as runner:
        result = runner.wait(
            runner.start_call(lambda: _look_at(paths), name="refused images", deadline_seconds=LOOK_SECONDS)
        )
    found = {}
    for line in result.stdout.splitlines():
        if line.endswith(b"]"):
            path, facts = json.loads(line)
            found[path] = facts
    return found


def _look_at(paths: Sequence[str]) -> bytes:
    """One line of JSON for each path, each written before the next is looked at: a look at a dead mount never ends."""
    for path in paths:
        try:
            facts = _directory(path) if os.path.isdir(path) else _file(path)
        except FileNotFoundError:
            facts = _nothing(path)
        except OSError:
            continue
        sys.stdout.write(json.dumps([path, facts]) + "\n")
        sys.stdout.flush()
    return b""


def _nothing(path: str) -> dict[str, Json]:
    real = os.path.realpath(path)
    nearest = real
    while not os.path.lexists(nearest):
        nearest = os.path.dirname(nearest)
    return {"nearest_existing": nearest} | ({"leads_to": real} if real != os.path.normpath(path) else {})


def _directory(root: str) -> dict[str, Json]:
    release = read_inside(root, "/etc/os-release", _RELEASE_BYTES)
    release = release or read_inside(root, "/usr/lib/os-release", _RELEASE_BYTES) or b""
    system = system_of(release.decode("utf-8", "replace"))
    facts: dict[str, Json] = {f"os.{name}": system[name] for name in ("id", "version") if name in system}
    architecture = next(filter(None, (architecture_inside(root, program) for program in PROGRAMS)), "")
    if architecture:
        facts["os.arch"] = architecture
    facts["lacks"] = [path for path in NEEDED if not exists_inside(root, path)]
    return facts


def _file(path: str) -> dict[str, Json]:
    # Not blocking: it may have become a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no regular file")
        head = file.read(ARCHITECTURE_OFFSET + 3)
        if head[MAGIC_OFFSET : MAGIC_OFFSET + len(MAGIC)] != MAGIC:
            return {"size_bytes": size}
        facts: dict[str, Json] = {"size_bytes": size}
        code = head[ARCHITECTURE_OFFSET:].rstrip(b"\0").decode("ascii", "replace")
        try:
            architecture = read_sif(file, size).architecture
        except SifError as error:
            architecture = ARCHITECTURES.get(code, "")
            facts["lacks"] = [str(error)]
    return facts | ({"os.arch": architecture} if architecture else {})
