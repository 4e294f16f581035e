from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes import fuse
from pilot_agent.probes.fuse import closed_to_others, find_helpers, judge, open_device, parse_filesystems, probe_fuse
from pilot_agent.probes.namespaces import Trial, try_fuse_mount
from pilot_agent.probes.node import Node
from tests.probes.namespaced import as_nobody
from tests.probes.trees import context_of, facts, write_tree

REFUSED = Trial("FUSE mount", "EPERM")


def test_a_mount_is_really_made_on_this_machine() -> None:
    assert try_fuse_mount() == Trial()


def test_a_device_closed_to_ordinary_accounts_is_told_with_its_mode(tmp_path: Path) -> None:
    device = tmp_path / "fuse"
    device.write_text("")
    device.chmod(0o600)
    assert "mode 0600" in closed_to_others(str(device))
    device.chmod(0o666)
    assert closed_to_others(str(device)) == ""
    assert closed_to_others(str(tmp_path / "missing")) == ""


def test_an_ordinary_account_gets_the_reason_of_the_kernel(tmp_path: Path) -> None:
    if os.stat(fuse.DEVICE).st_mode & 0o006 == 0o006:
        assert as_nobody(open_device) == ""
    else:
        assert "must set its mode to 0666" in as_nobody(open_device)


def test_a_missing_device_is_the_sites_to_give(tmp_path: Path) -> None:
    assert "load the fuse module" in open_device(str(tmp_path / "fuse"))


def test_a_device_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert "Is a directory" in open_device(str(tmp_path))


@pytest.mark.parametrize(
    ("refused", "trial", "setuid", "root", "usable", "said"),
    [
        ("no device", None, True, False, False, "no device"),
        ("", Trial(), False, False, True, ""),
        ("", REFUSED, True, False, True, "only through the setuid helper"),
        ("", REFUSED, False, True, True, "only through root"),
        ("", REFUSED, False, False, False, "install fuse3"),
    ],
)
def test_fuse_is_usable_by_one_way_or_another(
    refused: str, trial: Trial | None, setuid: bool, root: bool, usable: bool, said: str
) -> None:
    fact = judge(refused, trial, setuid, root=root)
    assert fact.value is usable
    assert said in fact.detail


def test_a_helper_is_found_on_the_path_once_and_version_3_first(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/usr/bin/fusermount3": "", "/usr/bin/fusermount": "", "/opt/fusermount3": ""})
    (tmp_path / "bin").symlink_to("usr/bin")
    found = find_helpers(Node(context.root), "/opt:relative")
    assert list(found) == ["/opt/fusermount3", "/usr/bin/fusermount3", "/usr/bin/fusermount"]
    assert not any(found.values())


def test_only_a_helper_of_root_with_the_setuid_bit_counts(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/usr/bin/fusermount3": ""})
    (tmp_path / "usr/bin/fusermount3").chmod(0o4755)
    assert find_helpers(Node(context.root), "") == {"/usr/bin/fusermount3": os.geteuid() == 0}


def test_a_kernel_without_fuse_is_told_from_a_recording() -> None:
    assert facts(probe_fuse(context_of("pbs_cgroup1")))["fuse.usable"].value is False
    assert facts(probe_fuse(context_of("bare_metal_el9")))["fuse.usable"].status is FactStatus.UNKNOWN


def test_the_list_of_file_systems_is_read() -> None:
    assert parse_filesystems("nodev\tproc\n\text4\n\n") == {"proc", "ext4"}


def test_this_machine_tells_all_four_facts() -> None:
    known = facts(probe_fuse(Context(environment=dict(os.environ))))
    assert set(known) == {"fuse.usable", "fuse.helper", "fuse.device", "fuse.userns_mount"}
    assert known["fuse.usable"].known
    assert asdict(known["fuse.usable"])["value"] is not None
