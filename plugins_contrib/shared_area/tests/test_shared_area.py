"""The shared directory on recorded nodes and on this machine, in the stages of a real pilot."""

from __future__ import annotations

from pathlib import Path

import pytest
from pilot_shared_area.plugin import kind_at, pilot_containers

from pilot_agent.model import PilotError
from pilot_agent.sdk.recorded_nodes import empty_node
from pilot_agent.sdk.rehearsal import Outcome, Rehearsal, rehearse
from pilot_agent.testing import assert_attribute, assert_fact, assert_plugin_ran
from tests.contributed import install

MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 21 0:40 / /shared rw - autofs systemd-1 rw,fd=31
41 40 0:41 / /shared/the\\040area rw shared:9 - nfs4 server:/area rw
broken line
"""


def run(tmp_path: Path, root: str = "/", **options: object) -> Outcome:
    """The stages of a pilot with the plugin."""
    directory = str(install("shared_area", tmp_path / "plugins"))
    wish = Rehearsal(
        plugins=["shared_area"],
        directories=[directory],
        through="advertise",
        root=root,
        options={"shared_area": options},
    )
    return rehearse(wish)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/shared/the area/x", "nfs4"), ("/shared", "autofs"), ("/sharedness", "ext4"), ("/", "ext4")],
)
def test_the_deepest_mount_that_holds_the_path_counts(path: str, kind: str) -> None:
    assert kind_at(MOUNTS, path) == kind


def test_a_table_without_lines_says_nothing() -> None:
    assert kind_at("", "/shared") == "unknown"


def test_on_a_node_that_has_it_jobs_can_ask_for_it(tmp_path: Path) -> None:
    node = empty_node(tmp_path)
    node.write("/proc/self/mountinfo", MOUNTS)
    node.write("/shared/example/file", "")
    outcome = run(tmp_path, str(node.root), path="/shared/example")
    assert_plugin_ran(outcome, "shared_area", "shared_area", "shared_area_kind")
    assert_fact(outcome, "shared_area.kind", "autofs")
    assert_fact(outcome, "shared_area.path", "/shared/example")
    assert_attribute(outcome, "HAS_SHARED_AREA", "/shared/example")
    assert outcome.attributes["SHARED_AREA_FREE_MIB"] > 0


def test_on_this_machine_without_it_the_bind_is_left_out_with_the_reason(tmp_path: Path) -> None:
    outcome = run(tmp_path, path=str(tmp_path / "nowhere"))
    assert_fact(outcome, "shared_area.path", status="absent", detail="No such file")
    assert "HAS_SHARED_AREA" not in outcome.attributes
    assert outcome.container is not None
    [bind] = [one for one in outcome.container.surroundings.binds if "shared_area" in one.asked_by]
    assert (bind.given, bind.read_only) == (False, True)


def test_a_path_that_is_none_is_the_configurations_fault(tmp_path: Path) -> None:
    with pytest.raises(PilotError, match=r"plugins\.options\.shared_area\.inside .*is 'here'") as caught:
        run(tmp_path, inside="here")
    assert caught.value.failure.code == "config.invalid"


def test_jobs_may_find_it_elsewhere_and_write_to_it() -> None:
    options = {"path": "/a", "inside": "/b", "writable": True, "attribute": "X"}
    [request] = pilot_containers({"plugins": {"options": {"shared_area": options}}})
    assert request.binds == ("/a:/b",)
