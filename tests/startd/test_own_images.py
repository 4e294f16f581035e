"""A job whose own image is cut short learns it before its program begins, and is held when it comes again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pilot_agent.startd.confinement import runtime_text
from pilot_agent.startd.guard import HELD, guard_text
from tests.startd.plans import CONTAINER

VICTIM = "pool.example#7.0#1795302600"
JOB = "pool.example#12.3#1795302691"
CUT = "FATAL:   container creation failed: while loading SIF: the file is cut"
PAGE = "FATAL:   while checking: image format not recognized"
AD = 'JobUniverse = 5\nShouldTransferFiles = "YES"\nGlobalJobId = "{}"\n'

# Fails as the runtime does, for each image as it is told; says what it was called with otherwise.
RUNTIME_PROGRAM = """#!/bin/sh
for word do
    case $word in
        *cut.sif) echo "$0: {said}" >&2; exit 255 ;;
        *hostile.sif)
            printf 'GlobalJobId = "%s"\\n' '{victim}' > "{scratch}/.job.ad"
            ln -s "{scratch}/../precious" "{scratch}/.job_wrapper_failure"
            echo "$0: {said}" >&2; exit 255 ;;
        *other.sif) echo 'FATAL: stat /bin/true: no such file or directory' >&2; exit 255 ;;
    esac
done
printf '<%s>' "$@"
"""


class Place:
    """A pilot's workspace with a job's directory, and both programs of its LIBEXEC."""

    def __init__(self, root: Path, said: str) -> None:
        self.scratch = root / "condor/execute/dir_1"
        self.libexec = root / "private/condor/libexec"
        self.locks = root / "condor/lock"
        for directory in (self.scratch, self.libexec, self.locks):
            directory.mkdir(parents=True)
        tool = root / "tool"
        text = RUNTIME_PROGRAM.replace("{said}", said).replace("{scratch}", str(self.scratch))
        tool.write_text(text.replace("{victim}", VICTIM))
        tool.chmod(0o755)
        (self.libexec / "runtime").write_text(runtime_text(str(tool)))
        (self.libexec / "guard").write_text(guard_text(CONTAINER))
        (self.scratch / ".job.ad").write_text(AD.format(JOB))

    def start(self, shell: str, image: str) -> subprocess.CompletedProcess[str]:
        words = ["-s", "exec", "-B", f"{self.scratch}:/srv", "--", image, "/bin/sh", "-c", "exit 3"]
        command = [shell, str(self.libexec / "runtime"), *words]
        return subprocess.run(command, cwd=self.scratch, capture_output=True, text=True)

    def ask(self, shell: str, job: str = JOB) -> tuple[int, str]:
        command = [shell, str(self.libexec / "guard")]
        done = subprocess.run(command, input=AD.format(job), capture_output=True, text=True)
        assert done.stderr == ""
        return done.returncode, done.stdout

    @property
    def reason(self) -> str:
        path = self.scratch / ".job_wrapper_failure"
        return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize("said", [CUT, PAGE])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_job_with_a_damaged_image_of_its_own_is_held_once(
    tmp_path: Path, shell: str, said: str, absolute: bool
) -> None:
    place = Place(tmp_path, said)
    image = place.scratch / "cut.sif"
    image.write_text("no image")
    assert place.ask(shell) == (0, "")
    assert place.start(shell, str(image) if absolute else image.name).returncode == 255
    assert place.reason.startswith("image.damaged: ")
    assert place.ask(shell, "pool.example#12.4#1795302691") == (0, "")
    code, told = place.ask(shell)
    assert (code, "image.damaged: " in told) == (HELD, True)
    assert place.ask(shell) == (0, "")
    assert list(place.locks.iterdir()) == []


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_program_in_the_image_neither_has_another_job_held_nor_a_file_outside_written(
    tmp_path: Path, shell: str
) -> None:
    """It runs in the job's directory, where the pilot reads the job's name and writes the reason."""
    place = Place(tmp_path, CUT)
    (place.scratch / "hostile.sif").write_text("an image")
    precious = place.scratch.parent / "precious"
    precious.write_text("precious")
    assert place.start(shell, "hostile.sif").returncode == 255
    assert precious.read_text() == "precious"
    assert place.reason.startswith("image.damaged: ")
    assert place.ask(shell, VICTIM) == (0, "")
    assert place.ask(shell)[0] == HELD


@pytest.mark.parametrize("name", ["whole.sif", "other.sif"])
def test_other_images_of_a_job_start_it_as_ever(tmp_path: Path, name: str) -> None:
    place = Place(tmp_path, CUT)
    (place.scratch / name).write_text("an image")
    done = place.start("/bin/sh", str(place.scratch / name))
    expected = f"<-s><exec><-B><{place.scratch}:/srv><--><{place.scratch}/{name}></bin/sh><-c><exit 3>"
    assert done.stdout == (expected if name == "whole.sif" else "")
    assert (place.reason, list(place.locks.iterdir())) == ("", [])


def test_an_image_that_the_job_did_not_transfer_is_not_tried(tmp_path: Path) -> None:
    place = Place(tmp_path, CUT)
    (tmp_path / "cut.sif").write_text("no image")
    assert place.start("/bin/sh", str(tmp_path / "cut.sif")).returncode == 255
    assert (place.reason, list(place.locks.iterdir())) == ("", [])


@pytest.mark.parametrize("name", ["../../../../private/x", "", "a b", "$(id)"])
def test_a_job_without_a_proper_name_is_not_remembered(tmp_path: Path, name: str) -> None:
    place = Place(tmp_path, CUT)
    (place.scratch / "cut.sif").write_text("no image")
    (place.scratch / ".job.ad").write_text(AD.format(name))
    assert place.start("/bin/sh", "cut.sif").returncode == 255
    assert place.reason
    assert place.ask("/bin/sh", name) == (0, "")
    assert list(tmp_path.rglob("*damaged*")) == []
