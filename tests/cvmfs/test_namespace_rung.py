"""The rung taken for real, with a distribution whose commands mount tmpfs."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.cvmfs.distribution import Distribution
from pilot_agent.cvmfs.namespace import join, own_mounts
from pilot_agent.cvmfs.namespace_rung import InNamespace
from pilot_agent.cvmfs.own_rung import Wish
from pilot_agent.lifecycle.processes import descendants
from pilot_agent.lifecycle.subreaper import become_subreaper
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from tests.cvmfs.distributions import CONFIGURATION, make, tell
from tests.probes.namespaced import NOBODY, as_nobody, in_namespace
from tests.probes.seccomp import refuse

A, B = "a.example.org", "b.example.org"
NEW = "/pilot-agent-new"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@pytest.fixture
def place() -> Iterator[Path]:
    """The ordinary account's own directory, with a distribution and a workspace in it."""
    # Not tmp_path: the directories above that are the test account's alone.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        command = make(Path(directory) / "source") / "mountrepo"
        # The copy has nothing but the distribution itself.
        command.write_text(command.read_text().replace("$here/told", f"{directory}/source/told"))
        Path(directory, "workspace").mkdir()
        yield Path(directory)


def left_alone(distribution: Distribution) -> None:
    """Its own settings do."""


def not_writable(distribution: Distribution) -> None:
    raise PilotError(Failure(FailureKind.NODE_RESOURCE, "cvmfs.cache", "no cache here", "the site makes one"))


def rung(
    place: Path,
    *wanted: str,
    told: list[Any] | None = None,
    configure: Callable[[Distribution], None] = left_alone,
) -> InNamespace:
    def tell(name: str, **data: Json) -> None:
        if told is not None:
            told.append([name, data["repository"]])

    wish = Wish(
        source=str(place / "source"),
        workspace=str(place / "workspace"),
        repositories=wanted,
        configure=configure,
        environment=ENVIRONMENT,
        tell=tell,
    )
    return InNamespace(wish, mount_point=NEW)


