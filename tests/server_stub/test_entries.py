"""The factory's file is read whole, and every mistake in it is named with its place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.model import PilotError
from server_stub.entries import Factory, parse_factory, read_factory


def message_of(document: dict[str, Any]) -> str:
    with pytest.raises(PilotError) as caught:
        parse_factory(document, "/etc/factory")
    assert caught.value.failure.code == "config.invalid"
    assert caught.value.failure.exit_code == 66
    return caught.value.failure.message


def test_a_file_becomes_a_factory_with_its_entries(factory: Factory, tmp_path: Path) -> None:
    assert factory.name == "example"
    assert [entry.name for entry in factory.entries] == ["site-a", "site-b"]
    assert factory.entry("site-a").payload_file == "pilot.pyz"
    assert factory.entry("site-b").payload_file == "pilot.sh"
    assert factory.entry("site-b").requirements == "True"


def test_relative_paths_start_at_the_files_directory(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "factory.json"
    path.write_text(json.dumps(document))
    factory = read_factory(str(path))
    assert factory.state == str(tmp_path / "state")
    assert factory.entry("site-a").tokens == str(tmp_path / "tokens")


def test_all_problems_are_reported_together_with_their_paths(document: dict[str, Any]) -> None:
    document["url"] = "ftp://example.org"
    document["prot"] = 80
    document["entries"][0]["payload"] = "rpm"
    document["entries"][0]["max_pilots"] = -1
    document["entries"][1]["name"] = "site-a"
    del document["entries"][1]["site"]
    message = message_of(document)
    assert "6 problems" in message
    assert "prot: unknown key; did you mean port?" in message
    assert "entries[0].payload: 'rpm' is none of pyz, sh" in message
    assert "entries[0].max_pilots: -1 is not in 0.." in message
    assert "entries[1].name: 'site-a' is the name of an earlier entry too" in message
    assert "entries[1].site: missing" in message


def test_a_mistake_in_a_pilots_configuration_is_found_before_any_pilot_is_sent(document: dict[str, Any]) -> None:
    document["pilot"] = {"sartd": {}}
    document["entries"][0]["pilot"] = {"startd": {"idle_shutdown_secs": 20}}
    message = message_of(document)
    assert "pilot.sartd: unknown key; did you mean startd?" in message
    assert "entries[0].pilot.startd.idle_shutdown_secs: unknown key" in message


def test_https_needs_certificate_key_and_an_address_that_says_so(document: dict[str, Any]) -> None:
    document["certificate"] = "tls/factory.pem"
    assert "key: missing; HTTPS needs both" in message_of(document)
    document["key"] = "tls/factory.key"
    assert "url: must begin with https://" in message_of(document)
    document["url"] = "https://factory.example.org:8443"
    made = parse_factory(document, "/etc/factory")
    assert (made.certificate, made.key) == ("/etc/factory/tls/factory.pem", "/etc/factory/tls/factory.key")
    del document["certificate"]
    assert "certificate: missing; HTTPS needs both" in message_of(document)


def test_the_batch_system_is_asked_before_a_supervisor_takes_the_factory_for_hung(document: dict[str, Any]) -> None:
    unit = Path(__file__).parents[2] / "packaging" / "systemd" / "pilot-factory.service"
    (waits,) = [int(line[12:]) for line in unit.read_text().splitlines() if line.startswith("WatchdogSec=")]
    document["collect_seconds"] = waits // 2
    assert parse_factory(document, "/etc/factory").collect_seconds == waits // 2
    document["collect_seconds"] += 1
    assert "collect_seconds: " in message_of(document)


def test_uploads_need_https(document: dict[str, Any]) -> None:
    document["uploads"] = True
    assert "url: must begin with https://, as pilots prove by a token who they are" in message_of(document)
    document["url"] = "https://factory.example.org"
    assert parse_factory(document, "/etc/factory").uploads


def test_the_store_is_where_the_file_says(document: dict[str, Any]) -> None:
    assert parse_factory(document, "/etc/factory").database == "sqlite:////etc/factory/state/factory.sqlite"
    document["database"] = "postgresql+psycopg://factory@db.example.org/pilots"
    assert parse_factory(document, "/etc/factory").database == document["database"]
    document["database"] = "mysql://db.example.org/pilots"
    assert "database: 'mysql://db.example.org/pilots' does not fit" in message_of(document)


@pytest.mark.parametrize(("wrong", "other"), [("key", "certificate"), ("certificate", "key")])
def test_a_certificate_or_key_that_is_no_path_is_not_told_to_be_missing_too(
    document: dict[str, Any], wrong: str, other: str
) -> None:
    document |= {wrong: [1], other: "tls/factory.pem", "url": "https://factory.example.org"}
    message = message_of(document)
    assert "1 problem" in message
    assert f"{wrong}: expected a string, found [1]" in message


@pytest.mark.parametrize(
    "expression",
    [
        "True\nqueue 100",
        "$(HOME)",
        'a == "$(b)"',
        "True\r",
        "$ENV(HOME)",
        'a == "$F(b)"',
        "$$(Name)",
        "True \\",
        "\\ ",
    ],
)
def test_an_expression_cannot_smuggle_lines_or_macros_into_the_submit_description(
    document: dict[str, Any], expression: str
) -> None:
    document["entries"][0]["requirements"] = expression
    assert "entries[0].requirements: an expression is one line" in message_of(document)


@pytest.mark.parametrize("name", ["", "../up", "a b", 'a"b', "a\n", "x" * 64, ".hidden"])
def test_a_name_that_a_path_or_an_ad_could_misread_is_refused(document: dict[str, Any], name: str) -> None:
    document["entries"][0]["name"] = name
    assert "entries[0].name" in message_of(document)


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("entries", [], "entries: at least one entry is needed"),
        ("entries", {"a": 1}, "entries: at least one entry is needed"),
        ("entries", ["site-a"], "entries[0]: expected a mapping"),
        ("port", 70000, "port: 70000 is not in 1..65535"),
        ("port", True, "port: expected an integer"),
        ("pilot", ["x"], "pilot: expected a mapping"),
        ("launcher", 3, "launcher: expected a string"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(document: dict[str, Any], key: str, value: object, place: str) -> None:
    document[key] = value
    assert place in message_of(document)


def test_of_many_entries_the_nearest_is_named(factory: Factory) -> None:
    many = replace(factory, entries=tuple(replace(factory.entries[0], name=f"entry-{n:03}") for n in range(500)))
    with pytest.raises(PilotError) as caught:
        many.entry("entri-321")
    assert "entry-019 and 480 more; did you mean entry-321?" in caught.value.failure.message
    assert len(caught.value.failure.message) < 400


def test_an_unknown_entry_is_named_with_the_known_ones(factory: Factory) -> None:
    with pytest.raises(PilotError, match="no entry 'site-c'; it has site-a, site-b"):
        factory.entry("site-c")


def test_a_file_that_is_missing_is_a_failure_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(PilotError, match="cannot be read: No such file"):
        read_factory(str(tmp_path / "absent.yaml"))


def test_a_cloud_without_uploads_is_refused_as_nothing_would_come_home(
    document: dict[str, Any], tmp_path: Path
) -> None:
    cloud = {"image": "ami-1", "machine": "m5", "access_key": "a", "secret_key": "s"}
    document["entries"][0] |= {"type": "ec2", "contact": "https://ec2.example.org/", "cloud": cloud}
    with pytest.raises(PilotError, match=r"uploads: must be true: from machines of a cloud \(entry site-a\)"):
        parse_factory(document, str(tmp_path))
