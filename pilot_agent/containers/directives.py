"""What a runtime's configuration file says, to explain what was established by running it. Nothing is decided here."""

from __future__ import annotations

import os

from pilot_agent import CVMFS
from pilot_agent.containers.runtime import RuntimeProgram

SIZE_LIMIT_BYTES = 1 << 18

_BY_CODE = {
    "apptainer.image_forbidden": ("allow container", "limit container"),
    "apptainer.binds_forbidden": ("user bind control",),
    "apptainer.no_overlay": ("enable overlay", "enable underlay"),
    "apptainer.userns_forbidden": ("allow user ns",),
    "apptainer.configuration": ("limit container",),
    "fuse.missing": ("enable fusemount", "image driver"),
    "apptainer.no_cgroups": ("systemd cgroups",),
}


def directives(program: RuntimeProgram, wanted: str | tuple[str, ...]) -> str:
    """ "; FILE says: LINE, LINE": the lines that restrict something of ``wanted``, which is a failure code or the
    beginnings of directives. Empty when there is none, or the file cannot be read."""
    beginnings = _BY_CODE.get(wanted, ()) if isinstance(wanted, str) else wanted
    path = _file_of(program)
    if not beginnings or path is None:
        return ""
    try:
        with open(path, "rb") as file:
            text = file.read(SIZE_LIMIT_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    said = [" ".join(line.split()) for line in text.splitlines()]
    found = [line for line in said if line.startswith(beginnings) and not line.endswith(("= yes", "=", "= NULL"))]
    return f"; {path} says: {', '.join(found[:5])}" if found else ""


def _file_of(program: RuntimeProgram) -> str | None:
    """Where the runtime of an installation with the usual layout keeps its configuration; none on a mount that may
    have died since."""
    real = os.path.abspath(program.path)
    if real.startswith(f"{CVMFS}/"):
        return None
    prefix = os.path.dirname(os.path.dirname(real))
    name = "singularity" if program.singularity else "apptainer"
    return os.path.join("/etc" if prefix == "/usr" else os.path.join(prefix, "etc"), name, f"{name}.conf")
