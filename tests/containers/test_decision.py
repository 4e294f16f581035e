"""The decision under each outcome of the negotiation: with and without a runtime, with and without images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.config import Layer, load_config
from pilot_agent.containers import places
from pilot_agent.containers.binds import MISSING
from pilot_agent.hookspecs import ContainerRequest, Context
from pilot_agent.model import ContainerDecision, Fact, FailureKind, ImageCandidate, Json, PilotError
from pilot_agent.plugins.containers import NoContainersError, decide, pilot_images
from pilot_agent.workspace import Workspace
from tests.containers.runtimes import NO_FUSE, NO_USER_NAMESPACE, calls, make_runtime

FACTS = (Fact("os.arch", "x86_64"), Fact("os.microarch", "x86-64-v3"), Fact("gpu.count", 0))


class Node:
    """A node with the images that a test makes, and no runtime but those that a test makes."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path
        self.bin = tmp_path / "bin"
        self.images = tmp_path / "images"
        self.images.mkdir()
        self.workspace = Workspace(str(tmp_path / "pilot"))
        (tmp_path / "pilot").mkdir()
        self.workspace.create()

    def image(self, name: str) -> str:
        path = self.images / name
        if name.endswith(".sif"):
            path.write_bytes(bytes(32) + b"SIF_MAGIC" + bytes(100))
        else:
            path.mkdir()
        return str(path)

    def decide(
        self,
        images: dict[str, Json],
        *,
        vo: str = "preferred",
        site: str = "optional",
        requests: Sequence[ContainerRequest] = (),
        facts: Sequence[Fact] = (),
        offered: Sequence[ImageCandidate] = (),
        root: str = "/",
        **keys: Any,
    ) -> ContainerDecision:
        document: dict[str, Json] = {"images": images, "vo": {"containers": vo}, "site": {"containers": site}, **keys}
        config = load_config([Layer("vo", document)]).values
        context = Context(
            facts={fact.name: fact for fact in (*FACTS, *facts)},
            config=config,
            environment={"PATH": str(self.bin), "APPTAINER_BIND": "/etc"},
            root=root,
            workspace=self.workspace.root,
        )
        return decide(context, [*offered, *pilot_images(config)], requests)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    # The machine that runs the tests may have a runtime of its own.
    monkeypatch.setattr(places, "SYSTEM_DIRECTORY", str(tmp_path / "none"))
    monkeypatch.setattr(places, "USUAL_CONDOR", ())
    monkeypatch.setattr("pilot_agent.environment.DEFAULT_PATH", str(tmp_path / "none"))
    return Node(tmp_path)


def refused(node: Node, images: dict[str, Json], **options: Any) -> PilotError:
    with pytest.raises(PilotError) as caught:
        node.decide(images, site="required", **options)
    return caught.value


def test_a_node_without_containers_where_they_are_required_still_tells_what_was_looked_at(node: Node) -> None:
    make_runtime(node.bin)
    error = refused(node, {"el9": [node.image("broken")]})
    assert isinstance(error, NoContainersError)
    assert (error.decision.decision, error.decision.runtime) == ("REQUIRED", None)
    assert [(verdict.platform, verdict.taken) for verdict in error.decision.verdicts] == [("el9", False)]
    assert error.decision.verdicts[0].reason
    assert [verdict.taken for verdict in error.decision.runtimes] == [False]
    assert "so no job can run" in error.decision.reason


def test_an_image_that_runs_is_taken_and_is_the_default(node: Node) -> None:
    made = make_runtime(node.bin)
    decision = node.decide({"el9": [node.image("el9")], "el8": [node.image("el8")]}, site="required")
    assert (decision.decision, decision.cell) == ("REQUIRED", "PREFERRED x REQUIRED")
    assert decision.images == {"el9": f"{node.images}/el9", "el8": f"{node.images}/el8"}
    assert decision.default_platform == "el9"
    assert decision.runtime is not None
    assert (decision.runtime.path, decision.runtime.version) == (str(made), "1.4.5")
    assert all(verdict.proven for verdict in decision.verdicts)
    assert "from PATH" in decision.reason


