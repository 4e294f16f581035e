"""Mount again what the pilot had mounted and whose client died: ``_cvmfs remount DISTRIBUTION REPOSITORY ...``, which
the keeper has a child do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from pilot_agent.cvmfs.distribution import Distribution
from pilot_agent.cvmfs.looking import look
from pilot_agent.cvmfs.mounting import mount, prove, unmount
from pilot_agent.light import dumps


def main(arguments: list[str]) -> int:
    """Do it; 0, or 1 after a JSON object with the ``reason`` for which not all of them are as they were."""
    root, *repositories = arguments
    reasons = list(remount(Distribution(root), repositories, environment=os.environ))
    if reasons:
        os.write(1, dumps({"reason": "; ".join(reasons)}).encode())
    return 1 if reasons else 0


def remount(
    distribution: Distribution, repositories: Sequence[str], *, environment: Mapping[str, str]
) -> Iterator[str]:
    """Mount these repositories again, and why one is not well then.

    The configuration repository comes first where it does not answer itself: without it a client mounts and has no
    server (observed with CVMFS 2.12: exit code 0 and an empty ``user.host``). A dead mount is unmounted lazily, as jobs
    may have files open in it.
    """
    dead = list(dict.fromkeys(repositories))
    first = distribution.configuration_repository()
    if first is not None and first not in dead and not prove(distribution.point(first), first).ok:
        dead.insert(0, first)
    left = unmount(distribution, dead, environment=environment, lazy=True, configuration=False)
    yield from (f"{name} cannot be unmounted: {why}" for name, why in left.items())
    for mounted in mount(distribution, [name for name in dead if name not in left], environment=environment):
        if not mounted.ok:
            yield f"{mounted.repository}: {mounted.reason}"
        elif look(mounted.path).get("offline") is True:
            yield f"{mounted.repository}: it is mounted and its client has no server"
