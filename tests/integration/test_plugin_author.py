"""`plugin new` and `plugin test` on a node with the real Apptainer, as an author without privileges starts them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.grid import Grid
from tests.testbed.pilots import INSTALLED
from tests.testbed.trees import PILOT

HOME = f"{PILOT.home}/author"
TEMPORARY = f"{HOME}/tmp"

INSIDE = """
    yield Check(name="here", command=("/bin/test", "-e", "/etc/hostname"))
    yield Check(name="other", where="image", platform="debian12", required=False,
                command=("/bin/grep", "bookworm", "/etc/os-release"))


@hookimpl(specname="pilot_setups")
def more_setups():
    yield Setup(name="within", where="image", required=False,
                command=("/bin/sh", "-c", "test -n \\"$APPTAINER_CONTAINER\\" && pwd >&2"))


@hookimpl(specname="pilot_services")
def more_services():
    yield Service(name="beside", where="image", command=("/bin/sh", "-c", "touch ready; exec sleep 600"),
                  readiness=Readiness(file="ready"))
"""

WRONG = """
    yield Check(name="wrong", where="image", command=("/bin/sh", "-c", "echo no hostname >&2; test -e /etc/hostname"))
    yield Check(name="gone", where="image", command=("/opt/no/such",), required=False)
"""


@pytest.fixture
def author(grid: Grid) -> Iterator[Path]:
    """A directory of the unprivileged account; nobody else's is written to."""
    done = grid.wn1.run(["mkdir", "-p", TEMPORARY], user=PILOT.name)
    assert done.returncode == 0, done.stderr
    yield grid.wn1.path(HOME)
    shutil.rmtree(grid.wn1.path(HOME))


def plugin(grid: Grid, *words: str, directory: str = HOME) -> subprocess.CompletedProcess[str]:
    """How `pilot-agent plugin` ends."""
    command = ["python3", f"{INSTALLED}/pilot.pyz", "plugin", *words]
    environment = {"TMPDIR": TEMPORARY}
    return grid.wn1.run(command, user=PILOT.name, cwd=directory, env=environment, timeout_seconds=300)


def verdicts(text: str) -> dict[str, str]:
    """Name -> verdict of what was run."""
    parts = "probe|check|setup|service"
    return dict(re.findall(rf"^  (?:{parts}) +(\w+) +(ok|warned|unfit|failed|skipped) ", text, re.MULTILINE))


def test_a_plugin_is_tried_in_a_real_container_and_what_is_wrong_inside_alone_is_told(
    grid: Grid, payload: Path, author: Path
) -> None:
    made = plugin(grid, "new", "our-vo")
    assert made.returncode == 0, made.stderr
    source = author / "our-vo" / "src" / "pilot_our_vo" / "plugin.py"
    new, last = source.read_text(), 'script="tools.sh", required=False)\n'
    source.write_text(new.replace(last, last + INSIDE))
    good = plugin(grid, "test", directory=f"{HOME}/our-vo")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "7 passed" in good.stdout
    assert re.search(r"apptainer 1\.[0-9.]+, this machine as an image", good.stdout)
    inside = ("our_vo_tools", "within", "beside")
    outside = ("here", "our_vo_software", "our_vo_environment", "our_vo_beat")
    assert verdicts(good.stdout) == {**dict.fromkeys((*inside, *outside), "ok"), "other": "skipped"}, good.stdout
    assert "images.debian12=" in good.stdout

    source.write_text(new.replace(last, last + WRONG + INSIDE))
    wrong = plugin(grid, "test", "--", "-k", "refused", directory=f"{HOME}/our-vo")
    assert wrong.returncode == 69, wrong.stdout + wrong.stderr
    shown = " ".join(wrong.stdout.split())
    assert "/bin/sh inside the image exited 1: no hostname" in shown
    assert "stat /opt/no/such: no such file or directory" in shown
    assert "--image PATH" in shown
    assert "images.debian12=" in shown
    told = verdicts(wrong.stdout)
    assert [told[name] for name in ("wrong", "gone", "other", "our_vo_tools")] == ["failed", "failed", "skipped", "ok"]
    assert {told[name] for name in outside} == {"ok"}, wrong.stdout
    assert [path.name for path in (author / "tmp").iterdir()] == [f"pytest-of-{PILOT.name}"]
