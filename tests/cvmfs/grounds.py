"""Nodes and configurations to decide about."""

from __future__ import annotations

from pilot_agent.config import Layer, load_config
from pilot_agent.model import Fact, Json

A, B = "a.example.org", "b.example.org"


def configured(**sections: dict[str, Json]) -> dict[str, Json]:
    """A whole configuration from one layer, with two repositories and a client unless it says others."""
    cvmfs = {"repositories": [A, B], "distribution": "/opt/cvmfsexec", **sections.pop("cvmfs", {})}
    return dict(load_config([Layer("site", {**sections, "cvmfs": cvmfs})]).values)


def known(*facts: Fact, **values: Json) -> dict[str, Fact]:
    """Facts by name; of a keyword the first underscore is the dot: ``fuse_device=True``."""
    named = [Fact(name.replace("_", ".", 1), value) for name, value in values.items()]
    return {fact.name: fact for fact in (*named, *facts)}


def refused(name: str, detail: str) -> Fact:
    """A fact that says no, and why."""
    return Fact(name, False, detail=detail)