def test_the_configured_default_is_proven_first_and_the_dictionary_keeps_its_order(node: Node) -> None:
    made = make_runtime(node.bin)
    images: dict[str, Json] = {name: [node.image(name)] for name in ("el7", "el8", "el9")}
    # With no time for more, the first proof is the only one.
    decision = node.decide(images, containers={"default": "el9"}, prove={"budget_seconds": 0})
    assert decision.default_platform == "el9"
    assert list(decision.images) == ["el7", "el8", "el9"]
    (only,) = calls(made)
    assert f"{node.images}/el9" in only


def test_a_candidate_that_fails_is_followed_by_the_next_and_keeps_its_reason(node: Node) -> None:
    make_runtime(node.bin)
    decision = node.decide({"el9": [node.image("broken"), f"{node.images}/nowhere", node.image("el9"), "docker://x"]})
    assert [verdict.taken for verdict in decision.verdicts] == [False, False, True, False]
    reasons = [verdict.reason for verdict in decision.verdicts]
    assert reasons[0].startswith("image.format: could not open image")
    assert reasons[1].startswith("image.missing:")
    assert reasons[3].startswith("image.unproven:")


def test_candidates_of_plugins_join_the_dictionary(node: Node) -> None:
    make_runtime(node.bin)
    offered = [
        ImageCandidate("el9", node.image("better"), origin="plugin"),
        ImageCandidate("el10", node.image("el10"), origin="plugin"),
    ]
    decision = node.decide({"el9": [node.image("el9")]}, offered=offered)
    assert decision.images == {"el9": f"{node.images}/better", "el10": f"{node.images}/el10"}


@pytest.mark.parametrize(("vo", "decision"), [("never", "NEVER"), ("disable_gwms", "DISABLE")])
def test_where_containers_are_not_wanted_nothing_is_run(node: Node, vo: str, decision: str) -> None:
    made = make_runtime(node.bin)
    outcome = node.decide({"el9": [node.image("el9")]}, vo=vo)
    assert outcome.decision == decision
    assert outcome.runtime is None
    assert outcome.images == {}
    assert not calls(made)


def test_a_contradiction_of_vo_and_site_ends_the_pilot(node: Node) -> None:
    with pytest.raises(PilotError, match="contradict") as caught:
        node.decide({}, vo="never", site="required")
    assert (caught.value.failure.kind, caught.value.failure.code) == (FailureKind.CONFIG, "container.conflict")
    assert isinstance(caught.value, NoContainersError)
    assert caught.value.decision.decision == "FAIL"
    assert "NEVER" in caught.value.failure.message


def test_without_a_runtime_preferred_containers_are_given_up_with_the_reason(node: Node) -> None:
    decision = node.decide({"el9": [node.image("el9")]})
    assert (decision.decision, decision.runtime, decision.images) == ("PREFERRED", None, {})
    assert "container.missing" in decision.reason
    assert decision.default_platform is None


def test_without_a_runtime_required_containers_end_the_pilot(node: Node) -> None:
    failure = refused(node, {"el9": [node.image("el9")]}).failure
    assert (failure.kind, failure.code) == (FailureKind.NODE_RESOURCE, "container.missing")
    assert "PREFERRED x REQUIRED" in failure.message
    assert failure.hint


def test_a_runtime_that_does_not_answer_is_named(node: Node) -> None:
    node.bin.mkdir()
    (node.bin / "apptainer").write_text("#!/bin/sh\necho cannot run >&2\nexit 1\n")
    (node.bin / "apptainer").chmod(0o755)
    failure = refused(node, {"el9": [node.image("el9")]}).failure
    assert failure.code == "container.missing"
    assert "exited 1: cannot run" in failure.message


def test_a_configured_runtime_that_is_missing_is_said_and_another_is_found(node: Node) -> None:
    made = make_runtime(node.bin)
    decision = node.decide({"el9": [node.image("el9")]}, containers={"runtime": "/no/such/apptainer"})
    assert decision.runtime is not None
    assert decision.runtime.path == str(made)
    assert "not /no/such/apptainer" in decision.reason


def test_a_runtime_that_cannot_run_anything_is_followed_by_the_next(node: Node) -> None:
    make_runtime(node.bin, NO_USER_NAMESPACE)
    second = make_runtime(node.bin, name="singularity")
    decision = node.decide({"el9": [node.image("el9")]})
    assert decision.runtime is not None
    assert decision.runtime.path == str(second)
    assert "userns.disabled" in decision.reason
    first, taken = decision.runtimes
    assert (first.taken, first.origin, first.version) == (False, "PATH", "1.4.5")
    assert first.reason.startswith("userns.disabled")
    assert (taken.path, taken.taken, taken.reason) == (
        str(second),
        True,
        "a program ran in it with the options of jobs",
    )


