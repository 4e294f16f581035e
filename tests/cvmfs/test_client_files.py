"""The client's settings in a distribution, its keys, and a cache that no other pilot has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pilot_agent.cvmfs.client_files import free_mib, install, room_in
from pilot_agent.cvmfs.client_settings import ClientSettings
from pilot_agent.cvmfs.distribution import Distribution
from pilot_agent.model import Fact, Failure, FailureKind, Json, PilotError
from pilot_agent.probes.kernel.namespaces import mount
from tests.cvmfs.distributions import make, write
from tests.cvmfs.grounds import A, configured
from tests.probes.namespaced import in_namespace

PUBLIC = "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n"
LOCAL = "dist/etc/cvmfs/default.local"
SMALL = {"cache_mib": 100, "cache_share": 1}
"""What fits on the disk of whoever runs the tests."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "w")


def installed(root: Path, **cvmfs: Json) -> ClientSettings:
    config = configured(cvmfs={**SMALL, **cvmfs})
    return install(Distribution(str(root)), config, {}, workspace_cache=str(root / "cache"))


def failure(root: Path, **cvmfs: Json) -> Failure:
    with pytest.raises(PilotError) as raised:
        installed(root, **cvmfs)
    return raised.value.failure


def test_the_lines_follow_those_of_the_distribution_and_are_for_this_account_alone(root: Path) -> None:
    write(root / LOCAL, "CVMFS_PAC_URLS=http://grid-wpad/wpad.dat\nCVMFS_HTTP_PROXY=auto")
    done = installed(root, repository_parameters={A: {"CVMFS_TIMEOUT": "3"}})
    lines = (root / LOCAL).read_text().splitlines()
    assert lines[:3] == [
        "CVMFS_PAC_URLS=http://grid-wpad/wpad.dat", "CVMFS_HTTP_PROXY=auto", 'CVMFS_HTTP_PROXY="DIRECT"',
    ]  # fmt: skip
    assert f'CVMFS_CACHE_BASE="{root}/cache"' in lines
    assert done.value("CVMFS_CACHE_BASE") == str(root / "cache")
    assert (root / "cache").is_dir()
    own = root / "dist/etc/cvmfs/config.d" / f"{A}.local"
    assert own.read_text() == 'CVMFS_TIMEOUT="3"\n'
    assert (own.stat().st_mode & 0o777, (root / LOCAL).stat().st_mode & 0o777) == (0o600, 0o600)


def test_what_the_cache_may_take_is_counted_where_it_lies_on_the_disk_of_the_workspace(root: Path) -> None:
    settings = installed(root)
    assert (settings.value("CVMFS_QUOTA_LIMIT"), room_in(str(root), settings)) == ("100", 120)
    assert room_in(str(root / "nowhere"), settings) == 0

    def on_a_disk_of_its_own() -> int:
        mount("none", str(root / "cache"), "tmpfs", 0, "size=1m")
        return room_in(str(root), settings)

    assert in_namespace(on_a_disk_of_its_own) == 0
    alien = installed(root, cache="alien", cache_directory=str(root / "alien"))
    assert (alien.value("CVMFS_QUOTA_LIMIT"), room_in(str(root), alien)) == ("-1", 0)


def test_public_keys_are_put_where_the_client_looks(root: Path, tmp_path: Path) -> None:
    key = write(tmp_path / "a.example.org.pub", PUBLIC)
    installed(root, keys=[str(key)])
    assert (root / "dist/etc/cvmfs/keys/a.example.org.pub").read_text() == PUBLIC


@pytest.mark.parametrize(
    ("name", "text", "mode", "said"),
    [
        ("a.pub", PUBLIC, 0o666, "may be written by everybody"),
        ("a.pub", "-----BEGIN PRIVATE KEY-----\nx\n", 0o600, "is a private key"),
        ("a.pub", "hello", 0o644, "is no public key in PEM form"),
        ("a b.pub", PUBLIC, 0o644, "cannot be a key's name"),
        (".pub", PUBLIC, 0o644, "cannot be a key's name"),
    ],
)
def test_a_key_that_is_none_or_that_others_can_change_is_refused(
    root: Path, open_path: Path, name: str, text: str, mode: int, said: str
) -> None:
    key = write(open_path / name, text, mode=mode)
    refused = failure(root, keys=[str(key)])
    assert (refused.kind, refused.code) == (FailureKind.CONFIG, "cvmfs.keys")
    assert said in refused.message
    assert not (root / LOCAL).exists()


def test_a_key_that_is_missing_or_named_twice_is_refused(root: Path, tmp_path: Path) -> None:
    assert "No such file" in failure(root, keys=[str(tmp_path / "none.pub")]).message
    for place in ("one", "two"):
        write(tmp_path / place / "a.pub", PUBLIC)
    twice = failure(root, keys=[str(tmp_path / "one/a.pub"), str(tmp_path / "two/a.pub")])
    assert "have the same name" in twice.message


OTHER_PILOT = """
import sys
from pilot_agent.cvmfs.client_files import install
from pilot_agent.cvmfs.distribution import Distribution
from tests.cvmfs.grounds import configured
config = configured(cvmfs={"cache_mib": 100, "cache_share": 1, "cache_directory": sys.argv[2]})
settings = install(Distribution(sys.argv[1]), config, {}, workspace_cache="/none")
print(settings.value("CVMFS_CACHE_BASE"), flush=True)
sys.stdin.read()
"""


