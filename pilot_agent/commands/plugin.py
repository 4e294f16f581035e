"""``plugin new``, ``plugin test`` and ``plugin pack``: from an idea to what is signed."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pilot_agent.collect import PluginReport
from pilot_agent.config_read import command_line_layer
from pilot_agent.files import write_atomically
from pilot_agent.foreground import run_in_foreground
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.printing import print_page, print_text
from pilot_agent.render import table
from pilot_agent.sdk.distribution import Distribution, install, read_distribution, wheel
from pilot_agent.sdk.findings import Line, last_stage_inside, lines
from pilot_agent.sdk.own_image import make_own_image
from pilot_agent.sdk.rehearsal import Outcome, Rehearsal, rehearse
from pilot_agent.sdk.scaffold import new_plugin
from pilot_agent.sdk.tester import find_tester

COMPILED = (".so", ".pyd", ".dylib")
PLUGIN_FAILED = FailureKind.PLUGIN.exit_code
NO_TESTS = 5
"""The exit code of pytest that found nothing to run."""


def run_new(parsed: argparse.Namespace) -> int:
    """Write a plugin to begin with. Raises ``PilotError`` (usage)."""
    made = new_plugin(parsed.name, Path.cwd())
    listed = "".join(f"  {path.relative_to(made.parent)}\n" for path in sorted(made.rglob("*")) if path.is_file())
    print_text(f"{listed}\ncd {parsed.name} && pilot-agent plugin test\n")
    return 0


def run_pack(parsed: argparse.Namespace) -> int:
    """Write the artifact that is signed and published; refuse what no pilot would load. Raises ``PilotError``."""
    directory = Path(parsed.directory).absolute()
    found = read_distribution(directory)
    native = sorted(name for name in found.files if name.endswith(COMPILED))
    if native:
        hint = "a plugin is Python alone, or runs a program of its own"
        raise _usage(f"{found.name} brings compiled code, {native[0]}, which belongs to one kind of node", hint)
    reports = _loaded(found)
    content = wheel(found)
    target = Path(parsed.output or directory / "dist").absolute() / found.wheel_name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(str(target), content, mode=0o644)
    except OSError as error:
        raise _usage(f"{target} cannot be written: {error.strerror}", "name another directory: --output") from error
    digest = hashlib.sha256(content).hexdigest()
    if parsed.json:
        plugins = [{"name": one.name, "hooks": one.hooks, "declared": one.declared} for one in reports]
        told = {"file": str(target), "bytes": len(content), "sha256": digest, "version": found.version}
        print_text(json.dumps({**told, "plugins": plugins}, indent=2) + "\n")
        return 0
    rows = [(f"  {one.name}", f"{one.declared} declared", " ".join(one.hooks)) for one in reports]
    print_page(f"{target}\n  {len(content)} bytes, sha256 {digest}\n{table(rows)}\n")
    return 0


def _loaded(found: Distribution) -> list[PluginReport]:
    """What its plugins declare when a pilot loads them. Raises ``PilotError`` (plugin.load)."""
    with tempfile.TemporaryDirectory(prefix="pilot-plugin-") as place:
        install(found, Path(place))
        outcome = rehearse(Rehearsal(plugins=tuple(found.entry_points), directories=(place,), through=None))
    return [report for report in outcome.plugins if report.name in found.entry_points]


def run_test(parsed: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Run the plugin's tests, then the plugin in a container and on this machine; 0, or 69 where it failed.

    Raises ``PilotError`` where nothing can be tested."""
    directory = Path(parsed.directory).absolute()
    found = read_distribution(directory)
    given: Mapping[str, Json] = command_line_layer(parsed.set).document
    print_text(f"{found.name} {found.version}: {', '.join(found.entry_points)}\n\nits own tests\n")
    failed = not _own_tests(directory, parsed.words)
    with tempfile.TemporaryDirectory(prefix="pilot-plugin-") as place:
        installed = Path(place) / "plugin"
        install(found, installed)
        wish = Wish(tuple(found.entry_points), str(installed), given, environment.get("PATH", os.defpath))
        contained = _contained(wish, parsed.image, Path(place))
        failed |= not _in_a_container(wish, contained, parsed.image)
        failed |= not _on_this_machine(wish, contained)
    print_text(f"\n{found.name}: {'FAILED' if failed else 'passed'}\n")
    return PLUGIN_FAILED if failed else 0


