"""Nodes that really refuse namespaces or FUSE: each refusal has its code and the change that ends it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.probes import seccomp
from tests.testbed.grid import Grid
from tests.testbed.hosts import Host
from tests.testbed.leftovers import snapshot
from tests.testbed.pilots import INSTALLED
from tests.testbed.trees import PILOT

FILTER = "/var/tmp/seccomp.py"
HELPERS = ("/usr/bin/fusermount3", "/usr/bin/fusermount")
SHELL = ("sh", "-c")
# What user namespaces below this one may have is set in it.
NONE_BELOW = ("unshare", "-Ur", *SHELL, 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "sh")
# One user namespace is left, and this shell takes it.
LAST_ONE = (
    "unshare", "-Ur", *SHELL,
    'echo 1 > /proc/sys/user/max_user_namespaces; exec unshare -U --map-user="$0" --map-group="$0" "$@"',
    str(PILOT.uid),
)  # fmt: skip
NO_NETWORKS = ("unshare", "-Ur", *SHELL, 'echo 0 > /proc/sys/user/max_net_namespaces; exec "$@"', "sh")
# As container runtimes do: a part of /proc is covered, so the kernel gives nobody below a /proc without the cover.
MASKED = (
    "unshare", "-m", *SHELL,
    'mount -t tmpfs -o ro none /proc/sys/kernel && exec setpriv --reuid="$0" --regid="$0" --clear-groups "$@"',
    str(PILOT.uid),
)  # fmt: skip
Json = Any


@pytest.fixture(scope="module")
def node(grid: Grid, payload: Path) -> Iterator[Host]:
    """A worker node with the filter's program."""
    host = grid.wn1
    shutil.copyfile(Path(seccomp.__file__), host.path(FILTER))
    yield host
    host.path(FILTER).unlink()


