"""Debian packages of the two CPythons: fetched with a private apt configuration, verified, unpacked."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from payload.console import BuildError, run, step

MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NEEDS = "The build needs Debian's apt-get, dpkg-deb and debian-archive-keyring, and the Debian mirror."

# The interpreter of pilot.sh and what its modules link to; it also compiles the byte code for 3.13.
DEBIAN_13 = (
    "python3.13-minimal", "libpython3.13-minimal", "libpython3.13-stdlib", "libc6", "libexpat1", "zlib1g",
    "libssl3t64", "libffi8", "libbz2-1.0", "liblzma5", "libzstd1", "libgcc-s1", "libuuid1",
)  # fmt: skip
# Licences that the copyright files of those above refer to.
DEBIAN_13_TEXTS = ("gcc-14-base", "base-files")
# Only compiles the byte code for 3.11, for which it also imports the agent.
DEBIAN_12 = (
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libexpat1", "zlib1g", "libssl3",
    "libffi8",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Machine:
    """A processor, as the kernel names it, and what Debian calls it and puts into paths."""

    name: str
    architecture: str
    triplet: str
    loader: str


X86_64 = Machine("x86_64", "amd64", "x86_64-linux-gnu", "ld-linux-x86-64.so.2")
AARCH64 = Machine("aarch64", "arm64", "aarch64-linux-gnu", "ld-linux-aarch64.so.1")


@dataclass(frozen=True, slots=True)
class Deb:
    """One downloaded package; `file` is its name in the cache directory."""

    name: str
    version: str
    sha256: str
    file: str


@dataclass(frozen=True, slots=True)
class Tree:
    """An unpacked Debian Python: where it is and what it was made of.

    `home` has the packages themselves; `texts` are those of which only documents are wanted: they are not unpacked.
    """

    root: Path
    python: str
    debs: tuple[Deb, ...]
    texts: tuple[Deb, ...]
    home: Path
    machine: Machine = X86_64

    def command(self) -> list[str]:
        """Starts this Python through its own loader and libraries, whatever that machine has."""
        libraries = [self.root / "lib" / self.machine.triplet, self.root / "usr/lib" / self.machine.triplet]
        loader = next(path for lib in libraries if (path := lib / self.machine.loader).exists())
        interpreter = self.root / "usr/bin" / self.python
        search = ":".join(str(path) for path in libraries)
        return [str(loader), "--library-path", search, "--argv0", str(interpreter), str(interpreter)]


def debian_tree(
    suite: str,
    names: Sequence[str],
    cache: Path,
    refresh: bool,
    texts: Sequence[str] = (),
    machine: Machine = X86_64,
) -> Tree:
    """The unpacked tree of the suite's packages. Uses what the cache holds, unless `refresh` asks for the newest.

    BuildError when a package cannot be downloaded or its digest is not the one that apt verified.
    """
    home = cache / (suite if machine == X86_64 else f"{suite}-{machine.architecture}")
    fetched = None if refresh else _cached(home, [*names, *texts])
    if fetched is None:
        with step(f"download CPython for {machine.name} from Debian {suite}"):
            fetched = _download(suite, [*names, *texts], home, machine)
    debs = fetched[: len(names)]
    root = home / "root"
    label = home / "root.json"
    wanted = json.dumps([asdict(deb) for deb in debs])
    if not label.exists() or label.read_text() != wanted:
        with step(f"unpack {len(debs)} Debian packages of {suite}"):
            shutil.rmtree(root, ignore_errors=True)
            for deb in debs:
                run(["dpkg-deb", "-x", str(home / deb.file), str(root)], NEEDS)
            label.write_text(wanted)
    return Tree(root, names[0].removesuffix("-minimal"), debs, fetched[len(names) :], home, machine)


def _cached(home: Path, names: Sequence[str]) -> tuple[Deb, ...] | None:
    index = home / "index.json"
    if not index.exists():
        return None
    debs = tuple(Deb(**entry) for entry in json.loads(index.read_text()))
    intact = all((home / d.file).exists() and _sha256(home / d.file) == d.sha256 for d in debs)
    return debs if intact and [deb.name for deb in debs] == list(names) else None


def _download(suite: str, names: Sequence[str], home: Path, machine: Machine) -> tuple[Deb, ...]:
    home.mkdir(parents=True, exist_ok=True)
    for old in home.glob("*.deb"):
        old.unlink()
    apt = _private_apt(suite, home.resolve() / "apt", machine.architecture)
    try:
        run(["apt-get", "--quiet", "update"], NEEDS, apt)
        debs = _candidates(names, apt)
        run(["sh", "-c", 'cd "$1" && shift && apt-get --quiet download "$@"', "sh", str(home), *names], NEEDS, apt)
    finally:
        shutil.rmtree(home / "apt", ignore_errors=True)
    for deb in debs:
        path = home / deb.file
        if not path.exists() or _sha256(path) != deb.sha256:
            raise BuildError(f"{path} is not the {deb.name} {deb.version} that the suite {suite} lists; run it again")
    (home / "index.json").write_text(json.dumps([asdict(deb) for deb in debs], indent=1))
    return tuple(debs)


def _private_apt(suite: str, directory: Path, architecture: str) -> dict[str, str]:
    """Environment for an apt that knows one suite, checks its signature, and leaves the machine's own apt alone."""
    if not KEYRING.exists():
        raise BuildError(f"{KEYRING} is missing: the packages' signatures cannot be checked. {NEEDS}")
    for name in ("state/lists/partial", "cache/archives/partial", "etc/none"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "state/status").touch()
    (directory / "etc/sources.list").write_text(
        f"deb [arch={architecture} signed-by={KEYRING}] {MIRROR} {suite} main\n"
    )
    settings = {
        "Dir::State": f"{directory}/state/",
        "Dir::State::status": f"{directory}/state/status",
        "Dir::Cache": f"{directory}/cache/",
        "Dir::Etc": f"{directory}/etc/",
        "Dir::Etc::SourceList": f"{directory}/etc/sources.list",
        "Dir::Etc::SourceParts": f"{directory}/etc/none",
        "Dir::Etc::Parts": "/etc/apt/apt.conf.d",  # a proxy of this machine is still used
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root",  # the build directory need not be readable for apt's own account
        "Acquire::Check-Valid-Until": "false",  # an old mirror snapshot is fine; its signature is still checked
        "Acquire::Languages": "none",
    }
    config = directory / "apt.conf"
    config.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    return {**os.environ, "LC_ALL": "C.UTF-8", "APT_CONFIG": str(config)}


def _candidates(names: Sequence[str], apt: dict[str, str]) -> list[Deb]:
    shown = run(["apt-cache", "show", "--no-all-versions", *names], NEEDS, apt)
    debs = {}
    for paragraph in shown.strip().split("\n\n"):
        lines = (line for line in paragraph.splitlines() if ": " in line and not line.startswith(" "))
        fields = dict(line.split(": ", 1) for line in lines)
        name, version = fields["Package"], fields["Version"]
        file = f"{name}_{version.replace(':', '%3a')}_{fields['Architecture']}.deb"
        debs[name] = Deb(name, version, fields["SHA256"], file)
    if missing := [name for name in names if name not in debs]:
        raise BuildError(f"Debian's list has no package {', '.join(missing)}. {NEEDS}")
    return [debs[name] for name in names]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
