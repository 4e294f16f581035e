"""What an image's own files say."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from pilot_agent.containers import tiny_image
from pilot_agent.containers.inspection import inspect, system_of


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    for directory in ("etc", "bin", ".singularity.d"):
        (root / directory).mkdir(parents=True)
    (root / "etc/os-release").write_text('ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian 13"\nHOME_URL="x"\n')
    return root


def test_a_directory_tells_system_labels_recipe_and_size(image: Path) -> None:
    shutil.copy("/bin/sh", image / "bin/sh")
    (image / ".singularity.d/labels.json").write_text(json.dumps({"a": "b", "number": 3}))
    (image / ".singularity.d/Singularity").write_text("Bootstrap: scratch\n")
    found = inspect(str(image))
    assert found.form == "directory"
    assert found.system == {"id": "debian", "version": "13", "pretty_name": "Debian 13"}
    assert found.labels == {"a": "b"}
    assert found.definition == "Bootstrap: scratch\n"
    assert found.architecture != ""
    assert found.size_bytes is not None
    assert found.size_bytes >= (image / "bin/sh").stat().st_size
    assert found.unknown == {}


def test_what_a_directory_lacks_is_unknown_with_the_reason(tmp_path: Path) -> None:
    found = inspect(str(tmp_path))
    assert set(found.unknown) == {"system", "architecture"}
    assert "/etc/os-release" in found.unknown["system"]


def test_damaged_labels_are_told(image: Path) -> None:
    (image / ".singularity.d/labels.json").write_text("{")
    assert "no JSON" in inspect(str(image)).unknown["labels"]


def test_a_link_is_followed_to_the_image_and_none_out_of_it(image: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.json").write_text('{"secret": "x"}')
    (image / ".singularity.d/labels.json").symlink_to(tmp_path / "outside.json")
    (tmp_path / "current").symlink_to(image)
    found = inspect(str(tmp_path / "current"))
    assert found.path == str(image)
    assert found.labels == {}


def test_a_sif_file_tells_its_digest_and_a_truncated_one_that_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.sif"
    path.write_bytes(tiny_image.sif())
    found = inspect(str(path))
    assert (found.form, found.architecture) == ("sif", "x86_64")
    assert found.digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(tiny_image.sif()[:5000])
    assert "truncated" in inspect(str(path)).unknown["header"]


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b"hsqs" + b"\0" * 2000, "squashfs"),
        (b"\0" * 1080 + b"\x53\xef", "ext3"),
        (b"text", "unknown"),
        (b"", "unknown"),
    ],
)
def test_the_form_of_a_file_is_known_by_its_first_bytes(tmp_path: Path, content: bytes, form: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert inspect(str(path)).form == form


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inspect(str(tmp_path / "missing"))


def test_os_release_is_read_with_and_without_quotes() -> None:
    assert system_of("ID='a'\nVERSION_ID=9.4\nlower=x\n") == {"id": "a", "version": "9.4"}
    assert system_of("") == {}
