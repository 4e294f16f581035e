"""Fixtures and assertions for the tests of plugins: ``pytest_plugins = ["pilot_agent.testing"]`` in ``conftest.py``.

========================  ==========================================================================================
``pilot_plugin``          the plugin whose ``pyproject.toml`` is above the tests, installed as a pilot finds it
``pilot_node``            each recorded node in turn: those of the package, and those in ``tests/nodes``
``make_pilot_node``       makes one of them by its name, or, without a name, an empty one
``pilot_run``             runs the stages of a pilot with the plugin up to one of them, on a node or on this machine
``pilot_runtime``         a program that stands in for Apptainer, with an image
========================  ==========================================================================================

``pilot_run`` gives an :class:`Outcome`; the functions named ``assert_...`` say what is wrong with it, and what was
there instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from pilot_agent.model import Json
from pilot_agent.sdk.distribution import PROJECT_FILE, Distribution, install, read_distribution
from pilot_agent.sdk.recorded_nodes import SHIPPED, RecordedNode, copy_node, empty_node, make_node
from pilot_agent.sdk.rehearsal import Outcome, Rehearsal, rehearse
from pilot_agent.sdk.stand_in import StandIn, make_stand_in
from pilot_agent.testing.assertions import (
    assert_attribute,
    assert_check,
    assert_event,
    assert_fact,
    assert_fails,
    assert_journaled,
    assert_nothing_left,
    assert_plugin_ran,
    assert_reported,
    assert_service,
)

__all__ = [
    "InstalledPlugin",
    "Outcome",
    "RecordedNode",
    "StandIn",
    "assert_attribute",
    "assert_check",
    "assert_event",
    "assert_fact",
    "assert_fails",
    "assert_journaled",
    "assert_nothing_left",
    "assert_plugin_ran",
    "assert_reported",
    "assert_service",
    "make_pilot_node",
    "pilot_node",
    "pilot_plugin",
    "pilot_run",
    "pilot_runtime",
]

OWN_NODES = "nodes"


@dataclass(frozen=True, slots=True)
class InstalledPlugin:
    """A distribution in a directory of its own, as ``pip install --target`` or a signed artifact leaves it."""

    distribution: Distribution
    directory: Path

    @property
    def names(self) -> tuple[str, ...]:
        """What ``plugins.load`` calls it."""
        return tuple(self.distribution.entry_points)


class PilotRun(Protocol):
    """Runs a pilot's stages ``through`` the named one, on ``node`` or, without one, on this machine.

    ``options`` are those of the plugin (of each, where the distribution has several), ``config`` a configuration as a
    factory's file has it, ``environment`` further variables of the site. ``plugins`` and ``directories`` are others
    than the tested one. Raises ``PilotError`` where the pilot would end before its first stage.
    """

    def __call__(
        self,
        *,
        through: str = "validate",
        node: RecordedNode | None = None,
        options: Mapping[str, Json] | None = None,
        config: Mapping[str, Json] | None = None,
        environment: Mapping[str, str] | None = None,
        plugins: Sequence[str] | None = None,
        directories: Sequence[str | Path] | None = None,
    ) -> Outcome: ...


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for ``pilot_node`` runs once on each."""
    marked = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize") if mark.args]
    if "pilot_node" in metafunc.fixturenames and not any("pilot_node" in str(names) for names in marked):
        own = _own_nodes(Path(metafunc.definition.path))
        metafunc.parametrize("pilot_node", [*SHIPPED, *own], indirect=True)


@pytest.fixture
def pilot_node(request: pytest.FixtureRequest, tmp_path: Path) -> RecordedNode:
    """One recorded node after the other; a copy, which the test may change."""
    own = _own_nodes(request.path).get(request.param)
    place = tmp_path / "nodes"
    return copy_node(own, place) if own is not None else make_node(request.param, place)


@pytest.fixture
def make_pilot_node(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., RecordedNode]:
    """Makes a node: ``make_pilot_node("slurm_cgroup2")``, or an empty one without a name."""

    def make(name: str | None = None) -> RecordedNode:
        place = tmp_path / "nodes"
        own = _own_nodes(request.path).get(name or "")
        if own is not None:
            return copy_node(own, place)
        return empty_node(place) if name is None else make_node(name, place)

    return make


@pytest.fixture(scope="session")
def pilot_plugin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> InstalledPlugin:
    """The plugin under test: that of the first ``pyproject.toml`` at or above the directory of the tests."""
    start = Path(request.config.args[0].partition("::")[0]).absolute() if request.config.args else Path.cwd()
    places = [place for place in (start, *start.parents) if (place / PROJECT_FILE).is_file()]
    distribution = read_distribution(places[0] if places else request.config.rootpath)
    directory = tmp_path_factory.mktemp("plugin")
    install(distribution, directory)
    return InstalledPlugin(distribution, directory)


@pytest.fixture
def pilot_run(request: pytest.FixtureRequest) -> PilotRun:
    """Runs the stages of a pilot with the plugin under test."""

    def run(
        *,
        through: str = "validate",
        node: RecordedNode | None = None,
        options: Mapping[str, Json] | None = None,
        config: Mapping[str, Json] | None = None,
        environment: Mapping[str, str] | None = None,
        plugins: Sequence[str] | None = None,
        directories: Sequence[str | Path] | None = None,
    ) -> Outcome:
        if plugins is None:
            installed: InstalledPlugin = request.getfixturevalue("pilot_plugin")
            plugins, directories = installed.names, [installed.directory, *(directories or ())]
        if node is not None and environment:
            node.set_environment(environment)
        wish = Rehearsal(
            plugins=plugins,
            directories=[str(path) for path in directories or ()],
            through=through,
            root=str(node.root) if node is not None else "/",
            config=config or {},
            options=dict.fromkeys(plugins, options) if options else {},
            environment=environment or {},
        )
        return rehearse(wish)

    return run


@pytest.fixture
def pilot_runtime(tmp_path: Path) -> StandIn:
    """A stand-in for Apptainer; ``pilot_run(config=pilot_runtime.config, ...)`` lets the pilot use it."""
    return make_stand_in(tmp_path / "runtime")


def _own_nodes(test: Path) -> dict[str, Path]:
    """The recordings that lie beside the tests, by name."""
    place = (test if test.is_dir() else test.parent) / OWN_NODES
    return {path.name: path for path in sorted(place.iterdir()) if path.is_dir()} if place.is_dir() else {}