class Wish:
    """What both rehearsals of a test have in common."""

    def __init__(self, plugins: Sequence[str], directory: str, config: Mapping[str, Json], search_path: str) -> None:
        self.plugins = tuple(plugins)
        self.directory = directory
        self.config = config
        self.search_path = search_path

    def outcome(self, through: str | None, config: Mapping[str, Json]) -> Outcome:
        """What becomes of the stages up to this one; None: of loading."""
        whole = _merged(self.config, config)
        return rehearse(Rehearsal(plugins=self.plugins, directories=(self.directory,), through=through, config=whole))

    def lines(self, outcome: Outcome, *, inside: bool) -> list[Line]:
        """What became of the plugins' own."""
        return lines(outcome, self.plugins, inside=inside, search_path=self.search_path)


def _own_tests(directory: Path, arguments: Sequence[str]) -> bool:
    tester = find_tester(directory, lambda text: print_text(f"  {text}\n"))
    ended = run_in_foreground(
        [*tester.words, "-q", "-p", "no:cacheprovider", *(arguments or ["."])],
        environment=tester.environment,
        directory=str(directory),
    )
    if ended.exit_code == NO_TESTS:
        print_text(f"  there are no tests in {directory}\n")
    return ended.exit_code == 0


def _contained(wish: Wish, image: str | None, place: Path) -> Outcome:
    """What becomes of the stages with this image, or one of this machine's programs, made in ``place``; of none where
    nothing would run inside."""
    loaded = wish.outcome(None, {})
    through = last_stage_inside(loaded, wish.plugins)
    if not through:
        return loaded
    if image is not None:
        own: Mapping[str, Json] = {"images": {"default": [{"path": image}]}}
    else:
        (place / "own").mkdir()
        own = make_own_image(place / "own")
    return wish.outcome(through, {**own, "vo": {"containers": "preferred"}})


def _in_a_container(wish: Wish, outcome: Outcome, image: str | None) -> bool:
    print_text("\nin a container\n")
    decision = outcome.container
    found = wish.lines(outcome, inside=True)
    if not found:
        print_text('  nothing is declared with where="image"\n')
        return True
    if decision is None or decision.runtime is None:
        tried = "; ".join(f"{one.path}: {one.reason}" for one in decision.runtimes) if decision is not None else ""
        why = f"no container runtime works here ({tried})" if tried else "apptainer is not on this machine"
        return _show([Line(one.kind, one.name, "skipped", 0.0, why) for one in found], outcome)
    print_text(f"  {decision.runtime.path} {decision.runtime.version}, {image or 'this machine as an image'}\n")
    good = _show(found, outcome)
    if not good and image is None:
        print_text("  this machine's programs stood for the image that jobs get: --image PATH tries that one\n")
    return good


def _on_this_machine(wish: Wish, contained: Outcome) -> bool:
    """What a setup inside an image kept from being run here was run where there was one."""
    print_text("\non this machine\n")
    outcome = wish.outcome("service", {"vo": {"containers": "never"}})
    there = {(one.kind, one.name): one for one in wish.lines(contained, inside=False) if one.verdict != "skipped"}
    found = wish.lines(outcome, inside=False)
    return _show([there.get((one.kind, one.name), one) if one.verdict == "skipped" else one for one in found], outcome)


def _show(found: Sequence[Line], outcome: Outcome) -> bool:
    """Print what became of each, and what is left; whether none failed and nothing is."""
    for one in outcome.leftovers:
        print_text(f"  left behind: {one}\n")
    rows = [(f"  {one.kind}", one.name, one.verdict, f"{one.seconds:.2f} s", one.detail) for one in found]
    print_page((table(rows) if rows else "  nothing is declared that runs here") + "\n")
    return all(one.verdict != "failed" for one in found) and not outcome.leftovers


def _merged(first: Mapping[str, Json], second: Mapping[str, Json]) -> dict[str, Json]:
    """Both documents; what only one has of a section is kept, of what both have the first counts."""
    whole = dict(second)
    for name, value in first.items():
        other = whole.get(name)
        whole[name] = {**other, **value} if isinstance(value, dict) and isinstance(other, dict) else value
    return whole


def _usage(message: str, hint: str) -> PilotError:
    return PilotError(Failure(FailureKind.USAGE, "usage", message, hint))
