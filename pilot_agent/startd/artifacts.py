"""Tarballs of HTCondor that somebody published: which of them fit this node, and in which order they are tried.

They are made by ``packaging/build_condor.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

from pilot_agent.tarballs.index import Choice, NodeSystem, Tarball, distance, misfit, numbers
from pilot_agent.tarballs.publication import Publication

ANY, LATEST = "any", "latest"

CONDOR = Publication(
    name="HTCondor tarballs",
    what="HTCondor",
    schema="pilot-agent/condor-index/1",
    tool="packaging/build_condor.py",
    code="condor",
    stage="handoff",
    place_key="startd.condor_tarballs",
    digest_key="startd.condor_index_sha256",
    cache_key="startd.condor_cache",
    seconds_key="startd.condor_fetch_seconds",
)


def choose(tarballs: Iterable[Tarball], node: NodeSystem, wanted: str = ANY) -> Choice[Tarball]:
    """Which tarballs fit the node, the best first: of ``any`` version or of one that begins with ``wanted`` those made
    from the node's own distribution, then the newest; of the ``latest`` the newest, whatever it is made from. All fit
    that were not refused: the order says what runs best."""
    fitting: list[Tarball] = []
    refused: list[tuple[Tarball, str]] = []
    for tarball in tarballs:
        reason = version_refusal(tarball.version, wanted) or misfit(tarball, node)
        if reason:
            refused.append((tarball, reason))
        else:
            fitting.append(tarball)

    def order(tarball: Tarball) -> tuple[object, ...]:
        version = tuple(-part for part in numbers(tarball.version))
        near = (distance(tarball, node), tuple(-part for part in numbers(tarball.glibc)))
        return (version, *near, tarball.file) if wanted == LATEST else (near[0], version, near[1], tarball.file)

    return Choice(tuple(sorted(fitting, key=order)), tuple(refused))


def version_refusal(version: str, wanted: str) -> str:
    """Why a version is not the one that is wanted; empty when it is. ``23.9`` stands for 23.9 and 23.9.x."""
    if wanted in (ANY, LATEST):
        return ""
    parts, begin = version.split("."), wanted.split(".")
    return "" if parts[: len(begin)] == begin else f"it is version {version}, and startd.condor_version wants {wanted}"
