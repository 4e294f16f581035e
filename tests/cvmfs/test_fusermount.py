"""The rung that the pilot mounts itself, with real mounts in a namespace of the test's own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.codec import from_json, to_json
from pilot_agent.hookspecs import Context
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.journal import Journal, read_journal
from pilot_agent.lifecycle.mounts import mounts_below, unmount_all
from pilot_agent.model import Fact, Failure, FailureKind, Json, Limit
from pilot_agent.plugins.cvmfs import take
from tests.cvmfs.distributions import CONFIGURATION, make, tell
from tests.cvmfs.grounds import A, B, configured, known
from tests.probes.namespaced import in_namespace

ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
MISSING = [{"repository": name, "reason": "no /cvmfs"} for name in (A, B)]


class Ground:
    """A workspace and a distribution, and what was taken on them."""

    def __init__(self, directory: Path) -> None:
        self.workspace = directory / "pilot-1"
        self.workspace.mkdir()
        self.source = make(directory / "source")
        self.journal = str(directory / "journal.jsonl")
        self.events = directory / "events"
        self.limits: list[Limit] = []

    def climb(
        self, then: Callable[[], Any] = lambda: None, native: Json = MISSING, **sections: dict[str, Json]
    ) -> tuple[Any, ...]:
        """The ladder, the facts by name, the failure, and what ``then`` found in the namespace."""
        cvmfs = {"distribution": str(self.source), **sections.pop("cvmfs", {})}
        facts = known(
            Fact.absent("cvmfs.mount_point", "this node has no /cvmfs"),
            cvmfs_repositories=[],
            cvmfs_refused=native,
            fuse_helper_mount=True,
            fuse_userns_mount=False,
            disk_workspace_free_mib=50_000,
        )
        config = configured(cvmfs=cvmfs, **sections)
        context = Context(facts=facts, config=config, workspace=str(self.workspace))

        def work() -> Any:
            taken = take(context, environment=ENVIRONMENT, journal=Journal(self.journal), tell=self.tell)
            return [taken.ladder, to_json(taken.facts), to_json(taken.failure), to_json(taken.limits), then()]

        ladder, found, failure, limits, after = in_namespace(work)
        self.limits = [from_json(Limit, one) for one in limits]
        known_now = {fact.name: fact for fact in (from_json(Fact, one) for one in found)}
        return ladder, known_now, from_json(Failure, failure) if failure else None, after

    def tell(self, name: str, **data: Json) -> None:
        with self.events.open("a") as file:
            file.write(json.dumps([name, data]) + "\n")

    def told(self) -> list[tuple[str, dict[str, Json]]]:
        return [tuple(json.loads(line)) for line in self.events.read_text().splitlines()]

    def mounts(self) -> list[str]:
        return [os.path.basename(mount.path) for mount in mounts_below(str(self.workspace))]


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def states(ladder: Any) -> dict[str, str]:
    return {rung["name"]: rung["state"] for rung in ladder["rungs"]}


def reason(ladder: Any, name: str) -> str:
    return next(str(rung["reason"]) for rung in ladder["rungs"] if rung["name"] == name)


def test_what_is_mounted_is_recorded_proven_and_told(ground: Ground) -> None:
    def recorded() -> list[str]:
        return [entry.path for entry in read_journal(ground.journal).mounts]

    ladder, facts, failure, paths = ground.climb(then=recorded)
    point = f"{ground.workspace}/cvmfs/dist/cvmfs"
    assert failure is None
    assert states(ladder)["fusermount"] == "taken"
    assert reason(ladder, "fusermount").startswith(f"all of {A}, {B} were mounted at {point}")
    assert facts["cvmfs.repositories"].value == [A, B]
    assert facts["cvmfs.refused"].value == []
    assert facts["cvmfs.mount_point"].value == point
    assert paths == [f"{point}/{name}" for name in (CONFIGURATION, A, B)]
    configured, *mounted = ground.told()
    assert (configured[0], configured[1]["settings"]["CVMFS_SHARED_CACHE"]) == ("cvmfs.configured", "yes")
    assert [(name, data["repository"]) for name, data in mounted] == [
        ("cvmfs.mounted", name) for name in (CONFIGURATION, A, B)
    ]
    local = ground.workspace / "cvmfs/dist/etc/cvmfs/default.local"
    assert f'CVMFS_CACHE_BASE="{ground.workspace}/cvmfs/cache"\n' in local.read_text()


def test_jobs_do_not_get_the_disk_that_the_cache_may_fill(ground: Ground) -> None:
    ground.climb(cvmfs={"cache_mib": 100, "cache_share": 1})
    (limit,) = ground.limits
    assert (limit.resource, limit.number, limit.unit) == ("disk.workspace_free_mib", 50_000 - 120, "MiB")
    assert limit.source.startswith("cvmfs.cache_mib")
    ground.climb(cvmfs={"direct": "never"})
    assert ground.limits == []


def test_a_client_that_cannot_be_configured_mounts_nothing_and_says_why(ground: Ground) -> None:
    ladder, _, failure, mounts = ground.climb(then=ground.mounts, cvmfs={"direct": "never"})
    assert (failure, mounts) == (None, [])
    assert states(ladder)["fusermount"] == "refused"
    assert "no proxy for CVMFS is known to work" in reason(ladder, "fusermount")
    assert "cvmfs.proxies" in reason(ladder, "fusermount")


def test_where_cvmfs_is_required_and_no_proxy_works_the_network_is_at_fault_and_no_node(ground: Ground) -> None:
    _, _, failure, _ = ground.climb(cvmfs={"direct": "never", "use": "required"})
    assert failure is not None
    assert (failure.kind, failure.code, failure.exit_code) == (FailureKind.NETWORK, "cvmfs.no_proxy", 65)
    assert failure.retry


def test_the_journal_names_a_mount_before_it_is_there(ground: Ground) -> None:
    spoil(ground, CONFIGURATION, f"cp {ground.journal} {ground.workspace}/seen")
    ground.climb()
    seen = read_journal(str(ground.workspace / "seen")).mounts
    assert [os.path.basename(entry.path) for entry in seen] == [CONFIGURATION, A, B]


def spoil(ground: Ground, repository: str, script: str) -> None:
    """Let the copy's mountrepo run this for a repository: what a test says lies beside the commands, which alone are
    copied."""
    tell(ground.source, repository, script)
    text = (ground.source / "mountrepo").read_text().replace("$here/told", f"{ground.source}/told")
    (ground.source / "mountrepo").write_text(text)


def test_what_is_preferred_and_mounts_in_part_is_taken_as_it_is(ground: Ground) -> None:
    spoil(ground, B, "echo 'signature does not verify' >&2; exit 16")
    ladder, facts, failure, mounts = ground.climb(then=ground.mounts)
    assert failure is None
    assert states(ladder)["fusermount"] == "taken"
    assert reason(ladder, "fusermount").startswith(f"1 of 2 were mounted; {B}: mountrepo exited 16")
    assert facts["cvmfs.repositories"].value == [A]
    (refused,) = facts["cvmfs.refused"].value
    assert (refused["repository"], "signature does not verify" in refused["reason"]) == (B, True)
    assert sorted(mounts) == [A, CONFIGURATION]
    assert ground.told()[-1][0] == "cvmfs.not_mounted"


def test_what_is_required_and_mounts_in_part_ends_the_pilot_with_the_clients_words(ground: Ground) -> None:
    spoil(ground, B, "echo 'signature does not verify' >&2; exit 16")
    ladder, facts, failure, left = ground.climb(
        then=lambda: [ground.mounts(), os.listdir(ground.workspace)], cvmfs={"use": "required"}
    )
    assert failure is not None
    assert (failure.kind, failure.code) == (FailureKind.NODE_RESOURCE, "cvmfs.broken")
    assert "signature does not verify" in failure.message
    assert states(ladder) == {
        "native": "refused", "namespace": "refused", "fusermount": "refused", "container": "unknown", "none": "refused"
    }  # fmt: skip
    assert set(facts) == {"cvmfs.refused"}
    assert left == [[], []]


def test_a_rung_that_fails_is_left_for_the_next_with_its_reason(ground: Ground) -> None:
    spoil(ground, CONFIGURATION, "exit 23")
    ladder, facts, failure, left = ground.climb(then=lambda: os.listdir(ground.workspace))
    assert failure is None
    assert (states(ladder)["fusermount"], states(ladder)["none"]) == ("refused", "taken")
    assert "no proxy was found" in reason(ladder, "fusermount")
    assert facts["cvmfs.refused"].value[0]["reason"].startswith("no /cvmfs; by fusermount: it was not tried without")
    assert left == []


def test_where_the_site_s_own_was_not_looked_at_the_reason_is_that_of_the_rung(ground: Ground) -> None:
    spoil(ground, A, "exit 16")
    spoil(ground, B, "exit 23")
    _, facts, _, _ = ground.climb(native=[], cvmfs={"rungs": ["fusermount"]})
    refused = {one["repository"]: one["reason"] for one in facts["cvmfs.refused"].value}
    assert refused[A].startswith("by fusermount: mountrepo exited 16")
    assert refused[B].startswith("by fusermount: mountrepo exited 23")


@pytest.mark.parametrize("place", ["nowhere", "text"])
def test_a_source_that_is_no_distribution_is_a_reason_and_no_end(ground: Ground, place: str) -> None:
    (ground.workspace.parent / "text").write_text("no archive")
    source = str(ground.workspace.parent / place)
    ladder, facts, failure, _ = ground.climb(cvmfs={"distribution": source})
    assert (failure, states(ladder)["none"]) == (None, "taken")
    assert source in reason(ladder, "fusermount")
    assert source in facts["cvmfs.refused"].value[0]["reason"]


def test_a_source_that_hangs_is_a_reason_and_its_half_copy_is_removed(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = ground.workspace.parent / "hangs"
    os.mkfifo(hangs, 0o600)
    monkeypatch.setattr("pilot_agent.cvmfs.own_rung.LAYOUT_SECONDS", 0.5)
    ladder, _, failure, left = ground.climb(
        then=lambda: os.listdir(ground.workspace), cvmfs={"distribution": str(hangs)}
    )
    assert (failure, states(ladder)["none"]) == (None, "taken")
    assert f"the copy of {hangs} did not end within 0.5 s" in reason(ladder, "fusermount")
    assert left == []


def test_where_cvmfs_is_required_a_wrong_client_is_the_fault_of_who_named_it_and_no_nodes(ground: Ground) -> None:
    source = str(ground.workspace.parent / "nowhere")
    _, _, failure, _ = ground.climb(cvmfs={"distribution": source, "use": "required"})
    assert failure is not None
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "cvmfs.distribution")
    assert failure.hint == "whoever set cvmfs.distribution corrects the path"
    _, _, failure, _ = ground.climb(cvmfs={"keys": [f"{source}.pub"], "use": "required"})
    assert failure is not None
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "cvmfs.keys")


def test_a_second_attempt_does_not_touch_the_first(ground: Ground) -> None:
    (ground.workspace / "cvmfs").mkdir()
    _, facts, _, _ = ground.climb()
    assert facts["cvmfs.mount_point"].value == f"{ground.workspace}/cvmfs.2/dist/cvmfs"


def test_whoever_is_left_after_a_crash_unmounts_by_the_table_alone(ground: Ground) -> None:
    def crash() -> list[Any]:
        before = len(ground.mounts())
        left = unmount_all(str(ground.workspace), [], Budget(60.0))
        return [before, left, ground.mounts()]

    _, _, _, after = ground.climb(then=crash)
    assert after == [3, [], []]
