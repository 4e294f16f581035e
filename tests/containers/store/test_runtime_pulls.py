"""Registries and unpacking: how the runtime is called, and what its failures mean."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.containers.store.errors import StoreError
from pilot_agent.containers.store.registry import pinned_reference, read_failure
from pilot_agent.model import FailureKind
from pilot_agent.process import Interrupted, Result
from tests.containers.store.setting import DIGEST, ENVIRONMENT, SIF, Runtime, Server, left, make_store
from tests.wake_pipe import WakePipe


@pytest.mark.parametrize("scheme", ["docker", "oras"])
def test_a_registry_image_is_pulled_once(runtime: Runtime, tmp_path: Path, scheme: str) -> None:
    store = make_store(tmp_path, str(runtime.path))
    image = store.fetch(f"{scheme}://registry.example/a:1")
    assert Path(image.path).read_bytes() == SIF
    assert store.fetch(f"{scheme}://registry.example/a:1").shared
    assert [call.split()[0] for call in runtime.calls] == ["pull"]
    assert left(store) == []


def test_where_sif_cannot_be_mounted_images_become_directories(
    runtime: Runtime, server: Server, tmp_path: Path
) -> None:
    store = make_store(tmp_path, str(runtime.path), form="directory")
    local = tmp_path / "local.sif"
    local.write_bytes(SIF)
    for reference in ("docker://a", server.url("good.sif"), str(local)):
        image = store.fetch(reference)
        assert image.form == "directory"
        assert sorted(os.listdir(image.path)) == ["closed", "etc", "link"]
        assert image.size > 0
    assert all(call.startswith("build --force --sandbox") for call in runtime.calls)
    assert left(store) == []
    # The closed directory does not keep them either.
    assert len(store.evict()) == 3
    assert left(store) == []


def test_a_local_file_that_was_republished_is_unpacked_again(runtime: Runtime, tmp_path: Path) -> None:
    store = make_store(tmp_path, str(runtime.path), form="directory")
    local = tmp_path / "local.sif"
    local.write_bytes(SIF)
    first = store.fetch(str(local))
    local.write_bytes(SIF + SIF)
    second = store.fetch(str(local))
    assert (second.shared, second.path == first.path) == (False, False)
    assert Path(first.path).is_dir(), "running jobs keep the one they have"


def test_a_local_file_that_can_be_mounted_is_not_for_the_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="used as it is"):
        make_store(tmp_path).fetch("/images/x.sif")


def test_a_local_file_that_is_not_there_is_temporary(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        make_store(tmp_path, form="directory").fetch("/images/x.sif")
    assert (caught.value.code, caught.value.temporary) == ("image.missing", True)


def test_what_the_runtime_writes_stays_in_the_store(runtime: Runtime, tmp_path: Path) -> None:
    poisoned = {**ENVIRONMENT, "HOME": "/home/somebody", "APPTAINER_CACHEDIR": "/elsewhere", "APPTAINER_NOHTTPS": "1"}
    make_store(tmp_path, str(runtime.path), environment=poisoned).fetch("docker://a")
    lines = Path(f"{runtime.log}.env").read_text().splitlines()
    seen = dict(line.split("=", 1) for line in lines if "=" in line)
    for name in ("HOME", "TMPDIR", "PWD", "APPTAINER_CACHEDIR", "APPTAINER_TMPDIR", "APPTAINER_CONFIGDIR"):
        assert seen[name].startswith(str(tmp_path / "images/partial")), name
    assert "APPTAINER_NOHTTPS" not in seen


@pytest.mark.parametrize(
    ("reference", "code", "temporary"),
    [
        ("docker://missing", "image.missing", False),
        ("docker://full", "disk.full", True),
        ("docker://odd", "image.fetch_failed", True),
        ("docker://nothing", "image.fetch_failed", True),
        ("docker://page", "image.format", False),
    ],
)
def test_a_failed_pull_says_why(runtime: Runtime, tmp_path: Path, reference: str, code: str, temporary: bool) -> None:
    store = make_store(tmp_path, str(runtime.path))
    with pytest.raises(StoreError) as caught:
        store.fetch(reference)
    assert (caught.value.code, caught.value.temporary) == (code, temporary)
    assert reference in caught.value.message
    assert (store.list(), left(store)) == ([], [])


def test_a_pull_that_hangs_ends_at_the_deadline_with_its_children(runtime: Runtime, tmp_path: Path) -> None:
    store = make_store(tmp_path, str(runtime.path))
    with pytest.raises(StoreError) as caught:
        store.fetch("docker://hanging", deadline_seconds=1.0)
    assert (caught.value.code, caught.value.temporary) == ("image.deadline", True)
    for name in ("pid", "child"):
        assert not Path(f"/proc/{Path(f'{runtime.log}.{name}').read_text().strip()}/exe").exists()
    assert left(store) == []


def test_a_runtime_that_cannot_be_started_is_the_nodes_fault(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        make_store(tmp_path, "/nowhere/apptainer").fetch("docker://a")
    assert (caught.value.code, caught.value.kind) == ("container.not_started", FailureKind.NODE_RESOURCE)


def test_a_pull_tells_how_much_is_there(runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilot_agent.containers.store.fetching.TICK_SECONDS", 0.02)
    told: list[tuple[str, int]] = []
    with pytest.raises(StoreError):
        make_store(tmp_path, str(runtime.path)).fetch(
            "docker://hanging", deadline_seconds=1.5, progress=lambda *step: told.append((step[0], step[1]))
        )
    assert told[0] == ("fetching", 0)
    assert len(told) > 2


def test_the_pilots_own_end_ends_a_pull(runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilot_agent.containers.store.fetching.TICK_SECONDS", 0.02)
    store = make_store(tmp_path, str(runtime.path))
    with WakePipe() as wake:

        def stop(phase: str, done: int, total: int | None, message: str) -> None:
            if done and Path(f"{runtime.log}.child").exists():
                wake.ring()

        with pytest.raises(Interrupted):
            store.fetch("docker://hanging", wake=wake, progress=stop)
    assert left(store) == []


def test_a_digest_takes_the_tags_place(runtime: Runtime, tmp_path: Path) -> None:
    image = make_store(tmp_path, str(runtime.path)).fetch("docker://host:5000/a/b:latest", digest=DIGEST)
    assert runtime.calls[0].endswith(f"docker://host:5000/a/b@{DIGEST}")
    assert image.digest == DIGEST
    assert pinned_reference("oras://host:5000/a", DIGEST) == f"oras://host:5000/a@{DIGEST}"
    assert pinned_reference("docker://a:1", "") == "docker://a:1"
    assert pinned_reference(f"docker://a@{DIGEST}", DIGEST) == f"docker://a@{DIGEST}"
    with pytest.raises(StoreError, match="names a digest"):
        pinned_reference("docker://a@sha256:" + "0" * 64, DIGEST)


def failed(text: str) -> StoreError:
    """What the runtime's last words mean."""
    return read_failure(Result(("apptainer",), 255, stderr=text.encode()), "docker://x")