def give_away(place: Path) -> None:
    """Let it be the ordinary account's."""
    if os.geteuid() == 0:
        for path in (place, *place.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def taken(
    place: Path,
    *wanted: str,
    then: Callable[[InNamespace], Any],
    configure: Callable[[Distribution], None] = left_alone,
) -> Any:
    """The judgement of an ordinary account's rung, and what ``then`` finds afterwards."""
    give_away(place)

    def work() -> Any:
        become_subreaper()
        way = rung(place, *wanted, configure=configure)
        judged = way.take()
        return [asdict(judged), then(way)]

    return as_nobody(work)


def read_inside(way: InNamespace) -> Any:
    assert way.namespaces is not None
    join(way.namespaces)
    return {name: Path(NEW, name, "new_repository").read_text() for name in sorted(os.listdir(NEW))}


def nothing_left(way: InNamespace) -> Any:
    workspace = Path(way._wish.workspace)
    return [way.namespaces is None, list(map(str, workspace.iterdir())), descendants(os.getpid()), os.path.exists(NEW)]


NOTHING = [True, [], [], False]


def test_who_joins_reads_what_was_mounted_and_the_configuration_repository(place: Path) -> None:
    judged, found = taken(place, A, B, then=read_inside)
    assert (judged["allowed"], judged["answering"]) == (True, 2)
    assert found == {name: f"this is {name}\n" for name in (A, B, CONFIGURATION)}


def written(distribution: Distribution) -> None:
    Path(distribution.local_settings).write_text("CVMFS_TIMEOUT=7\n")


def test_the_client_is_configured_in_the_copy_before_anything_is_mounted(place: Path) -> None:
    settings = "etc/cvmfs/default.local"
    tell(place / "source", A, f'grep -q CVMFS_TIMEOUT=7 "$here/dist/{settings}" || exit 23\n')
    judged, _ = taken(place, A, then=lambda way: None, configure=written)
    assert judged["allowed"], judged
    judged, refused = taken(place, A, then=lambda way: dict(way.refused()))
    assert "exited 23" in refused[A], "without them"


def test_a_client_that_cannot_be_configured_mounts_nothing_and_leaves_nothing(place: Path) -> None:
    judged, left = taken(place, A, then=nothing_left, configure=not_writable)
    assert (judged["allowed"], judged["reason"]) == (False, "no cache here; the site makes one")
    assert left == NOTHING


def test_its_facts_speak_of_what_is_inside(place: Path) -> None:
    _, facts = taken(place, A, then=lambda way: [[fact.name, fact.value, fact.where] for fact in way.facts()])
    assert facts == [
        ["cvmfs.repositories", [A], "inside"],
        ["cvmfs.refused", [], "inside"],
        ["cvmfs.revisions", {}, "inside"],
        ["cvmfs.mount_point", NEW, "inside"],
    ]


def test_some_that_cannot_be_mounted_leave_the_others_and_are_told_with_the_reason(place: Path) -> None:
    tell(place / "source", B, "echo 'no such catalog'; exit 16\n")
    judged, (found, refused) = taken(place, A, B, then=lambda way: [read_inside(way), dict(way.refused())])
    assert (judged["allowed"], judged["partial"], judged["answering"]) == (False, True, 1)
    assert sorted(found) == [A, CONFIGURATION]
    assert "mountrepo exited 16" in refused[B]
    assert "no such catalog" in judged["reason"]


def test_what_is_given_back_leaves_nothing(place: Path) -> None:
    def then(way: InNamespace) -> Any:
        before = own_mounts()
        way.give_back()
        return [*nothing_left(way), own_mounts() == before]

    assert taken(place, A, then=then)[1] == [*NOTHING, True]


def test_clients_end_with_what_is_given_back(place: Path) -> None:
    tell(place / "source", A, "setsid sleep 600 < /dev/null > /dev/null 2>&1 &\n")

    def then(way: InNamespace) -> Any:
        before = len(descendants(os.getpid()))
        way.give_back()
        return [before, *nothing_left(way)]

    assert taken(place, A, then=then)[1] == [1, *NOTHING]


def test_a_distribution_that_is_none_is_refused_with_what_to_change(place: Path) -> None:
    (place / "source/mountrepo").unlink()
    judged, (fault, left) = taken(place, A, then=lambda way: [way.fault and way.fault.code, nothing_left(way)])
    assert judged["allowed"] is False
    assert "it has no program mountrepo" in judged["reason"]
    assert fault == "cvmfs.distribution", "and who named it must act, not the site"
    assert left == NOTHING


@pytest.mark.parametrize(
    ("calls", "reason"),
    [
        ("userns", "the node refused a user and a mount namespace: EPERM"),
        ("mount", "the node refused mounts of its own"),
    ],
)
def test_what_the_node_refuses_is_the_reason_and_nothing_is_left(place: Path, calls: str, reason: str) -> None:
    give_away(place)

    def work() -> Any:
        become_subreaper()
        refuse(calls)
        way = rung(place, A)
        judged = way.take()
        return [judged.allowed, judged.reason, dict(way.refused()), nothing_left(way)]

    allowed, said, refused, left = as_nobody(work)
    assert allowed is False
    assert said.startswith(reason)
    assert refused == {A: said}
    assert left == NOTHING


def test_a_node_without_room_for_a_process_is_the_reason_and_nothing_is_left(place: Path) -> None:
    give_away(place)

    def work() -> Any:
        become_subreaper()
        way = rung(place, A)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        judged = way.take()
        return [judged.allowed, judged.reason, nothing_left(way)]

    allowed, said, left = as_nobody(work)
    assert allowed is False
    assert "no process could be started for the copy of" in said
    assert "ulimit -u" in said
    assert left == NOTHING


def test_root_is_refused_before_anything_is_made(place: Path) -> None:
    def work() -> Any:
        judged = rung(place, A).take()
        return [judged.allowed, "as root" in judged.reason, os.listdir(place / "workspace")]

    assert in_namespace(work) == [False, True, []]


def test_events_tell_of_each_repository(place: Path) -> None:
    tell(place / "source", B, "exit 16\n")
    give_away(place)

    def work() -> Any:
        told: list[Any] = []
        rung(place, A, B, told=told).take()
        return told

    assert as_nobody(work) == [
        ["cvmfs.mounted", CONFIGURATION],
        ["cvmfs.mounted", A],
        ["cvmfs.not_mounted", B],
    ]
