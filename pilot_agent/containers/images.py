"""The image dictionary: which candidates a node may take for each platform, and where they really are."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pilot_agent.model import FailureKind, ImageCandidate, Json
from pilot_agent.process import Runner, WakeUp

LOCATE_SECONDS = 10.0
"""How long one look at the paths may take; a dead mount never answers."""

_REGISTRY = re.compile(r"[a-z][a-z0-9+-]*:")
_REFUSED_CHARACTERS = re.compile(r"[\x00-\x1f\x7f\"'`$;\\]")
_PLATFORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_ARCHITECTURES = {"amd64": "x86_64", "x86-64": "x86_64", "arm64": "aarch64"}
_LEVEL = re.compile(r"x86[-_]64(?:[-_]v([1-4]))?")
_NEEDS = ("cpu_level", "gpu", "kernel")

# Byte offsets and values by which the runtime itself tells the formats apart.
_MAGIC = ((32, b"SIF_MAGIC"), (0, b"hsqs"), (1080, b"\x53\xef"))


@dataclass(frozen=True, slots=True)
class NodeNeeds:
    """What candidates are matched with. Empty text: not known."""

    architecture: str = ""
    cpu_level: str = ""
    kernel: str = ""
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Located:
    """A candidate that may be proven: ``path`` is physical, without links, so that a republished image does not
    change under a running job."""

    candidate: ImageCandidate
    path: str
    form: Literal["directory", "file"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A candidate that is not taken. ``kind`` and ``code`` tell what it means when there is no other."""

    candidate: ImageCandidate
    code: str
    kind: FailureKind
    reason: str


def dictionary(images: Mapping[str, Json], *, origin: str = "configuration") -> Iterator[ImageCandidate]:
    """The candidates of ``images`` (platform -> list of paths or {path, arch, requires}), in their order."""
    for platform, entries in images.items():
        for entry in entries:
            fields: Mapping[str, Json] = {"path": entry} if isinstance(entry, str) else entry
            yield ImageCandidate(
                platform, fields["path"], fields.get("arch") or "", dict(fields.get("requires") or {}), origin
            )


def refusal(candidate: ImageCandidate, node: NodeNeeds) -> Refused | None:
    """Why this node cannot take the candidate, judged without looking at the path; None when it can."""

    def refused(code: str, reason: str, kind: FailureKind = FailureKind.CONFIG) -> Refused:
        return Refused(candidate, code, kind, reason)

    if not _PLATFORM.fullmatch(candidate.platform):
        return refused("image.name", f"{candidate.platform!r}: a platform's name has letters, digits and . _ + - only")
    bad = _REFUSED_CHARACTERS.search(candidate.path)
    if bad:
        return refused("image.path", f"the path has the character {bad[0]!r}; quotes, backquote, backslash, $, ; and "
                       "control characters are refused")  # fmt: skip
    if candidate.architecture:
        wanted = _ARCHITECTURES.get(candidate.architecture.lower(), candidate.architecture)
        if node.architecture and wanted != node.architecture:
            return refused("image.not_in_dictionary", f"for {wanted}, and the node is {node.architecture}")
    unmet = next((text for name, need in candidate.requires.items() if (text := _unmet(name, need, node))), None)
    if unmet:
        return refused("image.not_in_dictionary", unmet)
    if _REGISTRY.match(candidate.path):
        return refused(
            "image.unproven", "a registry reference is fetched and proven at its first use, not at the start"
        )
    if not candidate.path.startswith("/"):
        return refused("image.path", "neither an absolute path nor a registry reference")
    return None


def _unmet(name: str, need: Json, node: NodeNeeds) -> str | None:
    """Why the node does not offer what ``requires`` names; None when it does."""
    if name == "cpu_level":
        wanted, has = _level(str(need)), _level(node.cpu_level)
        if wanted is None:
            return f"needs the CPU level {need!r}, which is none of x86_64-v1 to x86_64-v4"
        if has is None:
            return f"needs CPU level {need}, and that of the node is not known"
        return f"needs CPU level {need}, and the node has {node.cpu_level}" if has < wanted else None
    if name == "gpu":
        return "needs a GPU, and the node has none that is usable" if need and not node.gpus else None
    if name == "kernel":
        if not node.kernel:
            return f"needs kernel {need}, and that of the node is not known"
        return f"needs kernel {need}, and the node has {node.kernel}" if _older(node.kernel, str(need)) else None
    return f"needs {name!r}, which this pilot does not know; known: {', '.join(_NEEDS)}"


