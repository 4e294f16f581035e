"""The dictionary: what is taken from the configuration, what a node can use of it, and where it is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.containers import images
from pilot_agent.containers.images import Located, NodeNeeds, Refused, dictionary, locate_all, refusal, resolve
from pilot_agent.model import FailureKind, ImageCandidate, Json

NODE = NodeNeeds(architecture="x86_64", cpu_level="x86-64-v3", kernel="6.1.0-18-amd64", gpus=0)
SIF = b"#!/usr/bin/env run-singularity\n\x00SIF_MAGIC\x0001\x00" + bytes(2000)


def candidate(path: str = "/images/a", architecture: str = "", **requires: Json) -> ImageCandidate:
    return ImageCandidate("el9", path, architecture, requires)


def only(path: Path) -> Located | Refused:
    (found,) = locate_all([candidate(str(path))])
    return found


def test_the_dictionary_gives_candidates_in_their_order() -> None:
    images = {
        "el9": ["/images/el9", {"path": "docker://example/el9", "arch": "arm64", "requires": {"gpu": True}}],
        "el8": [{"path": "/images/el8.sif"}],
    }
    assert list(dictionary(images, origin="vo")) == [
        ImageCandidate("el9", "/images/el9", "", {}, "vo"),
        ImageCandidate("el9", "docker://example/el9", "arm64", {"gpu": True}, "vo"),
        ImageCandidate("el8", "/images/el8.sif", "", {}, "vo"),
    ]


@pytest.mark.parametrize(
    "fitting",
    [
        candidate(),
        candidate(architecture="x86_64"),
        candidate(architecture="amd64"),
        candidate(cpu_level="x86_64-v3"),
        candidate(cpu_level="x86-64-v2"),
        candidate(cpu_level="x86_64"),
        candidate(kernel="5.11"),
        candidate(gpu=False),
        candidate(path="/images/with space,comma:colon"),
    ],
)
def test_a_candidate_that_fits_the_node_is_not_refused(fitting: ImageCandidate) -> None:
    assert refusal(fitting, NODE) is None


@pytest.mark.parametrize(
    ("unfit", "code", "reason"),
    [
        (candidate(architecture="aarch64"), "image.not_in_dictionary", "for aarch64, and the node is x86_64"),
        (candidate(architecture="arm64"), "image.not_in_dictionary", "for aarch64"),
        (candidate(cpu_level="x86_64-v4"), "image.not_in_dictionary", "the node has x86-64-v3"),
        (candidate(cpu_level="v4"), "image.not_in_dictionary", "none of x86_64-v1"),
        (candidate(kernel="6.2"), "image.not_in_dictionary", "needs kernel 6.2"),
        (candidate(gpu=True), "image.not_in_dictionary", "needs a GPU"),
        (candidate(moon="full"), "image.not_in_dictionary", "does not know; known: cpu_level"),
        (candidate("docker://debian:13"), "image.unproven", "first use"),
        (candidate("oras://ghcr.io/x/y:1"), "image.unproven", "first use"),
        (candidate("images/el9"), "image.path", "neither an absolute path"),
        (candidate(""), "image.path", "neither an absolute path"),
        (ImageCandidate("el 9", "/images/a"), "image.name", "platform's name"),
        (ImageCandidate('a"b', "/images/a"), "image.name", "platform's name"),
    ],
)
def test_a_candidate_that_does_not_fit_is_refused_with_the_reason(
    unfit: ImageCandidate, code: str, reason: str
) -> None:
    refused = refusal(unfit, NODE)
    assert refused is not None
    assert refused.code == code
    assert refused.kind is FailureKind.CONFIG
    assert reason in refused.reason


@pytest.mark.parametrize("needs", [{"cpu_level": "x86_64-v2"}, {"kernel": "5.11"}, {"gpu": True}])
def test_a_need_is_not_met_by_what_is_not_known(needs: dict[str, Json]) -> None:
    assert refusal(candidate(**needs), NodeNeeds()) is not None


def test_an_unknown_architecture_of_the_node_refuses_nothing() -> None:
    assert refusal(candidate(architecture="aarch64"), NodeNeeds()) is None


@pytest.mark.parametrize("character", ["'", '"', "`", "$", ";", "\n", "\r", "\t", "\x00", "\x7f", "\\"])
def test_characters_that_another_language_would_read_are_refused(character: str) -> None:
    refused = refusal(candidate(f"/images/a{character}b"), NODE)
    assert refused is not None
    assert repr(character) in refused.reason


@given(st.text(max_size=40))
def test_a_path_that_is_taken_is_absolute_and_has_no_dangerous_character(path: str) -> None:
    if refusal(candidate(path), NODE) is None:
        assert path.startswith("/")
        assert not set(path) & set("'\"`$;\n\r\\")


def test_a_directory_and_a_sif_file_are_located(tmp_path: Path) -> None:
    (tmp_path / "el9").mkdir()
    (tmp_path / "el9.sif").write_bytes(SIF)
    (tmp_path / "el9.sqsh").write_bytes(b"hsqs" + bytes(100))
    found = locate_all([candidate(str(tmp_path / name)) for name in ("el9", "el9.sif", "el9.sqsh")])
    assert [(item.path, item.form) for item in found if isinstance(item, Located)] == [
        (str(tmp_path / "el9"), "directory"),
        (str(tmp_path / "el9.sif"), "file"),
        (str(tmp_path / "el9.sqsh"), "file"),
    ]


def test_links_are_resolved_to_the_physical_path(tmp_path: Path) -> None:
    (tmp_path / "el9-2024").mkdir()
    os.symlink("el9-2024", tmp_path / "el9-current")
    os.symlink("el9-current", tmp_path / "el9")
    found = only(tmp_path / "el9")
    assert isinstance(found, Located)
    assert found.path == str(tmp_path / "el9-2024")


def test_a_link_to_a_path_with_dangerous_characters_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a$(reboot)").mkdir()
    os.symlink("a$(reboot)", tmp_path / "el9")
    found = only(tmp_path / "el9")
    assert isinstance(found, Refused)
    assert found.code == "image.path"


def test_a_link_that_goes_in_circles_is_missing(tmp_path: Path) -> None:
    os.symlink("b", tmp_path / "a")
    os.symlink("a", tmp_path / "b")
    found = only(tmp_path / "a")
    assert isinstance(found, Refused)
    assert found.code == "image.missing"


def test_a_missing_path_is_the_configurations_fault_but_on_cvmfs_the_nodes() -> None:
    found = locate_all([candidate("/no/such/image"), candidate("/cvmfs/no.such.repository/image")])
    assert [item.kind for item in found if isinstance(item, Refused)] == [
        FailureKind.CONFIG,
        FailureKind.NODE_RESOURCE,
    ]


def test_a_fifo_is_no_image_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    found = only(tmp_path / "fifo")
    assert isinstance(found, Refused)
    assert found.code == "image.format"


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"SIF_MAGIC"])
def test_a_file_that_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.sif").write_bytes(content)
    found = only(tmp_path / "x.sif")
    assert isinstance(found, Refused)
    assert found.code == "image.format"


def test_a_path_that_never_answers_is_refused_and_the_others_are_located(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = images._looked

    def hang(path: str) -> dict[str, str]:
        if path.endswith("dead"):
            time.sleep(60)
        return look(path)

    monkeypatch.setattr(images, "LOCATE_SECONDS", 0.2)
    monkeypatch.setattr(images, "_looked", hang)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found = locate_all([candidate(str(tmp_path / name)) for name in ("a", "dead", "b")])
    assert [type(item) for item in found] == [Located, Refused, Located]
    stuck = found[1]
    assert isinstance(stuck, Refused)
    assert (stuck.code, stuck.kind) == ("image.mount_dead", FailureKind.NODE_RESOURCE)


def test_refused_and_located_candidates_keep_their_order(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    offered = [candidate("docker://x"), candidate(str(tmp_path / "a")), candidate("/no/such"), candidate("y")]
    found = resolve(offered, NODE)
    assert [item.candidate for item in found] == offered
    assert [type(item) for item in found] == [Refused, Located, Refused, Refused]


def test_no_candidates_are_nothing_to_do() -> None:
    assert resolve([], NODE) == []
