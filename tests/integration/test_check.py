"""`pilot-agent check` as a site administrator starts it: the real Apptainer, no configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_containers import WITHOUT_USER_NAMESPACES
from tests.testbed.grid import Grid
from tests.testbed.leftovers import snapshot
from tests.testbed.pilots import INSTALLED
from tests.testbed.trees import PILOT


@pytest.fixture(params=["wn1", "wn2"])
def host(request: pytest.FixtureRequest) -> str:
    """A node with Python, and one without any."""
    return str(request.param)


def check(grid: Grid, host: str, *words: str, wrapper: Sequence[str] = ()) -> tuple[int, Any]:
    """Exit code and report."""
    command = [*wrapper, f"{INSTALLED}/pilot.sh", "check", "--json", *words]
    done = grid.hosts[host].run(command, user=PILOT.name, cwd="/")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def verdict(report: Any, name: str) -> dict[str, str]:
    """The one check of this name."""
    (found,) = [check for check in report["checks"] if check["name"] == name]
    assert isinstance(found, dict)
    return found


def test_a_good_node_is_fit_and_its_runtime_was_really_run(grid: Grid, payload: Path, host: str) -> None:
    before = snapshot(grid.hosts[host])
    code, report = check(grid, host)
    assert code == 0, report["failures"]
    assert [(one["vo"], one["fit"]) for one in report["verdicts"]] == [("", True)]
    assert verdict(report, "runtime")["status"] == "pass"
    assert "apptainer 1." in verdict(report, "runtime")["message"]
    assert report["leftovers"] == []
    assert snapshot(grid.hosts[host]) == before


def test_a_runtime_that_cannot_work_makes_the_node_unfit_with_the_change(grid: Grid, payload: Path) -> None:
    code, report = check(grid, "wn1", wrapper=WITHOUT_USER_NAMESPACES)
    assert code == 64
    failed = verdict(report, "runtime")
    assert failed["status"] == "fail"
    assert failed["code"] == "userns.disabled"
    assert "max_user_namespaces" in failed["hint"]


def test_the_page_of_a_good_node_ends_with_a_verdict(grid: Grid, payload: Path) -> None:
    done = grid.wn1.run([f"{INSTALLED}/pilot.sh", "check"], user=PILOT.name, env={"COLUMNS": "100"})
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith("This node is fit.")
    assert all(len(line) <= 100 for line in done.stdout.splitlines())
    assert "\x1b" not in done.stdout


def test_a_node_whose_jobs_would_get_cvmfs_by_every_way_but_the_sites_says_so(
    grid: Grid, payload: Path, host: str
) -> None:
    before = snapshot(grid.hosts[host])
    words = [f"{INSTALLED}/pilot.sh", "cvmfs", "plan", "--json", "--set", 'cvmfs.repositories=["images.example.org"]']
    # A plan looks only whether the client is there, and whose it is.
    with_client = [*words, "--set", "cvmfs.distribution=/etc/os-release"]
    done = grid.hosts[host].run(with_client, user=PILOT.name, cwd="/")
    assert done.returncode == 0, done.stderr
    found = {rung["name"]: (rung["state"], rung["reason"]) for rung in json.loads(done.stdout)["rungs"]}
    assert found["native"][0] == "refused"
    assert "this node has no /cvmfs" in found["native"][1]
    assert found["namespace"][0] == "taken"
    assert found["fusermount"][0] == "possible"
    assert "fusermount3" in found["fusermount"][1]
    assert found["container"][0] == "possible"
    assert "apptainer" in found["container"][1]
    assert found["none"][0] == "possible"
    done = grid.hosts[host].run(words, user=PILOT.name, cwd="/")
    assert done.returncode == 0, done.stderr
    found = {rung["name"]: (rung["state"], rung["reason"]) for rung in json.loads(done.stdout)["rungs"]}
    assert [found[name][0] for name in ("namespace", "fusermount", "none")] == ["refused", "refused", "taken"]
    assert "cvmfs.distribution" in found["namespace"][1]
    assert snapshot(grid.hosts[host]) == before


def test_without_user_namespaces_fusermount_is_what_is_left(grid: Grid, payload: Path) -> None:
    words = ["cvmfs", "plan", "--json", "--set", 'cvmfs.repositories=["images.example.org"]']
    command = [*WITHOUT_USER_NAMESPACES, f"{INSTALLED}/pilot.sh", *words]
    done = grid.wn1.run(command, user=PILOT.name, cwd="/")
    found = {rung["name"]: (rung["state"], rung["reason"]) for rung in json.loads(done.stdout)["rungs"]}
    assert found["namespace"][0] == "refused"
    assert "max_user_namespaces" in found["namespace"][1]


def test_a_python_that_was_found_without_a_search_path_is_found_again(grid: Grid, payload: Path) -> None:
    words = ["env", "-i", "python3", f"{INSTALLED}/pilot.pyz", "probe", "memory", "--json"]
    done = grid.wn1.run(words, user=PILOT.name, cwd="/")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["node"]["memory"]["total_mib"]["status"] == "known"
