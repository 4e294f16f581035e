"""HTCondor from what the factory signed: the index and its tarball are believed for the signature alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.model import FailureKind
from pilot_agent.startd.choice import NoCondorError
from pilot_agent.startd.sources import CondorRequest, obtain_condor
from pilot_agent.tarballs.index import NodeSystem
from pilot_agent.trust.bundle import Trust
from tests.startd.published import index, tarball
from tests.trust.conftest import Repository


@pytest.fixture
def request_of(repository: Repository, tmp_path: Path) -> CondorRequest:
    """What a pilot asks for, once a tarball and its index were signed and published."""
    shop = tmp_path / "shop"
    one = tarball(shop)
    index(shop, one)
    repository.operator.do("add", "condor", shop / one.file, shop / "index.json")
    repository.publish()
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir(mode=0o700)
    return CondorRequest(
        artifacts=str(artifacts),
        environment={"PATH": "/usr/bin:/bin"},
        node=NodeSystem("debian", "13", (), "x86_64", "2.41"),
        order=("tarball",),
        tarballs="signed",
        trust=Trust(str(repository.bundle), (repository.address,)),
        fetch_seconds=60.0,
    )


def test_an_htcondor_that_was_signed_is_run(request_of: CondorRequest) -> None:
    _, choice = obtain_condor(request_of)
    assert (choice.source, choice.version) == ("tarball", "23.9.6")


@pytest.mark.parametrize("name", ["index.json", ".tar.gz"])
def test_what_was_altered_is_not(request_of: CondorRequest, repository: Repository, name: str) -> None:
    places = (repository.operator.published / "targets/condor").iterdir()
    (path,) = [path for path in places if path.name.endswith(name)]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(NoCondorError) as caught:
        obtain_condor(request_of)
    assert (caught.value.failure.kind, caught.value.failure.code) == (FailureKind.CORRUPTION, "artifact.digest")
