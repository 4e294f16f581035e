"""Who may import whom, and what is too heavy to be imported at all while a module loads."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from pilot_agent.process import run

ROOT = Path(__file__).parents[1]
PACKAGE = "pilot_agent"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__", "cli", "account", "dispatch"),
    ("testing",),
    ("look", "commands", "usage", "sdk"),
    ("pipeline", "standalone"),
    ("handoff", "render", "colour", "plan_page", "printing", "interruption", "output"),
    ("inside",),
    (
        "stages",
        "outcomes",
        "tasks",
        "configure",
        "report",
        "lifetime",
        "service_needs",
        "service_stage",
        "service_command",
        "benchmark_stage",
    ),
    (
        "host",
        "state",
        "collect",
        "child",
        "loading",
        "nursery",
        "ordering",
        "plugin_services",
        "image_hook",
        "uploading",
        "renewing",
        "factory_connection",
    ),
    ("plugins",),
    ("programs",),
    ("probes", "containers", "cvmfs", "services", "benchmarks", "startd", "lifecycle", "trust", "tarballs"),
    (
        *("process", "config", "config_check", "config_images", "config_keys", "config_programs", "config_read"),
        *(
            "config_collectors",
            "config_expressions",
            "config_schema",
            "config_slots",
            "config_values",
            "facts",
            "calls",
        ),
        *("config_cvmfs", "config_keys_containers", "config_keys_cvmfs", "config_keys_startd", "config_kinds"),
        *("config_services", "service_entry", "calls"),
        *("hookspecs", "codec", "files", "events", "workspace", "environment", "interpreter", "progress", "light"),
        *("carried",),
        *("requirements", "requirement_text", "spelling", "foreground", "forked", "running", "dataclass_code", "pidfd"),
    ),
    ("model", ""),
)
"""The top first; a module imports only from its own layer and from those below. The empty name is the package."""

PACKAGES = {"probes", "containers", "cvmfs", "services", "benchmarks", "startd", "lifecycle", "trust", "tarballs"}
HEAVY = {"asyncio", "psutil", "pynvml", "requests", "spython", "structlog", "tuf", "urllib3", "yaml"}
"""Each costs more at import than the command that may not need it."""

RESIDENTS = ("lifecycle.guardian", "lifecycle.keeper")
TOO_LARGE = {"argparse", "dataclasses", "enum", "json", "logging", "pluggy", "re", "subprocess", "typing"}
"""Each would stay in memory as long as the pilot lives."""


@cache
def sources() -> dict[str, Path]:
    """Every module of the agent by its name inside the package; the package itself is the empty name."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(name: str) -> ast.Module:
    """The syntax tree of one module."""
    return ast.parse(sources()[name].read_text())


def imported(nodes: Iterator[ast.AST]) -> Iterator[tuple[str, int]]:
    """Full names of what these nodes import, with the line; ``from a import b`` counts as ``a.b``."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def while_loading(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """The statements that run when a module is imported: not those in functions or for type checkers."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from while_loading(node.orelse)
            continue
        yield node
        for part in ("body", "orelse", "finalbody"):
            yield from while_loading(getattr(node, part, []))
        for handler in getattr(node, "handlers", []):
            yield from while_loading(handler.body)


def own(full_name: str) -> str | None:
    """The module of the agent that an imported name belongs to; None for a name from elsewhere."""
    package, _, rest = full_name.partition(".")
    if package != PACKAGE:
        return None
    while rest not in sources():
        rest = rest.rpartition(".")[0]
    return rest


def rank(name: str) -> int:
    """The number of a module's layer."""
    first = name.partition(".")[0]
    return next(number for number, layer in enumerate(LAYERS) if first in layer)


def imports_of(name: str) -> list[tuple[str, int]]:
    """The agent's modules that a module imports anywhere, functions included."""
    found = [(own(full_name), line) for full_name, line in imported(ast.walk(tree(name)))]
    return [(target, line) for target, line in found if target is not None]


