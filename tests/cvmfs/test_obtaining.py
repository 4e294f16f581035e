"""A pilot gets the first published client that loads on its node, and every other one has its reason."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.cvmfs.obtaining import (
    DistributionChoice,
    DistributionRequest,
    NoDistributionError,
    consider,
    obtain_distribution,
)
from pilot_agent.model import FailureKind
from pilot_agent.tarballs.index import NodeSystem
from tests.cvmfs.shop import MISSING, index, offer
from tests.startd.test_sources import SERVER

MACHINE = os.uname().machine
NODE = NodeSystem("debian", "12", (), MACHINE, "2.36")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return tmp_path / "shop"


def request(tmp_path: Path, shop: Path, **changes: Any) -> DistributionRequest:
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir(exist_ok=True, mode=0o700)
    base = DistributionRequest(
        artifacts=str(artifacts), environment={"PATH": "/usr/bin:/bin"}, index=str(shop), node=NODE, fetch_seconds=60.0
    )
    return replace(base, **changes)


def taken(tmp_path: Path, shop: Path, **changes: Any) -> DistributionChoice:
    choice = obtain_distribution(request(tmp_path, shop, **changes), str(tmp_path / "cvmfs"))
    assert choice.taken is not None
    assert choice.taken in choice.why
    assert os.access(tmp_path / "cvmfs/mountrepo", os.X_OK)
    assert os.listdir(tmp_path / "artifacts") == []
    return choice


def refused(tmp_path: Path, shop: Path, **changes: Any) -> NoDistributionError:
    with pytest.raises(NoDistributionError) as caught:
        obtain_distribution(request(tmp_path, shop, **changes), str(tmp_path / "cvmfs"))
    assert not (tmp_path / "cvmfs").exists()
    assert caught.value.failure.hint
    assert caught.value.failure.stage == "mount"
    return caught.value


def test_the_nearest_that_loads_is_taken_and_not_the_nearest_by_name(tmp_path: Path, shop: Path) -> None:
    nearest, next_one = offer(shop, f"rhel9-{MACHINE}", needs=MISSING), offer(shop, f"rhel8-{MACHINE}")
    index(shop, nearest, next_one)
    choice = taken(tmp_path, shop)
    assert choice.sha256 == next_one.sha256
    assert [(one.machine_type, one.state) for one in choice.why] == [
        (f"rhel9-{MACHINE}", "refused"),
        (f"rhel8-{MACHINE}", "taken"),
    ]
    assert "needs libpcre2-8.so.9, which this node does not have" in choice.why[0].reason


def test_one_for_another_architecture_is_not_even_fetched(tmp_path: Path, shop: Path) -> None:
    foreign, own = offer(shop, "rhel9-s390x"), offer(shop, f"rhel9-{MACHINE}")
    index(shop, foreign, own)
    (shop / foreign.file).unlink()
    choice = taken(tmp_path, shop)
    assert choice.why[0].reason == f"it is for s390x, and this node is {MACHINE}"


def test_those_that_were_not_needed_are_told_too(tmp_path: Path, shop: Path) -> None:
    nearest, other = offer(shop, f"rhel9-{MACHINE}"), offer(shop, f"rhel8-{MACHINE}")
    index(shop, other, nearest)
    assert [(one.file, one.state, one.reason) for one in taken(tmp_path, shop).why] == [
        (nearest.file, "taken", "its programs load on this node"),
        (other.file, "possible", f"not needed beside {nearest.file}"),
    ]


def test_where_none_loads_the_failure_names_what_each_lacks(tmp_path: Path, shop: Path) -> None:
    index(shop, offer(shop, f"rhel9-{MACHINE}", needs=MISSING), offer(shop, "rhel9-s390x"))
    error = refused(tmp_path, shop)
    assert (error.failure.kind, error.failure.code) == (FailureKind.NODE_RESOURCE, "cvmfs.no_distribution")
    for said in ("libpcre2-8.so.9", "it is for s390x", "no published CVMFS client works on this node"):
        assert said in error.failure.message
    assert [one.state for one in error.choice.why] == ["refused", "refused"]


def test_an_altered_one_decides_the_failure_and_the_next_is_tried(tmp_path: Path, shop: Path) -> None:
    first, second = offer(shop, f"rhel9-{MACHINE}"), offer(shop, f"rhel8-{MACHINE}")
    index(shop, first)
    with (shop / first.file).open("r+b") as file:
        file.write(b"x")
    failure = refused(tmp_path, shop).failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.digest")
    index(shop, first, second)
    assert taken(tmp_path, shop).sha256 == second.sha256


def test_an_empty_index_is_told_as_that(tmp_path: Path, shop: Path) -> None:
    shop.mkdir()
    index(shop)
    assert f"{shop} lists none" in refused(tmp_path, shop).failure.message


def test_an_index_of_another_kind_is_refused_with_the_tool_that_makes_one(tmp_path: Path, shop: Path) -> None:
    shop.mkdir()
    (shop / "index.json").write_text('{"schema": "pilot-agent/condor-index/1", "tarballs": []}')
    failure = refused(tmp_path, shop).failure
    assert failure.code == "artifact.index"
    assert "packaging/cvmfs_distributions.py" in failure.hint


def test_an_address_needs_the_digest_of_its_index(tmp_path: Path, shop: Path) -> None:
    error = refused(tmp_path, shop, index="https://127.0.0.1:1/index.json")
    assert error.failure.code == "artifact.unsigned"
    assert "cvmfs.distributions_sha256" in error.failure.hint
    assert error.choice.why[0].file == "https://127.0.0.1:1/index.json"


def test_plain_http_will_do_for_what_is_pinned_and_is_kept_for_the_next_pilot(tmp_path: Path, shop: Path) -> None:
    wanted = offer(shop, f"rhel9-{MACHINE}")
    digest = index(shop, wanted)
    cache = tmp_path / "cache"
    # A program of its own: with a thread in this process it could not be forked safely.
    command = [sys.executable, "-I", "-c", SERVER]
    with subprocess.Popen(command, cwd=shop, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            address = f"http://127.0.0.1:{int(server.stdout.readline())}/index.json"
            words = {"index": address, "index_sha256": digest, "cache": str(cache)}
            assert taken(tmp_path, shop, **words).sha256 == wanted.sha256
            assert [path.name for path in cache.glob("*.tar")] == [f"{wanted.sha256}.tar"]
            (shop / wanted.file).unlink()
            shutil.rmtree(tmp_path / "cvmfs")
            assert taken(tmp_path, shop, **words).sha256 == wanted.sha256
        finally:
            server.kill()


def test_what_may_be_tried_is_told_without_fetching_anything(tmp_path: Path, shop: Path) -> None:
    far, near = offer(shop, f"rhel8-{MACHINE}"), offer(shop, f"rhel9-{MACHINE}")
    index(shop, far, near, offer(shop, f"rhel10-{MACHINE}", glibc="2.39"))
    for path in shop.glob("*.tar.gz"):
        path.unlink()
    choice = consider(request(tmp_path, shop))
    assert choice.taken is None
    assert [(one.machine_type, one.state) for one in choice.why] == [
        (f"rhel9-{MACHINE}", "possible"),
        (f"rhel8-{MACHINE}", "possible"),
        (f"rhel10-{MACHINE}", "refused"),
    ]
    assert "needs glibc 2.34" in choice.why[0].reason
