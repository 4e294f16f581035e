"""The pilot's own SIF file: always the same bytes, and a program that runs. Real runtimes run it in the testbed."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

from pilot_agent.containers import tiny_image
from pilot_agent.process import run
from tests.needs import need


def test_it_is_the_same_every_time_and_small() -> None:
    made = tiny_image.sif()
    assert made == tiny_image.sif()
    assert len(made) == 8192
    # When this changes on purpose, run the testbed's tests of runtimes: they mount the new one.
    assert hashlib.sha256(made).hexdigest() == "fe90f228dc1018522835643177834ebaa1200605f2c85a675c605b8e1089314a"


def test_the_header_names_one_partition_for_this_processor_with_the_file_system() -> None:
    made = tiny_image.sif()
    assert made[32:41] == b"SIF_MAGIC"
    assert made[45:47] == b"02"
    fields = struct.unpack_from("<8q", made, 64)
    assert fields[3:] == (1, 128, 585, 4096, 4096)
    kind, used, number = struct.unpack_from("<i?I", made, 128)
    assert (kind, used, number) == (0x4004, True, 1)
    assert struct.unpack_from("<2q", made, 128 + 17) == (4096, 4096)
    assert struct.unpack_from("<ii2s", made, 128 + 201) == (1, 2, b"02")


def test_the_file_system_is_squashfs_4_whose_tables_lie_in_order() -> None:
    made = tiny_image.sif()[4096:]
    magic, inodes, _, block, fragments = struct.unpack_from("<5I", made)
    assert (magic, fragments, 1 << struct.unpack_from("<H", made, 22)[0]) == (0x73717368, 0, block)
    # The root, the program and all directories, one of them below another.
    assert inodes == 2 + len(tiny_image.EMPTY_DIRECTORIES) + 1
    root, used, identities, attributes, table, listings = struct.unpack_from("<6Q", made, 32)
    assert 96 < table < listings < identities == used - 8 < len(made)
    assert attributes == 0xFFFFFFFFFFFFFFFF
    # The root's inode is a directory, and the last that was written.
    kind, _, _, _, _, number = struct.unpack_from("<HHHHII", made, table + 2 + root)
    assert (kind, number) == (1, inodes)


def test_it_may_hold_places_for_the_nodes_programs(tmp_path: Path) -> None:
    made = tiny_image.sif({"usr": {}, "bin": "usr/bin"})
    assert made != tiny_image.sif()
    assert len(made) == 8192
    (tmp_path / "file").write_bytes(made[4096:])
    told = run(["unsquashfs", "-ll", str(tmp_path / "file")], deadline_seconds=30, environment=dict(os.environ))
    assert told.ok, "unsquashfs of the package squashfs-tools is needed: " + told.explain()
    listed = {line.split(" squashfs-root/")[1]: line[0] for line in told.text.splitlines() if " squashfs-root/" in line}
    assert (listed["usr"], listed["bin -> usr/bin"], listed["exit_37"]) == ("d", "l", "-")


def test_its_program_says_its_mark_and_leaves_with_its_status(tmp_path: Path) -> None:
    need(tiny_image.ARCHITECTURE, os.uname().machine == tiny_image.ARCHITECTURE, "run on a machine of this processor")
    path = tmp_path / "program"
    path.write_bytes(tiny_image.program())
    path.chmod(0o755)
    result = run([str(path)], deadline_seconds=30, environment={})
    assert (result.code, result.text) == (tiny_image.STATUS, tiny_image.MARK)
