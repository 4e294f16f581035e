"""The pilot's own rungs mount with a published client, or say why each of those cannot be used here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.cvmfs.ladder import climb
from pilot_agent.cvmfs.supply import named_client, without_client
from pilot_agent.model import FailureKind
from tests.cvmfs.grounds import A, B, configured, known
from tests.cvmfs.shop import MISSING, index, offer
from tests.cvmfs.test_fusermount import Ground, reason, states

MACHINE = os.uname().machine
REQUIRED = {"use": "required"}


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    directory = tmp_path / "shop"
    index(directory, offer(directory, f"rhel9-{MACHINE}", needs=MISSING), offer(directory, f"rhel8-{MACHINE}"))
    return directory


def published(shop: Path, **more: object) -> dict[str, object]:
    return {"distribution": None, "distributions": str(shop), **more}


def test_what_is_published_and_loads_here_is_mounted_with(ground: Ground, shop: Path) -> None:
    ladder, facts, failure, left = ground.climb(
        then=lambda: os.listdir(ground.workspace / "artifacts"), cvmfs=published(shop)
    )
    assert failure is None
    assert states(ladder)["fusermount"] == "taken"
    assert facts["cvmfs.repositories"].value == [A, B]
    assert facts["cvmfs.distribution"].value["machine_type"] == f"rhel8-{MACHINE}"
    told = {one["machine_type"]: one for one in facts["cvmfs.distributions"].value}
    assert "needs libpcre2-8.so.9" in told[f"rhel9-{MACHINE}"]["reason"]
    assert told[f"rhel8-{MACHINE}"]["state"] == "taken"
    assert left == []


def test_where_none_loads_the_rung_is_refused_with_what_is_lacking(ground: Ground, shop: Path) -> None:
    index(shop, offer(shop, f"rhel9-{MACHINE}", needs=MISSING))
    ladder, facts, failure, _ = ground.climb(cvmfs=published(shop))
    assert failure is None
    assert (states(ladder)["fusermount"], states(ladder)["none"]) == ("refused", "taken")
    assert "needs libpcre2-8.so.9, which this node does not have" in reason(ladder, "fusermount")
    assert "packaging/cvmfs_distributions.py" in reason(ladder, "fusermount")
    assert facts["cvmfs.distributions"].value[0]["state"] == "refused"


def test_whoever_requires_cvmfs_ends_there(ground: Ground, shop: Path) -> None:
    index(shop, offer(shop, f"rhel9-{MACHINE}", needs=MISSING))
    _, _, failure, _ = ground.climb(cvmfs=published(shop, **REQUIRED))
    assert failure is not None
    assert (failure.kind, failure.code) == (FailureKind.NODE_RESOURCE, "cvmfs.broken")
    assert "libpcre2-8.so.9" in failure.message


def test_a_client_that_was_altered_is_the_factorys_matter(ground: Ground, shop: Path) -> None:
    for path in shop.glob("*.tar.gz"):
        path.write_bytes(b"x")
    _, _, failure, _ = ground.climb(cvmfs=published(shop, **REQUIRED))
    assert failure is not None
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.digest")


def test_nothing_is_fetched_where_no_rung_needs_it(ground: Ground, shop: Path) -> None:
    (shop / "index.json").unlink()
    ladder, facts, _, _ = ground.climb(cvmfs=published(shop, rungs=["native"]))
    assert states(ladder)["fusermount"] == "refused"
    assert "cvmfs.distributions" not in facts


def test_a_client_beside_the_job_needs_no_network(ground: Ground, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch system puts the files of a job into the directory in which the pilot starts."""
    start = ground.workspace.parent / "start"
    start.mkdir()
    (shop / f"cvmfs-osg-rhel8-{MACHINE}.tar.gz").rename(start / "client.tar.gz")
    monkeypatch.chdir(start)
    ladder, facts, failure, _ = ground.climb(cvmfs={"distribution": "./client.tar.gz"})
    assert failure is None
    assert states(ladder)["fusermount"] == "taken"
    assert facts["cvmfs.repositories"].value == [A, B]


def test_a_plan_on_the_node_tells_of_a_named_client_that_a_pilot_would_refuse(tmp_path: Path) -> None:
    able = known(fuse_helper_mount=True, fuse_userns_mount=True, fuse_helper="/usr/bin/fusermount3", os_arch=MACHINE)
    client = tmp_path / "client.tar.gz"
    config = configured(cvmfs={"repositories": [A], "distribution": str(client)})
    ladder = climb(able, config)
    assert ladder.taken is not None
    missing = named_client(config)
    assert missing is not None
    assert missing.failure is not None
    assert missing.failure.kind is FailureKind.CONFIG
    judged = without_client(ladder, missing.failure)
    assert {name: one.allowed for name, one in judged.items()} == {"namespace": False, "fusermount": False}
    assert judged["namespace"].reason == f"{client} is not there; whoever set cvmfs.distribution corrects the path"
    client.touch(mode=0o644)
    assert named_client(config) is None