@pytest.mark.parametrize("name", sources())
def test_a_module_has_its_place_and_imports_downwards_only(name: str) -> None:
    assert any(name.partition(".")[0] in layer for layer in LAYERS), f"{name} has no layer yet: give it one"
    upwards = [f"line {line}: {target}" for target, line in imports_of(name) if rank(target) < rank(name)]
    assert not upwards, f"{name} imports from above"


@pytest.mark.parametrize("name", [name for name in sources() if name.startswith("probes.")])
def test_a_probe_knows_nothing_but_probes_and_the_ground(name: str) -> None:
    allowed = {
        "",  # the package itself, which has a name or two that everything needs
        "probes",
        "model",
        "hookspecs",
        "files",
        "process",
        "environment",
        "codec",
        "trust",
        "light",
        "config_collectors",
    }
    assert {target.partition(".")[0] for target, _ in imports_of(name)} <= allowed


@pytest.mark.parametrize("name", ["pipeline", "standalone", "stages", "outcomes", "tasks", "configure", "host"])
def test_the_pipeline_reaches_what_plugins_do_only_through_plugins(name: str) -> None:
    behind_plugins = PACKAGES - {"lifecycle", "trust"}
    assert not {target.partition(".")[0] for target, _ in imports_of(name)} & behind_plugins


@pytest.mark.parametrize("name", sources())
def test_the_agent_imports_neither_the_server_nor_its_tests(name: str) -> None:
    outside = {full_name.partition(".")[0] for full_name, _ in imported(ast.walk(tree(name)))}
    assert not outside & {"server_stub", "tests", "packaging_tools", "plugins_contrib"}


@pytest.mark.parametrize("name", sources())
def test_no_heavy_library_is_imported_while_a_module_loads(name: str) -> None:
    found = [(full, line) for full, line in imported(while_loading(tree(name).body)) if full.partition(".")[0] in HEAVY]
    assert not found


def closure(start: str) -> dict[str, set[str]]:
    """The agent's modules that are loaded with this one, each with what it loads from elsewhere."""
    found: dict[str, set[str]] = {}
    left = [start]
    while left:
        name = left.pop()
        if name in found:
            continue
        found[name] = set()
        left.append(name.rpartition(".")[0])
        for full_name, _ in imported(while_loading(tree(name).body)):
            target = own(full_name)
            if target is None:
                found[name].add(full_name.partition(".")[0])
            else:
                left.append(target)
    return found


@pytest.mark.parametrize("start", RESIDENTS)
def test_what_stays_in_memory_asks_for_nothing_large(start: str) -> None:
    large = {name: sorted(outside & TOO_LARGE) for name, outside in closure(start).items() if outside & TOO_LARGE}
    assert not large


@pytest.mark.parametrize("start", RESIDENTS)
def test_what_stays_in_memory_really_loads_nothing_large(start: str) -> None:
    source = (
        "import sys; before = set(sys.modules); sys.path.insert(0, sys.argv[1]); "
        f"import {PACKAGE}.{start}; print(*(set(sys.modules) - before))"
    )
    argv = [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", source, str(ROOT)]
    result = run(argv, deadline_seconds=60, environment={})
    assert result.ok, result.explain()
    loaded = {name.partition(".")[0] for name in result.text.split()}
    assert PACKAGE in loaded
    assert not loaded & (TOO_LARGE | HEAVY)


def test_the_walk_sees_what_loads_and_not_what_waits() -> None:
    body = ast.parse(
        "import a\n"
        "if TYPE_CHECKING:\n    import b\nelse:\n    import c\n"
        "try:\n    import d\nexcept ImportError:\n    import e\n"
        "def f():\n    import g\n"
        "class C:\n    import h\n"
        "with x:\n    from i import j\n"
    ).body
    assert [name for name, _ in imported(while_loading(body))] == ["a", "c", "d", "e", "h", "i.j"]
