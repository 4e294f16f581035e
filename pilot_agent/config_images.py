"""The forms in which a configuration gives its image dictionary and the default platform.

Everything here speaks of one text or value; where it stands in a document is the business of ``config_check``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pilot_agent.model import Json
from pilot_agent.spelling import nearest

PLATFORM = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
"""A platform's name; jobs give it in REQUIRED_OS."""

ANY_ARCHITECTURE = "any"
"""Among the architectures of a platform: candidates for all of them."""

ALIASES = {"amd64": "x86_64", "x86-64": "x86_64", "arm64": "aarch64"}
"""Other names of architectures, and those of the kernel (uname -m), which facts use."""

ARCHITECTURES = ("x86_64", "aarch64", "ppc64le", "s390x", "riscv64", "loongarch64", "i686", "armv7l", *ALIASES)

DIGEST = r"sha256:[0-9a-f]{64}"
CPU_LEVEL = r"x86[-_]64([-_]v[1-4])?"
VERSION = r"[0-9]+(\.[0-9]+)*(-[!-~]*)?"
NEEDS = ("cpu_level", "gpu", "cuda", "kernel")
"""What a candidate may require of the node."""

REMOTE_SCHEMES = ("docker", "oras", "https")
PREFIX = rf"(/|({'|'.join(REMOTE_SCHEMES)})://)[^\x00-\x1f\x7f]*"
"""What images may be restricted to: a directory of the node, or the beginning of references."""

BIND_PATH = r"/[^\x00-\x20\x7f,:\"'`$;\\]*"
"""What HTCondor can pass on as a path of a bind."""

RUNTIME_OPTION = r"--[a-z][a-z0-9-]*(=[^\s\"'\x00-\x1f\x7f]*)?"
"""An option of the container runtime in one word."""

BIND = rf"{BIND_PATH}(:({BIND_PATH})?(:(ro|rw)?)?)?"
_TAKEN = "bin|boot|dev|etc|lib|lib32|lib64|libx32|proc|root|run|sbin|sys|tmp|usr|var"
SCRATCH_INSIDE = rf"(?!/({_TAKEN})(/|(?![\s\S])))(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+"
"""Where a job's scratch directory may appear in its container: at none of the directories of the image's own programs
and files, nor of the runtime's."""

VARIABLE_PATTERN = r"[A-Za-z_*][A-Za-z0-9_*]*"
"""A variable's name; an asterisk stands for any characters."""

CONDOR_VERSION = r"any|latest|[0-9]{1,6}(\.[0-9]{1,6}){0,2}"
REPOSITORY = r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}"
"""The name of a CVMFS repository: that of its directory below /cvmfs."""
CONDOR_PLACE = r"/cvmfs/[A-Za-z0-9][A-Za-z0-9.-]*(/[A-Za-z0-9_+][A-Za-z0-9._+-]*)+"
TARBALLS = r"signed|(/|https?://[^/@\s])[^\x00-\x20\x7f]*"
SHA256 = r"[0-9a-f]{64}"
"""What pilots may bring as HTCondor: its version, where it lies, and the digest of an index."""

LINE_ENTRY = r"[^,:]*[^,:\s][^,:]*:[^,]*[^,\s][^,]*"
LINE = rf"(\s*|{LINE_ENTRY})(,(\s*|{LINE_ENTRY}))*"
"""``key:value,key:value``: the first colon of an entry ends its key; empty entries are left out."""

_NUMBER = r"(?!0+(\.0+)?\s*%)[0-9]{1,9}(\.[0-9]{1,9})?"
_WEIGHT = rf"\s*{_NUMBER}\s*%\s*{PLATFORM}\s*"
DEFAULT = rf"({PLATFORM}|{_WEIGHT}(,{_WEIGHT})*)"
"""``el9``, or ``75% el9, 25% el8``."""


def line_problems(text: str) -> list[str]:
    """What is wrong with a dictionary in one line."""
    return [
        f"{entry.strip()!r} is no entry of the form platform:path"
        for entry in text.split(",")
        if entry.strip() and not re.fullmatch(LINE_ENTRY, entry)
    ]


