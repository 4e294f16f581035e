from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, FactStatus
from pilot_agent.probes.software.software import probe_software
from tests.probes.trees import facts, write_tree

LMOD = "/opt/apps/lmod/lmod/libexec"
VERSION_LUA = 'local M={}\nfunction M.tag()  return "8.4.24"   end\n'
DEBIAN = "/usr/lib/x86_64-linux-gnu/modulecmd.tcl"


def modules(root: Path, files: dict[str, str], **environment: str) -> Fact:
    context = write_tree(root, files)
    return facts(probe_software(Context(root=context.root, environment=environment)))["software.modules"]


def test_lmod_is_told_by_its_variables(tmp_path: Path) -> None:
    fact = modules(tmp_path, {}, LMOD_CMD=f"{LMOD}/lmod", LMOD_VERSION="8.7.60", MODULEPATH="/a:/b::", MODULESHOME="/x")
    assert fact.value == {
        "kind": "lmod",
        "path": f"{LMOD}/lmod",
        "version": "8.7.60",
        "modulepath": ["/a", "/b"],
        "initialised": True,
    }


def test_the_version_of_lmod_is_read_beside_its_command(tmp_path: Path) -> None:
    assert modules(tmp_path, {f"{LMOD}/Version.lua": VERSION_LUA}, LMOD_CMD=f"{LMOD}/lmod").value["version"] == "8.4.24"


def test_a_version_of_lmod_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    fact = modules(tmp_path, {f"{LMOD}/Version.lua": "return 8"}, LMOD_CMD=f"{LMOD}/lmod")
    assert fact.value["version"] is None
    assert fact.detail == f"{LMOD}/Version.lua tells no version"


@pytest.mark.parametrize(
    ("files", "environment", "path", "version"),
    [
        ({DEBIAN: "report {Modules Release 5.2.0\\\n"}, {"MODULES_CMD": DEBIAN}, DEBIAN, "5.2.0"),
        (
            {"/sw/Modules/libexec/modulecmd.tcl": "{Modules Release 4.5.2 (2020)}"},
            {"MODULESHOME": "/sw/Modules"},
            "/sw/Modules/libexec/modulecmd.tcl",
            "4.5.2",
        ),
        (
            {"/sw/Modules/3.2.10/bin/modulecmd": "ELF"},
            {"MODULESHOME": "/sw/Modules/3.2.10"},
            "/sw/Modules/3.2.10/bin/modulecmd",
            "3.2.10",
        ),
        ({}, {"MODULESHOME": "/gone", "MODULE_VERSION": "3.2.11"}, None, "3.2.11"),
    ],
)
def test_environment_modules_are_told(
    tmp_path: Path, files: dict[str, str], environment: dict[str, str], path: str | None, version: str
) -> None:
    value = modules(tmp_path, files, **environment).value
    assert (value["kind"], value["path"], value["version"]) == ("environment-modules", path, version)
    assert value["initialised"]


@pytest.mark.parametrize(
    ("files", "kind", "version"),
    [
        ({f"{LMOD}/lmod": "#!/usr/bin/lua\n", f"{LMOD}/Version.lua": VERSION_LUA}, "lmod", "8.4.24"),
        ({DEBIAN: "report {Modules Release 5.2.0\\\n"}, "environment-modules", "5.2.0"),
    ],
)
def test_a_system_that_is_installed_and_not_initialised_is_told(
    tmp_path: Path, files: dict[str, str], kind: str, version: str
) -> None:
    fact = modules(tmp_path, files)
    assert (fact.value["kind"], fact.value["version"], fact.value["initialised"]) == (kind, version, False)
    assert "not initialised" in fact.detail


def test_a_node_without_modules_has_none(tmp_path: Path) -> None:
    assert modules(tmp_path, {}).status is FactStatus.ABSENT


def test_a_home_that_only_an_automounter_would_bring_is_not_looked_at(tmp_path: Path) -> None:
    mounts = "61 1 253:0 / / rw - xfs /dev/sda rw\n70 61 0:44 / /sw rw - autofs /etc/auto.sw rw\n"
    fact = modules(tmp_path, {"/proc/self/mountinfo": mounts}, LMOD_CMD="/sw/lmod/libexec/lmod")
    assert fact.value["version"] is None
    assert "the automounter on /sw" in fact.detail
