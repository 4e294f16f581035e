"""The image store with a real Apptainer and a real registry, as the pilots' account on a worker node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.probes.servers import TLS
from tests.testbed import images, registry, trees
from tests.testbed.hosts import Bind, Host, HostPlan
from tests.testbed.network import Network
from tests.testbed.runs import run_directory
from tests.testbed.trees import PILOT

REPOSITORY = Path(__file__).resolve().parents[2]
START = (
    "import sys; sys.path.insert(0, '/srv/pilot-agent'); "
    "from pilot_agent.containers.store.job import main; sys.exit(main())"
)
REGISTRY = f"localhost:{registry.PORT}"
TRUST = {"SSL_CERT_FILE": "/tls/ca.pem"}
STORE = f"{PILOT.home}/images"
Json = Any


@pytest.fixture(scope="module")
def node(testbed_machine: None) -> Iterator[Host]:
    """A host with the agent's source, the images, and a registry that has one of them as ``oras`` and as ``docker``."""
    binds = (
        Bind(REPOSITORY, "/srv/pilot-agent"),
        Bind(images.ensure(), "/images"),
        Bind(registry.ensure(), "/registry"),
        Bind(TLS, "/tls"),
    )
    with run_directory() as directory:
        network = Network()
        plan = HostPlan("store", "10.77.0.21", trees.ensure(), "store.test", binds=binds)
        host = Host(plan, directory / "host", network)
        network.start()
        try:
            host.start()
            with host.popen(["/registry/usr/bin/docker-registry", "serve", "/registry/registry.yml"]) as serving:
                try:
                    publish(host)
                    yield host
                finally:
                    serving.kill()
        finally:
            host.remove()
            network.stop()


def publish(host: Host) -> None:
    """Wait for the registry, and put images there."""
    end = time.monotonic() + 60
    while host.run(["curl", "-fs", "--cacert", "/tls/ca.pem", f"https://{REGISTRY}/v2/"]).returncode:
        assert time.monotonic() < end, "the registry does not answer"
        time.sleep(0.2)
    done(host.run(["apptainer", "push", "/images/debian13.sif", f"oras://{REGISTRY}/debian13:1"], env=TRUST))
    done(host.run(["tar", "-C", "/images/debian13", "-cf", "/var/tmp/layer.tar", "."]))
    done(host.run(["python3", "-c", registry.PUBLISH, "debian", "/var/tmp/layer.tar"]))


def done(ran: subprocess.CompletedProcess[str]) -> str:
    """The output of a program that must have worked."""
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def fetch(host: Host, reference: str, *more: str, form: str = "file", trust: dict[str, str] | None = None) -> Json:
    """The answer of the hook's call."""
    words = ["python3", "-I", "-S", "-B", "-c", START, "--store", STORE, "--reference", reference]
    words += ["--runtime", "/usr/bin/apptainer", "--form", form, *more]
    ran = host.run(words, user=PILOT.name, env=TRUST if trust is None else trust, timeout_seconds=300)
    assert ran.stderr == ""
    return json.loads(ran.stdout)


def release_of(host: Host, image: Json) -> str:
    """What a program in the image reads."""
    words = ["apptainer", "exec", "--contain", "--", image["path"], "/bin/cat", "/etc/debian_version"]
    return done(host.run(words, user=PILOT.name)).strip()


@pytest.mark.parametrize("form", ["file", "directory"])
@pytest.mark.parametrize("name", ["docker://{}/debian:1", "oras://{}/debian13:1"])
def test_an_image_of_a_registry_runs_from_the_store(node: Host, name: str, form: str) -> None:
    reference = name.format(REGISTRY)
    image = fetch(node, reference, form=form)
    assert "code" not in image, image
    assert (image["form"], image["shared"]) == (form, False)
    assert release_of(node, image).startswith("13")
    again = fetch(node, reference, form=form)
    assert (again["shared"], again["path"]) == (True, image["path"])
    assert list(node.path(f"{STORE}/partial").iterdir()) == []
    assert not node.path(f"{PILOT.home}/.apptainer/cache").exists()


def test_a_local_file_is_unpacked_where_it_cannot_be_mounted(node: Host) -> None:
    image = fetch(node, "/images/debian12.sif", form="directory")
    assert "code" not in image, image
    assert release_of(node, image).startswith("12")


def test_a_digest_pins_what_a_tag_does_not(node: Host) -> None:
    words = ["curl", "-fsSI", "--cacert", "/tls/ca.pem", "-H", "Accept: application/vnd.oci.image.manifest.v1+json"]
    head = done(node.run([*words, f"https://{REGISTRY}/v2/debian/manifests/1"]))
    digest = next(line.split()[1] for line in head.splitlines() if line.lower().startswith("docker-content-digest"))
    image = fetch(node, f"docker://{REGISTRY}/debian:1", "--digest", digest)
    assert image.get("digest") == digest, image


