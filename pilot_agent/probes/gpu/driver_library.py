"""The libraries of a GPU's driver, found the way a job's programs would find them.

The pilot may run with an interpreter and a loader of its own, whose search path is not the node's; so the usual places
are tried by hand after the loader. Only ever called in a child: the constructor of a driver's library may hang.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

# Red Hat and SUSE; Debian and Ubuntu, with alternatives; containers of Kubernetes and of Apptainer (--nv); NixOS; WSL.
_USUAL = (
    *("/usr/lib64", "/usr/lib64/nvidia", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"),
    *("/usr/lib/x86_64-linux-gnu/nvidia/current", "/usr/lib/aarch64-linux-gnu/nvidia/current"),
    *("/usr/local/nvidia/lib64", "/.singularity.d/libs", "/run/opengl-driver/lib", "/usr/lib/wsl/lib"),
)


def load_library(name: str, environment: Mapping[str, str]) -> ctypes.CDLL:
    """The library from the site's ``LD_LIBRARY_PATH``, the loader's own path, or one of the usual places.

    Raises ``OSError`` with the loader's words for the first file that is there and cannot be loaded, else for none.
    """
    import ctypes

    first: OSError | None = None
    for candidate in _candidates(name, environment):
        if candidate.startswith("/") and not os.path.exists(candidate):
            continue
        try:
            return ctypes.CDLL(candidate)
        except OSError as error:
            first = error if first is None or candidate.startswith("/") else first
    raise first or OSError(f"{name} is not there")


def _candidates(name: str, environment: Mapping[str, str]) -> Iterator[str]:
    named = environment.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":")
    yield from (os.path.join(directory, name) for directory in named if directory.startswith("/"))
    yield name
    yield from (os.path.join(directory, name) for directory in _USUAL)
