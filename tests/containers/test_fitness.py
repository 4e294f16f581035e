"""What a proof tells of the inside of an image, and which images processor or kernel refuse."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

from pilot_agent.containers.fitness import SCRIPT as FACTS_SCRIPT
from pilot_agent.containers.fitness import crash, facts, kernel_has_vsyscall, unfit
from pilot_agent.containers.proof import END, SCRIPT, Attempt, Proof, read
from pilot_agent.model import FailureKind
from pilot_agent.process import Result, run

SHELLS = [shell for shell in ("/bin/sh", "/bin/dash", "/bin/bash", "/bin/busybox") if shutil.which(shell)]
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "xx_XX"}


def proof_with(shell: str, home: Path, *repositories: str) -> Proof:
    """The proof's own program, run by a shell of this machine."""
    words = [shell, "sh"] if shell.endswith("busybox") else [shell]
    argv = [*words, "-c", SCRIPT + FACTS_SCRIPT + END, "sh", "proof-00", *repositories]
    result = run(argv, deadline_seconds=60, environment={**ENVIRONMENT, "HOME": str(home)})
    return read(Attempt(argv, "proof-00", "/nowhere", repositories), result)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_program_finds_this_machine_in_any_shell(shell: str, tmp_path: Path) -> None:
    hostile = ("no such", "$(touch evil)", "../../etc", "*")
    proof = proof_with(shell, tmp_path, *hostile)
    assert proof.diagnosis is None
    assert proof.facts["os.arch"] == platform.machine()
    assert proof.facts["home.writable"] is True
    assert proof.facts["account.in_passwd"] is True
    assert proof.facts["kernel.vsyscall"] is kernel_has_vsyscall()
    assert proof.facts["os.locale"] == "xx_XX"
    assert proof.facts["software.python3"] == shutil.which("python3", path=ENVIRONMENT["PATH"])
    assert isinstance(proof.facts["gpu.visible"], bool)
    assert "no such" not in proof.facts["cvmfs.repositories"]
    assert not list(tmp_path.iterdir())


def test_a_program_that_never_came_to_the_facts_has_none() -> None:
    assert facts({"os": ["ID=debian"]}, ["a.example.org"]) == {}


def test_what_is_not_there_is_said_to_be_missing() -> None:
    found = facts({"facts": [""]}, ["a.example.org", "b.example.org"])
    assert found["cvmfs.repositories"] == []
    assert not any(found[name] for name in ("home.writable", "account.in_passwd", "gpu.visible", "kernel.vsyscall"))
    assert "software.python3" not in found
    assert "os.arch" not in found


@pytest.mark.parametrize(
    ("loader", "architecture"),
    [("ld-linux-aarch64.so.1", "aarch64"), ("ld-musl-x86_64.so.1", "x86_64"), ("ld64.so.2", "ppc64le")],
)
def test_the_dynamic_loader_tells_the_architecture(loader: str, architecture: str) -> None:
    assert facts({"facts": [""], "loader": [loader]}, [])["os.arch"] == architecture


def test_an_image_whose_c_library_needs_the_vsyscall_page_is_refused_on_a_kernel_without_it() -> None:
    el6 = {"os.glibc": "2.12", "kernel.vsyscall": False}
    problem = unfit(el6, "")
    assert problem is not None
    assert (problem.code, problem.kind, problem.scope) == (
        "image.needs_vsyscall", FailureKind.NODE_RESOURCE, "image",
    )  # fmt: skip
    assert "vsyscall=emulate" in problem.hint
    assert unfit({**el6, "kernel.vsyscall": True}, "") is None
    assert unfit({**el6, "os.glibc": "2.17"}, "") is None
    assert unfit({"kernel.vsyscall": False}, "") is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("FATAL: kernel too old", "image.needs_newer_kernel"),
        ("Fatal glibc error: CPU does not support x86-64-v3", "image.cpu_level"),
        ("/bin/sh: CPU ISA level is lower than required", "image.cpu_level"),
        (
            "sh: error while loading shared libraries: libc.so.6: cannot open shared object file: No such file",
            "image.library",
        ),
    ],
)
def test_what_the_loader_says_is_understood_whether_it_comes_first_or_later(text: str, code: str) -> None:
    at_once = crash(Result(("apptainer",), 127, stderr=text.encode()), vsyscall=True)
    later = unfit({"os.glibc": "2.34"}, f"proof-00 pid 1 0\n{text}\n")
    assert at_once is not None
    assert at_once == later
    assert at_once.code == code


@pytest.mark.parametrize(
    ("code", "signal", "vsyscall", "expected"),
    [
        (139, None, False, "image.needs_vsyscall"),
        (None, 11, False, "image.needs_vsyscall"),
        (139, None, True, "image.crashed"),
        (132, None, True, "image.cpu_level"),
    ],
)
def test_a_shell_that_dies_at_once_tells_by_its_signal_what_was_missing(
    code: int | None, signal: int | None, vsyscall: bool, expected: str
) -> None:
    problem = crash(Result(("apptainer",), code, signal=signal), vsyscall=vsyscall)
    assert problem is not None
    assert problem.code == expected


@pytest.mark.parametrize("code", [1, 126, 127, 255])
def test_other_ends_are_left_to_what_the_runtime_said(code: int) -> None:
    assert crash(Result(("apptainer",), code, stderr=b"FATAL:   image format not recognized"), vsyscall=False) is None


def test_a_refused_image_keeps_what_was_found_in_it() -> None:
    lines = [
        "proof-00 uid_map 0 0 4294967295",
        "proof-00 writable /tmp",
        "proof-00 writable /var/tmp",
        "GNU C Library stable release version 2.12, by Roland McGrath et al.",
        "proof-00 facts",
        "proof-00 end",
    ]
    proof = read(Attempt([], "proof-00", "/nowhere"), Result(("apptainer",), 0, stdout="\n".join(lines).encode()))
    assert proof.diagnosis is not None
    assert proof.diagnosis.code == "image.needs_vsyscall"
    assert proof.facts["os.glibc"] == "2.12"
