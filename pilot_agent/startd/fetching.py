"""The part of the guard that looks at which image a job gets, and has one brought to the node or tried there.

Only an image that must be fetched, or that the job names by its path and the pilot has not proven, costs a program:
every other job goes on after the guard's own shell. The choice is that of ``containers.selection``. What a job may name
was judged before; a forged line can at most make the pilot fetch or try another image that the job may name.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from pilot_agent import CVMFS
from pilot_agent.containers.selection import ANY_PLATFORM

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_agent.startd.plan import ContainerPlan

FETCHED = ("docker", "oras", "https")
"""Schemes of the images that the pilot itself fetches; what HTCondor transfers is left to it."""

_CHOICE = """\
# Becomes the program that fetches an image (ATTRIBUTE REFERENCE [PLATFORM]) and prints the line that puts its place
# into the job's ad, or tries an image of the node that is not of the dictionary.
fetch() {
    case $2 in
        @PROVEN@)@PLACE@ ;;
        @REMOTE@) exec @FETCHER@ "$PPID" "$@" ;;
    esac
    exit 0
}

[ "$contained" ] || exit 0
[ -z "$singularity_image" ] || fetch SingularityImage "$singularity_image"
[ -z "$container_image" ] || fetch ContainerImage "$container_image"
IFS=', '
set -- $required_os
if [ "$required_os" ]; then
    for word do
        case $word in
@PLATFORMS@
            @ANY@) required_os=; break ;;
        esac
    done
fi
[ "$required_os" ] || fetch SingularityImage @DEFAULT@ @DEFAULT_PLATFORM@
"""


def is_remote(image: str) -> bool:
    """Whether an image of the dictionary has to be fetched."""
    return not image.startswith("/")


def _place_text(container: ContainerPlan) -> str:
    """The line of the job's ad that says where an image of CVMFS is, where that is not /cvmfs. Neither path has a
    character that a string could not hold."""
    if container.cvmfs == CVMFS:
        return ""
    line = f'echo "$1 = \\"{container.cvmfs}${{2#{CVMFS}}}\\""; echo \'HookStatusCode = 0\''
    return f" case $2 in {CVMFS}/*) {line} ;; esac"


def choice_text(container: ContainerPlan, any_case: Callable[[str], str]) -> str:
    """The shell lines at the guard's end, empty when this plan fetches nothing."""
    if not container.fetcher:
        return ""
    patterns = ["/*", *(f"{scheme}://*" for scheme in container.fetched)]
    patterns += [shlex.quote(image) for image in container.images.values() if is_remote(image)]
    platforms = [
        f"            {any_case(platform)}) fetch SingularityImage {shlex.quote(image)} {shlex.quote(platform)} ;;"
        for platform, image in container.images.items()
    ]
    replacements = {
        "PLACE": _place_text(container),
        "PROVEN": " | ".join(
            ["''", *(shlex.quote(image) for image in container.images.values() if not is_remote(image))]
        ),
        "REMOTE": " | ".join(patterns),
        "FETCHER": shlex.join(container.fetcher),
        "PLATFORMS": "\n".join(platforms),
        "ANY": " | ".join(map(any_case, ANY_PLATFORM)),
        "DEFAULT": shlex.quote(container.images.get(container.default_platform or "", "")),
        "DEFAULT_PLATFORM": shlex.quote(container.default_platform or ""),
    }
    text = _CHOICE
    for name, replacement in replacements.items():
        text = text.replace(f"@{name}@", replacement)
    return text