@pytest.mark.parametrize(
    ("reference", "code", "temporary"),
    [
        (f"docker://{REGISTRY}/nobody:1", "image.missing", False),
        (f"docker://{REGISTRY}/debian:none", "image.missing", False),
        (f"oras://{REGISTRY}/debian13:none", "image.missing", False),
        (f"oras://{REGISTRY}/debian:1", "image.format", False),
        (f"docker://{REGISTRY}/Upper:1", "image.path", False),
        ("docker://localhost:1/image:1", "image.unreachable", True),
        ("oras://localhost:1/image:1", "image.unreachable", True),
        ("docker://registry.invalid/image:1", "image.unreachable", True),
    ],
)
@pytest.mark.parametrize("form", ["file", "directory"])
def test_what_the_real_runtime_says_is_understood(
    node: Host, reference: str, code: str, temporary: bool, form: str
) -> None:
    answer = fetch(node, reference, form=form)
    assert (answer.get("code"), answer.get("temporary")) == (code, temporary), answer


def test_another_digest_than_the_published_one_is_not_taken(node: Host) -> None:
    answer = fetch(node, f"docker://{REGISTRY}/debian:1", "--digest", "sha256:" + "0" * 64)
    assert answer["temporary"] is False, answer


def test_a_truncated_file_is_no_image_to_unpack(node: Host) -> None:
    whole = node.path("/images/debian13.sif").read_bytes()
    short = node.path("/var/tmp/short.sif")
    short.write_bytes(whole[: len(whole) // 2])
    short.chmod(0o644)
    answer = fetch(node, "/var/tmp/short.sif", form="directory")
    assert (answer.get("code"), answer.get("temporary")) == ("image.damaged", False), answer


@pytest.fixture
def small_disk(node: Host) -> Iterator[str]:
    """A file system with little more than what the store always leaves free."""
    place = "/mnt/small"
    node.path(place).mkdir(parents=True, exist_ok=True)
    options = f"size=74m,mode=700,uid={PILOT.uid},gid={PILOT.uid}"
    done(node.run(["mount", "-t", "tmpfs", "-o", options, "none", place]))
    yield place
    done(node.run(["umount", place]))
    node.path(place).rmdir()


@pytest.mark.parametrize("form", ["file", "directory"])
@pytest.mark.parametrize("name", ["docker://{}/debian:1", "oras://{}/debian13:1"])
def test_a_disk_that_becomes_full_under_the_runtime_is_the_nodes_fault_and_nothing_stays(
    node: Host, small_disk: str, name: str, form: str
) -> None:
    store = f"{small_disk}/store"
    answer = fetch(node, name.format(REGISTRY), "--store", store, form=form)
    assert answer["code"] == "disk.full", answer
    assert (answer["temporary"], answer["kind"]) == (True, "node_resource")
    assert "containers.store_directory" in answer["hint"]
    for part in ("images", "partial"):
        assert list(node.path(f"{store}/{part}").iterdir()) == []


def test_what_others_put_in_the_stores_place_meanwhile_is_never_written_to(node: Host) -> None:
    """Another account exchanges the store's directory for a link again and again, where it may."""
    victim, shared = node.path("/var/tmp/victim"), node.path("/var/tmp/shared")
    for directory, mode in ((victim, 0o755), (shared, 0o777)):
        directory.mkdir()
        directory.chmod(mode)
    os.chown(victim, PILOT.uid, PILOT.uid)
    exchange = (
        "cd /var/tmp/shared; while :; do mv store away.$$; ln -s /var/tmp/victim store; mv store gone; rm -f gone; "
        "mkdir store; rmdir store; mv away.$$ store; done 2>/dev/null"
    )
    with node.popen(["sh", "-c", exchange], user="factory") as attacker:
        try:
            answers = [
                fetch(node, "/images/debian12.sif", "--store", "/var/tmp/shared/store", form="directory")
                for _ in range(15)
            ]
        finally:
            node.signal(attacker, signal.SIGKILL)
    assert {answer.get("code") for answer in answers} <= {"store.unsafe", "store.unusable"}, answers
    assert "store.unsafe" in {answer.get("code") for answer in answers}
    assert all(answer["temporary"] for answer in answers)
    assert list(victim.iterdir()) == []


def test_a_registry_with_an_unknown_certificate_is_temporary(node: Host) -> None:
    answer = fetch(node, f"docker://{REGISTRY}/debian:9", trust={})
    assert (answer["code"], answer["temporary"]) == ("image.certificate", True), answer
