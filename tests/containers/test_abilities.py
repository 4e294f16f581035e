"""What is concluded from how a runtime answers. The real Apptainer's answers are in the testbed's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.containers import tiny_image
from pilot_agent.containers.abilities import AbilityTrial, Established, Known
from pilot_agent.containers.proof import ProofSetting
from pilot_agent.containers.runtime import RuntimeProgram
from tests.containers.runtimes import NO_FUSE, NO_PID_NAMESPACE, NO_USER_NAMESPACE, calls, make_runtime
from tests.needs import need

NO_OVERLAY = (
    'case "$all" in *:/pilot-agent/missing*) '
    'echo "FATAL: while mounting /x: destination /pilot-agent/missing doesn\'t exist in container" >&2; '
    'echo "WARNING: No layer in use (overlay or underlay), check your configuration" >&2; exit 255;; esac'
)
LONG = 60.0
here = pytest.mark.usefixtures("processor_of_the_pilots_sif_file")


@pytest.fixture
def processor_of_the_pilots_sif_file() -> None:
    need(tiny_image.ARCHITECTURE, os.uname().machine == tiny_image.ARCHITECTURE, "run on a machine of this processor")


def tried(
    directory: Path,
    behaviour: str = "",
    *,
    sif: str = "",
    seconds: float = LONG,
    vendors: frozenset[str] = frozenset(),
    known: Known | None = None,
    sif_files: bool = False,
) -> Established:
    """The abilities of a runtime that behaves so."""
    made = make_runtime(directory / "bin", behaviour, sif=sif)
    (directory / "work").mkdir()
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    program = RuntimeProgram(str(made), "apptainer", "1.4.5", (1, 4, 5), "PATH", "apptainer version 1.4.5")
    setting = ProofSetting(program, environment, str(directory / "work"))
    trial = AbilityTrial(setting, vendors, sif_files=sif_files)
    found = trial.finish(known or Known(), seconds=seconds)
    assert list((directory / "work").iterdir()) == []
    return found


def log(directory: Path) -> list[str]:
    return calls(directory / "bin" / "apptainer")


def images(directory: Path) -> list[str]:
    """The names of the images that were run, in order; a run to see whether limits are taken does not count."""
    lines = [line for line in log(directory) if "--memory" not in line]
    return [line.split(" -- ")[1].split()[0].rsplit("/", 1)[-1] for line in lines]


@here
def test_one_run_of_a_sif_file_and_one_in_a_directory_show_nearly_all(tmp_path: Path) -> None:
    found = tried(tmp_path)
    assert found.problem is None
    abilities = found.abilities
    able = ("directories", "sif", "binds")
    assert [getattr(abilities, name).value for name in able] == [True, True, True]
    assert abilities.nv.value is None
    assert "no GPU" in abilities.nv.reason
    assert all(getattr(abilities, name).reason for name in type(abilities).__dataclass_fields__)
    assert sorted(images(tmp_path)) == ["image", "tiny.sif"]


@here
def test_where_a_directory_was_proven_one_run_is_enough(tmp_path: Path) -> None:
    found = tried(tmp_path, known=Known(pid_namespace=True, directories=True))
    assert images(tmp_path) == ["tiny.sif"]
    assert found.abilities.directories.value is True
    assert "of the dictionary" in found.abilities.directories.reason
    assert (found.abilities.sif.value, found.abilities.binds.value) == (True, True)
    assert found.abilities.nested.reason != "not tried"


def test_where_a_sif_file_was_proven_a_directory_shows_the_rest(tmp_path: Path) -> None:
    known = Known(pid_namespace=True, sif=True, sif_reason="one of the dictionary")
    found = tried(tmp_path, known=known, sif_files=True)
    assert images(tmp_path) == ["image"]
    assert (found.abilities.sif.value, found.abilities.sif.reason) == (True, "one of the dictionary")
    assert found.abilities.directories.value is True


@here
def test_where_no_sif_file_of_the_dictionary_was_tried_the_pilots_own_is(tmp_path: Path) -> None:
    found = tried(tmp_path, sif_files=True)
    assert sorted(images(tmp_path)) == ["image", "tiny.sif"]
    assert found.abilities.sif.value is True
    assert any(line.endswith("/exit_37") for line in log(tmp_path))


def test_without_time_nothing_is_run_and_nothing_is_claimed(tmp_path: Path) -> None:
    found = tried(tmp_path, seconds=0)
    assert log(tmp_path) == []
    assert found.abilities.nested.value is None
    assert "time for proofs" in found.abilities.nested.reason


def test_what_proofs_have_shown_is_not_tried_again(tmp_path: Path) -> None:
    known = Known(pid_namespace=True, sif=False, sif_reason="fuse.missing: no FUSE")
    found = tried(tmp_path, known=known, sif_files=True)
    assert (found.abilities.sif.value, found.abilities.sif.reason) == (False, "fuse.missing: no FUSE")
    assert found.abilities.pid_namespace.value is True
    assert "tiny.sif" not in images(tmp_path)


def test_a_runtime_that_cannot_mount_sif_files_runs_directories(tmp_path: Path) -> None:
    found = tried(tmp_path, sif=NO_FUSE)
    assert found.problem is None
    assert found.abilities.sif.value is False
    assert found.abilities.sif.reason.startswith("fuse.missing:")
    assert found.abilities.directories.value is True


def test_where_proc_is_masked_the_rest_is_tried_without_a_pid_namespace(tmp_path: Path) -> None:
    found = tried(tmp_path, NO_PID_NAMESPACE)
    assert found.problem is None
    assert found.abilities.pid_namespace.value is False
    assert "can't mount proc" in found.abilities.pid_namespace.reason
    assert found.abilities.directories.value is True


def test_without_overlay_the_rest_is_tried_without_the_missing_directory(tmp_path: Path) -> None:
    found = tried(tmp_path, NO_OVERLAY)
    assert found.abilities.directories.value is True
    assert found.abilities.bind_anywhere.value is False
    assert found.abilities.bind_anywhere.reason.startswith("apptainer.no_overlay:")


def test_a_runtime_that_runs_nothing_has_a_problem_and_no_known_abilities(tmp_path: Path) -> None:
    found = tried(tmp_path, NO_USER_NAMESPACE)
    assert found.problem is not None
    assert found.problem.code == "userns.disabled"
    assert found.abilities.nested.value is None
    assert "userns.disabled" in found.abilities.nested.reason


def test_a_runtime_that_hangs_is_ended_and_nothing_is_known(tmp_path: Path) -> None:
    found = tried(tmp_path, "exec sleep 600", seconds=0.3)
    assert found.problem is not None
    assert found.problem.code == "container.timeout"
    assert found.abilities.sif.value is None


def test_a_gpu_whose_libraries_are_not_brought_in_is_said_with_what_lacks(tmp_path: Path) -> None:
    found = tried(tmp_path, vendors=frozenset({"amd"}))
    assert found.abilities.nv.value is None
    assert found.abilities.rocm.value is False
    assert "libamdhip64.so" in found.abilities.rocm.reason
    assert any("--rocm" in line.split() for line in log(tmp_path))
    assert not any("--nv" in line.split() for line in log(tmp_path))


@pytest.mark.parametrize("status", [0, 37, 255])
def test_a_status_without_the_mark_is_no_sif_support(tmp_path: Path, status: int) -> None:
    found = tried(tmp_path, f'if [ "$1" = /exit_37 ]; then exit {status}; fi', sif_files=True)
    assert found.abilities.sif.value is False
