from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pilot_agent.model import Fact, FactStatus, Json
from pilot_agent.probes.node import Node
from pilot_agent.probes.software import apptainer
from pilot_agent.probes.software.apptainer import find_runtimes, parse_version
from pilot_agent.probes.software.apptainer_config import hindrances, parse_config
from pilot_agent.probes.software.programs import Places, find_programs
from pilot_agent.probes.software.software import probe_software
from tests.probes.trees import context_of, facts
from tests.probes.written import written_node

SETUID: Json = {"kind": "file", "mode": 0o4755, "uid": 0, "gid": 0, "size_bytes": 1, "device": ""}
MOUNTS = "61 1 253:0 / / rw - xfs /dev/sda rw\n62 61 253:1 / /usr rw,nosuid - xfs /dev/sdb rw\n"


def runtimes(
    root: Path, files: dict[str, str], said: dict[str, str], *, setuid: str = "", path: str = "/usr/bin"
) -> Fact:
    context = written_node(root, {"PATH": path}, {(name, "--version"): text for name, text in said.items()}, files)
    for name in files:
        if "/bin/" in name:
            (root / "root" / name.lstrip("/")).chmod(0o755)
    if setuid:
        (root / "readings").mkdir()
        (root / "readings" / "0.jsonl").write_text(json.dumps({"stat": setuid, "found": SETUID}) + "\n")
    return facts(probe_software(context))["software.apptainer"]


def on_this_machine(directory: Path, seconds: float = 60) -> list[Json]:
    places = Places.of(Node())
    programs = find_programs(places, lambda name: name in apptainer.NAMES, [str(directory)])
    fact = find_runtimes(places, programs, time.monotonic() + seconds)
    assert isinstance(fact.value, list)
    return fact.value


def script(path: Path, text: str, mode: int = 0o755) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("apptainer version 1.4.5-1.el9\n", ("apptainer", "1.4.5-1.el9")),
        ("singularity-ce version 4.1.0-jammy\n", ("singularity-ce", "4.1.0-jammy")),
        ("singularity version 3.8.7-1.el7\n", ("singularity", "3.8.7-1.el7")),
        ("2.6.1-dist\n", ("singularity", "2.6.1-dist")),
        ("INFO: a word before\napptainer version 1.3.6\n", ("apptainer", "1.3.6")),
        ("usage: apptainer\n", None),
        ("", None),
    ],
)
def test_kind_and_version_are_told_apart(text: str, parsed: tuple[str, str] | None) -> None:
    assert parse_version(text) == parsed


def test_a_restricted_setuid_installation_is_told_with_what_it_forbids() -> None:
    fact = facts(probe_software(context_of("secured_el9_modules")))["software.apptainer"]
    (entry,) = fact.value
    assert (entry["path"], entry["kind"], entry["version"]) == ("/usr/bin/apptainer", "apptainer", "1.3.6-1.el9")
    assert (entry["setuid"], entry["allow_setuid"], entry["mode"]) == (True, True, "setuid")
    assert entry["config"]["max_loop_devices"] == 64
    assert entry["config"]["limit_container_paths"] == ["/cvmfs", "/share/images"]
    assert fact.detail == (
        "/etc/apptainer/apptainer.conf: allow pid ns = no, allow container sif = no, limit container paths = /cvmfs, "
        "/share/images; the site changes it if pilots need that"
    )


def test_without_a_setuid_program_the_configuration_cannot_limit_images(tmp_path: Path) -> None:
    files = {
        "/usr/bin/apptainer": "ELF",
        "/etc/apptainer/apptainer.conf": "allow setuid = yes\nallow container sif = no\nlimit container paths = /x\n",
    }
    fact = runtimes(tmp_path, files, {"/usr/bin/apptainer": "apptainer version 1.4.5\n"})
    (entry,) = fact.value
    assert (entry["setuid"], entry["mode"], fact.detail) == (False, "userns", "")


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"/etc/apptainer/apptainer.conf": "allow setuid = no\n"}, "says allow setuid = no"),
        ({"/proc/self/status": "Name:\tx\nNoNewPrivs:\t1\n"}, "no_new_privs"),
        ({"/proc/self/uid_map": "0 1000 1\n"}, "in a user namespace"),
        ({"/proc/self/mountinfo": MOUNTS}, "/usr is mounted nosuid"),
    ],
)
def test_a_setuid_program_that_cannot_help_this_pilot_is_told(tmp_path: Path, files: dict[str, str], why: str) -> None:
    starter = "/usr/libexec/apptainer/bin/starter-suid"
    said = {"/usr/bin/apptainer": "apptainer version 1.4.5\n"}
    fact = runtimes(tmp_path, {"/usr/bin/apptainer": "ELF", starter: "ELF"} | files, said, setuid=starter)
    (entry,) = fact.value
    assert (entry["setuid"], entry["mode"]) == (True, "userns")
    assert why in fact.detail


