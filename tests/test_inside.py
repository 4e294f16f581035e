"""What a pilot finds again in namespaces of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pilot_agent import host
from pilot_agent.collect import Declared
from pilot_agent.config import load_config
from pilot_agent.cvmfs.namespace import own_mounts
from pilot_agent.events import EventLog
from pilot_agent.hookspecs import Context, Mount, Probe
from pilot_agent.inside import settled
from pilot_agent.model import Fact, Finding, Limit
from pilot_agent.report import build_report
from pilot_agent.stages import Session
from pilot_agent.state import State
from pilot_agent.workspace import Workspace

STATE = State("abc123", 1_700_000_000.25, "wn1.example.org", "pilot", load_config([]), {"PATH": "/usr/bin"})
OUTSIDE = {
    "x.helper": Fact("x.helper", True),
    "x.same": Fact("x.same", 1),
    "disk.free_mib": Fact("disk.free_mib", 500, "MiB"),
    "y.cores": Fact("y.cores", 4),
}
FOUND = {"x.helper": False, "x.same": 1}
LIMITS = (Limit("disk.free_mib", 900, "MiB", "quota"), Limit("disk.free_mib", 500, "MiB", "statvfs"))


def probe_again(context: Context) -> list[Finding]:
    """Finds what another namespace has."""
    return [Fact("x.helper", False), Fact("x.same", 1), Limit("disk.free_mib", 400, "MiB", "statvfs")]


def probe_once(context: Context) -> list[Finding]:
    """Must not run."""
    return [Fact("y.cores", 0)]


def session(directory: Path) -> Session:
    again = Probe(
        name="x", run=f"{__name__}:probe_again", gives=("x.helper", "x.same", "disk.free_mib"), again_inside=True
    )
    once = Probe(name="y", run=f"{__name__}:probe_once", gives=("y.cores",))
    declared = tuple(Declared("builtin.test", "pilot_probes", probe, builtin=True) for probe in (again, once))
    mount = Mount(name="cvmfs", run="", gives=("cvmfs.repositories",))
    declared += (Declared("builtin.cvmfs", "pilot_mounts", mount, builtin=True),)
    around = host.Surroundings(interpreter=("python3",), environment={})
    events = EventLog(str(directory / "events.jsonl"), STATE.started)
    return Session(around, host.Loaded(declared, ()), events, Workspace(str(directory)))


def test_in_the_nodes_namespaces_nothing_is_measured_again(tmp_path: Path) -> None:
    state = replace(STATE, facts=OUTSIDE)
    assert settled(session(tmp_path), state) == state


def test_inside_the_probes_that_ask_for_it_run_again_and_their_facts_count(tmp_path: Path) -> None:
    before = replace(STATE, facts=OUTSIDE, limits=LIMITS, inside=own_mounts())
    after = settled(session(tmp_path), before)
    told = {name: (fact.value, fact.where) for name, fact in after.facts.items()}
    assert told == {
        "x.helper": (False, "inside"),
        "x.same": (1, "inside"),
        "disk.free_mib": (400, "inside"),
        "y.cores": (4, "node"),
    }
    assert [limit.number for limit in after.facts["disk.free_mib"].limits] == [900, 400]
    assert [(line.stage, line.what) for line in after.timeline] == [("mount", "x")]


def test_the_report_keeps_what_was_otherwise_outside(tmp_path: Path) -> None:
    after = settled(session(tmp_path), replace(STATE, facts=OUTSIDE, limits=LIMITS, inside=own_mounts()))
    outside = build_report(after)["outside"]
    assert outside["x"]["helper"]["value"] is True
    assert outside["disk"]["free_mib"]["value"] == 500
    assert set(outside["x"]) == {"helper"}


def test_they_run_once(tmp_path: Path) -> None:
    after = settled(session(tmp_path), replace(STATE, facts=OUTSIDE, limits=LIMITS, inside=own_mounts()))
    assert settled(session(tmp_path), after) == after


def test_a_pilot_that_was_resumed_outside_mounts_again_and_forgets_what_was_inside(tmp_path: Path) -> None:
    inside = {"cvmfs.repositories": Fact("cvmfs.repositories", ["a.example.org"], where="inside")}
    state = replace(
        STATE,
        facts=OUTSIDE | inside | {name: Fact(name, value, where="inside") for name, value in FOUND.items()},
        inside="mnt:[1]",
        outside={"x.helper": OUTSIDE["x.helper"]},
        finished_stages=("probe", "mount", "setup_early"),
    )
    after = settled(session(tmp_path), state)
    assert after == replace(STATE, facts=OUTSIDE, finished_stages=("probe", "setup_early"))