@pytest.mark.parametrize(
    ("text", "code", "temporary"),
    [
        ("FATAL: initializing source docker://x: toomanyrequests: You have reached your pull rate limit",
         "image.rate_limit", True),
        ("FATAL: reading manifest 1 in docker.io/x/y: manifest unknown", "image.missing", False),
        ("FATAL: reading manifest latest in docker.io/x/y: requested access to the resource is denied",
         "image.unauthorized", False),
        ("FATAL: pinging container registry r: Get \"https://r/v2/\": dial tcp: lookup r: no such host",
         "image.unreachable", True),
        ("FATAL: Get \"https://r/v2/\": dial tcp 127.0.0.1:1: connect: connection refused", "image.unreachable", True),
        ("FATAL: Get \"https://r/v2/\": x509: certificate signed by unknown authority", "image.certificate", True),
        ("FATAL: Get: tls: failed to verify certificate: x509: certificate signed by unknown authority; GET: 400",
         "image.certificate", True),
        ("FATAL: invalid layer mediatype: application/vnd.oci.image.layer.v1.tar+gzip", "image.format", False),
        ("FATAL: received unexpected HTTP status: 503 Service Unavailable", "image.server_error", True),
        ("FATAL: no image found in image index for architecture arm64", "image.wrong_architecture", False),
        ("FATAL: invalid reference format", "image.path", False),
        ("FATAL: manifest digest did not match", "image.digest", False),
        ("ERROR  : Failed to create user namespace: not allowed to create user namespace", "userns.disabled", True),
        ("", "image.fetch_failed", True),
    ],
)  # fmt: skip
def test_messages_become_codes(text: str, code: str, temporary: bool) -> None:
    error = failed(text)
    assert (error.code, error.temporary) == (code, temporary)
    assert error.hint
