"""The images' file names only stages, files and commands that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from server_stub.commands.factory.program import FACTORY
from server_stub.commands.frontend.program import FRONTEND
from server_stub.commands.tree import build_parser

ROOT = Path(__file__).parents[2]
BUILT = {"build/pilot.pyz", "build/pilot.sh"}
"""What `make payload` makes."""


def steps() -> list[tuple[str, str]]:
    """Each instruction with its words, lines put together."""
    text = (ROOT / "packaging" / "Containerfile").read_text()
    whole = re.sub(r"\\\n\s*", "", "".join(f"{line}\n" for line in text.splitlines() if not line.startswith("#")))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in whole.splitlines() if line.strip()]


def stages() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for name, words in steps():
        if name == "FROM":
            current = words.split()[-1]
            found[current] = []
        found[current].append((name, words))
    return found


def test_each_stage_begins_with_debian_or_one_before_it() -> None:
    known: list[str] = []
    for name, words in steps():
        if name == "FROM":
            base, _, stage = words.split()
            assert base in ("docker.io/library/debian:13", *known)
            known.append(stage)
    assert known == ["build", "run", "factory", "frontend"]


def test_every_file_that_is_copied_is_there() -> None:
    copied = [words.split() for name, words in steps() if name == "COPY"]
    own = [source for words in copied if not words[0].startswith("--from=") for source in words[:-1]]
    assert [source for source in own if source not in BUILT and not (ROOT / source).exists()] == []
    assert set(own) >= BUILT
    assert [words[0] for words in copied if words[0].startswith("--from=")] == ["--from=build"]


def test_what_is_installed_is_what_the_package_says() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (command,) = [words for name, words in steps() if name == "RUN" and "pip install" in words]
    extras = re.search(r"'\.\[(.*)\]'", command)
    assert extras is not None
    assert all(f"\n{extra} = [" in text for extra in extras[1].split(","))


@pytest.mark.parametrize(("stage", "program"), [("factory", FACTORY), ("frontend", FRONTEND)])
def test_an_image_runs_its_program_as_an_account_of_its_own(stage: str, program: object) -> None:
    found = dict(stages()[stage])
    assert json.loads(found["ENTRYPOINT"]) == [f"pilot-{stage}"]
    assert found["USER"] == f"pilot-{stage}"
    parser = build_parser(FACTORY if program is FACTORY else FRONTEND)
    assert parser.parse_args(json.loads(found["CMD"])).config == f"/etc/pilot-{stage}/{stage}.yaml"