def test_a_node_without_user_namespaces_is_refused_with_what_the_site_must_change(node: Node) -> None:
    make_runtime(node.bin, NO_USER_NAMESPACE)
    failure = refused(node, {"el9": [node.image("el9")]}).failure
    assert (failure.kind, failure.code) == (FailureKind.NODE_RESOURCE, "userns.disabled")
    assert "max_user_namespaces" in failure.hint


def test_where_no_candidate_is_for_this_node_the_dictionary_is_at_fault(node: Node) -> None:
    make_runtime(node.bin)
    images: dict[str, Json] = {
        "el9": [
            {"path": "/images/arm", "arch": "aarch64"},
            {"path": "/images/v4", "requires": {"cpu_level": "x86_64-v4"}},
        ]
    }
    failure = refused(node, images).failure
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "image.not_in_dictionary")
    assert "aarch64" in failure.message
    preferred = node.decide(images)
    assert preferred.images == {}
    assert "image.not_in_dictionary" in preferred.reason


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("broken", FailureKind.CONFIG, "image.format"),
        ("silent", FailureKind.CONFIG, "image.not_runnable"),
        ("missing", FailureKind.CONFIG, "image.missing"),
        ("x.sif", FailureKind.NODE_RESOURCE, "fuse.missing"),
    ],
)
def test_the_only_image_that_does_not_run_ends_the_pilot_when_required(
    node: Node, name: str, kind: FailureKind, code: str
) -> None:
    make_runtime(node.bin, sif=NO_FUSE)
    path = f"{node.images}/missing" if name == "missing" else node.image(name)
    failure = refused(node, {"el9": [path]}).failure
    assert (failure.kind, failure.code) == (kind, code)
    assert path in failure.message


def test_the_only_image_that_does_not_run_leaves_containers_to_jobs_with_images_of_their_own_when_preferred(
    node: Node,
) -> None:
    made = make_runtime(node.bin)
    decision = node.decide({"el9": [node.image("broken")]})
    assert (decision.decision, decision.default_platform, decision.images) == ("PREFERRED", None, {})
    assert decision.runtime is not None
    assert decision.runtime.path == str(made)
    assert "jobs that bring no image run without a container: image.format" in decision.reason
    assert decision.verdicts[0].reason.startswith("image.format")


def test_a_default_platform_without_an_image_leaves_the_others_to_jobs_that_name_one(node: Node) -> None:
    make_runtime(node.bin)
    images: dict[str, Json] = {"el8": [node.image("el8")], "el9": [node.image("broken")]}
    decision = node.decide(images, site="required", containers={"default": "el9"})
    assert decision.default_platform is None
    assert decision.images == {"el8": f"{node.images}/el8"}
    assert "el9 has no image here" in decision.reason


def test_without_a_configured_default_the_first_platform_with_an_image_is_it(node: Node) -> None:
    make_runtime(node.bin)
    decision = node.decide({"el9": [node.image("broken")], "el8": [node.image("el8")]})
    assert decision.default_platform == "el8"


def test_a_default_that_the_dictionary_does_not_have_is_a_mistake(node: Node) -> None:
    make_runtime(node.bin)
    with pytest.raises(PilotError, match="'el7'") as caught:
        node.decide({"el9": [node.image("el9")]}, containers={"default": "el7"})
    assert (caught.value.failure.kind, caught.value.failure.code) == (FailureKind.CONFIG, "image.not_in_dictionary")


def test_what_was_not_proven_for_lack_of_time_is_taken_unproven(node: Node) -> None:
    make_runtime(node.bin)
    decision = node.decide({"el9": [node.image("el9")], "el8": [node.image("el8")]}, prove={"budget_seconds": 0})
    assert [(verdict.taken, verdict.proven) for verdict in decision.verdicts] == [(True, True), (True, False)]


