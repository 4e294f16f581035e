"""The first HTCondor that works is run, and the report says why the others were not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.model import FailureKind
from pilot_agent.startd.choice import CondorChoice, NoCondorError
from pilot_agent.startd.discovery import find_condor
from pilot_agent.startd.sources import CondorRequest, obtain_condor
from pilot_agent.tarballs.index import NodeSystem
from tests.startd.published import index, install, tarball

NODE = NodeSystem("debian", "13", (), "x86_64", "2.41")


@pytest.fixture(autouse=True)
def no_htcondor_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilot_agent.startd.discovery.USUAL_SBIN", ("/nonexistent/sbin",))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    directory = tmp_path / "shop"
    index(directory, tarball(directory))
    return directory


def request(tmp_path: Path, **changes: Any) -> CondorRequest:
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir(exist_ok=True, mode=0o700)
    environment = {"PATH": "/usr/bin:/bin"}
    base = CondorRequest(artifacts=str(artifacts), environment=environment, node=NODE, fetch_seconds=60.0)
    return replace(base, **changes)


def taken(tmp_path: Path, **changes: Any) -> CondorChoice:
    paths, choice = obtain_condor(request(tmp_path, **changes))
    assert paths.version == choice.version
    assert os.access(paths.master, os.X_OK)
    assert [one.taken for one in choice.why] == [False] * (len(choice.why) - 1) + [True]
    return choice


def refused(tmp_path: Path, **changes: Any) -> NoCondorError:
    with pytest.raises(NoCondorError) as caught:
        obtain_condor(request(tmp_path, **changes))
    assert not [one for one in caught.value.choice.why if one.taken]
    assert caught.value.failure.hint
    return caught.value


def why(choice: CondorChoice) -> dict[str, str]:
    return {one.source: one.reason for one in choice.why}


def test_the_configured_directory_comes_first_and_the_order_is_the_configurations(tmp_path: Path, shop: Path) -> None:
    mine = str(install(tmp_path / "mine"))
    on_path = {"PATH": f"{install(tmp_path / 'site')}/sbin:/usr/bin:/bin"}
    assert taken(tmp_path, directory=mine, environment=on_path).release == mine
    choice = taken(tmp_path, directory=mine, environment=on_path, order=("Path", "directory"))
    assert (choice.source, choice.release) == ("path", str(tmp_path / "site"))
    choice = taken(tmp_path, directory=mine, tarballs=str(shop), order=("tarball",))
    assert choice.source == "tarball"


def test_a_tarball_of_a_directory_is_unpacked_and_its_digest_reported(tmp_path: Path, shop: Path) -> None:
    choice = taken(tmp_path, tarballs=str(shop))
    assert (choice.source, choice.place, choice.version) == ("tarball", "condor-23.9.6.tar.gz", "23.9.6")
    assert len(choice.sha256) == 64
    assert choice.release.startswith(str(tmp_path / "artifacts"))
    assert "condor_master is not on the search path" in why(choice)["path"]
    assert os.listdir(tmp_path / "artifacts") == [os.path.basename(choice.release)]


@pytest.mark.parametrize(
    ("starter", "said"),
    [
        (b"#!/bin/sh\n# $CondorVersion: 23.9.6\nexit 3\n", "condor_starter exited 3"),
        (b"#!/bin/sh\n# $CondorVersion: 23.9.6\necho '$CondorVersion: 23.9.5 $'\n", "condor_starter says 23.9.5"),
        (b"\x7fELF of another processor $CondorVersion: 23.9.6", "could not be started (ENOEXEC)"),
    ],
)
def test_one_that_does_not_run_here_gives_way_to_the_next(tmp_path: Path, starter: bytes, said: str) -> None:
    directory = tmp_path / "shop"
    index(directory, tarball(directory, "23.9.6", starter=starter), tarball(directory, "23.0.0"))
    choice = taken(tmp_path, tarballs=str(directory), order=("tarball",))
    assert choice.version == "23.0.0"
    assert said in choice.why[0].reason
    failure = refused(tmp_path, tarballs=str(directory), order=("tarball",), version="23.9").failure
    assert failure.code == "condor.unusable"
    assert [path.name.split("-")[1] for path in (tmp_path / "artifacts").iterdir()] == ["23.0.0"]


def test_an_altered_tarball_decides_the_failure_and_the_next_one_is_tried(tmp_path: Path) -> None:
    directory = tmp_path / "shop"
    first, second = tarball(directory, "23.9.6"), tarball(directory, "23.0.0")
    index(directory, first, second)
    with (directory / first.file).open("r+b") as file:
        file.write(b"x")
    choice = taken(tmp_path, tarballs=str(directory), order=("tarball",))
    assert choice.version == "23.0.0"
    assert "the index says" in choice.why[0].reason
    failure = refused(tmp_path, tarballs=str(directory), version="23.9").failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.digest")


def test_where_there_is_none_every_place_is_named(tmp_path: Path) -> None:
    error = refused(tmp_path, directory="/opt/none", cvmfs=("/cvmfs/none.example.org/condor",))
    assert (error.failure.kind, error.failure.code) == (FailureKind.NODE_RESOURCE, "condor.missing")
    for place in ("/opt/none", "search path", "/cvmfs/none.example.org/condor"):
        assert place in error.failure.message
    assert [one.source for one in error.choice.why] == ["directory", "path", "cvmfs"]
    assert "startd.condor_tarballs" in error.failure.hint


def test_one_in_cvmfs_is_taken_from_where_the_pilot_has_mounted_it(tmp_path: Path) -> None:
    mounted = tmp_path / "cvmfs"
    repository = mounted / "condor.example.org"
    release = install(repository / "releases/23.9.6")
    (repository / "current").symlink_to("/cvmfs/condor.example.org/releases/23.9.6")
    (repository / "lost").symlink_to("/cvmfs/condor.example.org/releases/24")
    wanted = ("/cvmfs/condor.example.org/lost", "/cvmfs/condor.example.org/current")
    choice = taken(tmp_path, order=("cvmfs",), cvmfs=wanted, mount_point=str(mounted))
    assert (choice.place, choice.release) == ("/cvmfs/condor.example.org/current", str(release))
    assert f"condor_master is not in {repository}/lost/sbin" in choice.why[0].reason


def test_where_the_repository_of_htcondor_is_not_named_it_says_who_may_name_it(tmp_path: Path) -> None:
    place = ("/cvmfs/none.example.org/condor",)
    said = "a pilot mounts it if the VO adds it to cvmfs.repositories"
    assert said in refused(tmp_path, order=("cvmfs",), cvmfs=place).failure.message
    named = refused(tmp_path, order=("cvmfs",), cvmfs=place, repositories=("none.example.org",)).failure
    assert said not in named.message


def test_half_an_installation_is_what_the_failure_is_about(tmp_path: Path) -> None:
    half = install(tmp_path / "half")
    (half / "bin/condor_ping").unlink()
    failure = refused(tmp_path, directory=str(half)).failure
    assert failure.code == "condor.incomplete"
    assert "condor_ping" in failure.message
    assert "search path" in failure.message


def test_a_version_that_is_not_wanted_is_passed_over(tmp_path: Path, shop: Path) -> None:
    old = str(install(tmp_path / "old", "10.0.9"))
    choice = taken(tmp_path, directory=old, tarballs=str(shop), version="23")
    assert choice.source == "tarball"
    assert "startd.condor_version wants 23" in why(choice)["directory"]
    assert refused(tmp_path, tarballs=str(shop), version="24").failure.code == "condor.missing"


def test_a_directory_whose_programs_do_not_run_is_passed_over(tmp_path: Path, shop: Path) -> None:
    broken = install(tmp_path / "broken")
    (broken / "sbin/condor_startd").write_text("#!/nonexistent/interpreter\n$CondorVersion: 23.9.6 $")
    choice = taken(tmp_path, directory=str(broken), tarballs=str(shop))
    assert "does not run here" in why(choice)["directory"]


def test_a_place_that_hangs_costs_a_deadline_only(tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO that nobody writes to stands for a dead mount."""
    hanging = install(tmp_path / "hanging")
    (hanging / "sbin/condor_starter").unlink()
    os.mkfifo(hanging / "sbin/condor_starter")
    find = find_condor

    def hangs(directory: str | None, environment: Any) -> Any:
        if directory == str(hanging):
            (hanging / "sbin/condor_starter").read_bytes()
        return find(directory, environment)

    monkeypatch.setattr("pilot_agent.startd.sources.find_condor", hangs)
    monkeypatch.setattr("pilot_agent.startd.sources.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("pilot_agent.tarballs.stepping.GRACE_SECONDS", 1.0)
    choice = taken(tmp_path, directory=str(hanging), tarballs=str(shop), order=("directory", "tarball"))
    assert "did not end within" in why(choice)["directory"]


def test_an_index_that_others_may_write_is_believed_only_by_its_digest(tmp_path: Path, shop: Path) -> None:
    digest = index(shop, tarball(shop))
    (shop / "index.json").chmod(0o666)
    shop.chmod(0o777)
    tmp_path.chmod(0o755)
    assert taken(tmp_path, tarballs=str(shop), index_sha256=digest).source == "tarball"
    failure = refused(tmp_path, tarballs=str(shop), index_sha256="0" * 64).failure
    assert failure.code == "artifact.digest"


# A program of its own: with a thread in this process it could not be forked safely.
SERVER = """
import http.server, sys

class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        # As a proxy is asked: the whole address.
        self.path = self.path.removeprefix("http://tarballs.invalid")
        super().do_GET()

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture
def address(shop: Path) -> Iterator[str]:
    """The shop on a web server without encryption."""
    command = [sys.executable, "-I", "-c", SERVER]
    with subprocess.Popen(command, cwd=shop, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/index.json"
        server.kill()


def test_plain_http_will_do_for_what_is_pinned(tmp_path: Path, shop: Path, address: str) -> None:
    digest = index(shop, tarball(shop))
    choice = taken(tmp_path, tarballs=address, index_sha256=digest)
    assert choice.place == "condor-23.9.6.tar.gz"
    # A pilot without a cache keeps no tarball beside what it unpacked.
    assert list((tmp_path / "artifacts").glob("tarballs/*.tar")) == []
    (tmp_path / "other").mkdir()
    cache = str(tmp_path / "cache")
    shared = taken(tmp_path / "other", tarballs=address, index_sha256=digest, cache=cache)
    assert [path.name for path in (tmp_path / "cache").glob("*.tar")] == [f"{shared.sha256}.tar"]


def test_a_proxy_is_asked_for_plain_http(tmp_path: Path, shop: Path, address: str) -> None:
    digest = index(shop, tarball(shop))
    environment = {"PATH": "/usr/bin:/bin", "http_proxy": address.removesuffix("/index.json")}
    far = "http://tarballs.invalid/index.json"
    assert taken(tmp_path, tarballs=far, index_sha256=digest, environment=environment).source == "tarball"


def test_an_address_without_a_pinned_digest_is_not_even_asked(tmp_path: Path) -> None:
    failure = refused(tmp_path, tarballs="https://127.0.0.1:1/index.json").failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.unsigned")
    assert "startd.condor_index_sha256" in failure.hint


def test_another_index_than_the_pinned_one_is_refused(tmp_path: Path, address: str) -> None:
    failure = refused(tmp_path, tarballs=address, index_sha256="0" * 64).failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.digest")


def test_a_server_that_is_not_there_is_the_networks_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilot_agent.containers.store.download.FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("pilot_agent.containers.store.download.LONGEST_PAUSE_SECONDS", 0.01)
    failure = refused(tmp_path, tarballs="http://127.0.0.1:1/index.json", index_sha256="0" * 64).failure
    assert (failure.kind, failure.code) == (FailureKind.NETWORK, "artifact.unreachable")
