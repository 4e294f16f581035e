from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from pilot_agent import child
from pilot_agent.codec import from_json
from pilot_agent.hookspecs import Context, Probe
from pilot_agent.model import Fact, Limit
from pilot_agent.plugins.cvmfs import pilot_mounts
from pilot_agent.plugins.probes import pilot_probes
from pilot_agent.process import run
from tests.probes.trees import NAMES, context_of

DECLARED: tuple[Probe, ...] = tuple(pilot_probes())


def given_by(probe: Probe, context: Context) -> set[str]:
    found = child.call(probe.run, context)
    kinds: dict[str, type[Fact | Limit]] = {"Fact": Fact, "Limit": Limit}
    records = [from_json(kinds[item["type"]], item["value"]) for item in found]
    return {record.name if isinstance(record, Fact) else record.resource for record in records}


def test_every_thing_has_its_probe() -> None:
    named = "batch cgroup clock cpu cvmfs disk fuse gpu memory network os software userns"
    assert sorted(probe.name for probe in DECLARED) == named.split()


@pytest.mark.parametrize("probe", DECLARED, ids=lambda probe: probe.name)
@pytest.mark.parametrize("name", NAMES)
def test_a_probe_gives_what_it_declares_on_every_node(probe: Probe, name: str) -> None:
    assert given_by(probe, context_of(name)) == set(probe.gives)


@pytest.mark.parametrize("probe", DECLARED, ids=lambda probe: probe.name)
def test_a_probe_gives_what_it_declares_here(probe: Probe) -> None:
    assert given_by(probe, Context(environment=dict(os.environ))) == set(probe.gives)


def test_cvmfs_is_looked_for_unless_nobody_wants_it() -> None:
    (mount,) = pilot_mounts({"cvmfs": {"use": "preferred", "rungs": []}, "site": {"cvmfs": "optional"}})
    module, _, function = mount.run.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert list(pilot_mounts({"cvmfs": {"use": "NEVER", "rungs": []}, "site": {"cvmfs": "optional"}})) == []
    assert list(pilot_mounts({"cvmfs": {"use": "preferred", "rungs": []}, "site": {"cvmfs": "Never"}})) == []


def test_the_modules_of_probes_import_nothing_heavy() -> None:
    modules = ", ".join(dict.fromkeys(probe.run.partition(":")[0] for probe in DECLARED))
    heavy = ["pynvml", "psutil", "yaml", "requests", "structlog", "typing_extensions", "asyncio", "logging"]
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    root = str(Path(__file__).parents[2])
    result = run([sys.executable, "-c", code], deadline_seconds=30, environment={"PYTHONPATH": root})
    assert result.text == "[]", result.explain()