def parse_line(text: str) -> dict[str, list[Json]]:
    """The dictionary that a valid line stands for.

    As in GlideinWMS, of several entries for one platform the last counts, at its place, and only the first colon of an
    entry divides: an image's path may have colons, and no comma.
    """
    images: dict[str, list[Json]] = {}
    for entry in filter(str.strip, text.split(",")):
        platform, _, path = entry.partition(":")
        images.pop(platform.strip(), None)
        images[platform.strip()] = [path.strip()]
    return images


def flattened(images: Json) -> dict[str, list[Json]]:
    """A valid dictionary of any form as platform -> candidates, each a path or {path, arch, requires, digest}."""
    if isinstance(images, str):
        return parse_line(images)
    return {
        platform: list(candidates) if isinstance(candidates, list) else _of_architectures(candidates)
        for platform, candidates in images.items()
    }


def _of_architectures(candidates: Mapping[str, list[Json]]) -> list[Json]:
    return [
        {**({"path": entry} if isinstance(entry, str) else entry), **_architecture(name)}
        for name, entries in candidates.items()
        for entry in entries
    ]


def _architecture(name: str) -> dict[str, Json]:
    return {} if name.lower() == ANY_ARCHITECTURE else {"arch": name}


def architecture_problem(name: str, *, also: tuple[str, ...] = ()) -> str | None:
    """Why ``name`` is no architecture, in words; None when it is one, or one of ``also``."""
    known = (*ARCHITECTURES, *also)
    if name.lower() in known:
        return None
    return f"{name!r} is no architecture{nearest(name, known) or '; known: ' + ', '.join(known)}"


def need_problem(name: str, need: Json) -> str | None:
    """What is wrong with one of a candidate's needs, in words."""
    match name:
        case "cpu_level":
            level = isinstance(need, str) and re.fullmatch(CPU_LEVEL, need)
            return None if level else f"{need!r} is none of x86_64-v1 to x86_64-v4"
        case "gpu":
            number = isinstance(need, bool | int) and need >= 0
            return None if number else f"{need!r} is neither true or false nor a number of GPUs"
        case "cuda" | "kernel":
            if isinstance(need, float):  # YAML makes 5.1 of 5.10
                return f"{need} is read as a number; quote it"
            version = not isinstance(need, bool) and isinstance(need, str | int) and re.fullmatch(VERSION, str(need))
            return None if version else f"{need!r} is no version such as '5.14'"
        case _:
            return "unknown key" + (nearest(str(name), NEEDS) or f"; known: {', '.join(NEEDS)}")


def digest_problem(text: str) -> str | None:
    """Why ``text`` is no digest, in words."""
    fits = re.fullmatch(DIGEST, text)
    return None if fits else f"{text!r} is no digest: sha256: and 64 hexadecimal digits in lower case are needed"


def prefix_problem(text: str) -> str | None:
    """Why images cannot be restricted to ``text``, in words."""
    if re.fullmatch(PREFIX, text):
        return None
    schemes = ", ".join(f"{scheme}://" for scheme in REMOTE_SCHEMES)
    return f"{text!r} begins neither with / nor with one of {schemes}"


def default_problem(text: str) -> str | None:
    """Why ``text`` names neither a platform nor weights of platforms, in words."""
    if re.fullmatch(DEFAULT, text):
        return None
    return f"{text!r} is neither a platform nor weights of platforms such as '75% el9, 25% el8'"


def weights(default: str | Mapping[str, float]) -> dict[str, float]:
    """The weights of platforms in a valid ``containers.default``; of one that is named alone, 1. Those of a platform
    that stands several times add up."""
    if not isinstance(default, str):
        return dict(default)
    found: dict[str, float] = {}
    for part in default.split(","):
        number, percent, platform = part.rpartition("%")
        platform = platform.strip()
        found[platform] = found.get(platform, 0.0) + (float(number) if percent else 1.0)
    return found
