from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, FactStatus, Json
from pilot_agent.probes.recording import finish_recording
from pilot_agent.probes.software import programs
from pilot_agent.probes.software.software import probe_software
from tests.probes.hanging_fuse import hanging_mount
from tests.probes.namespaced import in_namespace
from tests.probes.trees import context_of, facts, write_tree
from tests.probes.written import written_node

NODE = "secured_el9_modules"


def program(directory: Path, name: str, content: str | bytes = "#!/bin/true\n") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o755)
    return path


def tree(root: Path, files: dict[str, bytes]) -> dict[str, Fact]:
    context = write_tree(root, dict(files))
    for path in files:
        (root / path.lstrip("/")).chmod(0o755)
    return facts(probe_software(Context(root=context.root, environment={"PATH": "/usr/bin:/usr/sbin"})))


def test_a_cluster_node_tells_its_programs_and_their_versions() -> None:
    known = facts(probe_software(context_of(NODE)))
    assert known["software.python"].value == [
        {"path": "/usr/bin/python3", "version": "3.9.21", "problem": ""},
        {"path": "/share/sw/bin/python3.12", "version": "3.12", "problem": ""},
    ]
    assert known["software.condor"].value == {"path": "/usr/sbin/condor_master", "version": "24.0.7"}
    assert known["software.curl"].value == {"path": "/usr/bin/curl", "version": "7.76.1"}
    assert known["software.cvmfs_client"].value == {"path": "/usr/bin/cvmfs2", "version": "2.12.6"}
    assert known["software.squashfuse"].value == {
        "squashfuse_ll": "/usr/libexec/apptainer/bin/squashfuse_ll",
        "fuse-overlayfs": "/share/sw/bin/fuse-overlayfs",
        "mksquashfs": "/usr/bin/mksquashfs",
        "unsquashfs": "/usr/bin/unsquashfs",
    }


def test_a_hung_mount_and_an_automounter_on_the_search_path_cost_their_own_programs_only() -> None:
    fact = facts(probe_software(context_of(NODE)))["software.not_searched"]
    assert fact.value == {
        "/home/pilot/bin": "/home does not answer",
        "/cvmfs/tools.example.org/bin": "not looked at: the automounter on /cvmfs has not mounted it",
    }


def test_what_may_be_in_a_place_that_hangs_is_unknown_and_not_absent(tmp_path: Path) -> None:
    mounts = "61 1 253:0 / / rw - xfs /dev/sda rw\n70 61 0:44 / /cvmfs rw - autofs /etc/auto.cvmfs rw\n"
    hung = written_node(tmp_path / "a", {"PATH": "/cvmfs/x/bin"}, {}, {"/proc/self/mountinfo": mounts})
    plain = written_node(tmp_path / "b", {"PATH": "/opt/x/bin"}, {}, {"/proc/self/mountinfo": mounts})
    for name in ("python", "condor", "curl", "squashfuse", "cvmfs_client", "apptainer"):
        fact = facts(probe_software(hung))[f"software.{name}"]
        assert fact.status is FactStatus.UNKNOWN
        assert "/cvmfs/x/bin: not looked at" in fact.detail
        assert facts(probe_software(plain))[f"software.{name}"].status is FactStatus.ABSENT


def test_versions_are_read_from_the_files(tmp_path: Path) -> None:
    known = tree(
        tmp_path,
        {
            "/usr/bin/python3.11": b"\x7fELF\0003.2.0\0003.11.2\0",
            "/usr/bin/curl": b"\x7fELF\0curl \0curl 8.14.1 (x86_64-pc-linux-gnu) %s\0",
            "/usr/bin/condor_version": b"\0$CondorVersion: \0$CondorVersion: 23.9.6 2026-07-12 $\0",
        },
    )
    assert known["software.python"].value == [{"path": "/usr/bin/python3.11", "version": "3.11.2", "problem": ""}]
    assert known["software.curl"].value["version"] == "8.14.1"
    assert known["software.condor"].value == {"path": "/usr/bin/condor_version", "version": "23.9.6"}
    assert known["software.condor"].detail == "condor_master was not found"


