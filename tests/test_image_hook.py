"""What the image hook answers HTCondor and tells the keeper, with a real server and a runtime that plays its part."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilot_agent import image_hook
from pilot_agent.containers.messages import Diagnosis
from pilot_agent.interpreter import module_command
from pilot_agent.model import ContainerDecision, FailureKind, ImageVerdict
from pilot_agent.plugins.job_containers import install_image_hook
from pilot_agent.startd.plan import ContainerPlan
from pilot_agent.workspace import Workspace
from tests.containers.store.setting import DIGEST, ENVIRONMENT, Runtime, Server, https_server, make_runtime
from tests.startd.plans import CONTAINER
from tests.startd.test_condor_plugin import inputs

OTHER_DIGEST = f"sha256:{'0' * 64}"
RUNS = 'case "$1" in exec) while [ "$1" != /bin/sh ]; do shift; done; exec "$@";; esac\n'


class Bench:
    """A workspace with the hook's settings as the hand-off writes them."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.workspace = Workspace(str(tmp_path / "pilot-x"))
        os.mkdir(self.workspace.root)
        self.workspace.create()
        self.runtime: Runtime = make_runtime(tmp_path)
        words = self.runtime.path.read_text().split("\n", 1)
        self.runtime.path.write_text(f"{words[0]}\n{RUNS}{words[1]}")
        self.listener: int | None = None

    @property
    def settings(self) -> str:
        """The file of the settings."""
        return os.path.join(self.workspace.private, "condor", "image-hook.json")

    def install(self, *offered: tuple[str, str, str], **changes: Any) -> None:
        """Write the settings for these platforms, references and digests; ``changes`` are those of the plan."""
        verdicts = tuple(
            ImageVerdict(platform, path, True, False, "", source="https", digest=digest)
            for platform, path, digest in offered
        )
        given = inputs(workspace=self.workspace.root, decision=ContainerDecision("REQUIRED", "", "", verdicts=verdicts))
        plan: ContainerPlan = replace(CONTAINER, runtime=str(self.runtime.path), pid_namespace=False, binds=())
        container: ContainerPlan = replace(plan, **changes)
        environment = {"SSL_CERT_FILE": ENVIRONMENT["SSL_CERT_FILE"]}
        install_image_hook(replace(given, site_environment=environment), container)
        self.stop_listening()
        self.listener = os.open(self.workspace.image_failures, os.O_RDWR | os.O_NONBLOCK)

    def stop_listening(self) -> None:
        """Nobody reads what the hook tells of its failures."""
        if self.listener is not None:
            os.close(self.listener)
        self.listener = None

    def ask(self, capfd: pytest.CaptureFixture[str], reference: str, platform: str = "") -> tuple[int, str]:
        """HookStatusCode and all that the hook said."""
        directory = os.getcwd()
        self.monkeypatch.setattr(image_hook, "_end_at", lambda seconds: None)
        arguments = [self.settings, str(os.getpid()), "SingularityImage", reference, *([platform] if platform else [])]
        try:
            assert image_hook.main(arguments) == 0
        finally:
            os.chdir(directory)
        said = capfd.readouterr().out
        return int(said.partition("HookStatusCode = ")[2].split()[0]), said

    def announced(self) -> list[Any]:
        """What the keeper would read."""
        assert self.listener is not None
        try:
            return [json.loads(line) for line in os.read(self.listener, 65536).splitlines()]
        except BlockingIOError:
            return []


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    yield made
    made.stop_listening()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with https_server(tmp_path) as running:
        yield running


def verified(bench: Bench) -> int:
    """The exit code of the question before the start."""
    return subprocess.run(
        [*module_command("pilot_agent.image_hook"), "--verify", bench.settings], cwd="/", env={}, capture_output=True
    ).returncode


def test_a_store_that_cannot_be_used_matters_only_where_something_may_be_fetched(bench: Bench) -> None:
    os.rmdir(bench.workspace.images)
    Path(bench.workspace.images).touch()
    bench.install(fetched=())
    assert verified(bench) == 0
    bench.install(fetched=("https",))
    assert verified(bench) != 0
    bench.install(("any", "https://images.example.org/a.sif", ""), fetched=())
    assert verified(bench) != 0


