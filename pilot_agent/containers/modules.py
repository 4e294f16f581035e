"""What environment modules would put on the search path: their program is asked, and its answer is read, never run.

``modulecmd`` (Environment Modules) and ``lmod`` (Lmod) print the commands that would load a module in a language of
choice. Of those for ``sh`` only the assignment of PATH is taken, and only when it is plain text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pilot_agent.process import WakeUp, run

SECONDS = 10.0
NAMES = ("apptainer", "singularity", "singularitypro")
"""Modules that bring a runtime, in the order in which they are tried."""

_INHERITED = re.compile(r"MODULE|LMOD|LOADEDMODULES|_LMFILES_|__LMOD|__MODULES")
_PATH = re.compile(r"""(?:^|[;\s])PATH=("([^"$`\\]*)"|'([^']*)'|([^\s;"'$`\\]*))""")
_PLACES = ("libexec/modulecmd.tcl", "libexec/modulecmd", "bin/modulecmd", "modulecmd.tcl", "libexec/lmod")


def program(site: Mapping[str, str]) -> list[str] | None:
    """The command line that all requests begin with, from what the site's own set-up left in the environment: LMOD_CMD
    and MODULES_CMD name the program, MODULESHOME its installation. None without modules."""
    named = [site.get("LMOD_CMD", ""), site.get("MODULES_CMD", "")]
    home = site.get("MODULESHOME", "")
    if home.startswith("/"):
        named += [os.path.join(home, place) for place in _PLACES]
    for path in named:
        if path.startswith("/") and os.access(path, os.X_OK) and os.path.isfile(path):
            return [path, "sh"]
    return None


def directories(
    name: str, command: list[str], site: Mapping[str, str], environment: Mapping[str, str], wake: WakeUp | None = None
) -> list[str]:
    """The directories that loading ``name`` adds to the search path, in order; none when there is no such module.

    ``site`` is the environment that the pilot was started with, whose variables of modules the program needs. Raises
    ``Interrupted``.
    """
    given = {key: value for key, value in site.items() if _INHERITED.match(key)}
    given |= dict(environment)
    asked = [*command, "load", name]
    result = run(asked, deadline_seconds=SECONDS, environment=given, wake=wake)
    # Some versions exit with 0 when there is no such module: only the answer counts.
    before = environment.get("PATH", "").split(":")
    return [directory for directory in read_path(result.text) if directory not in before]


def read_path(text: str) -> list[str]:
    """The absolute directories of the last plain assignment of PATH in ``text``."""
    found = _PATH.findall(text)
    if not found:
        return []
    _, double, single, bare = found[-1]
    return [directory for directory in (double or single or bare).split(":") if directory.startswith("/")]
