"""Images over https://, from a real server that does what servers do."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from pilot_agent.containers.store.errors import StoreError
from pilot_agent.containers.store.store import Store
from pilot_agent.model import FailureKind
from tests.containers.store.setting import DIGEST, ENVIRONMENT, SIF, Server, https_server, left, make_store


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilot_agent.containers.store.download.FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("pilot_agent.containers.store.download.LONGEST_PAUSE_SECONDS", 0.01)


def refused(store: Store, reference: str, **options: object) -> StoreError:
    """The error of a fetch; nothing is left of it."""
    with pytest.raises(StoreError) as caught:
        store.fetch(reference, **options)  # type: ignore[arg-type]
    assert store.list() == []
    assert left(store) == []
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("path", ["good.sif", "moved", "chunked", "resumed", "restarted", "wrong-part", "busy-once"])
def test_a_file_is_fetched_whole(server: Server, tmp_path: Path, path: str) -> None:
    store = make_store(tmp_path)
    image = store.fetch(server.url(path))
    assert Path(image.path).read_bytes() == SIF
    assert (image.form, image.digest, image.size, image.shared) == ("file", DIGEST, len(SIF), False)
    assert left(store) == []


def test_what_is_missing_after_a_break_is_asked_for_alone(server: Server, tmp_path: Path) -> None:
    make_store(tmp_path).fetch(server.url("resumed"), digest=DIGEST)
    assert server.requests == ["/resumed -", f"/resumed bytes={len(SIF) // 2}-"]


def test_a_file_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    first = store.fetch(server.url("good.sif"))
    second = store.fetch(server.url("good.sif"))
    assert (first.shared, second.shared, second.path, second.digest) == (False, True, first.path, DIGEST)
    assert len(server.requests) == 1


def test_a_file_without_a_length_is_taken_only_with_a_digest(server: Server, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    assert refused(store, server.url("unbounded")).code == "image.no_length"
    assert Path(store.fetch(server.url("unbounded"), digest=DIGEST).path).read_bytes() == SIF


def test_only_the_account_itself_can_read_the_store(server: Server, tmp_path: Path) -> None:
    image = make_store(tmp_path).fetch(server.url("good.sif"))
    assert stat.S_IMODE(os.stat(tmp_path / "images").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(image.path).st_mode) == 0o600


@pytest.mark.parametrize(
    ("path", "code", "kind", "temporary"),
    [
        ("html", "image.format", FailureKind.CONFIG, False),
        ("tiny", "image.format", FailureKind.CONFIG, False),
        ("missing", "image.missing", FailureKind.CONFIG, False),
        ("private", "image.unauthorized", FailureKind.CREDENTIAL, False),
        ("loop", "image.redirects", FailureKind.CONFIG, False),
        ("downgrade", "image.not_https", FailureKind.CONFIG, False),
        ("nowhere", "image.redirects", FailureKind.CONFIG, False),
        ("broken", "image.server_error", FailureKind.NETWORK, True),
        ("truncated", "image.truncated", FailureKind.NETWORK, True),
        ("huge", "disk.full", FailureKind.NODE_RESOURCE, True),
    ],
)
def test_what_is_not_had_says_why_and_for_whom(
    server: Server, tmp_path: Path, path: str, code: str, kind: FailureKind, temporary: bool
) -> None:
    error = refused(make_store(tmp_path), server.url(path))
    assert (error.code, error.kind, error.temporary) == (code, kind, temporary)
    assert "localhost" in error.message or code == "disk.full"


def test_a_page_is_named_by_its_beginning(server: Server, tmp_path: Path) -> None:
    assert "<!DOCTYPE html><html>" in refused(make_store(tmp_path), server.url("html")).message


def test_another_file_than_the_pinned_one_is_damage(server: Server, tmp_path: Path) -> None:
    error = refused(make_store(tmp_path), server.url("good.sif"), digest="sha256:" + "0" * 64)
    assert (error.code, error.kind, error.temporary) == ("image.digest", FailureKind.CORRUPTION, False)


@pytest.mark.parametrize("path", ["stall", "drip"])
def test_a_server_that_stalls_is_left(server: Server, tmp_path: Path, path: str) -> None:
    error = refused(make_store(tmp_path, stall_seconds=0.4), server.url(path))
    assert (error.code, error.temporary) == ("image.stalled", True)
    assert len(server.requests) == 5


def test_the_deadline_ends_a_fetch_however_long_a_stall_may_be(server: Server, tmp_path: Path) -> None:
    error = refused(make_store(tmp_path, stall_seconds=300.0), server.url("stall"), deadline_seconds=1.0)
    assert (error.code, error.temporary) == ("image.deadline", True)


def test_a_file_larger_than_the_store_may_be_is_not_begun(tmp_path: Path) -> None:
    with https_server(tmp_path, image=SIF * 3) as server:
        store = make_store(tmp_path, limit_mib=1)
        assert refused(store, server.url("good.sif")).code == "store.image_too_large"
        assert refused(store, server.url("chunked")).code == "store.image_too_large"


@pytest.mark.parametrize("certificate", ["expired", "other_host"])
def test_a_server_with_a_bad_certificate_gets_no_request(tmp_path: Path, certificate: str) -> None:
    with https_server(tmp_path, certificate) as server:
        error = refused(make_store(tmp_path), server.url("good.sif"))
        assert (error.code, error.temporary) == ("image.certificate", True)
        assert server.requests == []


def test_authorities_that_are_none_are_named(server: Server, tmp_path: Path) -> None:
    store = make_store(
        tmp_path, environment={**ENVIRONMENT, "SSL_CERT_FILE": str(server.log.with_name("published.sif"))}
    )
    error = refused(store, server.url("good.sif"))
    assert (error.code, error.temporary) == ("image.certificate", True)
    assert "SSL_CERT_FILE" in error.hint


def test_a_server_that_is_not_there_is_temporary(tmp_path: Path) -> None:
    error = refused(make_store(tmp_path), "https://localhost:1/x.sif")
    assert (error.code, error.kind, error.temporary) == ("image.unreachable", FailureKind.NETWORK, True)


@pytest.mark.parametrize(
    "reference",
    ["https://user:secret@localhost/x", "https:///x", "https://localhost:port/x", "https://localhost/a b"],
)
def test_odd_addresses_are_the_users_fault(tmp_path: Path, reference: str) -> None:
    assert refused(make_store(tmp_path), reference).temporary is False


@pytest.mark.parametrize("reference", ["http://localhost/x", "ftp://x/y", "x.sif", "", "library://a/b"])
def test_other_places_are_no_source(tmp_path: Path, reference: str) -> None:
    with pytest.raises(StoreError) as caught:
        make_store(tmp_path).fetch(reference)
    assert (caught.value.code, caught.value.temporary) == ("image.source", False)


@pytest.mark.parametrize(
    ("reference", "digest"), [("https://x/\n", ""), ("https://x/y", "md5:0"), ("https://x/y", "sha256:G")]
)
def test_a_reference_or_digest_that_is_none_is_refused(tmp_path: Path, reference: str, digest: str) -> None:
    with pytest.raises(StoreError) as caught:
        make_store(tmp_path).fetch(reference, digest=digest)
    assert caught.value.temporary is False
    assert not (tmp_path / "images").exists()


def test_progress_is_told_up_to_the_last_byte(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None, str]] = []
    make_store(tmp_path).fetch(server.url("busy-once"), progress=lambda *step: told.append(step))
    assert ("fetching", len(SIF), len(SIF), "") in told
    assert any(phase == "retrying" and "503" in message for phase, _, _, message in told)


def test_a_proxy_is_used_for_all_but_excepted_hosts(server: Server, tmp_path: Path) -> None:
    through = {**ENVIRONMENT, "https_proxy": "http://localhost:1"}
    store = make_store(tmp_path, environment=through)
    assert refused(store, server.url("good.sif")).code == "image.unreachable"
    store.environment = through | {"no_proxy": "localhost"}
    assert store.fetch(server.url("good.sif")).digest == DIGEST


def test_times_are_those_of_the_fetch(server: Server, tmp_path: Path) -> None:
    before = time.time()
    store = make_store(tmp_path)
    store.fetch(server.url("good.sif"))
    (listed,) = store.list()
    assert before - 1 <= listed.entry.fetched <= time.time() + 1
