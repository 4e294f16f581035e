"""What site and VO forbid is refused, by what it really is, and the refusal names the layer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.config import Layer, load_config
from pilot_agent.config_images import REMOTE_SCHEMES
from pilot_agent.containers.candidates import Located, Refused, source_of
from pilot_agent.containers.images import NodeNeeds, resolve
from pilot_agent.containers.restrictions import Restrictions
from pilot_agent.model import ImageCandidate, Json

DIGEST = f"sha256:{'0a' * 32}"
SIF = bytes(32) + b"SIF_MAGIC" + bytes(100)


def restrictions(**layers: dict[str, Json]) -> Restrictions:
    """Those that result when the layers give these keys of ``containers``."""
    config = load_config([Layer(name, {"containers": keys}) for name, keys in layers.items()])
    return Restrictions.of(config.values["containers"])


def refusal(path: Path | str, digest: str = "", **layers: dict[str, Json]) -> str | None:
    """Why an image is refused, None when it is located."""
    (found,) = resolve([ImageCandidate("p", str(path), digest=digest)], NodeNeeds(), None, restrictions(**layers))
    if isinstance(found, Located):
        return None
    assert isinstance(found, Refused)
    assert found.code == "image.restricted", found.reason
    assert found.hint
    return found.reason


def remote(reference: str, *prefixes: str) -> bool:
    """Whether the reference lies under one of the prefixes."""
    return refusal(reference, vo={"prefixes": list(prefixes)}) is None


@pytest.mark.parametrize(
    ("path", "form", "source"),
    [
        ("/cvmfs/a/b", "directory", "cvmfs"),
        ("/cvmfs/a/b.sif", "file", "cvmfs"),
        ("/cvmfs-not/a", "directory", "directory"),
        ("/a/b", "directory", "directory"),
        ("/a/b.sif", "directory", "directory"),
        ("/a/b", "file", "file"),
        ("/a/b", None, "directory"),
        ("/a/b.SIF", None, "file"),
        ("docker://x", None, "docker"),
        ("oras://x", "remote", "oras"),
        ("https://x", "remote", "https"),
        ("http://x", None, None),
        ("Docker://x", None, None),
        ("a/b", None, None),
        ("", None, None),
    ],
)
def test_a_path_has_a_source(path: str, form: str | None, source: str | None) -> None:
    assert source_of(path, form) == source  # type: ignore[arg-type]


def test_without_restrictions_everything_is_taken(tmp_path: Path) -> None:
    assert refusal(tmp_path) is None
    assert refusal("docker://x") is None


def test_every_layer_must_allow_the_source_and_the_one_that_does_not_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path, vo={"sources": ["directory", "docker"]}, site={"sources": ["directory"]}) is None
    reason = refusal("docker://x", vo={"sources": ["directory", "docker"]}, site={"sources": ["cvmfs", "directory"]})
    assert reason == "its source is docker, and containers.sources allows cvmfs, directory (site layer)"


def test_an_empty_list_of_sources_allows_nothing(tmp_path: Path) -> None:
    assert "allows nothing (entry layer)" in (refusal(tmp_path, entry={"sources": []}) or "")


def test_the_source_is_that_of_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "x.sif").write_bytes(SIF)
    os.symlink("x.sif", tmp_path / "directory")
    assert refusal(tmp_path / "directory", site={"sources": ["file"]}) is None
    assert "source is file" in (refusal(tmp_path / "directory", site={"sources": ["directory"]}) or "")


def test_a_path_must_lie_under_a_prefix_of_every_layer(tmp_path: Path) -> None:
    image = tmp_path / "vo" / "el9"
    image.mkdir(parents=True)
    allowed = {"prefixes": ["/nowhere", str(tmp_path)]}
    assert refusal(image, factory=allowed, vo={"prefixes": [f"{tmp_path}/vo/"]}) is None
    reason = refusal(image, factory=allowed, vo={"prefixes": [f"{tmp_path}/v", f"{image}/etc"]}) or ""
    assert reason.startswith("it is not under what containers.prefixes allows: ")
    assert "(vo layer)" in reason
    assert "factory" not in reason


def test_a_link_out_of_the_prefix_is_refused_with_where_it_leads(tmp_path: Path) -> None:
    for name in ("allowed", "elsewhere"):
        (tmp_path / name).mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "allowed" / "el9")
    reason = refusal(tmp_path / "allowed" / "el9", site={"prefixes": [f"{tmp_path}/allowed"]}) or ""
    assert f"{tmp_path}/elsewhere, where it leads, is not under" in reason
    assert refusal(f"{tmp_path}/allowed/../elsewhere", site={"prefixes": [f"{tmp_path}/allowed"]}) is not None


def test_a_prefix_that_is_a_link_itself_counts_with_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "disk7" / "el9").mkdir(parents=True)
    os.symlink("disk7", tmp_path / "images")
    assert refusal(tmp_path / "images" / "el9", site={"prefixes": [f"{tmp_path}/images"]}) is None


def test_a_link_into_the_prefix_is_as_good_as_the_place_itself(tmp_path: Path) -> None:
    (tmp_path / "images" / "el9").mkdir(parents=True)
    os.symlink("images/el9", tmp_path / "el9")
    assert refusal(tmp_path / "el9", site={"prefixes": [f"{tmp_path}/images"]}) is None


def test_the_root_directory_is_a_prefix_of_every_path_and_of_no_reference(tmp_path: Path) -> None:
    assert refusal(tmp_path, site={"prefixes": ["/"]}) is None
    assert refusal("docker://x", site={"prefixes": ["/"]}) is not None


@pytest.mark.parametrize(
    ("reference", "prefix", "allowed"),
    [
        ("docker://a.org/vo/el9:1", "docker://a.org/vo", True),
        ("docker://a.org/vo/el9:1", "docker://a.org/vo/", True),
        ("docker://a.org/vo/el9:1", "docker://", True),
        ("docker://a.org/vo/el9:1", "docker://a.org/vo/el9", True),
        (f"docker://a.org/vo/el9@{DIGEST}", "docker://a.org/vo/el9", True),
        (f"oras://a.org/vo/el9:1@{DIGEST}", "oras://a.org/vo/el9", True),
        ("docker://a.org/vo/el9:1", "docker://a.org/vo/el", False),
        ("docker://a.org/vo-evil/el9", "docker://a.org/vo", False),
        ("docker://a.org.evil.org/vo/el9", "docker://a.org", False),
        ("docker://a.org:5000/vo/el9", "docker://a.org", False),
        ("docker://a.org/vo/../evil/el9", "docker://a.org/vo", False),
        ("oras://a.org/vo/el9", "docker://a.org/vo", False),
        ("https://a.org/images/x.sif", "https://a.org/images", True),
        ("https://a.org/images/x.sif", "https://a.org", True),
        ("https://a.org@evil.org/x.sif", "https://a.org", False),
        ("https://a.org:8443/x.sif", "https://a.org", False),
        ("https://a.org:8443", "https://a.org", False),
        ("https://a.org/images/../x.sif", "https://a.org/images", False),
        ("https://a.org/images/%2E%2e/x.sif", "https://a.org/images", False),
        ("https://a.org/images%2f..%2Fx.sif", "https://a.org", False),
        ("https://a.org/images/..?x", "https://a.org/images", False),
        ("https://a.org/images/..x.sif", "https://a.org/images", True),
    ],
)
def test_a_reference_lies_under_a_prefix_up_to_the_end_of_a_component(
    reference: str, prefix: str, allowed: bool
) -> None:
    assert remote(reference, prefix) == allowed


parts = st.text("ab.:@/-%2e", min_size=1, max_size=12)


@given(st.sampled_from(REMOTE_SCHEMES), parts, parts)
def test_what_is_under_a_prefix_begins_with_it_and_stays_on_its_server(scheme: str, place: str, rest: str) -> None:
    prefix = f"{scheme}://x.org/{place}"
    rules = restrictions(vo={"prefixes": [prefix]})
    reference = prefix + rest
    if rules.forbid(Located(ImageCandidate("p", reference), reference, "remote"), {}) is None:
        assert reference.startswith(prefix)
        assert ".." not in reference.removeprefix(f"{scheme}://").split("/")


@pytest.mark.parametrize("reference", ["docker://a.org/x:1", "oras://a.org/x:1", "https://a.org/x.sif"])
def test_where_digests_are_required_a_remote_image_needs_one(reference: str) -> None:
    both: dict[str, Any] = {"vo": {"digests": "optional"}, "site": {"digests": "Required"}}
    assert refusal(reference, **both) == "it has no digest, and containers.digests is required (site layer)"
    assert refusal(reference, DIGEST, **both) is None
    assert refusal(reference, vo={"digests": "optional"}) is None


def test_a_digest_in_the_reference_is_one() -> None:
    assert refusal(f"docker://a.org/x@{DIGEST}", site={"digests": "required"}) is None


def test_where_digests_are_required_a_file_needs_one_and_a_directory_cannot_have_one(tmp_path: Path) -> None:
    (tmp_path / "x.sif").write_bytes(SIF)
    assert "it has no digest" in (refusal(tmp_path / "x.sif", factory={"digests": "required"}) or "")
    assert refusal(tmp_path, factory={"digests": "required"}) is None
