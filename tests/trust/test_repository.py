"""What The Update Framework must keep out (its specification, "Goals to protect against specific attacks"), each tried
against the pilot's client with real HTTP: nothing is left at the place that was asked for."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata

from pilot_agent.model import FailureKind, PilotError
from pilot_agent.trust.bundle import Trust, read_bundle
from pilot_agent.trust.repository import SignedRepository
from tests.trust.conftest import PLUGIN, Repository


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text())
    change(document["signed"])
    path.write_text(json.dumps(document))


def test_what_was_signed_is_fetched(repository: Repository) -> None:
    assert repository.fetch() == b"content"
    assert repository.fetch("config/site.yaml") == b"a: 1"


def test_what_nobody_signs_is_the_configurations_fault(repository: Repository) -> None:
    failure = repository.refused("plugin/atlas/other.tar.gz").failure
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "artifact.missing")


def test_a_vo_that_has_signed_nothing_yet_makes_a_wrong_name_no_corruption(repository: Repository) -> None:
    operator = repository.operator
    operator.do("delegate", "cms", "--public", operator.key("cms"))
    repository.publish()
    assert repository.refused("plugin/atlas/other.whl").failure.code == "artifact.missing"


def test_arbitrary_software_in_the_place_of_an_artifact(repository: Repository) -> None:
    (artifact,) = (repository.operator.published / "targets/plugin/atlas").iterdir()
    artifact.write_text("malware")
    failure = repository.refused().failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.digest")


@pytest.mark.parametrize("role", ["targets", "atlas", "snapshot"])
def test_metadata_that_was_altered(repository: Repository, role: str) -> None:
    operator = repository.operator
    operator.do("add", "config", operator.file("other.yaml", "b: 2"))  # newer than the bundle, so that all is fetched
    repository.publish()
    rewrite(repository.newest(role), lambda signed: signed.update(expires="2099-01-01T00:00:00Z"))
    failure = repository.refused().failure
    assert failure.kind is FailureKind.CORRUPTION
    assert failure.code == "artifact.digest"


def test_a_timestamp_that_was_altered(repository: Repository) -> None:
    repository.publish()
    rewrite(repository.metadata / "timestamp.json", lambda signed: signed.update(expires="2099-01-01T00:00:00Z"))
    failure = repository.refused().failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.unsigned")


def test_rollback_to_what_was_published_before_the_pilot_was_submitted(repository: Repository) -> None:
    """Also for a pilot that never saw the repository: its bundle is the floor."""
    old = (repository.metadata / "timestamp.json").read_bytes()
    repository.publish()
    repository.give_bundle()
    (repository.metadata / "timestamp.json").write_bytes(old)
    failure = repository.refused().failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.rollback")


def test_rollback_of_what_a_vo_signed(repository: Repository) -> None:
    operator = repository.operator
    shutil.copyfile(repository.newest("atlas"), operator.place / "old.json")
    operator.do("add", "plugin", operator.file("probe-2.0.whl"), "--vo", "atlas", keys=operator.place / "atlas")
    repository.publish()
    shutil.copyfile(operator.place / "old.json", repository.newest("atlas"))
    assert repository.refused().failure.kind is FailureKind.CORRUPTION


@pytest.fixture
def expired(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """One whose timestamp has just expired."""
    from artifact_repository import store

    monkeypatch.setattr(store, "LIFETIMES", {**store.LIFETIMES, "timestamp": timedelta(seconds=0)})
    with pytest.raises(AssertionError, match="expired"):  # the tool refuses to make that visible
        repository.publish()
    made = max((repository.operator.repository / "metadata").glob("*.timestamp.json"))
    shutil.copyfile(made, repository.metadata / "timestamp.json")
    return repository


def test_a_repository_that_is_frozen(expired: Repository) -> None:
    failure = expired.refused().failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.expired")
    assert "timer" in failure.hint


def test_a_node_whose_clock_is_ahead_is_told_so_and_believes_nothing_more(expired: Repository) -> None:
    expired.site.late_seconds = 3600
    failure = expired.refused().failure
    assert (failure.kind, failure.code, failure.retry) == (FailureKind.NETWORK, "clock.skew", True)
    assert "s ahead of that server's" in failure.message
    assert "time service" in failure.hint


@pytest.mark.parametrize(("late_seconds", "age_seconds"), [(60, None), (-3600, None), (3600, 7200)])
def test_a_date_that_explains_nothing_is_no_excuse(
    expired: Repository, late_seconds: int, age_seconds: int | None
) -> None:
    """A clock that is nearly right, one that is behind, and an answer that a cache kept."""
    expired.site.late_seconds, expired.site.age_seconds = late_seconds, age_seconds
    assert expired.refused().failure.code == "artifact.expired"


def test_what_is_expired_by_the_servers_clock_too_is_not_the_nodes_fault(expired: Repository) -> None:
    timestamp = expired.metadata / "timestamp.json"
    rewrite(timestamp, lambda signed: signed.update(expires="2020-01-01T00:00:00Z"))
    path = max((expired.operator.repository / "metadata").glob("*.timestamp.json"))
    from artifact_repository.keys import KeyRing

    metadata: Metadata[Any] = Metadata.from_file(str(path))
    metadata.signed.expires = metadata.signed.expires.replace(year=2020)
    metadata.signatures.clear()
    for signer in KeyRing(tuple(expired.operator.keys.glob("timestamp-*.pem"))).signers().values():
        metadata.sign(signer)
    metadata.to_file(str(timestamp))
    expired.site.late_seconds = 3600
    assert expired.refused().failure.code == "artifact.expired"


def test_a_clock_before_the_moment_of_the_bundle_is_wrong(repository: Repository) -> None:
    """Nothing would ever look expired by it."""
    bundle = json.loads(repository.bundle.read_text())
    bundle["made"] = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    repository.bundle.write_text(json.dumps(bundle))
    with pytest.raises(PilotError) as caught:
        Trust(str(repository.bundle), (repository.address,)).repository(str(repository.operator.place), {}, 1e9)
    failure = caught.value.failure
    assert (failure.kind, failure.code) == (FailureKind.NETWORK, "clock.skew")
    assert "behind by" in failure.message


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (404, FailureKind.CONFIG, "artifact.no_repository"),
        (401, FailureKind.CONFIG, "artifact.unauthorized"),
        (403, FailureKind.CONFIG, "artifact.unauthorized"),
        (407, FailureKind.NETWORK, "artifact.proxy_refused"),
    ],
)
def test_an_address_where_nothing_is_published_is_no_corruption(
    repository: Repository, status: int, kind: FailureKind, code: str
) -> None:
    repository.site.refusals["timestamp.json"] = status
    failure = repository.refused().failure
    assert (failure.kind, failure.code) == (kind, code)
    assert str(status) in failure.message
    assert failure.hint


def test_a_mirror_that_lacks_what_it_lists_is_not_believed(repository: Repository) -> None:
    repository.site.refusals["targets.json"] = 404
    failure = repository.refused().failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.incomplete")


def test_parts_of_two_publications(repository: Repository) -> None:
    operator = repository.operator
    old = repository.newest("targets").read_bytes()
    operator.do("add", "config", operator.file("other.yaml", "b: 2"))
    repository.publish()
    repository.newest("targets").write_bytes(old)
    assert repository.refused("config/other.yaml").failure.kind is FailureKind.CORRUPTION


def test_data_without_end(repository: Repository) -> None:
    failure = repository.refused(PLUGIN, f"{repository.address}/endless").failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.too_large")


def test_an_artifact_that_is_longer_than_what_was_signed(repository: Repository) -> None:
    (artifact,) = (repository.operator.published / "targets/plugin/atlas").iterdir()
    artifact.write_text("content and more")
    assert repository.refused().failure.code == "artifact.too_large"


def test_a_root_that_too_few_of_the_old_keys_signed(repository: Repository) -> None:
    """One of the two keys was stolen."""
    operator = repository.operator
    (stolen, _) = sorted(operator.keys.glob("root-*.pem"))
    evil = operator.key("root", "evil")
    from artifact_repository.keys import KeyRing, read_public_key

    signers = KeyRing((stolen, operator.place / "evil")).signers()
    root: Metadata[Any] = Metadata.from_file(str(repository.newest("root")))
    root.signed.version = 2
    root.signed.add_key(read_public_key(evil), "timestamp")
    root.signed.roles["root"].threshold = 1
    root.signatures.clear()
    for signer in signers.values():
        root.sign(signer, append=True)
    root.to_file(str(repository.metadata / "2.root.json"))
    failure = repository.refused().failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.unsigned")


@pytest.mark.parametrize(
    "name",
    [
        *("plugin/cms/probe.whl", "config/cms/pilot.yaml", "images/cms/el9.yaml", "config/pilot.yaml"),
        *("images/all.yaml", "condor/index.json", "plugin/atlas/deep/probe.whl", "payload/pilot.pyz"),
    ],
)
def test_a_vo_that_signs_for_another_or_for_the_factory(repository: Repository, name: str) -> None:
    from artifact_repository.keys import KeyRing
    from artifact_repository.store import Store

    operator = repository.operator
    store = Store(operator.repository, KeyRing((operator.place / "atlas",)).signers())
    with store.edit_targets("atlas") as targets:
        targets.targets[name] = targets.targets[PLUGIN]
    (operator.repository / "targets" / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(operator.repository / "targets" / PLUGIN, operator.repository / "targets" / name)
    with pytest.raises(AssertionError, match="is not what a pilot would be given"):
        repository.publish()
    # An operator without our tool makes it visible all the same.
    for path in (operator.repository / "metadata").glob("*.json"):
        shutil.copyfile(path, repository.metadata / path.name)
    timestamps = (operator.repository / "metadata").glob("*.timestamp.json")
    newest = max(timestamps, key=lambda path: int(path.name.split(".")[0]))
    shutil.copyfile(newest, repository.metadata / "timestamp.json")
    failure = repository.refused(name).failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.delegation")
    assert failure.message == f"{name} is signed by atlas, who may not sign it"
    assert repository.fetch() == b"content"


def test_another_mirror_is_asked_where_one_cannot_be_believed_or_reached(repository: Repository) -> None:
    gone = "http://127.0.0.1:9"
    bad = f"{repository.address}/endless"
    assert repository.fetch(PLUGIN, bad, repository.address) == b"content"
    failure = repository.refused(PLUGIN, bad, f"{repository.address}/nothing").failure
    assert failure.code == "artifact.too_large"
    own = SignedRepository(
        read_bundle(str(repository.bundle)), [gone], str(repository.operator.place), {}, time.monotonic() + 1
    )
    with pytest.raises(PilotError) as caught:
        own.fetch(PLUGIN, str(repository.operator.place / "artifact"), most_bytes=100)
    assert (caught.value.failure.kind, caught.value.failure.retry) == (FailureKind.NETWORK, True)


def test_a_vo_whose_role_is_taken_away_takes_nothing_from_the_pilots_that_are_there(repository: Repository) -> None:
    repository.operator.do("revoke", "atlas")
    repository.publish()
    assert repository.fetch("config/site.yaml") == b"a: 1"
    assert repository.refused(PLUGIN).failure.code == "artifact.missing"


def test_another_mirror_is_asked_where_one_shows_what_was_published_before(repository: Repository) -> None:
    published = repository.operator.published
    shutil.copytree(published, published / "late")
    repository.operator.do("add", "config", repository.operator.file("new.yaml", "b: 2"))
    repository.publish()
    late = f"{repository.address}/late"
    assert repository.refused("config/new.yaml", late).failure.code == "artifact.missing"
    assert repository.fetch("config/new.yaml", late, repository.address) == b"b: 2"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": "pilot-agent/trust/2"}', "\x00", "[" * 100_000])
def test_a_bundle_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trust.json"
    path.write_text(content)
    with pytest.raises(PilotError) as caught:
        read_bundle(str(path))
    assert caught.value.failure.code == "artifact.bundle"


def test_a_bundle_that_holds_no_metadata_is_corrupt(repository: Repository) -> None:
    repository.bundle.write_text('{"schema": "pilot-agent/trust/1", "root": {}, "timestamp": 1, "snapshot": []}')
    assert repository.refused().failure.kind is FailureKind.CORRUPTION
