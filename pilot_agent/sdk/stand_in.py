"""A program that stands in for a container runtime: it runs on this machine what it was to run inside an image.

What a plugin declares for images can be tried with it where no runtime is. Paths below the binds are found where they
are really; what a container keeps apart is not kept apart.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilot_agent.interpreter import module_command
from pilot_agent.model import Json

VERSION = "1.4.5"
PREFIX = "APPTAINERENV_"
TAKE_A_WORD = frozenset({"-S", "-W", "--pwd", "--home", "-B", "--mount"})
"""The options that the pilot gives a runtime with a word of their own."""


@dataclass(frozen=True, slots=True)
class StandIn:
    """A runtime that contains nothing: ``path`` is the program, ``image`` a directory that it takes for an image."""

    path: Path
    image: Path

    @property
    def config(self) -> dict[str, Json]:
        """The configuration of a pilot that uses it for a platform named default."""
        return {
            "containers": {"runtime": str(self.path), "search": []},
            "images": {"default": [{"path": str(self.image)}]},
            "vo": {"containers": "required"},
        }

    def calls(self) -> list[str]:
        """The command lines that it was given, without its own name."""
        log = self.path.with_name("calls.log")
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def make_stand_in(directory: Path) -> StandIn:
    """A runtime and an image in ``directory``, which must not have them yet."""
    image = directory / "image"
    for name in ("bin", "dev", "etc", "proc", "srv", "sys", "tmp", "usr", "var/tmp"):
        (image / name).mkdir(parents=True)
    path = directory / "apptainer"
    words = [*module_command(__name__), str(path.with_name("calls.log"))]
    path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return StandIn(path, image)


def main(argv: Sequence[str]) -> int:
    """Take a runtime's command line (``argv`` without the file that keeps it, which comes first) and run what it
    names; its exit code."""
    log, *words = argv
    with open(log, "a", encoding="utf-8") as file:
        file.write(" ".join(words).replace("\n", " ") + "\n")
    if words[:1] == ["--version"]:
        sys.stdout.write(f"apptainer version {VERSION}\n")
        return 0
    if words[:1] != ["exec"] or "--" not in words:
        return 0
    image, *program = words[words.index("--") + 1 :]
    if program[:1] == ["/exit_37"]:
        sys.stdout.write("pilot-agent: a program ran in a SIF file\n")
        return 37
    if not os.path.exists(image):
        sys.stderr.write(f"FATAL:   could not open image {image}: no such file or directory\n")
        return 255
    places = _places(words[1 : words.index("--")])
    environment = _environment(places)
    os.chdir(environment["HOME"])
    with tempfile.TemporaryDirectory(prefix="stand-in-") as temporary:
        # What is tried in a container's own directories must not stay in this machine's.
        own = [('> "$d/.pilot-proof-$m"', f"> {shlex.quote(temporary)}/.pilot-proof-$m")]
        return _run([_translated(_replaced(word, own), places) for word in program], environment)


def _run(program: list[str], environment: dict[str, str]) -> int:
    path = shutil.which(program[0], path=environment["PATH"])
    if path is None:
        sys.stderr.write(f"FATAL:   stat {program[0]}: no such file or directory\n")
        return 255
    _, status = os.waitpid(os.posix_spawn(path, program, environment), 0)
    return os.waitstatus_to_exitcode(status) % 256


def _places(options: Sequence[str]) -> list[tuple[str, str]]:
    """Where what appears inside lies really, the longest path first."""
    places = []
    left = iter(options)
    for word in left:
        given = next(left, "") if word in TAKE_A_WORD else ""
        if word == "-B":
            source, _, rest = given.partition(":")
            places.append((rest.partition(":")[0] or source, source))
        elif word == "--mount":
            fields = dict(field.partition("=")[::2] for field in given.replace('"', "").split(","))
            places.append((fields["destination"], fields["source"]))
    return sorted(places, key=lambda place: -len(place[0]))


def _translated(word: str, places: Sequence[tuple[str, str]]) -> str:
    for inside, really in places:
        if word == inside or word.startswith(f"{inside}/"):
            return really + word.removeprefix(inside)
    return word


def _replaced(word: str, pairs: Sequence[tuple[str, str]]) -> str:
    for old, new in pairs:
        word = word.replace(old, new)
    return word


def _environment(places: Sequence[tuple[str, str]]) -> dict[str, str]:
    """What the program finds in its environment: nothing of this machine's but what the runtime was told."""
    given = {name.removeprefix(PREFIX): value for name, value in os.environ.items() if name.startswith(PREFIX)}
    home = _translated("/srv", places)
    default = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": home, "APPTAINER_CONTAINER": "stand-in"}
    return default | {name: _translated(value, places) for name, value in given.items()}
