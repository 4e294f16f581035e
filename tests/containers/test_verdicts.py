"""What becomes of every candidate when local and remote images, broken and whole ones, are mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilot_agent.config import Layer, load_config
from pilot_agent.containers.images import dictionary
from pilot_agent.containers.negotiation import negotiate
from pilot_agent.containers.proof import ProofSetting
from pilot_agent.containers.runtime import RuntimeProgram
from pilot_agent.containers.trials import try_all
from pilot_agent.containers.verdicts import Dictionary, conclude
from pilot_agent.hookspecs import Context
from pilot_agent.model import ContainerDecision, Fact, Failure, FailureKind, ImageVerdict, Json, Runtime
from tests.containers.runtimes import calls, make_runtime

REMOTE = "docker://registry.example.org/vo/el9:1"
OTHER = "oras://registry.example.org/vo/el8:1"
DIGEST = f"sha256:{'0a' * 32}"


class Bench:
    """A node with a runtime; ``decide`` goes from a configuration to the verdicts."""

    def __init__(self, tmp_path: Path) -> None:
        self.images = tmp_path / "images"
        self.images.mkdir()
        self.runtime = make_runtime(tmp_path / "bin")
        (tmp_path / "tmp").mkdir()
        program = RuntimeProgram(str(self.runtime), "apptainer", "1.4.5", (1, 4, 5), "PATH")
        self.setting = ProofSetting(program, {"PATH": "/usr/bin:/bin"}, str(tmp_path / "tmp"))

    def image(self, name: str) -> str:
        """A directory; one called broken does not run."""
        (self.images / name).mkdir(exist_ok=True)
        return str(self.images / name)

    def arrange(self, images: Json, *, pilot_id: str = "a1", **containers: Any) -> Dictionary:
        config = load_config([Layer("vo", {"images": images, "containers": containers})]).values
        context = Context(
            facts={"os.arch": Fact("os.arch", "x86_64")}, config=config, workspace=f"/scratch/pilot-agent-{pilot_id}"
        )
        return Dictionary.of(context, list(dictionary(config["images"])))

    def conclude(self, known: Dictionary) -> tuple[ContainerDecision, Failure | None]:
        trials = try_all(self.setting, known.ladders, budget_seconds=30) if any(known.ladders) else None
        runtime = Runtime(str(self.runtime), "1.4.5", "userns", pid_namespace=True, sif=True)
        return conclude(negotiate("preferred", "required"), runtime, known, trials)

    def decide(self, images: Json, **given: Any) -> ContainerDecision:
        return self.conclude(self.arrange(images, **given))[0]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def outcomes(decision: ContainerDecision) -> list[tuple[bool, bool]]:
    """Taken and proven, for each verdict."""
    return [(verdict.taken, verdict.proven) for verdict in decision.verdicts]


def test_a_remote_image_is_taken_unproven_when_those_before_it_do_not_run(bench: Bench) -> None:
    decision = bench.decide({"el9": [bench.image("broken"), "/no/such/image", REMOTE, bench.image("late")]})
    assert outcomes(decision) == [(False, False), (False, False), (True, False), (False, False)]
    assert decision.images == {"el9": REMOTE}
    assert decision.default_platform == "el9"
    reasons = [verdict.reason for verdict in decision.verdicts]
    assert reasons[2] == "image.unproven: fetched and proven at its first use, not at the start"
    assert reasons[3] == "an earlier candidate was taken"
    assert len(calls(bench.runtime)) == 1


def test_a_remote_image_that_comes_first_is_taken_and_nothing_is_run(bench: Bench) -> None:
    decision = bench.decide({"el9": [REMOTE, bench.image("el9"), OTHER]})
    assert decision.images == {"el9": REMOTE}
    assert decision.verdicts[2].reason == "image.unproven: an earlier candidate was taken"
    assert not calls(bench.runtime)


def test_a_proven_image_comes_before_a_remote_one(bench: Bench) -> None:
    decision = bench.decide({"el9": [bench.image("el9"), REMOTE], "el8": [OTHER]})
    assert decision.images == {"el9": f"{bench.images}/el9", "el8": OTHER}
    assert outcomes(decision) == [(True, True), (False, False), (True, False)]


def test_every_verdict_says_source_and_digest(bench: Bench) -> None:
    images = {
        "el9": [bench.image("broken"), {"path": "/x.sif", "digest": DIGEST}, f"docker://a.org/x@{DIGEST}"],
        "el8": [{"path": OTHER, "digest": DIGEST}, "library://x"],
    }
    found = bench.decide(images).verdicts
    assert [(verdict.source, verdict.digest) for verdict in found] == [
        ("directory", ""),
        ("file", DIGEST),
        ("docker", DIGEST),
        ("oras", DIGEST),
        ("", ""),
    ]
    # The references are as they were given: whoever fetches them puts the digest in.
    assert [verdict.path for verdict in found if verdict.taken] == [f"docker://a.org/x@{DIGEST}", OTHER]


def test_without_a_runtime_no_remote_image_is_taken(bench: Bench) -> None:
    verdicts = bench.arrange({"el9": [REMOTE]}).verdicts(None)
    assert verdicts == [
        ImageVerdict("el9", REMOTE, False, False, "image.unproven: not tried: no runtime works", source="docker")
    ]


def test_where_the_only_image_is_restricted_the_failure_says_by_whom(bench: Bench) -> None:
    decision, failure = bench.conclude(bench.arrange({"el9": [REMOTE]}, sources=["cvmfs"]))
    assert decision.images == {}
    assert failure is not None
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "image.restricted")
    assert "containers.sources allows cvmfs (vo layer)" in failure.message
    assert "allowed" in failure.hint


def test_an_image_for_another_architecture_is_passed_over_in_either_form(bench: Bench) -> None:
    decision = bench.decide({"el9": {"aarch64": [bench.image("arm")], "x86_64": [bench.image("el9")], "any": [REMOTE]}})
    assert decision.images == {"el9": f"{bench.images}/el9"}
    assert "for aarch64, and the node is x86_64" in decision.verdicts[0].reason


def test_the_dictionary_in_one_line_works_like_any_other(bench: Bench) -> None:
    decision = bench.decide(f"rhel8:{bench.image('el8')},default:{bench.image('el9')},rhel7:{REMOTE}")
    assert decision.images == {"rhel8": f"{bench.images}/el8", "default": f"{bench.images}/el9", "rhel7": REMOTE}
    assert decision.default_platform == "default"


def test_the_default_platform_is_drawn_proven_first_and_told(bench: Bench) -> None:
    images = {"el8": [bench.image("el8")], "el9": [bench.image("el9")]}
    drawn = {}
    for pilot_id in ("000000000000", "000000000007"):
        known = bench.arrange(images, pilot_id=pilot_id, default="75% el9, 25% el8")
        decision, _ = bench.conclude(known)
        drawn[pilot_id] = decision.default_platform
        assert known.by_urgency[0] == decision.default_platform
        assert list(decision.images) == ["el8", "el9"]
        assert f"{decision.default_platform} was drawn from 75% el9, 25% el8 by the pilot's id" in decision.reason
    assert drawn == {"000000000000": "el9", "000000000007": "el8"}


def test_a_platform_without_an_image_does_not_win_the_draw(bench: Bench) -> None:
    images = {"el9": [bench.image("broken")], "el8": [bench.image("el8")]}
    decision = bench.decide(images, pilot_id="000000000000", default={"el9": 75, "el8": 25})
    assert decision.default_platform == "el8"
    assert "el9 came before it and has no image here" in decision.reason
