"""The commands in the documentation work as written, and its pages hold together."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PLACES = ("*.md", "docs/**/*.md", "plugins_contrib/*/*.md")
PAGES = sorted(page for place in PLACES for page in REPOSITORY.glob(place))
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
NAMED_FILE = re.compile(r"`(\w+\.(?:py|yaml))`:\n\n```(?:python|yaml)\n(.*?)```", re.DOTALL)
ELSEWHERE = {"operate-a-factory-and-frontend.md": "tests/integration/test_operators_first_day.py"}
"""Pages whose commands need more than this machine, and the tests that give them."""
LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")


def commands(page: Path) -> list[str]:
    """The command lines of a page's console blocks."""
    blocks = CONSOLE.findall(page.read_text(encoding="utf-8"))
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if commands(page) and page.name not in ELSEWHERE], ids=lambda page: page.name
)
def test_every_command_of_a_page_succeeds(page: Path, tmp_path: Path) -> None:
    for name, content in NAMED_FILE.findall(page.read_text(encoding="utf-8")):
        (tmp_path / name).write_text(content, encoding="utf-8")
    for line in commands(page):
        words = shlex.split(line)
        assert words[:2] == ["python3", "pilot.pyz"], f"{line}: the test does not know how to run this"
        command = [sys.executable, str(REPOSITORY / "pilot_agent" / "__main__.py"), *words[2:]]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        # What a check finds depends on the machine: it counts that it came to a verdict.
        judged = words[2] == "check" and done.returncode == 64
        assert done.returncode == 0 or judged, f"{line}\n{done.stdout}{done.stderr}"


def test_the_commands_of_the_other_pages_are_given_elsewhere() -> None:
    for page, test in ELSEWHERE.items():
        assert [path for path in PAGES if path.name == page and commands(path)] != []
        assert page in (REPOSITORY / test).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert missing == []


def test_the_index_lists_every_page() -> None:
    docs = REPOSITORY / "docs"
    listed = {(docs / link).resolve() for link in LINK.findall((docs / "README.md").read_text(encoding="utf-8"))}
    assert [page for page in sorted(docs.glob("*/*.md")) if page not in listed] == []


def test_the_factory_of_its_page_is_one() -> None:
    from pilot_agent.config_read import parse_document
    from server_stub.entries import parse_factory

    page = (REPOSITORY / "docs/how-to/run-a-factory.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    factory = parse_factory(parse_document(example[1].encode(), "factory.yaml"), "/etc/factory")
    assert [entry.name for entry in factory.entries] == ["el9-nodes"]


def test_the_entries_page_names_every_key() -> None:
    from server_stub.factory.entry import Entry
    from server_stub.factory.entry_submit import Cloud, SubmitOptions
    from server_stub.factory.entry_tending import Tending

    page = (REPOSITORY / "docs/reference/entries.md").read_text(encoding="utf-8")
    named = {word for group in re.findall(r"`([^`]+)`", page) for word in re.findall(r"[a-z0-9_]+", group)}
    told = {name for kind in (Entry, SubmitOptions, Cloud, Tending) for name in kind.__dataclass_fields__}
    elsewhere = {"tending": {"stale", "holds"}, "keys": {"access_key", "secret_key"}}
    for field, keys in elsewhere.items():
        told = (told - {field}) | keys
    assert sorted(told - named) == []


def test_the_hooks_page_names_every_hook() -> None:
    from pilot_agent.hookspecs import DECLARATIONS

    page = (REPOSITORY / "docs/reference/hooks.md").read_text(encoding="utf-8")
    assert [name for name in [*DECLARATIONS, "pilot_event"] if f"`{name}`" not in page] == []


def test_the_check_page_lists_every_rule_of_the_profile() -> None:
    from pilot_agent.plugins.profile import RULES

    page = (REPOSITORY / "docs/reference/check.md").read_text(encoding="utf-8")
    assert [rule.name for rule in RULES if f"| `{rule.name}` | {rule.demands} |" not in page] == []


def test_the_facts_page_names_every_fact_of_the_built_in_probes() -> None:
    from pilot_agent.config import load_config
    from pilot_agent.cvmfs.supply import FACTS
    from pilot_agent.plugins.cvmfs import pilot_mounts
    from pilot_agent.plugins.probes import pilot_probes

    page = (REPOSITORY / "docs/reference/facts.md").read_text(encoding="utf-8")
    probed = {fact for probe in pilot_probes() for fact in probe.gives}
    given = probed | {fact for mount in pilot_mounts(load_config([]).values) for fact in mount.gives}
    given |= set(FACTS)
    named = set(re.findall(r"`((?:[a-z]+)\.[a-z0-9_]+)`", page))
    assert given - named == set(), "facts that the page does not name"
    known = {name for name in named if name.partition(".")[0] in {fact.partition(".")[0] for fact in given}}
    extra = {name for name in known - given if not name.startswith(("userns.refusal", "probes."))}
    assert extra == set(), "facts of which no probe gives any"


def test_the_scenario_of_its_page_is_one_and_every_key_of_a_scenario_is_told() -> None:
    from dataclasses import fields

    from pilot_agent.config_read import parse_document
    from server_stub.frontend.simulation.scenario import Load, Scenario, Site, parse_scenario

    page = (REPOSITORY / "docs/how-to/simulate-a-frontend.md").read_text(encoding="utf-8")
    ((_, example),) = NAMED_FILE.findall(page)
    assert [site.name for site in parse_scenario(parse_document(example.encode(), "x")).sites] == [
        "quick",
        "slow",
        "hole",
    ]
    keys = {field.name for kind in (Scenario, Site, Load) for field in fields(kind)} - {"name"}
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []
