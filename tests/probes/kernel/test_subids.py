from __future__ import annotations

from pathlib import Path

from pilot_agent.model import FactStatus
from pilot_agent.probes.kernel.subids import account_name, find_subids, parse_subids
from pilot_agent.probes.node import Node
from tests.probes.trees import write_tree

PASSWD = "root:x:0:0:root:/root:/bin/sh\npilot:x:1500:1500::/home/pilot:/bin/sh\n"


def test_ranges_of_a_name_and_of_a_number_are_read() -> None:
    text = "other:1:2\npilot:100000:65536\n1500:300000:10\npilot:x:1\npilot:5\npilot:5:0\n# pilot:7:7\n"
    assert parse_subids(text, ("pilot", "1500")) == [[100000, 65536], [300000, 10]]


def test_an_account_is_named_by_its_number() -> None:
    assert account_name(PASSWD, 1500) == "pilot"
    assert account_name("damaged\n::\n", 1500) is None


def test_an_account_has_its_ranges_and_the_helpers_that_it_may_run(tmp_path: Path) -> None:
    files = {"/etc/subuid": "pilot:1:9\n", "/etc/subgid": "1500:2:9\n", "/etc/passwd": PASSWD, "/usr/bin/newuidmap": ""}
    context = write_tree(tmp_path, files)
    (tmp_path / "usr/bin/newuidmap").chmod(0o755)
    fact = find_subids(Node(context.root), 1500, "")
    assert fact.value == {"uid_ranges": [[1, 9]], "gid_ranges": [[2, 9]], "helpers": ["newuidmap"]}
    assert "newgidmap; the site must install" in fact.detail
    (tmp_path / "usr/bin/newuidmap").chmod(0o700)
    assert find_subids(Node(context.root), 1500, "").value["helpers"] == []


def test_an_account_without_ranges_is_told_how_it_gets_some(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/etc/subuid": "other:1:9\n"})
    fact = find_subids(Node(context.root), 1500, "pilot")
    assert fact.status is FactStatus.ABSENT
    assert "usermod --add-subuids" in fact.detail
    assert fact.detail.endswith("pilot")


def test_an_account_that_nobody_knows_has_unknown_ranges(tmp_path: Path) -> None:
    assert find_subids(Node(str(tmp_path)), None, "pilot").status is FactStatus.UNKNOWN
