"""Stands for psutil's compiled part inside the payload, where no shared object can be loaded from.

Importing it loads the real one from memory (or, where the kernel refuses that, from a private file that is gone before
the import returns) and takes its place. ImportError where it cannot be loaded: psutil's users then do without.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import shutil
import sys
import tempfile

DIGESTS: dict[str, str] = {}  # the builder appends the digest of each processor's file


def _library() -> bytes:
    machine = os.uname().machine
    name = f"native/{machine}/_psutil_linux.abi3.so"
    if machine not in DIGESTS:
        raise ImportError(f"the payload carries no compiled psutil for {machine}")
    data: bytes = __loader__.get_data(os.path.join(__loader__.archive, name))  # type: ignore[name-defined]
    if hashlib.sha256(data).hexdigest() != DIGESTS[machine]:
        raise ImportError(f"{name} in the payload is damaged")
    return data


def _load(path: str) -> None:
    loader = importlib.machinery.ExtensionFileLoader(__name__, path)
    spec = importlib.util.spec_from_file_location(__name__, path, loader=loader)
    if spec is None:
        raise ImportError(f"no way to load {path}")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[__name__] = module


def _load_from_memory(data: bytes) -> None:
    descriptor = os.memfd_create("psutil", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        _load(f"/proc/self/fd/{descriptor}")


def _load_from_file(data: bytes) -> None:
    places = (os.environ.get("_CONDOR_SCRATCH_DIR"), os.environ.get("TMPDIR"), os.getcwd())
    place = next((p for p in places if p and os.access(p, os.W_OK)), None)
    directory = tempfile.mkdtemp(prefix="pilot-psutil.", dir=place)
    try:
        path = os.path.join(directory, "_psutil_linux.abi3.so")
        with open(path, "xb") as file:
            file.write(data)
        _load(path)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _take_place() -> None:
    data = _library()
    try:
        _load_from_memory(data)
    except (OSError, ImportError):
        try:
            _load_from_file(data)
        except OSError as error:
            raise ImportError(f"psutil's compiled part cannot be loaded: {error}") from error
