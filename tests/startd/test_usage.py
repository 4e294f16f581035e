"""A job that comes again after it used more than its slot has is held, and no other."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pilot_agent.startd.usage import USAGE_TEXT, usage_text


def held(directory: Path, job: str, *, machine: str = "Memory = 128\nDisk = 1000\n", text: str = "") -> tuple[int, str]:
    program = directory / "usage"
    program.write_text(text or usage_text(memory=True, disk=True))
    if machine:
        (directory / ".machine.ad").write_text(machine)
    done = subprocess.run(
        ["/bin/sh", str(program)], input=job, capture_output=True, text=True, cwd=directory, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "job",
    [
        "",
        "ResidentSetSize_RAW = 131072\nDiskUsage_RAW = 1000\n",
        "ResidentSetSize = 999999\nDiskUsage = 999999\n",
        'ResidentSetSize_RAW = "999999"\n',
        "ResidentSetSize_RAW = 1 + 999999\n",
        "ResidentSetSize_RAW = 9999999999999999999999\n",
        "xResidentSetSize_RAW = 999999\n",
    ],
)
def test_a_job_that_used_no_more_goes_on(tmp_path: Path, job: str) -> None:
    assert held(tmp_path, job) == (0, "")


def test_a_job_that_used_more_memory_is_held_with_the_numbers(tmp_path: Path) -> None:
    code, said = held(tmp_path, "A = 1\nResidentSetSize_RAW = 131073\nDiskUsage_RAW = 5000\nB = 2")
    assert code == 102
    assert said == (
        "HookStatusCode = 102\n"
        'HookStatusMessage = "The job used 129 MiB of memory; its slot has 128 MiB (request_memory)."\n'
    )


def test_a_job_that_used_more_disk_is_held_with_the_numbers(tmp_path: Path) -> None:
    code, said = held(tmp_path, "DiskUsage_RAW = 1001\n")
    assert code == 104
    assert "The job used 1001 KiB of disk; its slot has 1000 KiB (request_disk)." in said


def test_a_forged_line_does_not_hide_what_was_used(tmp_path: Path) -> None:
    job = 'ResidentSetSize_RAW = 999999\nX = "\nResidentSetSize_RAW = 1\n"\n'
    assert held(tmp_path, job)[0] == 102


@pytest.mark.parametrize(("memory", "disk", "code"), [(False, True, 104), (True, False, 102), (False, False, 0)])
def test_each_policy_can_be_off(tmp_path: Path, memory: bool, disk: bool, code: int) -> None:
    job = "ResidentSetSize_RAW = 999999\nDiskUsage_RAW = 999999\n"
    assert held(tmp_path, job, text=usage_text(memory=memory, disk=disk))[0] == code


@pytest.mark.parametrize("machine", ["", "Memory = x\n", "Other = 1\n"])
def test_without_the_slots_sizes_nothing_is_held(tmp_path: Path, machine: str) -> None:
    code, _ = held(tmp_path, "A = 1\n", machine=machine)
    assert code == 0


def test_no_line_of_the_job_is_ever_run(tmp_path: Path) -> None:
    assert held(tmp_path, "ResidentSetSize_RAW = $(touch x)\nDiskUsage_RAW = `touch x`\n* = ;touch x\n") == (0, "")
    assert not (tmp_path / "x").exists()
    assert "eval" not in USAGE_TEXT
