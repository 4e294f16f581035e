"""Where the pilot's own control group is, as recorded nodes show it; dividing it is shown with the kernel's own groups
(``tests/integration/test_job_cgroups.py``)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.startd.job_groups import Undivided, own_group

NODES = Path(__file__).parents[1] / "probes" / "nodes"
ALONE = "0::/system.slice/pilot.service\n"
HYBRID = "4:memory:/batch\n1:name=systemd:/batch\n0::/batch\n"


def found(tmp_path: Path, text: str, group: str) -> str:
    """The answer on a node with these memberships and this group."""
    (tmp_path / "cgroup").write_text(text)
    (tmp_path / "fs" / group).mkdir(parents=True)
    (tmp_path / "fs" / group / "cgroup.procs").touch()
    return own_group(str(tmp_path / "cgroup"), str(tmp_path / "fs")).removeprefix(str(tmp_path / "fs"))


def test_the_own_group_is_where_htcondor_looks_for_it(tmp_path: Path) -> None:
    assert found(tmp_path, ALONE, "system.slice/pilot.service") == "/system.slice/pilot.service"


def test_in_a_namespace_of_its_own_the_group_is_the_mounts_root(tmp_path: Path) -> None:
    assert found(tmp_path, "0::/\n", ".") == ""


@pytest.mark.parametrize(
    ("text", "group"),
    [
        (HYBRID, "batch"),  # HTCondor reads the first line alone
        ("1:name=systemd:/batch\n", "batch"),
        (ALONE, "another"),  # mounted elsewhere, or hidden by a container
        ("0::/../beside\n", "batch"),
        ("0::/gone (deleted)\n", "gone"),
        ("", "batch"),
        ("nonsense\n", "batch"),
    ],
)
def test_a_group_that_htcondor_would_not_find_is_not_divided(tmp_path: Path, text: str, group: str) -> None:
    with pytest.raises(Undivided, match=r"must mount version 2 alone, at that place"):
        found(tmp_path, text, group)


def test_without_proc_there_is_no_group(tmp_path: Path) -> None:
    with pytest.raises(Undivided, match=r"not found there"):
        own_group(str(tmp_path / "none"), str(tmp_path))


VERSION_2_ALONE = (
    *("aarch64_neoverse", "bare_metal_el9", "kubernetes_pod", "mjf_virtual_machine"),
    *("secured_el9_modules", "slurm_cgroup2"),
)


@pytest.mark.parametrize("node", sorted(path.parents[3].name for path in NODES.glob("*/root/proc/self/cgroup")))
def test_of_the_recorded_nodes_those_with_version_2_alone_have_a_group_for_htcondor(node: str, tmp_path: Path) -> None:
    text = (NODES / node / "root/proc/self/cgroup").read_text()
    path = text.splitlines()[-1].partition("::")[2]
    try:
        assert found(tmp_path, text, path.strip("/") or ".") == path.rstrip("/")
    except Undivided:
        assert node not in VERSION_2_ALONE
    else:
        assert node in VERSION_2_ALONE
