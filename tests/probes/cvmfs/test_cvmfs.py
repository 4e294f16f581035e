from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes.cvmfs.cvmfs import configured_repositories, cvmfs_facts, probe_cvmfs
from pilot_agent.probes.cvmfs.cvmfs_client import parse_breadcrumb, parse_client_version
from pilot_agent.probes.kernel.namespaces import mount
from pilot_agent.probes.recording import finish_recording
from tests.probes.hanging_fuse import hanging_mount
from tests.probes.namespaced import in_namespace
from tests.probes.trees import context_of, facts
from tests.probes.written import written_node

AUTOFS = "40 22 0:44 / /cvmfs rw shared:20 - autofs /etc/auto.cvmfs rw\n"


def test_a_recorded_worker_node_is_told_in_full() -> None:
    known = facts(probe_cvmfs(context_of("cvmfs_worker")))
    assert known["cvmfs.configured"].value == [
        "grid.example.org",
        "dead.example.org",
        "hung.example.org",
        "offline.example.org",
        "config.example.org",
    ]
    assert known["cvmfs.configured"].source == "/etc/cvmfs/default.local, /etc/cvmfs/config.d"
    assert known["cvmfs.domains"].value == ["example.org"]
    assert known["cvmfs.autofs"].value is True
    assert known["cvmfs.writable"].value is False
    assert known["cvmfs.client"].value == "2.12.0.0"
    mounts = {entry["repository"]: entry for entry in known["cvmfs.mounts"].value}
    assert {name: entry["state"] for name, entry in mounts.items()} == {
        "config.example.org": "ok",
        "grid.example.org": "ok",
        "dead.example.org": "broken",
        "hung.example.org": "hung",
        "offline.example.org": "io_error",
    }
    good = mounts["grid.example.org"]
    assert (good["revision"], good["proxy"], good["io_errors"]) == (81234, "http://squid1.example.org:3128", 2)
    assert good["published"] == 1760000000
    assert "published" not in mounts["offline.example.org"]


def test_the_detail_says_who_must_do_what() -> None:
    detail = facts(probe_cvmfs(context_of("cvmfs_worker")))["cvmfs.mounts"].detail
    assert "dead.example.org is broken" in detail
    assert "`umount -l /cvmfs/dead.example.org`; the next access mounts it again" in detail
    assert "echo 1 > /sys/fs/fuse/connections/48/abort" in detail
    assert "host returned HTTP error" in detail
    assert "grid.example.org is" not in detail


def test_a_repository_that_was_not_recorded_is_unknown() -> None:
    context = context_of("cvmfs_worker", {"cvmfs": {"repositories": ["other.example.org"]}})
    (entry,) = [
        entry
        for entry in facts(probe_cvmfs(context))["cvmfs.mounts"].value
        if entry["repository"] == "other.example.org"
    ]
    assert entry["state"] == "unknown"
    assert "not recorded" in entry["reason"]


def test_a_node_without_cvmfs_has_none() -> None:
    known = facts(probe_cvmfs(context_of("bare_metal_el9")))
    assert known["cvmfs.configured"].status is FactStatus.ABSENT
    assert known["cvmfs.client"].status is FactStatus.ABSENT
    assert known["cvmfs.mounts"].status is FactStatus.UNKNOWN
    assert known["cvmfs.writable"].status is FactStatus.UNKNOWN


def test_autofs_that_does_not_run_is_told_from_its_map(tmp_path: Path) -> None:
    files = {
        "/proc/self/mountinfo": "22 1 8:2 / / rw - xfs /dev/sda2 rw\n",
        "/etc/auto.master.d/cvmfs.autofs": "/cvmfs /etc/auto.cvmfs\n",
    }
    fact = facts(probe_cvmfs(written_node(tmp_path, {}, {}, files)))["cvmfs.autofs"]
    assert fact.value is False
    assert "systemctl restart autofs" in fact.detail


def test_the_installed_client_is_asked_where_nothing_is_mounted(tmp_path: Path) -> None:
    files = {"/usr/bin/cvmfs2": "", "/proc/self/mountinfo": AUTOFS}
    context = written_node(tmp_path, {}, {("/usr/bin/cvmfs2", "--version"): "CernVM-FS version 2.11.2\n"}, files)
    fact = facts(probe_cvmfs(context))["cvmfs.client"]
    assert (fact.value, fact.source) == ("2.11.2", "/usr/bin/cvmfs2 --version")


def test_a_client_that_does_not_say_its_version_is_unknown(tmp_path: Path) -> None:
    context = written_node(tmp_path, {}, {}, {"/usr/bin/cvmfs2": "", "/proc/self/mountinfo": AUTOFS})
    assert facts(probe_cvmfs(context))["cvmfs.client"].status is FactStatus.UNKNOWN


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d0a1b2c3dT1760000000", 1760000000),
        ("9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d0a1b2c3d-shake128T1760000000R17\n", 1760000000),
        ("9b1deb4d3b7d4bad9bdd2b0d7b3dcb6d0a1b2c3d", None),
        ("T1760000000", None),
        ("", None),
    ],
)
def test_the_time_of_publication_is_in_the_cache(text: str, seconds: int | None) -> None:
    assert parse_breadcrumb(text) == seconds


def test_a_version_is_found_or_not() -> None:
    assert parse_client_version("CernVM-FS version 2.12.0\n") == "2.12.0"
    assert parse_client_version("CernVM-FS") is None


@pytest.mark.parametrize("config", [{}, {"cvmfs": None}, {"cvmfs": {"repositories": "a.b"}}, {"cvmfs": {"use": 1}}])
def test_a_configuration_without_repositories_names_none(config: dict[str, Any]) -> None:
    assert configured_repositories(config) == ()


def test_this_machine_is_told_with_nothing_mounted() -> None:
    known = facts(probe_cvmfs(Context()))
    assert known["cvmfs.mounts"].known
    assert known["cvmfs.autofs"].value is False


def test_a_node_with_a_hung_mount_gives_all_facts_and_the_same_from_its_recording(tmp_path: Path) -> None:
    recording = tmp_path / "recording"
    recording.mkdir()
    config = {"cvmfs": {"repositories": ["absent.example.org"]}}

    def work() -> Any:
        # The directory is made in a file system of the namespace's own.
        mount("tmpfs", "/mnt", "tmpfs", 0)
        with (
            hanging_mount("/mnt/hung.example.org") as hung,
            hanging_mount("/mnt/dead.example.org") as dead,
            hanging_mount("/mnt/good.example.org", {"user.version": "2.12.0.0", "user.revision": "5"}),
        ):
            hung.become("silent")
            dead.die()
            known = facts(cvmfs_facts(Context(config=config, record=str(recording)), "/mnt", 3.0))
            return [known["cvmfs.mounts"].value, known["cvmfs.client"].value, known["cvmfs.writable"].value]

    mounts, client, writable = in_namespace(work)
    assert [(entry["repository"], entry["state"]) for entry in mounts] == [
        ("hung.example.org", "hung"),
        ("dead.example.org", "broken"),
        ("good.example.org", "ok"),
        ("absent.example.org", "missing"),
    ]
    assert (client, writable) == ("2.12.0.0", True)
    finish_recording(str(recording), {}, {})
    assert json.loads((recording / "recording.json").read_text())["origin"] == "recorded"

    known = facts(cvmfs_facts(Context(root=str(recording), config=config), "/mnt", 3.0))
    assert known["cvmfs.mounts"].value == mounts
    assert [known["cvmfs.client"].value, known["cvmfs.writable"].value] == [client, writable]