@pytest.mark.parametrize(
    ("program", "starter", "config"),
    [
        ("/usr/bin/singularity", "/usr/libexec/singularity/bin/starter-suid", "/etc/singularity/singularity.conf"),
        (
            "/usr/local/bin/singularity",
            "/usr/local/libexec/singularity/bin/starter-suid",
            "/usr/local/etc/singularity/singularity.conf",
        ),
        (
            "/usr/bin/apptainer",
            "/usr/lib/x86_64-linux-gnu/apptainer/bin/starter-suid",
            "/etc/apptainer/apptainer.conf",
        ),
        (
            "/opt/apptainer/bin/apptainer",
            "/opt/apptainer/x86_64/libexec/apptainer/bin/starter-suid",
            "/opt/apptainer/x86_64/etc/apptainer/apptainer.conf",
        ),
    ],
)
def test_the_files_of_an_installation_are_found_below_its_prefix(
    tmp_path: Path, program: str, starter: str, config: str
) -> None:
    files = {program: "ELF", starter: "ELF", config: "max loop devices = 7\n"}
    (entry,) = runtimes(tmp_path, files, {program: "3.8.7\n"}, setuid=starter).value
    assert (entry["setuid"], entry["config_path"], entry["config"]) == (True, config, {"max_loop_devices": 7})


def test_several_installations_are_told_in_the_order_of_the_search_path(tmp_path: Path) -> None:
    files = {f"/{number}/bin/apptainer": "ELF" for number in range(5)}
    said = {path: f"apptainer version 1.{number}.0\n" for number, path in enumerate(files)}
    fact = runtimes(tmp_path, files, said, path=":".join(f"/{number}/bin" for number in range(5)))
    assert [entry["version"] for entry in fact.value] == ["1.0.0", "1.1.0", "1.2.0", None, None]
    assert "only the first 3" in fact.value[4]["problem"]


def test_a_node_without_any_says_what_was_looked_for(tmp_path: Path) -> None:
    fact = runtimes(tmp_path, {}, {})
    assert fact.status is FactStatus.ABSENT
    assert "neither apptainer nor singularity" in fact.detail


def test_a_program_that_fails_or_babbles_is_told_with_what_it_said(tmp_path: Path) -> None:
    script(tmp_path / "apptainer", "#!/bin/sh\necho 'cannot open shared object file' >&2\nexit 127\n")
    script(tmp_path / "singularity", "#!/bin/sh\necho hello\n")
    failed, babbled = on_this_machine(tmp_path)
    assert failed["problem"] == "--version exited 127: cannot open shared object file"
    assert babbled["problem"] == "--version said 'hello\\n', which names no version"


def test_a_program_that_hangs_costs_its_own_version_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apptainer, "_RUN_SECONDS", 0.5)
    script(tmp_path / "apptainer", "#!/bin/sh\nexec sleep 600\n")
    script(tmp_path / "singularity", "#!/bin/sh\nwhile :; do echo endless words; done\n")
    hung, endless = on_this_machine(tmp_path)
    assert "did not end within" in hung["problem"]
    assert hung["version"] is None
    assert endless["version"] is None


def test_without_time_left_no_program_is_started(tmp_path: Path) -> None:
    script(tmp_path / "apptainer", f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (entry,) = on_this_machine(tmp_path, seconds=0)
    assert entry["problem"] == "not asked for its version: no time was left"
    assert not (tmp_path / "started").exists()


def test_a_file_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    script(tmp_path / "apptainer", "#!/no/such/interpreter\n")
    (entry,) = on_this_machine(tmp_path)
    assert "ENOENT" in entry["problem"]


def test_a_configuration_is_parsed_with_its_types() -> None:
    text = (
        "# allow setuid = no\nALLOW SETUID = yes\nallow setuid-mount extfs = no\nenable overlay = try\n"
        "mount dev = minimal\nmax loop devices = many\nsessiondir max size = 64\nlimit container owners = NULL\n"
        "limit container groups = a, b\nbind path = /etc/hosts\nbind path = /etc/localtime\nunknown thing = 1\n"
        "rubbish\n"
    )
    assert parse_config(text) == {
        "allow_setuid": True,
        "allow_setuid_mount_extfs": False,
        "enable_overlay": "try",
        "mount_dev": "minimal",
        "sessiondir_max_size_mib": 64,
        "limit_container_owners": [],
        "limit_container_groups": ["a", "b"],
        "bind_path": ["/etc/hosts", "/etc/localtime"],
    }


def test_what_hinders_pilots_is_named() -> None:
    config = parse_config(
        "user bind control = no\nenable overlay = no\nenable underlay = no\nlimit container owners = gridsite\n"
    )
    assert hindrances(config, setuid=False) == [
        "user bind control = no",
        "neither overlay nor underlay is enabled, so that only paths existing in an image can be bound",
    ]
    assert "limit container owners = gridsite" in hindrances(config, setuid=True)
    assert hindrances({}, setuid=True) == []