def _level(text: str) -> int | None:
    match = _LEVEL.fullmatch(text)
    return int(match[1] or 1) if match else None


def _older(version: str, than: str) -> bool:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", text.split("-", maxsplit=1)[0])]

    return numbers(version) < numbers(than)


def locate_all(candidates: Sequence[ImageCandidate], wake: WakeUp | None = None) -> list[Located | Refused]:
    """Resolve every path, in a child: a look at a dead mount would never return. Raises ``Interrupted``."""
    found: list[Located | Refused] = []
    while len(found) < len(candidates):
        rest = candidates[len(found) :]
        with Runner(wake) as runner:
            handle = runner.start_call(
                lambda rest=rest: _look_at([candidate.path for candidate in rest]),  # type: ignore[misc]
                name="image paths",
                deadline_seconds=LOCATE_SECONDS,
            )
            result = runner.wait(handle)
        answers = [json.loads(line) for line in result.stdout.splitlines() if line.endswith(b"}")][: len(rest)]
        found += [_judged(candidate, answer) for candidate, answer in zip(rest, answers, strict=False)]
        if len(answers) < len(rest):
            stuck = rest[len(answers)]
            reason = f"a look at {stuck.path} did not return within {LOCATE_SECONDS:g} s: the mount it is on is dead"
            found.append(Refused(stuck, "image.mount_dead", FailureKind.NODE_RESOURCE, reason))
    return found


def _look_at(paths: Sequence[str]) -> bytes:
    """One line of JSON for each path, each written before the next is looked at."""
    for path in paths:
        sys.stdout.write(json.dumps(_looked(path)) + "\n")
        sys.stdout.flush()
    return b""


def _looked(path: str) -> dict[str, str]:
    try:
        real = os.path.realpath(path, strict=True)
        mode = os.stat(real).st_mode
        if stat.S_ISDIR(mode):
            os.listdir(real)
            return {"path": real, "form": "directory"}
        if not stat.S_ISREG(mode):
            return {"path": real, "form": "unknown"}
        with open(real, "rb") as file:
            head = file.read(1082)
    except OSError as error:
        return {"error": error.strerror or str(error)}
    if not any(head[offset : offset + len(magic)] == magic for offset, magic in _MAGIC):
        return {"path": real, "form": "unknown"}
    return {"path": real, "form": "file"}


def _judged(candidate: ImageCandidate, answer: Mapping[str, str]) -> Located | Refused:
    kind = FailureKind.NODE_RESOURCE if candidate.path.startswith("/cvmfs/") else FailureKind.CONFIG
    if "error" in answer:
        return Refused(candidate, "image.missing", kind, f"{candidate.path}: {answer['error']}")
    if answer["form"] == "unknown":
        reason = f"{candidate.path} is neither a directory nor a SIF, squashfs or ext3 file"
        return Refused(candidate, "image.format", kind, reason)
    if _REFUSED_CHARACTERS.search(answer["path"]):
        return Refused(candidate, "image.path", kind, f"it leads to {answer['path']!r}, which has refused characters")
    return Located(candidate, answer["path"], "directory" if answer["form"] == "directory" else "file")


Resolver = Callable[[Sequence[ImageCandidate]], "list[Located | Refused]"]
"""Judges and locates candidates; the answers are in the order of the candidates."""


def resolve(
    candidates: Sequence[ImageCandidate], node: NodeNeeds, wake: WakeUp | None = None
) -> list[Located | Refused]:
    """What this node can take of ``candidates``, each located. Raises ``Interrupted``."""
    refusals = [refusal(candidate, node) for candidate in candidates]
    wanted = [candidate for candidate, refused in zip(candidates, refusals, strict=True) if refused is None]
    located = iter(locate_all(wanted, wake))
    return [refused if refused is not None else next(located) for refused in refusals]
