"""The dictionary: what is taken from the configuration, what a node can use of it, and where it is."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.config import Layer, load_config
from pilot_agent.containers import images
from pilot_agent.containers.images import Located, NodeNeeds, Refused, dictionary, locate_all, refusal, resolve
from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, FailureKind, ImageCandidate, Json

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
        "el7": {"AMD64": ["/images/el7"], "any": [{"path": "oras://example/el7", "digest": "sha256:0"}]},
    }
    assert list(dictionary(images, origin="vo")) == [
        ImageCandidate("el9", "/images/el9", "", {}, "vo"),
        ImageCandidate("el9", "docker://example/el9", "arm64", {"gpu": True}, "vo"),
        ImageCandidate("el8", "/images/el8.sif", "", {}, "vo"),
        ImageCandidate("el7", "/images/el7", "AMD64", {}, "vo"),
        ImageCandidate("el7", "oras://example/el7", "", {}, "vo", "sha256:0"),
    ]
    assert [c.path for c in dictionary("el9:/a,el8:docker://b:1")] == ["/a", "docker://b:1"]


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
        candidate("docker://debian:13"),
        candidate("oras://ghcr.io/x/y:1"),
        candidate("https://example.org/x.sif?version=1"),
        candidate("docker://[2001:db8::1]:5000/x"),
        candidate(f"docker://x@sha256:{'a' * 64}"),
        candidate(kernel=5),
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
        (candidate(gpu=2), "image.not_in_dictionary", "needs a GPU"),
        (candidate(gpu=-1), "image.not_in_dictionary", "-1 is neither true or false nor a number"),
        (candidate(cuda="12.4"), "image.not_in_dictionary", "CUDA 12.4, and that of the node is not known"),
        (candidate(cpu_levl="x86_64-v2"), "image.not_in_dictionary", "did you mean cpu_level?"),
        (candidate("doker://debian:13"), "image.source", "'doker' is no source of images; did you mean docker?"),
        (candidate("library://x/y"), "image.source", "known: docker, oras, https"),
        (candidate("http://example.org/x.sif"), "image.source", "did you mean https?"),
        (candidate("docker-archive:/x.tar"), "image.source", "no source of images"),
        (candidate("docker://"), "image.path", "a name without spaces is needed"),
        (candidate("docker:debian"), "image.path", "no reference"),
        (candidate("docker://-x"), "image.path", "no reference"),
        (candidate("docker://a b"), "image.path", "no reference"),
        (candidate("docker://x@sha256:12"), "image.digest", "64 hexadecimal digits"),
        (replace(candidate("/x.sif"), digest=f"sha512:{'a' * 64}"), "image.digest", "sha256: and 64"),
        (
            replace(candidate(f"oras://x@sha256:{'a' * 64}"), digest=f"sha256:{'b' * 64}"),
            "image.digest",
            "names another digest",
        ),
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


@pytest.mark.parametrize(
    ("need", "fits"),
    [
        ({"gpu": True}, True),
        ({"gpu": 2}, True),
        ({"gpu": 3}, False),
        ({"cuda": "12.4"}, True),
        ({"cuda": 12}, True),
        ({"cuda": "12.10"}, False),
        ({"cuda": 13}, False),
    ],
)
def test_gpus_are_counted_and_cuda_versions_compared_as_numbers(need: dict[str, Json], fits: bool) -> None:
    refused = refusal(candidate(**need), replace(NODE, gpus=2, cuda_driver="12.4"))
    assert (refused is None) == fits
    if refused is not None:
        assert "and the node has" in refused.reason


@pytest.mark.parametrize("needs", [{"cpu_level": "x86_64-v2"}, {"kernel": "5.11"}, {"gpu": True}, {"cuda": "11.0"}])
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
        assert path.startswith(("/", "docker://", "oras://", "https://"))
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

    def hang(path: str, mount_point: str) -> dict[str, str]:
        if path.endswith("dead"):
            time.sleep(60)
        return look(path, mount_point)

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
    assert [type(item) for item in found] == [Located, Located, Refused, Refused]
    assert [item.form for item in found if isinstance(item, Located)] == ["remote", "directory"]


def test_of_a_remote_candidate_nothing_is_looked_at_and_its_reference_is_kept() -> None:
    (found,) = resolve([candidate("docker://no-such-registry.invalid/x:1")], NODE)
    assert isinstance(found, Located)
    assert (found.path, found.form, found.source) == ("docker://no-such-registry.invalid/x:1", "remote", "docker")


def test_a_link_that_is_changed_after_the_look_does_not_change_the_image(tmp_path: Path) -> None:
    for release in ("2024", "2025"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "release").write_text(release)
    os.symlink("2024", tmp_path / "latest")
    (found,) = resolve([candidate(str(tmp_path / "latest"))], NODE)
    os.symlink("2025", tmp_path / "new")
    os.replace(tmp_path / "new", tmp_path / "latest")
    assert isinstance(found, Located)
    assert (tmp_path / "latest" / "release").read_text() == "2025"
    assert (Path(found.path) / "release").read_text() == "2024"


# ---- digests -----------------------------------------------------------------------------------------------------


def pinned(path: Path, content: bytes | None = None) -> ImageCandidate:
    """A candidate whose digest is that of ``content``; of the file itself without."""
    digest = hashlib.sha256(path.read_bytes() if content is None else content).hexdigest()
    return replace(candidate(str(path)), digest=f"sha256:{digest}")


def test_a_file_with_the_right_digest_is_located(tmp_path: Path) -> None:
    (tmp_path / "el9.sif").write_bytes(SIF)
    (found,) = resolve([pinned(tmp_path / "el9.sif")], NODE)
    assert isinstance(found, Located)
    assert found.source == "file"


def test_a_file_with_another_digest_is_refused_as_corrupt_and_the_next_is_taken(tmp_path: Path) -> None:
    (tmp_path / "el9.sif").write_bytes(SIF)
    offered = [pinned(tmp_path / "el9.sif", b"something else"), pinned(tmp_path / "el9.sif")]
    first, second = resolve(offered, NODE)
    assert isinstance(first, Refused)
    assert (first.code, first.kind) == ("image.digest", FailureKind.CORRUPTION)
    assert offered[0].digest in first.reason
    assert offered[1].digest in first.reason
    assert isinstance(second, Located)


def test_a_directory_has_no_digest_to_be_checked(tmp_path: Path) -> None:
    (found,) = resolve([replace(candidate(str(tmp_path)), digest=f"sha256:{'a' * 64}")], NODE)
    assert isinstance(found, Refused)
    assert (found.code, found.kind) == ("image.digest", FailureKind.CONFIG)
    assert "cannot be checked: it is a directory" in found.reason


def test_a_file_that_is_not_read_in_time_is_refused_and_nothing_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(path: str) -> bytes:
        time.sleep(60)
        return b""

    monkeypatch.setattr(images, "DIGEST_SECONDS", 0.2)
    monkeypatch.setattr(images, "_hashed", hang)
    (tmp_path / "a.sif").write_bytes(SIF)
    (tmp_path / "b.sif").write_bytes(SIF)
    for found in resolve([pinned(tmp_path / "a.sif"), pinned(tmp_path / "b.sif")], NODE):
        assert isinstance(found, Refused)
        assert (found.code, found.kind) == ("image.digest", FailureKind.NODE_RESOURCE)
        assert "was not read to its end" in found.reason


def test_a_file_of_two_platforms_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    digest_of = images._digest_of

    def note(path: str, *rest: Any) -> str | None:
        read.append(path)
        return digest_of(path, *rest)

    monkeypatch.setattr(images, "_digest_of", note)
    (tmp_path / "a.sif").write_bytes(SIF)
    one = pinned(tmp_path / "a.sif")
    assert len(resolve([one, replace(one, platform="el8")], NODE)) == 2
    assert read == [str(tmp_path / "a.sif")]


def test_the_resolver_of_a_node_uses_its_facts_and_its_restrictions(tmp_path: Path) -> None:
    facts = (Fact("os.arch", "x86_64"), Fact("gpu.count", 1), Fact("gpu.cuda_driver", "12.4"))
    site = {"containers": {"sources": ["Docker"]}}
    context = Context(facts={fact.name: fact for fact in facts}, config=load_config([Layer("site", site)]).values)
    offered = [candidate("docker://x", cuda="12.5"), candidate("docker://x", cuda="12.4"), candidate(str(tmp_path))]
    first, second, third = images.resolver(context)(offered)
    assert isinstance(first, Refused)
    assert isinstance(second, Located)
    assert isinstance(third, Refused)
    assert third.code == "image.restricted"
    assert third.reason == "its source is directory, and containers.sources allows docker (site layer)"


def test_no_candidates_are_nothing_to_do() -> None:
    assert resolve([], NODE) == []
