"""The one builder of a container's command line, and of the environment in which the runtime is started.

The options and their order are those with which HTCondor's starter runs a job in Apptainer (singularity.cpp of
HTCondor 23.9): what was proven with them is proven for jobs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

TARGET_DIRECTORY = "/srv"
"""Where the scratch directory appears inside."""

UNDER_SCRATCH = ("/tmp", "/var/tmp")  # noqa: S108 - directories of the container, kept in the scratch directory
NO_EVAL_SINCE = (1, 1)

_OF_THE_RUNTIME = re.compile(r"(APPTAINER|SINGULARITY)(ENV)?_")
_SPLIT_BY_RUNTIME = re.compile(r"[,:\"\s]")


class BindError(ValueError):
    """A bind that cannot be understood; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Bind:
    """A directory or file of the host that a container sees."""

    source: str
    target: str
    read_only: bool = False

    @classmethod
    def parse(cls, text: str) -> Bind:
        """``source[:target[:ro|rw]]``. Raises ``BindError``."""
        source, _, rest = text.partition(":")
        target, _, mode = rest.partition(":")
        target = target or source
        if mode not in ("", "ro", "rw") or not (source.startswith("/") and target.startswith("/")):
            raise BindError(f"bind {text!r}: expected source[:target[:ro]] with absolute paths")
        return cls(source, target, mode == "ro")

    def __str__(self) -> str:
        """As HTCondor takes it: ``source:target[:ro]``."""
        return f"{self.source}:{self.target}" + (":ro" if self.read_only else "")

    def words(self) -> tuple[str, str]:
        """The two words of the command line; the long form where the short one would be split at a comma or colon."""
        if _SPLIT_BY_RUNTIME.search(self.source + self.target):
            fields = ["type=bind", f"source={self.source}", f"destination={self.target}"]
            fields += ["ro"] if self.read_only else []
            return "--mount", ",".join(_csv(field) for field in fields)
        return "-B", str(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRun:
    """One program to run in one image as a job would be run.

    ``scratch`` is the directory of the host that is the program's home, working directory and the place of its
    ``/tmp``; ``options`` come last before the image, as HTCondor adds its extra arguments.
    """

    runtime: str
    image: str
    program: tuple[str, ...]
    scratch: str
    binds: tuple[Bind, ...] = ()
    pid_namespace: bool = True
    options: tuple[str, ...] = ()
    target: str = TARGET_DIRECTORY

    def command_line(self) -> list[str]:
        """The argument list."""
        words = [self.runtime, "exec"]
        for directory in UNDER_SCRATCH:
            words += ["-S", directory]
        words += ["-W", self.scratch, "--pwd", self.target]
        for bind in (Bind(self.scratch, self.target), *self.binds):
            words += bind.words()
        # Not at its own path: the container's /tmp would cover one that lies under /tmp.
        words += ["--home", f"{self.scratch}:{self.target}"]
        words += ["-C"] if self.pid_namespace else ["--contain", "--ipc", "--cleanenv"]
        return [*words, *self.options, "--", self.image, *self.program]


def runtime_options(version: tuple[int, ...], *, singularity: bool = False) -> tuple[str, ...]:
    """Options that every container gets from a runtime of this version.

    Without ``--no-eval`` Apptainer lets a shell evaluate what stands in the values of variables.
    """
    return ("--no-eval",) if not singularity and version >= NO_EVAL_SINCE else ()


def runtime_environment(base: Mapping[str, str], temporary: str) -> dict[str, str]:
    """``base`` without the variables that steer the runtime, and with its caches and configuration in ``temporary``.

    Both names of each variable are set: Singularity reads the older one.
    """
    environment = {name: value for name, value in base.items() if not _OF_THE_RUNTIME.match(name)}
    directories = {"CACHEDIR": "cache", "TMPDIR": "", "CONFIGDIR": "runtime"}
    for name, directory in directories.items():
        for prefix in ("APPTAINER", "SINGULARITY"):
            environment[f"{prefix}_{name}"] = os.path.join(temporary, directory).rstrip("/")
    return environment


def existing(binds: tuple[Bind, ...]) -> tuple[tuple[Bind, ...], tuple[Bind, ...]]:
    """The binds whose source is there, and the others: HTCondor leaves those out, the runtime would refuse."""
    there = tuple(bind for bind in binds if os.path.exists(bind.source))
    return there, tuple(bind for bind in binds if bind not in there)


def _csv(field: str) -> str:
    return '"' + field.replace('"', '""') + '"' if re.search(r'[,"]', field) else field
