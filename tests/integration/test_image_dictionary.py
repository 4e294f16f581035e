"""The image dictionary on a real node with the real Apptainer: pins, restrictions, remote candidates, the draw."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.grid import IMAGES_INSIDE, Grid
from tests.testbed.hosts import Host
from tests.testbed.pilots import INSTALLED
from tests.testbed.trees import PILOT

SCRATCH = "/var/tmp/dictionary-images"
CONFIGURATION = "/var/tmp/dictionary.json"
DIRECTORY, SIF = f"{IMAGES_INSIDE}/debian13", f"{IMAGES_INSIDE}/debian12.sif"
REMOTE = "docker://registry.invalid/vo/el9:1"
Json = Any


@pytest.fixture(scope="module")
def node(grid: Grid, payload: Path) -> Iterator[Host]:
    """A worker node with links to its images."""
    host = grid.wn1
    links = host.path(SCRATCH)
    links.mkdir()
    (links / "current").symlink_to(DIRECTORY)
    (links / "broken").mkdir()
    yield host
    shutil.rmtree(links)
    host.path(CONFIGURATION).unlink(missing_ok=True)


def check(host: Host, images: Json, *arguments: str, **containers: Json) -> tuple[int, Json]:
    """Exit code and report of `check` with this dictionary."""
    document = {"images": images, "site": {"containers": "required"}, "containers": containers}
    host.path(CONFIGURATION).write_text(json.dumps(document))
    host.path(CONFIGURATION).chmod(0o644)
    words = ["python3", f"{INSTALLED}/pilot.pyz", "check", "--json", "--config", CONFIGURATION, *arguments]
    done = host.run(words, user=PILOT.name)
    return done.returncode, json.loads(done.stdout)


def taken(report: Json) -> dict[str, str]:
    """Platform -> image."""
    images: dict[str, str] = report["container"]["image"]["platforms"]
    return images


def digest(host: Host, path: str) -> str:
    """The digest of a file of the node."""
    return "sha256:" + hashlib.sha256(host.path(path).read_bytes()).hexdigest()


def test_a_sif_file_with_the_right_digest_is_proven_and_with_another_refused(node: Host) -> None:
    right, wrong = digest(node, SIF), f"sha256:{'0' * 64}"
    code, report = check(node, {"debian": [{"path": SIF, "digest": wrong}, {"path": SIF, "digest": right}]})
    assert code == 0, report
    first, second = report["container"]["why"]
    assert first["reason"] == f"image.digest: {SIF} has the digest {right}, and {wrong} is wanted"
    assert second["proven"]
    code, report = check(node, {"debian": [{"path": SIF, "digest": wrong}]})
    assert code == 68, report


def test_a_remote_image_is_taken_behind_a_broken_one_and_nothing_is_fetched(node: Host) -> None:
    code, report = check(node, {"debian": [f"{SCRATCH}/broken", REMOTE], "debian13": [DIRECTORY, REMOTE]})
    assert code == 0, report
    assert taken(report) == {"debian": REMOTE, "debian13": DIRECTORY}
    # The registry does not exist, so fetching would have failed.
    why = next(why for why in report["container"]["why"] if why["candidate"] == REMOTE)
    assert (why["proven"], why["seconds"]) == (False, 0.0)


def test_where_all_images_are_remote_the_runtime_is_tried_all_the_same(node: Host) -> None:
    code, report = check(node, {"debian": [REMOTE]})
    assert code == 0, report
    assert report["container"]["runtime"]["path"] == "/usr/bin/apptainer"
    assert taken(report) == {"debian": REMOTE}


def test_what_a_layer_forbids_is_refused_with_key_and_layer(node: Host) -> None:
    code, report = check(node, {"debian": [f"{SCRATCH}/current", DIRECTORY]}, prefixes=[SCRATCH])
    assert code == 66, report
    for why in report["container"]["why"] if report["container"] else ():
        assert "containers.prefixes" in why["reason"]
    assert "image.restricted" in json.dumps(report["outcome"])
    assert f"{SCRATCH} (site layer)" in json.dumps(report["outcome"])
    code, report = check(node, {"debian": [REMOTE, DIRECTORY]}, sources=["directory"])
    assert code == 0, report
    assert taken(report) == {"debian": DIRECTORY}


def test_the_dictionary_in_one_line_with_a_drawn_default(node: Host) -> None:
    code, report = check(node, f"debian13:{DIRECTORY},debian12:{SIF}", default="50% debian13, 50% debian12")
    assert code == 0, report
    assert taken(report) == {"debian13": DIRECTORY, "debian12": SIF}
    default = report["container"]["image"]["default"]
    told = f"{default} was drawn from 50% debian13, 50% debian12 by the pilot's id"
    assert told in report["container"]["reason"]


def test_a_mistake_in_the_dictionary_is_named_with_its_place(node: Host) -> None:
    host = node
    host.path(CONFIGURATION).write_text(json.dumps({"images": {"el9": {"x86_46": ["/a"]}}}))
    host.path(CONFIGURATION).chmod(0o644)
    done = host.run(["python3", f"{INSTALLED}/pilot.pyz", "check", "--config", CONFIGURATION], user=PILOT.name)
    assert done.returncode == 66
    said = done.stdout + done.stderr
    assert "images.el9.x86_46 (site): 'x86_46' is no architecture; did you mean x86_64?" in str(said)
