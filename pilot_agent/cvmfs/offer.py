"""Distributions of CVMFS's client that somebody published: which of them may fit a node, and in which order to try.

They are made by ``packaging/cvmfs_distributions.py``. The index cannot know whether a node has the libraries that a
client loads; that is tried (``loading``). Here are the things that rule one out for certain, and the order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from pilot_agent.tarballs.index import Choice, NodeSystem, Tarball, distance, misfit, numbers
from pilot_agent.tarballs.publication import Publication

ANY_SOURCE = "any"
SOURCES = (ANY_SOURCE, "osg", "egi", "default", "none")
"""Whose configuration a distribution carries, as upstream's makedist names them."""

DISTRIBUTIONS = Publication(
    name="CVMFS distributions",
    what="CVMFS's client",
    schema="pilot-agent/cvmfs-index/1",
    tool="packaging/cvmfs_distributions.py",
    code="cvmfs",
    stage="mount",
    place_key="cvmfs.distributions",
    digest_key="cvmfs.distributions_sha256",
    cache_key="cvmfs.distribution_cache",
    seconds_key="cvmfs.distribution_seconds",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer(Tarball):
    """One distribution: ``version`` is the client's, ``os`` and ``os_version`` are those that it was built for,
    ``machine_type`` is makedist's name of them, ``source`` whose configuration it carries."""

    source: str
    machine_type: str

    FORMS: ClassVar[Mapping[str, re.Pattern[str]]] = {
        "source": re.compile(r"osg|egi|default|none"),
        "machine_type": re.compile(r"[a-z0-9_.-]{1,40}"),
    }


def choose_distributions(offers: Iterable[Offer], node: NodeSystem, source: str = ANY_SOURCE) -> Choice[Offer]:
    """Which distributions may run on the node, the likeliest first: those built for its own release, then for its
    family, then any; of these the ones for the newest C library that the node has, for the newest release, and of the
    newest client."""
    fitting: list[Offer] = []
    refused: list[tuple[Offer, str]] = []
    for offer in offers:
        reason = _another_source(offer, source) or misfit(offer, node)
        if reason:
            refused.append((offer, reason))
        else:
            fitting.append(offer)

    def order(offer: Offer) -> tuple[object, ...]:
        newest = [tuple(-part for part in numbers(one)) for one in (offer.glibc, offer.os_version, offer.version)]
        return (_nearness(offer, node), *newest, offer.file)

    return Choice(tuple(sorted(fitting, key=order)), tuple(refused))


def _another_source(offer: Offer, source: str) -> str:
    if source.lower() in (ANY_SOURCE, offer.source):
        return ""
    return f"it carries the configuration of {offer.source}, and cvmfs.distribution_source wants {source.lower()}"


def _nearness(offer: Offer, node: NodeSystem) -> int:
    """0 for the node's own release, 1 for its family, 2 for any other. Rebuilds of one distribution are alike in the
    same major release: AlmaLinux 9 is Red Hat's 9 (ID_LIKE), openSUSE Leap 15 is SUSE's 15."""
    near = distance(offer, node)
    family = near < 3 or any(offer.os in word for word in (node.os, *node.like))
    same_release = offer.os_version.partition(".")[0] == node.os_version.partition(".")[0]
    return 0 if family and same_release else 1 if family else 2
