"""The CPython that pilot.sh carries: what is taken from the Debian tree, and where it lies once unpacked.

::

    bin/pilot-python     Debian's dynamic loader; the process is seen under this name
    bin/python3.13-elf   the interpreter
    bin/python3.13       a script that starts the two above, so that `sys.executable` works as well
    lib/python3.13/      the standard library, byte code only; lib-dynload/
    so/                  shared libraries; all parts of glibc, so that no module of the node's name service can pull in
                         a part of another glibc
    pilot.pyz            the payload
    licences/            of the Debian packages; common/ those that several refer to
    sbom.cdx.json        which file is from which package
    MANIFEST.json        what it is made of
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from payload.bytecode import compile_all
from payload.debs import Tree
from payload.licences import Texts, licence_files, owner, source_of
from payload.sbom import FILE, CarriedDeb, runtime_sbom

PYTHON = "python3.13"
# A directory of byte code starts faster than a zip of it (12 ms against 19) and needs less memory.
DROPPED = re.compile(
    r"(test|idlelib|tkinter|turtledemo|ensurepip|lib2to3|pydoc_data|_pyrepl|venv|curses|dbm|sqlite3|unittest)/.*"
    r"|(turtle|antigravity|this|sitecustomize|_aix_support|_android_support|_apple_support|_ios_support|_osx_support"
    r"|_sysconfigdata__linux_[a-z0-9_]+-linux-gnu|pydoc|idle|doctest|EXTERNALLY-MANAGED|LICENSE)(\..*)?"
    r"|lib-dynload/(_test|xx|_xxtest|_ctypes_test|_curses|_dbm|_gdbm|_sqlite3|readline|_tkinter).*"
    r"|.*/__pycache__/.*|__pycache__/.*|.*\.a"
)
LIBRARIES = (
    "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2",
    "libanl.so.1", "libnsl.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libnss_compat.so.2", "libnss_hesiod.so.2",
    "libz.so.1", "libexpat.so.1", "libssl.so.3", "libcrypto.so.3", "libffi.so.8", "libbz2.so.1.0", "liblzma.so.5",
    "libzstd.so.1", "libgcc_s.so.1", "libuuid.so.1",
)  # fmt: skip
WRAPPER = b"""#!/bin/sh
# Starts the interpreter through its own loader and libraries.
root=${0%/*}/..
exec "$root/bin/pilot-python" --library-path "$root/so" --argv0 "$0" "$root/bin/python3.13-elf" "$@"
"""


def runtime_files(tree: Tree, version: str, compiler: Tree) -> dict[str, bytes]:
    """All files of the unpacked runtime but the payload, by relative name; those under bin/ are programs.

    `compiler` is the same Python for the machine that builds: byte code is the same for every processor.
    """
    libraries = tree.root / "usr/lib" / tree.machine.triplet
    origins = {f"so/{name}": libraries / name for name in LIBRARIES}
    origins["bin/pilot-python"] = libraries / tree.machine.loader
    origins[f"bin/{PYTHON}-elf"] = tree.root / "usr/bin" / PYTHON
    files = {name: path.read_bytes() for name, path in origins.items()}
    for name, (data, origin) in _standard_library(tree, compiler).items():
        files[name], origins[name] = data, origin
    texts = Texts(tree)
    licences, licence_names = licence_files([deb.name for deb in tree.debs], texts)
    own = {f"bin/{PYTHON}": WRAPPER, **licences, "MANIFEST.json": _manifest(tree, version)}
    files.update(own)
    debs = _carried(tree, texts, origins, licence_names)
    files[FILE] = runtime_sbom(version, debs, files, [*own, FILE])
    return files


def _carried(
    tree: Tree, texts: Texts, origins: Mapping[str, Path], licences: Mapping[str, tuple[str, ...]]
) -> list[CarriedDeb]:
    """Each package with the files that are from it. BuildError for a file that no package has."""
    packages = {deb.name: texts.owned[deb.name] for deb in tree.debs}
    files: dict[str, list[str]] = {name: [] for name in packages}
    for name, path in origins.items():
        files[owner(f"/{path.relative_to(tree.root)}", packages)].append(name)
    return [CarriedDeb(deb, source_of(tree, deb), tuple(files[deb.name]), licences[deb.name]) for deb in tree.debs]


def _standard_library(tree: Tree, compiler: Tree) -> dict[str, tuple[bytes, Path]]:
    """Data and origin of each file."""
    root = tree.root / "usr/lib" / PYTHON
    sources: dict[str, bytes] = {}
    files: dict[str, bytes] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if DROPPED.fullmatch(name) or not _inside(path, tree.root):
            continue
        (sources if path.suffix == ".py" else files)[name] = path.read_bytes()
    files.update(compile_all(sources, compiler))
    return {f"lib/{PYTHON}/{name}": (data, root / _source(name)) for name, data in files.items()}


def _source(name: str) -> str:
    return name.removesuffix("c") if name.endswith(".pyc") else name


def _inside(path: Path, root: Path) -> bool:
    """A file of the packages themselves, not a link to a configuration file of the machine."""
    return path.is_file() and path.resolve().is_relative_to(root.resolve())


def _manifest(tree: Tree, version: str) -> bytes:
    packages = [{"package": deb.name, "version": deb.version, "sha256": deb.sha256} for deb in tree.debs]
    document = {"schema": "pilot-agent/runtime/1", "name": "pilot-agent", "version": version, "packages": packages}
    return (json.dumps(document, indent=1) + "\n").encode()
