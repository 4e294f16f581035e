"""The pinned wheels: read the pins, fetch what the cache lacks with pip, give back verified files."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from payload.console import BuildError, run, step

# One platform that every pin has a file for, so that the result does not depend on the machine that builds.
PLATFORMS = (
    ("any", "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux_2_28_x86_64"),
    ("manylinux2014_aarch64", "manylinux_2_28_aarch64"),
)


@dataclass(frozen=True, slots=True)
class Pin:
    """One line of requirements-payload.txt: a version, and the digests of the files allowed for it."""

    name: str
    version: str
    sha256: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel on disk whose digest was checked."""

    name: str
    version: str
    sha256: str
    path: Path


def read_pins(requirements: Path) -> tuple[Pin, ...]:
    """The pins in the order of the file. BuildError for a line without exact version or digest."""
    pins = []
    for number, line in enumerate(requirements.read_text().splitlines(), start=1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        name, equals, version = words[0].partition("==")
        digests = tuple(word.removeprefix("--hash=sha256:") for word in words[1:])
        if not equals or not digests or any(len(digest) != 64 for digest in digests):
            raise BuildError(f"{requirements}:{number}: needs NAME==VERSION --hash=sha256:HEX, found: {line}")
        pins.append(Pin(name, version, digests))
    return tuple(pins)


def fetch(pins: Sequence[Pin], cache: Path) -> tuple[Wheel, ...]:
    """All files of all pins, from the cache where it has them. BuildError when one cannot be had."""
    cache.mkdir(parents=True, exist_ok=True)
    if missing := _missing(pins, _by_digest(cache)):
        with step(f"download {len(missing)} packages with pip"):
            for platform in PLATFORMS:
                _download(_missing(pins, _by_digest(cache)), platform, cache)
    found = _by_digest(cache)
    if missing := _missing(pins, found):
        raise BuildError(f"no file with the pinned digest for {', '.join(pin.name for pin in missing)} in {cache}")
    return tuple(Wheel(pin.name, pin.version, digest, found[digest]) for pin in pins for digest in pin.sha256)


def _by_digest(cache: Path) -> dict[str, Path]:
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in sorted(cache.glob("*.whl"))}


def _missing(pins: Sequence[Pin], found: dict[str, Path]) -> list[Pin]:
    return [pin for pin in pins if not set(pin.sha256) <= set(found)]


def _download(pins: Sequence[Pin], platforms: tuple[str, ...], cache: Path) -> None:
    if not pins:
        return
    lines = [f"{pin.name}=={pin.version} " + " ".join(f"--hash=sha256:{d}" for d in pin.sha256) for pin in pins]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--implementation=cp", "--python-version=3.11"]
    command += [f"--abi={abi}" for abi in ("cp311", "abi3", "none")]
    command += [f"--platform={platform}" for platform in platforms]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        hint = "The build needs pip and a package index; on Debian: apt-get install python3-pip"
        run([*command, "--dest", str(cache), "-r", file.name], hint)
