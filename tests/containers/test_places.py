"""Where runtimes are looked for, in which order, and what is not touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.containers import places
from pilot_agent.containers.places import Place, Search


def program(path: Path, text: str = "exit 0") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture(autouse=True)
def no_other_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs the tests may have runtimes of its own."""
    monkeypatch.setattr(places, "SYSTEM_DIRECTORY", str(tmp_path / "usr"))
    monkeypatch.setattr(places, "USUAL_CONDOR", ())


def found(**options: object) -> list[tuple[str, str]]:
    path = options.pop("path", "")
    search = Search(environment={"PATH": str(path)}, **options)  # type: ignore[arg-type]
    return [(place.path, place.origin) for place in search.places()]


def test_the_configured_path_comes_first_then_plugins_then_the_places_in_order(tmp_path: Path) -> None:
    configured = program(tmp_path / "opt" / "apptainer")
    offered = program(tmp_path / "plugin" / "apptainer")
    first = program(tmp_path / "a" / "singularity")
    second = program(tmp_path / "b" / "apptainer")
    system = program(tmp_path / "usr" / "apptainer")
    condor = program(tmp_path / "condor" / "libexec" / "apptainer")
    assert found(
        configured=configured,
        offered=((offered, "calibration"),),
        path=f"{tmp_path}/a:{tmp_path}/b",
        condor_directory=str(tmp_path / "condor"),
    ) == [
        (configured, "containers.runtime"),
        (offered, "calibration"),
        (second, "PATH"),
        (first, "PATH"),
        (system, f"{tmp_path}/usr"),
        (condor, "HTCondor"),
    ]


def test_the_order_of_the_configuration_counts_in_any_case_and_leaves_out_what_it_does_not_name(tmp_path: Path) -> None:
    system = program(tmp_path / "usr" / "singularity")
    program(tmp_path / "a" / "apptainer")
    condor = program(tmp_path / "condor" / "usr" / "bin" / "apptainer")
    listed = found(order=["Condor", "SYSTEM"], path=f"{tmp_path}/a", condor_directory=str(tmp_path / "condor"))
    assert listed == [(condor, "HTCondor"), (system, f"{tmp_path}/usr")]


def test_the_installation_of_the_condor_master_on_the_search_path_is_looked_at(tmp_path: Path) -> None:
    program(tmp_path / "htc" / "sbin" / "condor_master")
    bundled = program(tmp_path / "htc" / "usr" / "libexec" / "apptainer")
    (tmp_path / "htc" / "libexec" / "apptainer" / "bin").mkdir(parents=True)
    assert found(order=["condor"], path=f"{tmp_path}/htc/sbin") == [(bundled, "HTCondor")]


def test_two_names_of_one_program_are_asked_once(tmp_path: Path) -> None:
    real = program(tmp_path / "usr" / "apptainer")
    os.symlink("apptainer", tmp_path / "usr" / "singularity")
    assert found(path=tmp_path / "usr") == [(real, "PATH")]
    assert found(configured=real, path=tmp_path / "usr") == [(real, "containers.runtime")]


def test_relative_directories_and_what_cannot_be_run_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "apptainer").write_text("not executable")
    (tmp_path / "b" / "apptainer").mkdir(parents=True)
    assert found(path=f".:bin:{tmp_path}/a:{tmp_path}/b") == []


def test_what_everybody_may_exchange_is_passed_over_and_told(open_path: Path) -> None:
    loose, tight = open_path / "loose", open_path / "tight"
    program(loose / "apptainer")
    program(loose / "condor_master")
    program(open_path / "libexec" / "apptainer")
    loose.chmod(0o777)
    own = program(tight / "singularity")
    search = Search(order=["path", "condor"], environment={"PATH": f"{loose}:{tight}"})
    assert list(search.places()) == [Place(own, "PATH")]
    told = f"PATH or HTCondor's installation ({loose} was passed over: everybody may write to {loose})"
    assert search.described() == told


def test_a_runtime_that_is_named_is_the_choice_of_who_names_it(open_path: Path) -> None:
    named = program(open_path / "loose" / "apptainer")
    (open_path / "loose").chmod(0o777)
    assert found(configured=named) == [(named, "containers.runtime")]


def test_a_configured_path_that_does_not_exist_is_given_so_that_it_can_be_said() -> None:
    assert found(configured="/no/such") == [("/no/such", "containers.runtime")]


def test_later_places_are_not_looked_at_while_nobody_asks(tmp_path: Path) -> None:
    first = program(tmp_path / "usr" / "apptainer")
    log = tmp_path / "log"
    modulecmd = program(tmp_path / "modulecmd", f"echo asked >> {log}")
    search = Search(order=["system", "modules"], environment={"PATH": "/bin"}, site={"MODULES_CMD": modulecmd})
    listed = search.places()
    assert next(listed) == Place(first, f"{tmp_path}/usr")
    assert not log.exists()


def test_cvmfs_is_looked_at_only_when_its_repository_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = program(tmp_path / "cvmfs" / "apptainer")
    monkeypatch.setattr(places, "CVMFS_PLACES", (f"{tmp_path}/cvmfs/none", there))
    assert found(order=["cvmfs"]) == []
    assert found(order=["cvmfs"], repositories=("oasis.opensciencegrid.org",)) == [(there, "CVMFS")]


def test_a_runtime_in_cvmfs_is_looked_for_where_the_pilot_mounted_it(tmp_path: Path) -> None:
    there = program(tmp_path / "oasis.opensciencegrid.org/mis/apptainer/bin/apptainer")
    repositories = ("oasis.opensciencegrid.org",)
    assert found(order=["cvmfs"], repositories=repositories, cvmfs=str(tmp_path)) == [(there, "CVMFS")]


def test_a_search_path_into_a_repository_that_does_not_answer_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def look(path: str) -> bool:
        looked.append(path)
        return False

    monkeypatch.setattr(places, "_is_program", look)
    search = Search(order=["path"], environment={"PATH": "/cvmfs/dead.example.org/bin:/bin"})
    assert list(search.places()) == []
    assert looked == ["/bin/apptainer", "/bin/singularity"]


def test_a_module_brings_the_runtime_that_it_puts_on_the_search_path(tmp_path: Path) -> None:
    brought = program(tmp_path / "sw" / "bin" / "singularity")
    answer = f'test "$3" = singularity && echo "PATH={tmp_path}/sw/bin:/bin; export PATH;"; env > {tmp_path}/env'
    modulecmd = program(tmp_path / "lmod", answer)
    site = {"LMOD_CMD": modulecmd, "MODULEPATH": "/modules", "APPTAINER_BIND": "/etc"}
    search = Search(order=["modules"], environment={"PATH": "/bin:/usr/bin"}, site=site)
    assert list(search.places()) == [Place(brought, "module singularity")]
    assert "MODULEPATH=/modules" in (tmp_path / "env").read_text()
    assert "APPTAINER_BIND" not in (tmp_path / "env").read_text()


def test_where_was_looked_is_told_in_words() -> None:
    assert Search(order=["path", "modules"]).described() == "PATH or environment modules"
    assert Search(configured="/x", order=["cvmfs"]).described() == "containers.runtime or CVMFS"
    assert Search(order=[]).described() == "no place"
