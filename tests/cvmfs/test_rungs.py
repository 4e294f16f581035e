"""Each way to CVMFS by itself: what allows it, what refuses it and who must act, and when nobody can tell."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pilot_agent.cvmfs.rungs import (
    Grounds,
    Judged,
    judge_container,
    judge_fusermount,
    judge_namespace,
    judge_native,
)
from pilot_agent.model import Fact, Json
from tests.cvmfs.grounds import A, B, configured, known, refused

Facts = dict[str, Fact]
Sections = dict[str, dict[str, Json]]
NO_PLACE = Fact.absent("cvmfs.mount_point", "this node has no /cvmfs")
DEAD = [{"repository": B, "reason": "the client died; the site unmounts it"}]
SCRATCH = [{"path": "/full", "usable": False, "shared": True}, {"path": "/scratch", "usable": True, "shared": False}]
SQUID = {"proxy": "http://squid:3128", "works": False}
SUID = {"path": "/usr/bin/apptainer", "mode": "setuid", "config": {}, "config_path": "/etc/apptainer/apptainer.conf"}
PLAIN = SUID | {"mode": "userns"}


def cut_off(*, outbound: bool) -> Facts:
    """A node on which no proxy works."""
    none = Fact.absent("network.proxy", "no proxy works: squid is down")
    return known(none, network_proxies=[SQUID], network_outbound=outbound)


def judged(
    judge: Callable[[Grounds], Judged], facts: Facts, sections: Sections, workspace: str | None = None
) -> Judged:
    return judge(Grounds(facts, configured(**sections), workspace))


@pytest.mark.parametrize(
    ("facts", "repositories", "allowed", "partial", "said"),
    [
        (known(cvmfs_repositories=[A, B]), [A, B], True, False, f"all of {A}, {B} answer at /cvmfs"),
        (known(cvmfs_repositories=[B]), [], True, False, f"{B} at /cvmfs answers"),
        (known(cvmfs_repositories=[A, B]), [], True, False, f"{A}, {B} at /cvmfs answer"),
        (known(cvmfs_repositories=[]), [], False, False, "no repository is named (cvmfs.repositories) and none"),
        (
            known(cvmfs_repositories=[], cvmfs_refused=DEAD),
            [],
            False,
            False,
            "0 of 1 answer; b.example.org: the client",
        ),
        (
            known(cvmfs_repositories=[A], cvmfs_refused=DEAD),
            [A, B],
            False,
            True,
            f"1 of 2 answer; {B}: the client died",
        ),
        (known(cvmfs_repositories=[]), [A, B], False, False, f"0 of 2 answer; {A}, {B}: not looked at"),
        (known(NO_PLACE, cvmfs_repositories=[]), [A], False, False, "no /cvmfs; the site installs CVMFS's own client"),
        ({}, [A], None, False, "not known: it was not looked at"),
        (known(Fact.unknown("cvmfs.repositories", "not recorded")), [A], None, False, "not known: not recorded"),
    ],
)
def test_what_the_site_has_mounted(
    facts: Facts, repositories: list[Json], allowed: bool | None, partial: bool, said: str
) -> None:
    found = judged(judge_native, facts, {"cvmfs": {"repositories": repositories}})
    assert (found.allowed, found.partial) == (allowed, partial)
    assert said in found.reason


def test_a_long_list_of_repositories_is_cut() -> None:
    many: list[Json] = [f"r{number}.example.org" for number in range(20)]
    found = judged(judge_native, known(cvmfs_repositories=many), {"cvmfs": {"repositories": many}})
    assert "r7.example.org and 12 more answer" in found.reason


@pytest.mark.parametrize(
    ("facts", "allowed", "said"),
    [
        (known(fuse_userns_mount=True), True, "FUSE mounts work in a user namespace; no proxy is known to work"),
        (known(fuse_userns_mount=True, network_proxy="http://squid:3128"), True, "data come through http://squid:3128"),
        (known(fuse_userns_mount=True, userns_pid_proc=False), True, "without a PID namespace"),
        (known(refused("fuse.userns_mount", "the site must set x")), False, "the site must set x"),
        (known(refused("userns.usable", "user.max_user_namespaces is 0")), False, "user.max_user_namespaces is 0"),
        (known(refused("fuse.device", "chmod 0666 /dev/fuse")), False, "chmod 0666 /dev/fuse"),
        (known(refused("fuse.usable", "modprobe fuse")), False, "modprobe fuse"),
        (known(os_kernel="3.10.0-957.el7.x86_64"), False, "the kernel 3.10.0-957.el7.x86_64 has no FUSE in user names"),
        (known(os_kernel="3.10.0-1160.el7.x86_64"), None, "not known"),
        (known(os_kernel="6.1"), None, "not known"),
        ({}, None, "whether FUSE works in a user namespace is not known"),
    ],
)
def test_a_user_namespace(facts: Facts, allowed: bool | None, said: str) -> None:
    found = judged(judge_namespace, facts, {})
    assert found.allowed is allowed
    assert said in found.reason


@pytest.mark.parametrize(
    ("facts", "sections", "allowed", "said"),
    [
        (known(fuse_helper_mount=True, fuse_helper="/bin/fusermount3"), {}, True, "work through /bin/fusermount3"),
        (known(fuse_helper_mount=True), {}, True, "only jobs in containers see it at /cvmfs"),
        (known(refused("fuse.helper_mount", "chmod u+s it")), {}, False, "chmod u+s it"),
        (known(refused("fuse.device", "chmod 0666 /dev/fuse")), {}, False, "chmod 0666 /dev/fuse"),
        (
            known(Fact.absent("fuse.helper", "none was found")),
            {},
            False,
            "none was found; the site installs the package",
        ),
        (known(fuse_helper="/bin/fusermount3"), {}, None, "whether FUSE works through fusermount is not known"),
        ({}, {}, None, "not known"),
        (known(fuse_helper_mount=True), {"site": {"containers": "never"}}, False, "the site site.containers"),
        (known(fuse_helper_mount=True), {"vo": {"containers": "disable_gwms"}}, False, "the VO changes vo.containers"),
        (known(fuse_helper_mount=True), {"containers": {"bind_cvmfs": False}}, False, "containers.bind_cvmfs is false"),
    ],
)
def test_fusermount(facts: Facts, sections: Sections, allowed: bool | None, said: str) -> None:
    found = judged(judge_fusermount, facts, sections)
    assert found.allowed is allowed
    assert said in found.reason


def test_where_every_job_is_in_a_container_nothing_is_said_of_those_that_are_not() -> None:
    found = judged(judge_fusermount, known(fuse_helper_mount=True), {"site": {"containers": "required"}})
    assert found.allowed
    assert "only jobs in containers" not in found.reason


@pytest.mark.parametrize(
    ("facts", "sections", "allowed", "said"),
    [
        (known(software_apptainer=[PLAIN, SUID]), {}, True, "/usr/bin/apptainer is setuid and mounts FUSE"),
        (
            known(software_apptainer=[PLAIN], fuse_userns_mount=True),
            {},
            True,
            "/usr/bin/apptainer and FUSE mounts work",
        ),
        (known(refused("fuse.userns_mount", "set x"), software_apptainer=[PLAIN]), {}, False, "set x"),
        (known(refused("fuse.userns_mount", "set x"), software_apptainer=[SUID]), {}, True, "is setuid"),
        (known(software_apptainer=[PLAIN]), {}, None, "whether FUSE works in a user namespace is not known"),
        (known(refused("fuse.device", "chmod it"), software_apptainer=[SUID]), {}, False, "chmod it"),
        (
            known(software_apptainer=[SUID | {"config": {"enable_fusemount": False}}]),
            {},
            False,
            "enable fusemount = no; the site says yes in /etc/apptainer/apptainer.conf",
        ),
        (known(Fact.absent("software.apptainer", "none found")), {}, False, "none found; the site installs Apptainer"),
        (
            known(refused("fuse.usable", "install fuse3"), fuse_device=True, software_apptainer=[SUID]),
            {},
            True,
            "is setuid and mounts FUSE in containers",
        ),
        (known(refused("fuse.usable", "modprobe fuse"), software_apptainer=[SUID]), {}, False, "modprobe fuse"),
        ({}, {}, None, "which container runtime there is is not known"),
        (known(software_apptainer=[SUID]), {"site": {"containers": "never"}}, False, "the pilot puts none into one"),
    ],
)
def test_the_client_inside_each_container(facts: Facts, sections: Sections, allowed: bool | None, said: str) -> None:
    found = judged(judge_container, facts, sections)
    assert found.allowed is allowed
    assert said in found.reason


@pytest.mark.parametrize("judge", [judge_namespace, judge_fusermount, judge_container])
@pytest.mark.parametrize(
    ("facts", "repositories", "workspace", "said"),
    [
        ({}, [], None, "there is nothing to mount; the VO names repositories in cvmfs.repositories"),
        (known(os_arch="riscv64"), [A], None, "built for x86_64, aarch64, ppc64le, and this node is riscv64"),
        ({}, [A], "/scratch/my pilot", "cvmfsexec cannot work in /scratch/my pilot, a path with blanks"),
        ({}, [A], "/scratch/a'b", "a path with blanks, quotes or the like"),
        (known(disk_candidates=[{"path": "/a,b", "usable": True}]), [A], None, "cannot work in /a,b"),
        (
            known(disk_candidates=[{"path": "/home/p", "usable": True, "shared": True, "type": "nfs4"}]),
            [A],
            None,
            "/home/p is on nfs4; the site puts another directory first in site.scratch",
        ),
        (cut_off(outbound=False), [A], None, "no proxy works: squid is down, and nothing is reached without one"),
    ],
)
def test_whatever_the_pilot_would_mount_itself_is_refused_where_it_cannot_live(
    judge: Callable[[Grounds], Judged], facts: Facts, repositories: list[Json], workspace: str | None, said: str
) -> None:
    able = known(fuse_userns_mount=True, fuse_helper_mount=True, software_apptainer=[SUID])
    found = judged(judge, able | facts, {"cvmfs": {"repositories": repositories}}, workspace)
    assert found.allowed is False
    assert said in found.reason


@pytest.mark.parametrize("judge", [judge_namespace, judge_fusermount, judge_container])
@pytest.mark.parametrize(
    "facts",
    [
        known(os_arch="aarch64"),
        known(disk_candidates=SCRATCH),
        cut_off(outbound=True),
        known(network_outbound=False),
        known(network_outbound=False, network_proxies=[SQUID], network_proxy="http://squid:3128"),
    ],
)
def test_what_only_might_be_in_the_way_refuses_nothing(judge: Callable[[Grounds], Judged], facts: Facts) -> None:
    able = known(fuse_userns_mount=True, fuse_helper_mount=True, software_apptainer=[SUID])
    assert judged(judge, able | facts, {}, "/scratch/pilot-0123abcd").allowed