def test_a_version_that_is_nowhere_is_null_with_the_reason(tmp_path: Path) -> None:
    known = tree(
        tmp_path,
        {
            "/usr/bin/python3": b"\x7fELF",
            "/usr/bin/curl": b"\x7fELF",
            "/usr/sbin/condor_master": b"\x7fELF",
            "/usr/bin/cvmfs2": b"",
        },
    )
    assert known["software.python"].value[0]["version"] is None
    assert "does not tell its version" in known["software.python"].value[0]["problem"]
    for name in ("curl", "condor", "cvmfs_client"):
        assert known[f"software.{name}"].value["version"] is None
        assert known[f"software.{name}"].detail


def test_a_script_and_a_file_without_the_execute_bit_are_no_interpreters(tmp_path: Path) -> None:
    tree(tmp_path, {"/usr/bin/python3": b"#!/bin/sh\nexec pyenv\n", "/usr/bin/python3.12": b"\x7fELF"})
    (tmp_path / "usr/bin/python3.12").chmod(0o644)
    context = Context(root=str(tmp_path), environment={"PATH": "/usr/bin"})
    entries = facts(probe_software(context))["software.python"].value
    assert [(entry["version"], entry["problem"]) for entry in entries] == [
        (None, "a script: which interpreter it starts, if any, is not known"),
        ("3.12", "it is not executable"),
    ]


def test_one_file_under_several_names_is_one_interpreter(tmp_path: Path) -> None:
    program(tmp_path / "usr/bin", "python3.9", b"\0003.9.18\0")
    (tmp_path / "usr/bin/python3").symlink_to("python3.9")
    (tmp_path / "bin").symlink_to("usr/bin")
    context = Context(root=str(tmp_path), environment={"PATH": "/bin:/usr/bin"})
    assert facts(probe_software(context))["software.python"].value == [
        {"path": "/bin/python3", "version": "3.9.18", "problem": ""}
    ]


def test_a_cvmfs_client_whose_libraries_do_not_tell_is_asked(tmp_path: Path) -> None:
    said: dict[tuple[str, ...], str] = {("/usr/bin/cvmfs2", "--version"): "CernVM-FS version 2.11.2\n"}
    context = written_node(tmp_path, {"PATH": "/usr/bin"}, said, {"/usr/bin/cvmfs2": "ELF"})
    (tmp_path / "root/usr/bin/cvmfs2").chmod(0o755)
    assert facts(probe_software(context))["software.cvmfs_client"].value["version"] == "2.11.2"


def test_this_machine_tells_the_interpreter_of_its_system() -> None:
    known = facts(probe_software(Context(environment=dict(os.environ))))
    if known["software.python"].known:
        assert all(entry["path"].startswith("/") for entry in known["software.python"].value)
    assert all(fact.detail for fact in known.values() if not fact.known)


def test_what_was_recorded_is_told_again(tmp_path: Path) -> None:
    place = tmp_path / "bin"
    program(place, "apptainer", "#!/bin/sh\necho apptainer version 1.4.5\n")
    program(place, "python3.11", b"\x7fELF\0003.11.9\0")
    (place / "singularity").symlink_to("apptainer")
    environment = {"PATH": str(place)}
    seen = list(probe_software(Context(environment=environment, record=str(tmp_path / "kept"))))
    finish_recording(str(tmp_path / "kept"), environment, {})
    again = list(probe_software(Context(root=str(tmp_path / "kept"), environment=environment)))
    assert again == seen
    ours = [entry for entry in facts(seen)["software.apptainer"].value if entry["path"].startswith(str(place))]
    assert [(entry["path"], entry["version"]) for entry in ours] == [(f"{place}/apptainer", "1.4.5")]


def test_a_search_path_into_a_file_system_that_stopped_answering_costs_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "LOOK_SECONDS", 0.3)
    program(tmp_path / "good", "curl", b"\x7fELF\0curl 8.14.1 (x) %s\0")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "gocryptfs").symlink_to(tmp_path / "hung" / "gocryptfs")

    def work() -> dict[str, Json]:
        with hanging_mount(tmp_path / "hung") as mount:
            mount.become("silent")
            path = f"{tmp_path}/hung:{tmp_path}/link:{tmp_path}/good"
            known = facts(probe_software(Context(environment={"PATH": path})))
        return {name: known[f"software.{name}"].value for name in ("curl", "not_searched")}

    found = in_namespace(work)
    assert found["curl"] == {"path": f"{tmp_path}/good/curl", "version": "8.14.1"}
    why = f"{tmp_path}/hung does not answer"
    assert found["not_searched"] == {f"{tmp_path}/hung": why, f"{tmp_path}/link/gocryptfs": why}
