"""What a job left is looked through before it is sent: links that lead out are removed, the others stay."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pilot_agent.startd.links import LINKS_TEXT
from tests.startd.counting import started_by

NOBODY = 65534


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("secret")
    (tmp_path / "program").write_text(LINKS_TEXT)
    directory = tmp_path / "dir_1"
    (directory / "sub").mkdir(parents=True)
    (directory / "real").write_text("mine")
    return directory


def looked_through(scratch: Path) -> int:
    program = scratch.parent / "program"
    done = subprocess.run(["/bin/sh", program], cwd=scratch, input="Cmd = 1\n", text=True, capture_output=True)
    return done.returncode


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("real2", "real"),
        ("sub/real2", "../real"),
        ("a name with 'quotes'\nand lines", "sub/../real"),
        ("dangling", "not/there"),
    ],
)
def test_a_link_inside_stays(scratch: Path, place: str, target: str) -> None:
    (scratch / place).symlink_to(target)
    assert looked_through(scratch) == 0
    assert os.readlink(scratch / place) == target


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("stolen", "{outside}/token"),
        ("sub/stolen", "../../token"),
        ("sub/a name with 'quotes'\nand lines", "../../token"),
        ("directory", ".."),
        ("through", "dot/../token"),
        ("sibling", "../dir_12"),
        ("system", "/proc/self/environ"),
    ],
)
def test_a_link_that_leads_out_is_removed(scratch: Path, place: str, target: str) -> None:
    (scratch / "dot").symlink_to(".")
    (scratch.parent / "dir_12").mkdir()
    (scratch / place).symlink_to(target.format(outside=scratch.parent))
    assert looked_through(scratch) == 0
    assert not os.path.lexists(scratch / place)
    assert (scratch.parent / "token").read_text() == "secret"


def test_a_directory_that_hides_its_names_is_opened(scratch: Path) -> None:
    (scratch / "sub" / "stolen").symlink_to("/etc/passwd")
    (scratch / "sub").chmod(0o111)
    assert looked_through(scratch) == 0
    assert not os.path.lexists(scratch / "sub" / "stolen")


def test_links_in_a_circle_do_no_harm(scratch: Path) -> None:
    (scratch / "circle").symlink_to("circle")
    (scratch / "up").symlink_to("sub/../up")
    assert looked_through(scratch) == 0


@pytest.mark.parametrize(
    "place", [".hidden", "..hidden", "...", "sub/.hidden", "sub/..hidden", "sub/deep/x", "\udcff\n"]
)
def test_a_link_is_found_under_every_name(scratch: Path, place: str) -> None:
    (scratch / "sub" / "deep").mkdir()
    (scratch / place).symlink_to("/etc/passwd")
    assert looked_through(scratch) == 0
    assert not os.path.lexists(scratch / place)


@pytest.mark.parametrize("mode", [0o000, 0o111, 0o300, 0o444, 0o600])
def test_a_scratch_directory_that_hides_its_names_hides_no_link(scratch: Path, mode: int) -> None:
    (scratch / "stolen").symlink_to("/etc/passwd")
    command = ["/bin/sh", "-c", (scratch.parent / "program").read_text()]
    if os.geteuid() == 0:
        # Modes say nothing to root.
        os.chown(scratch, NOBODY, NOBODY)
        command = ["setpriv", "--reuid", str(NOBODY), "--clear-groups", *command]
    scratch.chmod(mode)
    subprocess.run(command, cwd=scratch, stdin=subprocess.DEVNULL)
    left = scratch.stat().st_mode
    scratch.chmod(0o700)
    assert not (left & 0o100 and os.path.lexists(scratch / "stolen"))


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_what_a_container_of_a_plain_job_leaves_takes_no_process_but_the_program_itself(
    scratch: Path, shell: str
) -> None:
    """The directories that HTCondor 23.9.6 and Apptainer 1.4.5 leave, and one of the job's own."""
    for place in ("tmp", "var_tmp", "scratch/tmp", "scratch/var/tmp", "out/run1"):
        (scratch / place).mkdir(parents=True)
    (scratch / "out" / "run1" / "result").write_text("")
    program = scratch.parent / "program"
    assert started_by([f"/bin/{shell}", program], cwd=scratch) == 0


@pytest.mark.parametrize("depth", range(1, 8))
def test_a_link_is_found_however_deep_it_lies(scratch: Path, depth: int) -> None:
    below = scratch.joinpath(*["d"] * depth)
    below.mkdir(parents=True)
    (below / "stolen").symlink_to("/etc/passwd")
    assert looked_through(scratch) == 0
    assert not os.path.lexists(below / "stolen")


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_plain_files_and_empty_directories_take_no_other_program(scratch: Path, shell: str) -> None:
    (scratch / "sub" / "a file").write_text("")
    (scratch / "-type").write_text("")
    program = scratch.parent / "program"
    environment = {"PATH": "/nowhere", "GLOBIGNORE": "*", "LC_ALL": "C.UTF-8"}
    done = subprocess.run([f"/bin/{shell}", program], cwd=scratch, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    (scratch / "link").symlink_to("..")
    assert subprocess.run([f"/bin/{shell}", program], cwd=scratch, env=environment).returncode == 1
    assert (scratch / "link").is_symlink()