def test_each_pilot_has_a_cache_of_its_own_and_the_next_one_finds_it_warm(root: Path, tmp_path: Path) -> None:
    caches = tmp_path / "caches"

    def pilot() -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", OTHER_PILOT, str(root), str(caches)]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.getcwd())

    def told(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return Path(process.stdout.readline().strip()).name

    first, second = pilot(), pilot()
    assert {told(first), told(second)} == {"pilot-cache-0", "pilot-cache-1"}
    first.kill()
    first.communicate()
    third = pilot()
    taken = told(third)
    second.communicate("")
    third.communicate("")
    assert sorted(path.name for path in caches.iterdir() if path.is_dir()) == ["pilot-cache-0", "pilot-cache-1"]
    assert taken in ("pilot-cache-0", "pilot-cache-1")


def test_a_cache_that_others_may_fill_is_not_used(root: Path, open_path: Path) -> None:
    open_to_all = open_path / "caches"
    open_to_all.mkdir()
    (open_to_all / "pilot-cache-0").mkdir()
    (open_to_all / "pilot-cache-0").chmod(0o777)
    assert "that others may fill" in failure(root, cache_directory=str(open_to_all)).message


@pytest.mark.parametrize("kind", ["a link", "a link for a lock", "a directory for a lock", "a pipe for a lock"])
def test_what_another_account_put_in_the_place_of_a_cache_is_passed_by(root: Path, open_path: Path, kind: str) -> None:
    everybodys, precious = open_path / "caches", open_path / "home"
    for directory in (everybodys, precious):
        directory.mkdir(mode=0o700)
    everybodys.chmod(0o1777)
    cache = everybodys / "pilot-cache-0"
    lock = everybodys / "pilot-cache-0.lock"
    if kind == "a link":
        cache.symlink_to(precious)
    elif kind == "a link for a lock":
        lock.symlink_to(precious / "lock")
    elif kind == "a directory for a lock":
        lock.mkdir()
    else:
        os.mkfifo(lock)
    # The lock is held to the end of the process.
    argv = [sys.executable, "-c", OTHER_PILOT, str(root), str(everybodys)]
    other = subprocess.run(argv, input="", capture_output=True, text=True, cwd=os.getcwd(), timeout=60, check=True)
    assert other.stdout == f"{everybodys}/pilot-cache-1\n"
    assert list(precious.iterdir()) == []


def test_no_cache_is_made_where_everybody_could_exchange_it(root: Path, open_path: Path) -> None:
    everybodys = open_path / "caches"
    everybodys.mkdir()
    everybodys.chmod(0o777)
    assert "no sticky bit" in failure(root, cache_directory=str(everybodys)).message
    assert list(everybodys.iterdir()) == []


def test_a_shared_cache_whose_manager_everybody_could_be_is_refused(root: Path, open_path: Path) -> None:
    everybodys = open_path / "shared"
    everybodys.mkdir()
    everybodys.chmod(0o1777)
    refused = failure(root, cache="shared", cache_directory=str(everybodys))
    assert "that others may fill" in refused.message
    everybodys.chmod(0o700)
    assert installed(root, cache="shared", cache_directory=str(everybodys)).value("CVMFS_SHARED_CACHE") == "yes"


@pytest.mark.parametrize(("cvmfs", "said"), [({"cache_directory": "/proc/none"}, "/proc/none cannot be made")])
def test_a_directory_that_cannot_be_made_is_the_sites_to_change(root: Path, cvmfs: dict[str, Json], said: str) -> None:
    refused = failure(root, **cvmfs)
    assert (refused.kind, refused.code) == (FailureKind.NODE_RESOURCE, "cvmfs.cache")
    assert said in refused.message


def test_a_workspace_with_a_blank_in_its_path_is_refused(tmp_path: Path) -> None:
    assert "a path with blanks" in failure(make(tmp_path / "a b")).message


def test_a_disk_that_is_too_small_is_refused_with_its_free_space(root: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()

    def work() -> list[str]:
        mount("none", str(small), "tmpfs", 0, "size=300m")
        config = configured(cvmfs={"cache_mib": 4000})
        try:
            install(Distribution(str(root)), config, {}, workspace_cache=str(small / "cache"))
        except PilotError as error:
            return [error.failure.code, error.failure.message]
        return []

    code, message = in_namespace(work)
    assert code == "cvmfs.cache_too_small"
    assert "300 MiB are free" in message
    assert "3201 MiB are needed for 500 MiB of files" in message


def test_what_the_batch_system_allows_counts_in_the_workspace(root: Path, tmp_path: Path) -> None:
    def quota(**cvmfs: Json) -> str | None:
        config, limit = configured(cvmfs={"cache_share": 1, **cvmfs}), Fact("disk.workspace_free_mib", 2200)
        settings = install(Distribution(str(root)), config, {limit.name: limit}, workspace_cache=str(root / "cache"))
        return settings.value("CVMFS_QUOTA_LIMIT")

    assert quota() == "1000"
    assert quota(cache="shared", cache_directory=str(tmp_path / "site"), cache_mib=1500) == "1500"


def test_what_is_free_in_a_directory_that_is_not_there_nobody_can_tell(tmp_path: Path) -> None:
    assert free_mib(str(tmp_path / "none")) is None