def probe(host: Host, *wrapper: str, user: str = PILOT.name) -> dict[str, Json]:
    """The facts of user namespaces and FUSE, by name."""
    words = [*wrapper, "python3", f"{INSTALLED}/pilot.pyz", "probe", "userns", "fuse", "--json"]
    done = host.run(words, user=user, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    return {f"{group}.{name}": fact for group in ("userns", "fuse") for name, fact in report["node"][group].items()}


def check(host: Host, *wrapper: str) -> str:
    """What `check` prints for a person, on one line."""
    words = [*wrapper, "python3", f"{INSTALLED}/pilot.pyz", "check", "--set", "site.containers=never"]
    done = host.run(words, user=PILOT.name, cwd="/", env={"COLUMNS": "200"})
    return " ".join(done.stdout.split())


@contextmanager
def changed(host: Host, change: Sequence[str], back: Sequence[str]) -> Iterator[None]:
    """The host after a command of root, until the other one."""
    assert host.run(change).returncode == 0
    try:
        yield
    finally:
        assert host.run(back).returncode == 0


def test_a_good_node_refuses_nothing_and_nothing_is_left(node: Host) -> None:
    probe(node)
    before = snapshot(node)
    known = probe(node)
    assert snapshot(node) == before
    assert all(known["userns.namespaces"]["value"].values()), known
    for name in ("userns.usable", "userns.pid_proc", "fuse.usable", "fuse.userns_mount", "fuse.helper_mount"):
        assert known[name]["value"] is True, known[name]
    for name in ("userns.refusal", "fuse.refusal"):
        assert known[name]["status"] == "absent", known[name]


def test_root_is_told_what_ordinary_accounts_may(node: Host) -> None:
    known = probe(node, user="root")
    assert known["userns.usable"]["source"].endswith("as nobody")
    assert known["fuse.helper_mount"]["value"] is True
    assert known["fuse.userns_mount"]["value"] is True


@pytest.mark.parametrize(
    ("wrapper", "code", "said"),
    [
        (NONE_BELOW, "sysctl.max_user_namespaces", "sysctl -w user.max_user_namespaces=15000"),
        (LAST_ONE, "limit", "the limit of a user namespace around the pilot is used up"),
        (("python3", FILTER, "userns"), "seccomp", "seccomp=unconfined"),
        (("python3", FILTER, "mount"), "seccomp", "refuses mounts"),
    ],
    ids=["sysctl", "limit", "userns-filter", "mount-filter"],
)
def test_refused_user_namespaces_have_their_code_and_change(
    node: Host, wrapper: tuple[str, ...], code: str, said: str
) -> None:
    known = probe(node, *wrapper)
    assert (known["userns.usable"]["value"], known["userns.refusal"]["value"]) == (False, code)
    assert said in known["userns.usable"]["detail"]
    assert known["fuse.userns_mount"]["value"] is False


def test_network_namespaces_may_be_refused_alone(node: Host) -> None:
    known = probe(node, *NO_NETWORKS)
    assert known["userns.usable"]["value"] is True
    assert known["userns.namespaces"]["value"]["net"] is False
    assert "user.max_net_namespaces" in known["userns.namespaces"]["detail"]


def test_a_masked_proc_is_told_apart(node: Host) -> None:
    known = probe(node, *MASKED, user="root")
    assert known["userns.usable"]["value"] is True, known["userns.usable"]
    assert known["userns.pid_proc"]["value"] is False
    assert "procMount: Unmasked" in known["userns.pid_proc"]["detail"]


@pytest.mark.parametrize(
    ("change", "back", "code", "said"),
    [
        (("rm", "/dev/fuse"), ("mknod", "-m", "666", "/dev/fuse", "c", "10", "229"), "device.missing", "modprobe fuse"),
        (("chmod", "600", "/dev/fuse"), ("chmod", "666", "/dev/fuse"), "device.mode", "chmod 0666 /dev/fuse"),
    ],
    ids=["missing", "closed"],
)
def test_without_the_device_there_is_no_fuse(
    node: Host, change: tuple[str, ...], back: tuple[str, ...], code: str, said: str
) -> None:
    with changed(node, change, back):
        known, shown = probe(node), check(node)
    assert (known["fuse.usable"]["value"], known["fuse.refusal"]["value"]) == (False, code)
    assert known["userns.usable"]["value"] is True
    for text in (known["fuse.usable"]["detail"], shown):
        assert said in text


@pytest.mark.parametrize(
    ("change", "back", "code", "said"),
    [
        (
            (*SHELL, "mkdir /var/tmp/away && mv /usr/bin/fusermount* /var/tmp/away"),
            (*SHELL, "mv /var/tmp/away/* /usr/bin && rmdir /var/tmp/away"),
            "helper.missing",
            "apt install fuse3",
        ),
        (("chmod", "u-s", HELPERS[0]), ("chmod", "u+s", HELPERS[0]), "helper.setuid", f"chmod u+s {HELPERS[0]}"),
        (("chmod", "4750", HELPERS[0]), ("chmod", "4755", HELPERS[0]), "helper.mode", f"chmod 4755 {HELPERS[0]}"),
    ],
    ids=["missing", "not-setuid", "closed"],
)
def test_without_the_helper_only_user_namespaces_mount(
    node: Host, change: tuple[str, ...], back: tuple[str, ...], code: str, said: str
) -> None:
    with changed(node, change, back):
        known = probe(node)
        neither = probe(node, *LAST_ONE)
    assert (known["fuse.usable"]["value"], known["fuse.refusal"]["value"]) == (True, code)
    assert known["fuse.helper_mount"]["value"] is False
    assert said in known["fuse.helper_mount"]["detail"]
    assert neither["fuse.usable"]["value"] is False
    # To an account that its user namespace does not map, only the bit is left to see.
    assert neither["fuse.refusal"]["value"] == (code if code != "helper.mode" else "helper.user_namespace")


def test_a_pilot_without_new_privileges_cannot_use_the_helper(node: Host) -> None:
    known = probe(node, "setpriv", "--no-new-privs")
    assert known["fuse.refusal"]["value"] == "helper.no_new_privs"
    assert known["fuse.userns_mount"]["value"] is True


def test_check_shows_a_person_the_change(node: Host) -> None:
    assert "sysctl -w user.max_user_namespaces=15000" in check(node, *NONE_BELOW)
