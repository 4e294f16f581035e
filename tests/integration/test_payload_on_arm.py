"""The payloads on another processor: aarch64, emulated by qemu-user."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import BUILT
from tests.testbed import arm_tree, trees
from tests.testbed.bare_nodes import DEBIAN_12
from tests.testbed.runs import run_directory

PYTHON = (arm_tree.PYTHON, "-I", "-S", "-B", "-X", "utf8")
PYZ = "/srv/payload/pilot.pyz"
OWN = "/srv/payload/pilot-aarch64.sh"
COMPILED = f"""
import os, sys
sys.path.insert(0, {PYZ!r})
from psutil import _psutil_linux
print(os.uname().machine, _psutil_linux.__file__, bool(_psutil_linux.linux_sysinfo()))
"""
UNAME = '#!/bin/sh\n[ "$1" = -m ] && echo aarch64 || echo Linux\n'


@pytest.fixture(scope="module")
def payload(testbed_machine: None) -> Iterator[Path]:
    """A directory with what was built for this processor, beside which others may be made."""
    with run_directory() as directory:
        place = directory / "payload"
        place.mkdir(mode=0o755)
        for name in ("pilot.pyz", "pilot-aarch64.sh"):
            assert (BUILT / name).exists(), f"{BUILT}/{name} is missing: run `make payload`"
            shutil.copy2(BUILT / name, place)
        yield place


def test_the_one_archive_starts_and_probes_there(payload: Path) -> None:
    node = arm_tree.node(arm_tree.ensure(), payload.parent / "arm", payload)
    assert node.run([*PYTHON, PYZ, "--version"]).stdout.startswith("pilot-agent ")
    compiled = node.run([*PYTHON, "-c", COMPILED])
    machine, file, works = compiled.stdout.split() or [compiled.stderr] * 3
    assert (machine, works) == ("aarch64", "True")
    assert file.startswith("/proc/self/fd/")
    done = node.run([*PYTHON, PYZ, "probe", "memory", "--json"])
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["outcome"]["status"] == "ok"
    assert report["node"]["memory"]["usable_mib"]["status"] == "known"


def test_the_python_for_this_processor_can_be_brought_along(payload: Path) -> None:
    node = arm_tree.node(trees.ensure(DEBIAN_12), payload.parent / "own-python", payload)
    refused = node.run([OWN, "--version"])
    assert refused.returncode == 66
    assert "is for Linux on aarch64, and this is Linux on x86_64" in refused.stderr
    node.write("/usr/local/bin/uname", UNAME, 0o755)
    done = node.run([OWN, "--version"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pilot-agent ")
    assert list((node.directory / "upper/tmp").iterdir()) == []
