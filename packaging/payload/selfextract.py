"""Writes pilot.sh: a POSIX shell script with the runtime behind it as a compressed tar."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from payload.bytecode import packed
from payload.debs import Machine, Tree

HEADER = Path(__file__).with_name("pilot.sh.in")
# What was just unpacked is checked by these: the files that a start needs first and most, and the lists of all files.
HASHED = ("bin/pilot-python", "bin/python3.13-elf", "pilot.pyz", "SIZES", "ALL", "ALL.b2")
DATE = 315532800  # 1980-01-01 UTC


@dataclass(frozen=True, slots=True)
class Base:
    """The part that changes only with the Debian packages: compressed tar without its end, and lists of its files."""

    archive: bytes
    sizes: dict[str, int]
    sha256: dict[str, str]
    blake2: dict[str, str]


def base_of(files: Mapping[str, bytes], tree: Tree) -> Base:
    """Compress the runtime's files without the payload, by a Python that runs on the machine that builds."""
    sizes = {name: len(data) for name, data in files.items()}
    return Base(packed("gzip", _tar(files, end=False), tree), sizes, _sha256(files), _blake2(files))


def _sha256(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def _blake2(files: Mapping[str, bytes]) -> dict[str, str]:
    """As b2sum writes it."""
    return {name: hashlib.blake2b(data).hexdigest() for name, data in files.items()}


def _listed(digests: Mapping[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()


def cached_base(
    cache: Path, tree: Tree, version: str, files: Callable[[], Mapping[str, bytes]], compressor: Tree
) -> Base:
    """The base from the cache directory, made anew when the packages or the builder have changed."""
    key = hashlib.sha256(json.dumps([version, [asdict(deb) for deb in tree.debs]]).encode())
    for path in sorted(HEADER.parent.glob("*.py")):
        key.update(path.read_bytes())
    archive = cache / f"{key.hexdigest()[:32]}.tar.gz"
    lists = archive.with_suffix(".json")
    if lists.exists():
        recorded = json.loads(lists.read_text())
        data = archive.read_bytes()
        if hashlib.sha256(data).hexdigest() == recorded["archive_sha256"]:
            return Base(data, recorded["sizes"], recorded["sha256"], recorded["blake2"])
    base = base_of(files(), compressor)
    cache.mkdir(parents=True, exist_ok=True)
    for old in cache.iterdir():
        old.unlink(missing_ok=True)
    archive.write_bytes(base.archive)
    digest = hashlib.sha256(base.archive).hexdigest()
    recorded = {"sizes": base.sizes, "sha256": base.sha256, "blake2": base.blake2}
    lists.write_text(json.dumps({"archive_sha256": digest, **recorded}))
    return base


def build_selfextracting(base: Base, pyz: bytes, version: str, tree: Tree, machine: Machine) -> bytes:
    """The script's bytes for a processor: the header, the base, and a second compressed part with payload and lists."""
    last = closing_files(base, pyz)
    archive = base.archive + packed("gzip", closing_tar(last), tree)
    return _header(version, machine.name, archive, last["CHECK"], unpacked_bytes(base, pyz)) + archive


def closing_files(base: Base, pyz: bytes) -> dict[str, bytes]:
    """What the second part holds: the payload, and the lists that prove a runtime whole and unaltered."""
    sizes = {**base.sizes, "pilot.pyz": len(pyz)}
    last = {"pilot.pyz": pyz, "SIZES": "".join(f"{size} {name}\n" for name, size in sorted(sizes.items())).encode()}
    # A kept runtime is checked by one of these: a job of the same account may have changed it.
    last["ALL"] = _listed(base.sha256 | _sha256(last))
    last["ALL.b2"] = _listed(base.blake2 | _blake2(last))
    sha256 = base.sha256 | _sha256(last)
    last["CHECK"] = "".join(f"{sha256[name]}  {name}\n" for name in HASHED).encode()
    return last


def closing_tar(files: Mapping[str, bytes]) -> bytes:
    """The second part before it is compressed; the archive ends with it."""
    return _tar(files, end=True)


def unpacked_bytes(base: Base, pyz: bytes) -> int:
    """What interpreter and payload take on the node."""
    return sum(base.sizes.values()) + len(pyz)


def _tar(files: Mapping[str, bytes], end: bool) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        directories = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
        for name in sorted([*directories, *files]):
            entry = tarfile.TarInfo(name)
            entry.mtime = DATE
            if name in directories:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            else:
                entry.size, entry.mode = len(files[name]), 0o755 if name.startswith("bin/") else 0o644
                archive.addfile(entry, io.BytesIO(files[name]))
        length = archive.offset
    return buffer.getvalue() if end else buffer.getvalue()[:length]


def _header(version: str, machine: str, archive: bytes, check: bytes, unpacked_bytes: int) -> bytes:
    template = HEADER.read_text()
    values = {
        "@VERSION@": version,
        "@MACHINE@": machine,
        "@SHA256@": hashlib.sha256(archive).hexdigest(),
        "@CHECK_SHA256@": hashlib.sha256(check).hexdigest(),
        "@SIZE_KIB@": str(unpacked_bytes // 1024 + 1),
    }
    for name, value in values.items():
        template = template.replace(name, value)
    length = len(template.encode()) - len("@OFFSET@") + 8
    return template.replace("@OFFSET@", f"{length + 1:08d}").encode()
