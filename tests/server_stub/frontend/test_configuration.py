"""The frontend's file: what it means, and every problem of a wrong one at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.config_read import parse_document
from pilot_agent.model import PilotError
from server_stub.factory.reader import Reader
from server_stub.frontend.configuration import entry_limits, parse_frontend, read_frontend
from server_stub.frontend.pressure import Ceiling

LEAST: dict[str, Any] = {
    "name": "example-vo",
    "vo": {"name": "example"},
    "pool": {"collectors": ["cm.example.org:9618"]},
    "factories": [{"name": "east", "url": "https://factory.example.org:8443/"}],
}


def test_little_is_needed_and_the_rest_is_as_elsewhere() -> None:
    frontend = parse_frontend(LEAST, "/etc/frontend")
    assert frontend.key == "/etc/frontend/frontend.key"
    assert frontend.factories[0].url == "https://factory.example.org:8443"
    assert frontend.settings.vo.name == "example"
    assert frontend.settings.default_limits.most_pilots == 10000
    assert ("MaxWallTimeMins", "minutes") in frontend.lengths
    assert frontend.port == 0


def test_limits_of_an_entry_begin_with_the_default_ones_and_may_be_of_one_factory_only() -> None:
    limits = {
        "default": {"most_pilots": 50, "idle_slots": {"most": 20}},
        "entries": {"big": {"most_pilots": 500}, "big@west": {"most_pilots": 5}},
    }
    frontend = parse_frontend({**LEAST, "limits": limits}, "/")
    assert entry_limits(frontend, "big@east").most_pilots == 500
    assert entry_limits(frontend, "big@east").idle_slots == Ceiling(20, 5)
    assert entry_limits(frontend, "big@west").most_pilots == 5
    assert entry_limits(frontend, "small@west").most_pilots == 50


def test_what_is_asked_for_does_not_end_before_it_is_asked_for_again() -> None:
    (factory,) = LEAST["factories"]
    for lifetime, cycle in ((120, 60), (600, 300)):
        document = {**LEAST, "cycle_seconds": cycle, "factories": [{**factory, "lifetime_seconds": lifetime}]}
        assert parse_frontend(document, "/").factories[0].lifetime_seconds == lifetime
        document["factories"] = [{**factory, "lifetime_seconds": lifetime - 1}]
        with pytest.raises(PilotError, match=r"factories\[0\].lifetime_seconds: what is asked for ends before"):
            parse_frontend(document, "/")


def test_every_problem_is_told_with_its_path() -> None:
    wrong = {
        "name": "no good",
        "vo": {"name": "example", "containers": "perhaps", "requirements": ["cpu.usable >="]},
        "pool": {"collectors": ["cm:0"], "parameters": {"no_knob": "1"}, "slots": "MY."},
        "access_points": {"constrain": "true"},
        "factories": [
            {"name": "a", "url": "http://factory.example.org"},
            {"name": "a", "url": "https://factory.example.org", "lifetime_seconds": 1},
        ],
        "policy": {"match": "eval(x)", "rank": "))"},
        "limits": {"default": {"most_pilots": 1, "least_pilots": 2}, "totals": {"pilots": {"most": 5, "curb": 6}}},
        "patience": {"wait_cycles": 11},
        "jobs": {"lengths": {"Length": "days"}},
        "cycle_seconds": "often",
    }
    with pytest.raises(PilotError) as caught:
        parse_frontend(wrong, "/")
    told = caught.value.failure.message
    for path in (
        "name: 'no good'",
        "vo.containers: 'PERHAPS'",
        "vo.requirements[0]: requirement 'cpu.usable >='",
        "pool.collectors[0]: 'cm:0' has no TCP port",
        "pool.parameters.no_knob",
        "pool.slots: slots",
        "access_points.constrain: unknown key; did you mean constraint?",
        "factories[0].url: must begin with https://",
        "factories[1].lifetime_seconds: 1 is not in 60..86400",
        "factories[1].name: 'a' is the name of an earlier factory too",
        "policy.match: match calls eval()",
        "policy.rank: rank",
        "limits.default.least_pilots: 2 is more than most_pilots, 1",
        "limits.totals.pilots.curb: 6 is more than most, 5",
        "patience.remove_cycles: must not be less",
        "jobs.lengths.Length",
        "cycle_seconds: expected a number",
    ):
        assert path in told, path


@pytest.mark.parametrize("missing", ["name", "vo", "pool", "factories"])
def test_what_cannot_be_guessed_is_asked_for(missing: str) -> None:
    with pytest.raises(PilotError, match="missing") as caught:
        parse_frontend({key: value for key, value in LEAST.items() if key != missing}, "/")
    assert caught.value.failure.code == "config.invalid"


def test_a_file_that_is_not_there_is_told_with_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(PilotError) as caught:
        read_frontend(str(tmp_path / "frontend.yaml"))
    assert caught.value.failure.code == "config.unreadable"
    assert "frontend init" in caught.value.failure.hint


def test_the_page_of_keys_is_a_file_that_is_read_and_has_every_key() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/frontend.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    document = parse_document(example[1].encode(), "frontend.yaml")
    frontend = parse_frontend(document, "/etc/pilot-frontend")
    assert entry_limits(frontend, "big-site@east").most_pilots == 15000
    asked: set[str] = set()
    take = Reader._take

    def note(reader: Reader, key: str) -> Any:
        asked.add(f"{reader._prefix}{key}")
        return take(reader, key)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Reader, "_take", note)
        parse_frontend(document, "/etc/pilot-frontend")

    def paths(value: Any, prefix: str) -> set[str]:
        pairs: list[tuple[str, Any]] = []
        if isinstance(value, dict):
            pairs = [(f"{prefix}.{key}".lstrip("."), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            pairs = [(f"{prefix}[{place}]", inner) for place, inner in enumerate(value)]
        return {name for name, _ in pairs}.union(*(paths(inner, name) for name, inner in pairs))

    limits = {path for path in asked if path.startswith("limits.entries.")}
    instead = {"credentials.sites[0].command"}
    assert asked - paths(document, "") - limits - instead == set()


def test_credentials_are_read_with_their_usual_values() -> None:
    given = {
        "pilots": {"signing_key": "PILOTS", "trust_domain": "pool.test"},
        "sites": [
            {"name": "t", "kind": "scitoken", "command": ["/usr/bin/make-token", "--site", "x"], "entries": ["a@east"]},
            {"name": "k", "kind": "ssh_key", "file": "login.key", "renew_before_seconds": 60},
        ],
    }
    plans = parse_frontend({**LEAST, "credentials": given}, "/etc/frontend").credentials
    assert plans.pilots is not None
    assert (plans.pilots.signing_key, plans.pilots.identity) == ("/etc/frontend/PILOTS", "{site}@{frontend}")
    command, key = plans.sites
    assert command.command == ("/usr/bin/make-token", "--site", "x")
    assert [command.serves(*one) for one in (("a", "east"), ("a", "west"), ("b", "east"))] == [True, False, False]
    assert (key.file, key.serves("b", "west")) == ("/etc/frontend/login.key", True)


def test_every_problem_of_credentials_is_told_with_its_path() -> None:
    wrong = {
        "pilots": {"signing_key": "x", "trust_domain": "a b", "identity": "{site.x}@{user}", "lifetime": 5},
        "sites": [
            {"name": "a", "kind": "password", "file": "x"},
            {"name": "a", "kind": "x509", "file": "x", "command": ["/bin/x"]},
            {"name": "../b", "kind": "x509", "command": ["make"]},
        ],
    }
    with pytest.raises(PilotError) as told:
        parse_frontend({**LEAST, "credentials": wrong}, "/")
    for path in (
        "pilots.trust_domain", "pilots.identity: expected", "pilots.lifetime: unknown", "sites[0].kind",
        "sites[1].file: name either", "sites[1].name: 'a' is the name", "sites[2].name", "sites[2].command: begins",
    ):  # fmt: skip
        assert f"credentials.{path}" in told.value.failure.message
