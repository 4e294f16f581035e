"""A proof: what a run must have said to prove an image, and what it tells of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pilot_agent.containers.command import Bind
from pilot_agent.containers.proof import Attempt, Proof, ProofSetting, prepare, read
from pilot_agent.containers.runtime import RuntimeProgram
from pilot_agent.process import Result, run
from tests.containers.runtimes import make_runtime

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
ATTEMPT = Attempt(["apptainer"], "proof-00", "/nowhere")


def setting(tmp_path: Path, binds: tuple[Bind, ...] = ()) -> ProofSetting:
    runtime = make_runtime(tmp_path / "bin")
    program = RuntimeProgram(str(runtime), "apptainer", "1.4.5", (1, 4, 5), "PATH")
    return ProofSetting(program, ENVIRONMENT, str(tmp_path), binds)


def prove(tmp_path: Path, image: str, environment: Mapping[str, str] = ENVIRONMENT) -> Proof:
    attempt = prepare(setting(tmp_path), image, pid_namespace=True)
    try:
        return read(attempt, run(attempt.argv, deadline_seconds=20, environment=environment))
    finally:
        attempt.clear()


def said(*lines: str, errors: str = "", code: int = 0) -> Proof:
    return read(ATTEMPT, Result(("apptainer",), code, stdout="\n".join(lines).encode(), stderr=errors.encode()))


WHOLE = (
    "proof-00 pid 13 1",
    "proof-00 uid_map 1500 1500 1",
    'proof-00 os ID="rocky"',
    'proof-00 os VERSION_ID="9.4"',
    "proof-00 writable /tmp",
    "proof-00 writable /var/tmp",
    "GNU C Library (GNU libc) stable release version 2.34.",
    "Copyright (C) 2021 Free Software Foundation, Inc.",
    "proof-00 end",
)


def test_a_program_that_ran_to_its_end_proves_the_image_and_tells_of_it() -> None:
    proof = said(*WHOLE)
    assert proof.diagnosis is None
    assert proof.facts == {"os.id": "rocky", "os.version": "9.4", "os.glibc": "2.34"}
    assert proof.mode == "userns"
    assert proof.pid_namespace


def test_noise_of_the_image_and_the_runtime_does_no_harm() -> None:
    proof = said("Welcome!", *WHOLE, "Goodbye", "proof-99 os ID=other", errors="WARNING: something\n")
    assert proof.diagnosis is None
    assert proof.facts["os.id"] == "rocky"


def test_an_image_of_a_mount_of_the_account_is_run_from_its_place_and_never_by_a_setuid_runtime(
    tmp_path: Path,
) -> None:
    elsewhere = replace(setting(tmp_path), cvmfs="/w/cvmfs")
    attempt = prepare(elsewhere, "/cvmfs/images.example.org/el9", pid_namespace=True)
    assert "/w/cvmfs/images.example.org/el9" in attempt.argv
    assert attempt.own_mount
    assert not prepare(elsewhere, "/images/el9", pid_namespace=True).own_mount
    setuid = [line.replace("1500 1500 1", "0 0 4294967295").replace("proof-00", attempt.mark) for line in WHOLE]
    result = Result(("apptainer",), 0, stdout="\n".join(setuid).encode())
    proof = read(attempt, result)
    assert proof.diagnosis is not None
    assert (proof.diagnosis.code, proof.diagnosis.scope) == ("image.mounted_by_account", "image")
    assert read(replace(attempt, own_mount=False), result).diagnosis is None


def test_another_c_library_is_told_too() -> None:
    lines = [line for line in WHOLE if not line.startswith("GNU")]
    assert said(*lines[:-1], "musl libc (x86_64)", "Version 1.2.4", lines[-1]).facts["os.musl"] == "1.2.4"


def test_a_process_with_an_ordinary_parent_is_in_no_pid_namespace_of_its_own() -> None:
    assert not said("proof-00 pid 891 875", *WHOLE[1:]).pid_namespace


def test_the_nodes_own_number_map_means_a_setuid_runtime() -> None:
    assert said(WHOLE[0], "proof-00 uid_map 0 0 4294967295", *WHOLE[2:]).mode == "setuid"


def test_an_image_where_jobs_cannot_write_is_not_proven() -> None:
    proof = said(*(line for line in WHOLE if line != "proof-00 writable /var/tmp"))
    assert proof.diagnosis is not None
    assert proof.diagnosis.code == "image.tmp_not_writable"
    assert "/var/tmp" in proof.diagnosis.message


def test_an_image_that_is_unpacked_for_each_job_is_not_proven() -> None:
    proof = said(*WHOLE, errors="INFO:    Converting SIF file to temporary sandbox...\n")
    assert proof.diagnosis is not None
    assert (proof.diagnosis.code, proof.diagnosis.scope) == ("image.unpacked_for_each_job", "sif")


@pytest.mark.parametrize("code", [0, 255])
def test_an_exit_code_without_the_mark_proves_nothing(code: int) -> None:
    proof = said("hello", code=code)
    assert proof.diagnosis is not None
    assert proof.diagnosis.code == "image.not_runnable"


def test_a_program_that_broke_off_proves_nothing() -> None:
    proof = said(*WHOLE[:3], code=137)
    assert proof.diagnosis is not None
    assert "broke off" in proof.diagnosis.message


def test_a_run_that_did_not_end_in_time_is_the_nodes_fault() -> None:
    proof = read(ATTEMPT, Result(("apptainer",), None, signal=9, allowed_seconds=10.0, timed_out=True))
    assert proof.diagnosis is not None
    assert proof.diagnosis.code == "image.timeout"
    assert "10.0 s" in proof.diagnosis.message


def test_a_runtime_that_went_away_is_the_nodes_fault() -> None:
    proof = read(ATTEMPT, Result(("apptainer",), None, error="ENOENT"))
    assert proof.diagnosis is not None
    assert (proof.diagnosis.code, proof.diagnosis.scope) == ("container.not_started", "node")


def test_the_program_really_runs_in_any_shell_and_finds_this_machine(tmp_path: Path) -> None:
    proof = prove(tmp_path, "/images/any")
    assert proof.diagnosis is None
    assert proof.facts["os.id"] == platform.freedesktop_os_release()["ID"]


@pytest.mark.parametrize("image", ["silent", "status255", "noisy", "halfway", "broken"])
def test_an_image_in_which_it_does_not_run_to_its_end_is_not_proven(tmp_path: Path, image: str) -> None:
    assert prove(tmp_path, f"/images/{image}").diagnosis is not None


def test_each_proof_has_a_directory_and_a_mark_of_its_own(tmp_path: Path) -> None:
    first = prepare(setting(tmp_path), "/images/a", pid_namespace=True)
    second = prepare(setting(tmp_path), "/images/a", pid_namespace=True)
    assert first.mark != second.mark
    assert first.scratch != second.scratch
    assert os.stat(first.scratch).st_mode & 0o777 == 0o700
    first.clear()
    second.clear()
    assert not list(tmp_path.glob("proof-*"))


def test_binds_and_options_of_jobs_are_those_of_the_proof(tmp_path: Path) -> None:
    attempt = prepare(setting(tmp_path, (Bind("/data", "/d", read_only=True),)), "/images/a", pid_namespace=False)
    attempt.clear()
    assert "/data:/d:ro" in attempt.argv
    assert "--no-eval" in attempt.argv
    assert "-C" not in attempt.argv
