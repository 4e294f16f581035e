"""The same sources give the same bits, and the archive tells what it holds."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from tests.packaging.conftest import CACHE, PROJECT, Built, plugin_source


def test_two_builds_in_different_directories_are_the_same_bits(built: Built, tmp_path: Path) -> None:
    from build_payload import build

    copy = tmp_path / "elsewhere/deeper"
    shutil.copytree(built.pyz.parent.parent / "snapshot", copy)
    (copy / "pilot_agent/__pycache__").mkdir()
    (copy / "pilot_agent/__pycache__/junk.cpython-311.pyc").write_bytes(b"junk")
    build(copy, tmp_path / "out", CACHE, plugins=[plugin_source(tmp_path / "plugin")])
    for name, path in (("pilot.pyz", built.pyz), ("pilot.sh", built.sh)):
        assert (
            hashlib.sha256((tmp_path / "out" / name).read_bytes()).digest()
            == hashlib.sha256(path.read_bytes()).digest()
        )


def test_the_interpreter_part_does_not_depend_on_the_cache() -> None:
    from payload.debs import DEBIAN_13, DEBIAN_13_TEXTS, debian_tree
    from payload.runtime import runtime_files
    from payload.selfextract import base_of, cached_base

    tree = debian_tree("trixie", DEBIAN_13, CACHE / "debs", refresh=False, texts=DEBIAN_13_TEXTS)
    cached = cached_base(CACHE / "runtime", tree, "0.1.0", lambda: runtime_files(tree, "0.1.0", tree), tree)
    assert base_of(runtime_files(tree, "0.1.0", tree), tree) == cached


def test_entries_are_sorted_dated_and_readable(built: Built) -> None:
    with zipfile.ZipFile(built.pyz) as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    assert names == sorted(names)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {stat.filemode(entry.external_attr >> 16) for entry in entries} == {"-rw-r--r--"}
    assert {entry.create_system for entry in entries} == {3}


def test_the_manifest_holds_every_file_and_component(built: Built) -> None:
    with zipfile.ZipFile(built.pyz) as archive:
        manifest = json.loads(archive.read("MANIFEST.json"))
        names = set(archive.namelist())
        for name, digest in manifest["files"].items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == digest
    assert names == set(manifest["files"]) | {"MANIFEST.json"}
    components = {component["name"]: component for component in manifest["components"]}
    assert {"pluggy", "PyYAML", "psutil", "nvidia-ml-py", "example-vo"} <= set(components)
    assert all(component["licence"] and component["wheel_sha256"] for component in components.values())
    assert any(package["version"].startswith("3.13.") for package in manifest["compiled_by"])


def test_every_component_brings_its_licence_text(built: Built) -> None:
    with zipfile.ZipFile(built.pyz) as archive:
        names = archive.namelist()
        count = len(json.loads(archive.read("MANIFEST.json"))["components"])
    directories = {name.split("/")[0] for name in names if ".dist-info/" in name}
    with_text = {name.split("/")[0] for name in names if ".dist-info/licenses/" in name or "-info/LICEN" in name}
    assert len(directories) == count
    assert directories - with_text <= {"nvidia_ml_py-13.615.71.dist-info"}


def test_every_module_has_byte_code_for_both_pythons_and_no_path_of_the_builder(built: Built) -> None:
    with zipfile.ZipFile(built.pyz) as archive:
        names = set(archive.namelist())
        modules = [name for name in names if name.endswith(".py") and name != "__main__.py"]
        assert all(f"{name}c" in names and f"cp311/{name}c" in names for name in modules)
        assert b"pilot_agent/__main__.py" in archive.read("pilot_agent/__main__.pyc")
        builder = str(PROJECT).encode() + b"/"
        assert not [name for name in names if name.endswith(".pyc") and builder in archive.read(name)]


def test_data_files_of_agent_and_plugins_lie_beside_both_byte_codes(built: Built) -> None:
    with zipfile.ZipFile(built.pyz) as archive:
        names = set(archive.namelist())
    packages = ("pilot_agent/", "example_vo/")
    data = [name for name in names if name.startswith(packages) and not name.endswith((".py", ".pyc"))]
    assert "example_vo/word.txt" in data
    assert all(f"cp311/{name}" in names for name in data)


@pytest.mark.parametrize("line", ["pluggy", "pluggy==1.7.0", "pluggy>=1 --hash=sha256:" + "0" * 64, "p==1 --hash=x"])
def test_a_dependency_without_version_and_digest_is_refused(tmp_path: Path, line: str) -> None:
    from payload.console import BuildError
    from payload.wheels import read_pins

    (tmp_path / "requirements.txt").write_text(line + "\n")
    with pytest.raises(BuildError, match=r"requirements\.txt:1"):
        read_pins(tmp_path / "requirements.txt")


def test_a_source_that_one_python_rejects_stops_the_build() -> None:
    from payload.bytecode import compile_all
    from payload.console import BuildError
    from payload.debs import DEBIAN_12, debian_tree

    tree = debian_tree("bookworm", DEBIAN_12, CACHE / "debs", refresh=False)
    with pytest.raises(BuildError, match="SyntaxError"):
        compile_all({"new.py": b"type X = int\n"}, tree)


def test_every_package_of_the_payload_can_be_imported_from_a_zip(built: Built) -> None:
    """Python finds one there only by its ``__init__.py``: a directory without one is no package."""
    with zipfile.ZipFile(built.pyz) as archive:
        names = set(archive.namelist())
    code = [PurePosixPath(name) for name in names if name.endswith((".py", ".pyc"))]
    parents = {parent for path in code for parent in path.parents} - {PurePosixPath("."), PurePosixPath("cp311")}
    missing = [str(parent) for parent in parents if not {f"{parent}/__init__.py", f"{parent}/__init__.pyc"} & names]
    assert not missing
