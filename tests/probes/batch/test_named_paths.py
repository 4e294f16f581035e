from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.probes.batch.batch import probe_batch
from pilot_agent.probes.batch.named_paths import missing, reachable, read_named
from pilot_agent.probes.node import Node
from tests.probes.trees import facts, write_tree
from tests.probes.written import written_node

ROOT = "20 1 0:19 / / rw - xfs /dev/sda2 rw\n"
MOUNTS = ROOT + "21 20 0:40 / /share rw - nfs4 server:/x rw\n22 20 0:41 / /auto rw - autofs map rw\n"


def hung(root: Path, path: str) -> None:
    """Record that a look at a path did not end."""
    answer = {"value": None, "problem": "killed", "hung": True, "stuck": True, "recorded": True}
    text = json.dumps({"key": ["test", f"reach {path}"], "answer": answer})
    (root / "answers" / f"reach{path.replace('/', '-')}.json").write_text(text)


@pytest.mark.parametrize("path", ["/share/file", "/auto/file", "/link/file"])
def test_what_may_hang_is_not_touched_when_it_did(tmp_path: Path, path: str) -> None:
    files = {"/proc/self/mountinfo": MOUNTS, "/share/file": "x", "/auto/file": "x", "/local/file": "x"}
    context = written_node(tmp_path, {}, {}, files)
    (tmp_path / "root" / "link").symlink_to("local")
    assert read_named(Node.of(context), path) == "x"
    hung(tmp_path, path)
    node = Node.of(context)
    assert (reachable(node, path), read_named(node, path), missing(node, path)) == (False, None, False)


def test_what_is_local_is_read_at_once(tmp_path: Path) -> None:
    node = Node(write_tree(tmp_path, {"/proc/self/mountinfo": MOUNTS, "/spool/file": "x"}).root)
    assert read_named(node, "/spool/file") == "x"
    assert missing(node, "/spool/other")


@pytest.mark.parametrize("path", ["", "relative", "/a\0b"])
def test_what_is_no_absolute_path_is_never_looked_at(tmp_path: Path, path: str) -> None:
    node = Node(str(tmp_path))
    assert (reachable(node, path), read_named(node, path), missing(node, path)) == (False, None, False)


def test_a_dead_mount_costs_only_what_lies_on_it(tmp_path: Path) -> None:
    environment = {"JOB_ID": "1", "SGE_ROOT": "/share/sge", "NSLOTS": "4", "JOBFEATURES": "/share/features"}
    environment |= {"PE_HOSTFILE": "/share/spool/pe", "SGE_JOB_SPOOL_DIR": "/share/spool"}
    files = {"/proc/self/mountinfo": MOUNTS, "/share/features/allocated_cpu": "2", "/share/spool/pe": "a 3 q U"}
    context = written_node(tmp_path, environment, {}, files)
    for path in ("/share/spool", "/share/spool/pe", "/share/features"):
        hung(tmp_path, path)
    known = facts(probe_batch(context))
    assert (known["batch.system"].value, known["batch.cores"].value) == ("sge", 4)
    assert known["batch.features"].value is None


def test_a_link_on_this_machine_is_looked_at_in_a_child(tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "hs06").write_text("10\n")
    (tmp_path / "link").symlink_to(tmp_path / "features")
    known = facts(probe_batch(Context(environment={"MACHINEFEATURES": str(tmp_path / "link")})))
    assert known["batch.features"].value["machine"] == {"hs06": 10}
