"""The reference page of the checks names the codes that the checks give, and no others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from pilot_agent.config import load_config
from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact
from pilot_agent.plugins import checks, profile
from pilot_agent.requirement_text import parse
from pilot_agent.requirements import evaluate
from pilot_agent.startd import discovery, token

PAGE = Path(__file__).parents[2] / "docs/reference/check.md"
CODE = re.compile(r"[a-z_]+\.[a-z_]+")
BY_A_RUNTIME = {"userns.disabled"}
"""What a container runtime said decides these; the page names one of them and says that there are others."""


def documented() -> dict[str, set[str]]:
    """The codes of the page's tables, by check."""
    found: dict[str, set[str]] = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 3:
            for name in re.findall(r"`([a-z]+)`", cells[0]):
                found[name] = {code for code in re.findall(r"`([^`]+)`", cells[2]) if CODE.fullmatch(code)}
    return found


def given(module: object) -> set[str]:
    """The codes that stand in a module as such: ``code="..."``, and the first word of an error that is raised."""
    tree = ast.parse(Path(str(module.__file__)).read_text())  # type: ignore[attr-defined]
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        words = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        if isinstance(node.func, ast.Name) and node.func.id in ("_error", "_missing"):
            words += node.args[:1]
        found |= {word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)}
    return {code for code in found if CODE.fullmatch(code)}


def test_every_code_of_a_check_is_on_the_page_and_every_one_there_is_given() -> None:
    told = documented()
    on_facts = {f"{name}.unusable" for name in ("userns", "fuse")}
    can = given(checks) | given(profile) | given(token) | given(discovery) | on_facts
    assert set().union(*told.values()) - BY_A_RUNTIME == can


def test_every_check_is_on_the_page() -> None:
    config = dict(load_config([]).values)
    config["pool"] = {**config["pool"], "collectors": ["cm.example.org"]}
    config["checks"] = {**config["checks"], "profile": "pilot"}
    declared = {check.name for module in (checks, profile) for check in module.pilot_checks(config)}
    assert declared == documented().keys()


@pytest.mark.parametrize("name", ["userns", "fuse"])
def test_what_does_not_work_has_the_code_of_its_check(name: str) -> None:
    context = Context(facts={f"{name}.usable": Fact(f"{name}.usable", False, detail="why")})
    result = getattr(checks, f"check_{name}")(context)
    assert result.code in documented()[name]


@pytest.mark.parametrize("text", ["cpu.useable >= 1", "cpu.usable > four", "os.limits.nofil == 1"])
def test_a_mistaken_requirement_has_a_code_of_the_page(text: str) -> None:
    facts = {"cpu.usable": Fact("cpu.usable", 4), "os.limits": Fact("os.limits", {"nofile": 1})}
    assert f"`{evaluate(parse(text), facts).code}`" in PAGE.read_text()