def test_two_platforms_may_pin_one_reference_to_two_contents(
    bench: Bench, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    url = server.url("good.sif")
    bench.install(("old", url, OTHER_DIGEST), ("new", url, DIGEST))
    code, said = bench.ask(capfd, url, "new")
    assert (code, "SingularityImage = " in said) == (0, True), said
    code, said = bench.ask(capfd, url, "old")
    assert (code, "image.digest" in said) == (400, True), said
    assert bench.ask(capfd, url, "new")[0] == 0
    assert bench.ask(capfd, url)[0] == 400, "a job that names the reference itself gets what the first entry pins"


@pytest.fixture
def tried(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that a program was run in; what each says is by its name."""
    asked: list[str] = []
    node = FailureKind.NODE_RESOURCE

    def prove(settings: Any, image: str) -> Diagnosis | None:
        asked.append(image)
        name = os.path.basename(image)
        code = f"container.{name}" if name.startswith("bind") else f"image.{name}"
        return None if code == "image.good" else Diagnosis(code, node, "image", "what was found", "what to change")

    bench.install()
    monkeypatch.setattr("pilot_agent.containers.first_use.prove_image", prove)
    return asked


def test_an_image_of_the_node_stays_where_it_is_and_is_tried_once(
    bench: Bench, tried: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        assert bench.ask(capfd, "/cvmfs/x/good") == (0, "HookStatusCode = 0\n")
    assert bench.ask(capfd, "/cvmfs/y/good")[0] == 0
    assert tried == ["/cvmfs/x/good", "/cvmfs/y/good"]
    assert bench.announced() == []


def test_an_image_of_a_mount_of_the_pilots_own_is_tried_by_its_name_and_gets_its_place(
    bench: Bench, tried: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    mounts = tmp_path / "cvmfs"
    (mounts / "x" / "1" / "good").mkdir(parents=True)
    (mounts / "x" / "link").symlink_to("/cvmfs/x/1/good")
    bench.install(cvmfs=str(mounts))
    assert bench.ask(capfd, "/cvmfs/x/link") == (0, f'SingularityImage = "{mounts}/x/1/good"\nHookStatusCode = 0\n')
    assert bench.ask(capfd, "/images/good") == (0, "HookStatusCode = 0\n")
    assert tried == ["/cvmfs/x/1/good", "/images/good"]
    assert "image.missing: /cvmfs/x/missing" in bench.ask(capfd, "/cvmfs/x/missing")[1]


def test_an_image_that_is_not_on_this_node_sends_the_job_elsewhere_and_the_next_without_trying(
    bench: Bench, tried: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        code, said = bench.ask(capfd, "/cvmfs/x/missing")
        assert code == 400
        assert "image.missing: /cvmfs/x/missing: what was found" in said
    assert tried == ["/cvmfs/x/missing"]
    assert bench.announced()[0] == ["/cvmfs/x/missing", 60]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *(("damaged", 400), ("format", 1), ("incomplete", 1), ("no_shell", 0), ("tmp_not_writable", 0)),
        *(("bind_target", 400), ("bind_missing", 400)),
    ],
)
def test_only_what_is_wrong_on_every_node_holds_the_job(
    bench: Bench, tried: list[str], capfd: pytest.CaptureFixture[str], name: str, code: int
) -> None:
    assert bench.ask(capfd, f"/images/{name}")[0] == code


def test_the_second_job_is_answered_from_memory_and_the_keeper_told_each_time(
    bench: Bench, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    url = server.url("good.sif")
    bench.install(("far", url, OTHER_DIGEST))
    assert bench.ask(capfd, url, "far")[0] == 400
    asked = len(server.requests)
    assert bench.announced() == [[url, 60]]
    code, said = bench.ask(capfd, url, "far")
    assert (code, len(server.requests)) == (400, asked)
    assert "image.digest" in said
    assert "this node tries again in" in said
    ((reference, seconds),) = bench.announced()
    assert reference == url
    assert 50 < seconds <= 60


def test_an_image_that_does_not_run_is_not_proven_again_for_each_job(
    bench: Bench, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    url = server.url("good.sif")
    bench.install(("far", url, DIGEST))
    bench.runtime.path.write_text(
        '#!/bin/sh\necho "$@" >> "$0.calls"; echo "FATAL: image format not recognized" >&2\nexit 255\n'
    )
    assert bench.ask(capfd, url, "far")[0] == 400
    calls = Path(f"{bench.runtime.path}.calls").read_text()
    assert bench.ask(capfd, url, "far")[0] == 400
    assert Path(f"{bench.runtime.path}.calls").read_text() == calls


def test_a_job_that_is_held_keeps_no_other_job_out(
    bench: Bench, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    bench.install(("far", server.url("good.sif"), DIGEST))
    code, said = bench.ask(capfd, server.url("nosuch"))
    assert (code, "image.missing" in said) == (1, True), said
    assert bench.announced() == []


def test_without_a_keeper_the_job_is_given_back_all_the_same(
    bench: Bench, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    url = server.url("good.sif")
    bench.install(("far", url, OTHER_DIGEST))
    os.unlink(bench.workspace.image_failures)
    code, said = bench.ask(capfd, url, "far")
    assert (code, "image.digest" in said) == (400, True)


def test_a_store_that_cannot_be_used_gives_jobs_back_and_says_so(
    bench: Bench, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    url = server.url("good.sif")
    bench.install(("far", url, DIGEST))
    os.rmdir(bench.workspace.images)
    os.symlink("/tmp", bench.workspace.images)
    code, said = bench.ask(capfd, url, "far")
    assert (code, "store.unsafe" in said) == (400, True), said
    assert bench.announced() == [[url, 60]]


def test_an_image_of_the_node_needs_no_store(bench: Bench, tried: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    os.rmdir(bench.workspace.images)
    os.symlink("/tmp", bench.workspace.images)
    for _ in range(2):
        assert bench.ask(capfd, "/cvmfs/x/good") == (0, "HookStatusCode = 0\n")
    assert tried == ["/cvmfs/x/good"] * 2
    assert "image.missing" in bench.ask(capfd, "/cvmfs/x/missing")[1]
