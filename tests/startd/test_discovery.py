"""HTCondor is found where it is, and what is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.model import FailureKind, PilotError
from pilot_agent.startd.discovery import find_condor
from tests.startd.published import PROGRAMS

FILES = (*PROGRAMS, "lib64/condor/condor_ssh_to_job_sshd_config_template")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x $CondorVersion: 23.9.6 2026-07-12 $")
        path.chmod(0o755)
    return tmp_path


def test_an_installation_is_found_below_the_configured_directory(release: Path) -> None:
    found = find_condor(str(release), {})
    assert found.master == f"{release}/sbin/condor_master"
    assert found.libexec == f"{release}/libexec/condor"
    assert found.lib == f"{release}/lib64/condor"
    assert found.version == "23.9.6"
    assert found.plugins == (f"{release}/libexec/condor/curl_plugin",)


def test_an_installation_is_found_through_the_path(release: Path) -> None:
    assert find_condor(None, {"PATH": f"relative:/nonexistent:{release}/sbin"}).release == str(release)


def test_no_htcondor_is_the_sites_matter(tmp_path: Path) -> None:
    with pytest.raises(PilotError, match="condor_master is not ") as caught:
        find_condor(str(tmp_path), {})
    assert caught.value.failure.kind is FailureKind.NODE_RESOURCE
    assert caught.value.failure.code == "condor.missing"


@pytest.mark.parametrize("name", FILES[1:8])
def test_half_an_installation_names_what_it_lacks(release: Path, name: str) -> None:
    (release / name).unlink()
    with pytest.raises(PilotError) as caught:
        find_condor(str(release), {})
    assert caught.value.failure.code == "condor.incomplete"


def test_an_unreadable_version_is_unknown(release: Path) -> None:
    for name in ("condor_starter", "condor_startd", "condor_master"):
        (release / "sbin" / name).write_text("")
    assert find_condor(str(release), {}).version == "unknown"
