"""What the machine ad says about containers under each outcome, with the names and types that expressions rely on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pilot_agent.model import Ability, ContainerDecision, Fact, Json, Runtime, RuntimeAbilities
from pilot_agent.startd.configuration import render
from pilot_agent.startd.container_ad import container_attributes, user_namespaces
from pilot_agent.startd.plan import ContainerPlan
from tests.startd.plans import CONTAINER, knobs, plan

RUNTIME = Runtime(
    "/usr/bin/apptainer",
    "1.4.5-2",
    "userns",
    pid_namespace=True,
    sif=True,
    full_version="apptainer version 1.4.5-2",
    abilities=RuntimeAbilities(nested=Ability(True, "tried"), directories=Ability(True, "tried")),
)


def decided(word: str, runtime: Runtime | None = RUNTIME) -> ContainerDecision:
    return ContainerDecision(word, "A x B", "because", runtime)  # type: ignore[arg-type]


def said(container: ContainerPlan | None = CONTAINER, word: str = "REQUIRED", **runtime: Json) -> dict[str, Json]:
    return container_attributes(container, decided(word, replace(RUNTIME, **runtime) if container else None))


def test_the_runtime_is_named_under_every_name_that_is_in_use() -> None:
    found = said()
    assert found["HAS_SINGULARITY"] is True
    for prefix in ("SINGULARITY", "GWMS_SINGULARITY", "CONTAINERSW", "GWMS_CONTAINERSW"):
        assert found[f"{prefix}_PATH"] == "/usr/bin/apptainer"
        assert found[f"{prefix}_VERSION"] == "1.4.5"
        assert found[f"{prefix}_MODE"] == "unprivileged"
    for prefix in ("SINGULARITY", "CONTAINERSW", "GWMS_CONTAINERSW"):
        assert found[f"{prefix}_FULL_VERSION"] == "apptainer version 1.4.5-2"
    assert found["SingularityVersion"] == "apptainer version 1.4.5-2"
    assert found["GWMS_SINGULARITY_STATUS"] == "REQUIRED"


def test_the_dictionary_is_said_in_one_line_with_its_default() -> None:
    found = said()
    assert found["SINGULARITY_IMAGES_DICT"] == "el9:/images/el9,el8:/images/el8.sif,default:/images/el9"
    assert found["GLIDEIN_REQUIRED_OS"] == "el9,el8"


def test_an_image_that_the_line_cannot_carry_is_left_out() -> None:
    odd = replace(CONTAINER, images={"el9": "/images/a,b", "el8": "/images/el8"}, default_platform=None)
    assert said(odd)["SINGULARITY_IMAGES_DICT"] == "el8:/images/el8"


def test_without_a_dictionary_any_platform_is_on_offer() -> None:
    empty = said(replace(CONTAINER, images={}, default_platform=None))
    assert (empty["SINGULARITY_IMAGES_DICT"], empty["GLIDEIN_REQUIRED_OS"]) == ("", "any")


@pytest.mark.parametrize("able", [True, False])
def test_abilities_are_booleans(able: bool) -> None:
    found = said(
        replace(CONTAINER, sif=able, pid_namespace=able, fetched=("docker",) if able else ("oras",)),
        abilities=RuntimeAbilities(nested=Ability(able), directories=Ability(able)),
    )
    names = ("HasSIF", "SINGULARITY_CAN_USE_SIF", "HasSandboxImage", "HasSingularityPIDNamespaces", "HasDockerURL")
    assert {name: found[name] for name in names} == dict.fromkeys(names, able)
    assert found["PilotNestedContainers"] is able


def test_what_was_not_established_is_not_said() -> None:
    assert "PilotNestedContainers" not in said(abilities=RuntimeAbilities())


@pytest.mark.parametrize(("mode", "namespaces"), [("unprivileged", True), ("privileged", False)])
def test_a_privileged_runtime_uses_no_user_namespaces(mode: str, namespaces: bool) -> None:
    found = said(replace(CONTAINER, mode=mode))
    assert (found["SINGULARITY_MODE"], found["SingularityUserNamespaces"]) == (mode, namespaces)


def test_where_containers_are_left_to_each_job_nothing_is_said_of_them() -> None:
    assert set(said(None, "DISABLE")) == {"PilotJobIsolation"}
    text = render(plan(container=None, decision=decided("DISABLE", None)))
    assert not {name for name in knobs(text) if "SINGULARITY" in name and name.startswith(("HAS_", "GWMS_", "Has"))}


@pytest.mark.parametrize("word", ["NEVER", "PREFERRED"])
def test_without_containers_the_status_says_why(word: str) -> None:
    assert said(None, word) == {
        "HAS_SINGULARITY": False,
        "GWMS_SINGULARITY_STATUS": word,
        "PilotJobIsolation": "none",
    }


@pytest.mark.parametrize(
    ("fact", "word"),
    [
        (Fact("userns.usable", True), "enabled"),
        (Fact("userns.usable", False), "disabled"),
        (Fact.absent("userns.usable", "the kernel has none"), "unavailable"),
        (Fact.unknown("userns.usable", "no answer"), "error"),
        (None, "error"),
    ],
)
def test_user_namespaces_keep_their_words(fact: Fact | None, word: str) -> None:
    assert user_namespaces(fact) == word
