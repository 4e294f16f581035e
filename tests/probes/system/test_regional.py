from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.model import FactStatus
from pilot_agent.probes.node import Node
from pilot_agent.probes.system.regional import find_locale, find_time_zone, is_utf8, parse_zone_file
from tests.probes.trees import write_tree

ZONE_FILE = b"TZif2" + b"\0" * 39 + b"TZif2" + b"\0" * 39 + b"\nCET-1CEST,M3.5.0,M10.5.0/3\n"


@pytest.mark.parametrize(
    ("environment", "name", "variable", "utf8"),
    [
        ({"LANG": "en_US.UTF-8"}, "en_US.UTF-8", "LANG", True),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, "C", "LC_ALL", False),
        ({"LANG": "C", "LC_CTYPE": "C.utf8", "LC_ALL": ""}, "C.utf8", "LC_CTYPE", True),
    ],
)
def test_the_variable_that_decides_is_told(environment: dict[str, str], name: str, variable: str, utf8: bool) -> None:
    assert find_locale(environment).value == {"name": name, "variable": variable, "utf8": utf8}


def test_without_variables_there_is_no_locale() -> None:
    assert find_locale({"LC_TIME": "de_CH.UTF-8"}).status is FactStatus.ABSENT


def test_a_codeset_may_be_written_in_several_ways() -> None:
    assert all(is_utf8(name) for name in ("C.UTF-8", "C.utf8", "de_DE.UTF8@euro"))
    assert not any(is_utf8(name) for name in ("C", "POSIX", "en_US", "de_DE.ISO-8859-15@euro", "UTF-8"))


@pytest.mark.parametrize(
    ("value", "zone"),
    [
        ("Europe/Zurich", "Europe/Zurich"),
        (":America/Chicago", "America/Chicago"),
        ("/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"),
        ("UTC", "UTC"),
        ("CET-1CEST", "CET-1CEST"),
    ],
)
def test_the_variable_decides_on_the_time_zone(tmp_path: Path, value: str, zone: str) -> None:
    fact = find_time_zone(Node(str(tmp_path)), {"TZ": value})
    assert (fact.value, fact.source) == (zone, "TZ")


def test_a_variable_that_names_nothing_is_told(tmp_path: Path) -> None:
    fact = find_time_zone(Node(str(tmp_path)), {"TZ": "-?-"})
    assert (fact.status, fact.source) == (FactStatus.UNKNOWN, "TZ")


def test_the_link_names_the_zone(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "localtime").symlink_to("../usr/share/zoneinfo/Europe/Zurich")
    for environment in ({}, {"TZ": ":/etc/localtime"}):
        fact = find_time_zone(Node(str(tmp_path)), environment)
        assert (fact.value, fact.source) == ("Europe/Zurich", "/etc/localtime")


def test_a_copied_zone_file_gives_its_rule_unless_the_zone_is_named(tmp_path: Path) -> None:
    node = Node(write_tree(tmp_path, {"/etc/localtime": ZONE_FILE}).root)
    assert find_time_zone(node, {}).value == "CET-1CEST,M3.5.0,M10.5.0/3"
    write_tree(tmp_path, {"/etc/timezone": "Europe/Zurich\n"})
    assert find_time_zone(node, {}).value == "Europe/Zurich"


def test_a_damaged_zone_file_is_unknown_and_none_is_utc(tmp_path: Path) -> None:
    assert find_time_zone(Node(str(tmp_path / "none")), {}).status is FactStatus.ABSENT
    node = Node(write_tree(tmp_path, {"/etc/localtime": ZONE_FILE[:-1]}).root)
    assert find_time_zone(node, {}).status is FactStatus.UNKNOWN
    assert parse_zone_file(b"TZif2\n\xff\n") is None
