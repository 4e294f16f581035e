"""What the files of images say in which no program ran."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from pilot_agent.containers import tiny_image
from pilot_agent.containers.refused_facts import NEEDED, facts_of_refused


def directory(place: Path, *, machine: int = 183) -> str:
    for name in ("bin", "dev", "proc", "sys", "tmp", "var/tmp", "etc", "usr/lib"):
        (place / name).mkdir(parents=True)
    elf = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, machine) + bytes(44)
    (place / "bin/sh").write_bytes(elf)
    (place / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (place / "usr/lib/os-release").write_text('ID="small"\nVERSION_ID=7\n')
    return str(place)


def test_a_directory_says_its_release_its_processor_and_what_it_lacks(tmp_path: Path) -> None:
    whole = directory(tmp_path / "whole")
    bare = directory(tmp_path / "bare")
    (tmp_path / "bare/etc/passwd").unlink()
    (tmp_path / "bare/dev").rmdir()
    found = facts_of_refused([whole, bare])
    assert found[whole] == {"os.id": "small", "os.version": "7", "os.arch": "aarch64", "lacks": []}
    assert found[bare]["lacks"] == ["/dev", "/etc/passwd"]


def test_an_empty_directory_lacks_all_that_is_needed(tmp_path: Path) -> None:
    assert facts_of_refused([str(tmp_path)]) == {str(tmp_path): {"lacks": list(NEEDED)}}


def test_links_lead_nowhere_but_into_the_image(tmp_path: Path) -> None:
    image = directory(tmp_path / "image")
    (tmp_path / "image/etc/passwd").unlink()
    (tmp_path / "image/etc/passwd").symlink_to("/etc/group")
    (tmp_path / "image/dev").rmdir()
    (tmp_path / "image/dev").symlink_to("usr/lib")
    (tmp_path / "image/tmp").rmdir()
    (tmp_path / "image/tmp").symlink_to("/")
    assert facts_of_refused([image])[image]["lacks"] == ["/etc/passwd"]


def test_a_file_says_its_processor_and_where_it_is_cut(tmp_path: Path) -> None:
    made, paths = tiny_image.sif(), [tmp_path / name for name in ("whole.sif", "short.sif", "page.sif")]
    for path, content in zip(paths, (made, made[:5000], b"<html>"), strict=True):
        path.write_bytes(content)
    whole, short, page = (facts_of_refused([str(path)])[str(path)] for path in paths)
    assert whole == {"size_bytes": len(made), "os.arch": "x86_64"}
    assert (short["os.arch"], page) == ("x86_64", {"size_bytes": 6})
    assert "truncated" in short["lacks"][0]


def test_what_cannot_be_read_is_left_out_and_the_others_are_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    image = directory(tmp_path / "image")
    assert list(facts_of_refused([str(tmp_path / "pipe"), image])) == [image]


def test_of_a_path_that_leads_nowhere_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to("images/el9/latest")
    absent, link = str(tmp_path / "images" / "el8" / "x.sif"), str(tmp_path / "link")
    found = facts_of_refused([absent, link])
    assert found[absent] == {"nearest_existing": f"{tmp_path}/images"}
    assert found[link] == {"nearest_existing": f"{tmp_path}/images", "leads_to": f"{tmp_path}/images/el9/latest"}
