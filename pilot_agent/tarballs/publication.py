"""What is published, in the words of messages: the same code fetches HTCondor and CVMFS's client."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One kind of tarballs.

    ``name`` is their plural, ``what`` what one of them holds, ``schema`` that of their index, ``tool`` the program that
    makes them. ``code`` begins the codes of failures that have no name of their own, and ``stage`` is where such a
    failure belongs. The others are the configuration's keys: of the place, the index's digest, the cache, the time.
    """

    name: str
    what: str
    schema: str
    tool: str
    code: str
    stage: str
    place_key: str
    digest_key: str
    cache_key: str
    seconds_key: str


def signed_publication(
    *, name: str, what: str, code: str, stage: str = "configure", seconds_key: str = "artifacts.seconds"
) -> Publication:
    """What comes from ``artifacts.mirrors``, signed."""
    return Publication(
        name=name,
        what=what,
        schema="pilot-agent/trust/1",
        tool="packaging/artifacts.py",
        code=code,
        stage=stage,
        place_key="artifacts.mirrors",
        digest_key="artifacts.bundle",
        cache_key="site.scratch",
        seconds_key=seconds_key,
    )