@pytest.mark.parametrize(("problem", "sif"), [("", True), (NO_FUSE, False)])
def test_without_a_dictionary_jobs_bring_their_images_and_the_runtime_is_tried_with_the_nodes_own_programs(
    node: Node, problem: str, sif: bool
) -> None:
    made = make_runtime(node.bin, sif=problem)
    decision = node.decide({}, site="required")
    assert decision.runtime is not None
    assert (decision.runtime.path, decision.runtime.flavour, decision.runtime.origin) == (
        str(made),
        "apptainer",
        "PATH",
    )
    assert decision.runtime.full_version == "apptainer version 1.4.5"
    assert decision.runtime.sif is sif
    assert decision.runtime.abilities.directories.value is True
    assert decision.default_platform is None


def test_without_a_dictionary_a_node_that_refuses_user_namespaces_has_no_runtime(node: Node) -> None:
    make_runtime(node.bin, NO_USER_NAMESPACE)
    failure = refused(node, {}).failure
    assert failure.code == "userns.disabled"
    assert "not allowed to create user namespace" in failure.message


def test_binds_and_options_of_jobs_are_used_in_the_proof_and_missing_sources_are_told(node: Node) -> None:
    made = make_runtime(node.bin)
    (node.path / "data").mkdir()
    request = ContainerRequest(name="calibration", binds=(f"{node.path}/data:/data:ro",), options=("--nv",))
    decision = node.decide(
        {"el9": [node.image("el9")]}, requests=[request], containers={"binds": ["/no/such/source:/x"]}
    )
    (call,) = [line for line in calls(made) if f"{node.images}/el9" in line]
    assert f"-B {node.path}/data:/data:ro" in call
    assert "--nv" in call.split()
    assert "/no/such/source" not in call
    told = {one.source: (one.asked_by, one.given, one.reason) for one in decision.surroundings.binds}
    assert told["/no/such/source"] == ("configuration (vo)", False, MISSING)
    assert told[f"{node.path}/data"] == ("calibration", True, "")
    assert [(one.option, one.given) for one in decision.surroundings.options] == [("--nv", True)]


def test_with_gpus_images_are_proven_with_the_drivers_libraries(node: Node) -> None:
    made = make_runtime(node.bin)
    device = {"vendor": "nvidia", "uuid": "GPU-1", "state": "usable"}
    decision = node.decide({"el9": [node.image("el9")]}, facts=[Fact("gpu.devices", [device])])
    (call,) = [line for line in calls(made) if f"{node.images}/el9" in line]
    assert "--nv" in call.split()
    (option,) = decision.surroundings.options
    assert (option.option, option.given, option.with_gpus) == ("--nv", True, True)
    assert "gpu.visible" in decision.verdicts[0].facts


def test_where_jobs_run_without_a_container_nothing_is_given_in_one(node: Node) -> None:
    decision = node.decide({}, containers={"binds": ["/etc:/e"], "search": []}, startd={"job_environment": {"A": "1"}})
    assert decision.runtime is None
    assert {one.reason for one in decision.surroundings.binds} == {"jobs run without a container here"}
    assert [one.given for one in decision.surroundings.environment] == [True]
    decision = node.decide({}, vo="never", startd={"job_environment": {"A": "1"}})
    assert decision.surroundings.binds == ()
    assert [one.given for one in decision.surroundings.environment] == [True]


def test_a_bind_that_is_none_names_who_asked_for_it(node: Node) -> None:
    make_runtime(node.bin)
    request = ContainerRequest(name="calibration", binds=("data",))
    with pytest.raises(PilotError, match=r"calibration: bind 'data'") as caught:
        node.decide({"el9": [node.image("el9")]}, requests=[request])
    assert caught.value.failure.code == "container.bind"


def test_the_proof_leaves_the_workspace_as_it_was(node: Node) -> None:
    make_runtime(node.bin)
    node.decide({"el9": [node.image("el9")], "el8": [node.image("broken")]})
    assert list(Path(node.workspace.temporary).iterdir()) == []


def test_a_workspace_without_room_is_the_sites_business(node: Node) -> None:
    make_runtime(node.bin)
    Path(node.workspace.temporary).rmdir()
    failure = refused(node, {"el9": [node.image("el9")]}).failure
    assert (failure.kind, failure.code) == (FailureKind.NODE_RESOURCE, "disk.full")


def test_nothing_is_run_on_a_recording(node: Node) -> None:
    made = make_runtime(node.bin)
    decision = node.decide({"el9": [node.image("el9")]}, root="/recordings/node1")
    assert decision.runtime is None
    assert decision.runtimes == ()
    assert "recording" in decision.reason
    assert not calls(made)
