"""Jobs that run with an Apptainer found in other places than the search path, on a node without one of its own.

Debian's Apptainer finds its parts from where its program lies, so it runs from any directory. CVMFS is a directory of
the node that is mounted at a repository's place.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from tests.integration.conftest import BUILT
from tests.testbed import images, modules, tarballs, trees
from tests.testbed.grid import ADDRESSES, IMAGES_INSIDE, SITE_POOL, Grid
from tests.testbed.hosts import Bind, Host, HostPlan
from tests.testbed.pilots import PilotRun, install_payload
from tests.testbed.runs import run_directory
from tests.testbed.user_jobs import Jobs

NO_RUNTIME = ("usr/bin/apptainer", "usr/bin/singularity", "usr/lib/*/apptainer", "etc/apptainer", "var/lib/apptainer")
LIBRARIES = "lib/x86_64-linux-gnu/apptainer"
SOFTWARE = "/opt/sw/apptainer/1.4.5"
CONDOR = "/opt/condor"
REPOSITORY = "oasis.opensciencegrid.org"
IN_REPOSITORY = f"/cvmfs/{REPOSITORY}/mis/apptainer"
MODULES = "/opt/modulefiles"
# As a site's profile does it before a batch job begins.
LMOD = f". /usr/share/lmod/lmod/init/bash; module use {MODULES}/lmod"
TCL = f". /usr/share/modules/init/bash; module use {MODULES}/tcl"


def relocated(tree: Path, prefix: Path) -> None:
    """Put the tree's Apptainer below another prefix."""
    for place in ("bin", "lib/var/lib/apptainer/mnt/session", "var/lib/apptainer/mnt/session"):
        (prefix / place).mkdir(parents=True, exist_ok=True)
    shutil.copy(tree / "usr/bin/apptainer", prefix / "bin")
    shutil.copytree(tree / "usr" / LIBRARIES, prefix / LIBRARIES)
    shutil.copytree(tree / "etc/apptainer", prefix / "etc/apptainer")
    # Debian's libraries lie one directory deeper than Apptainer expects those that it finds its settings by.
    (prefix / "lib/etc").symlink_to("../etc")


def modulefiles(directory: Path) -> None:
    """A module of the same name for each kind of modules."""
    for kind, name, text in (
        ("lmod", "1.4.5.lua", f'prepend_path("PATH", "{SOFTWARE}/bin")\n'),
        ("tcl", "1.4.5", f"#%Module1.0\nprepend-path PATH {SOFTWARE}/bin\n"),
    ):
        path = directory / kind / "apptainer" / name
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="ascii")


@pytest.fixture(scope="module")
def node(grid: Grid) -> Iterator[Host]:
    """A worker node whose Apptainer lies where only modules, a repository or an installation of HTCondor's lead."""
    tree = trees.ensure()
    with run_directory() as directory:
        shown = (Bind(images.ensure(), IMAGES_INSIDE), Bind(tarballs.ensure(), "/srv/condor"))
        plan = HostPlan("places", "10.77.0.42", tree, SITE_POOL.domain, ADDRESSES, NO_RUNTIME, shown)
        host = Host(plan, directory / "places", grid.network)
        try:
            host.start()
            install_payload(host, BUILT)
            shutil.copytree(modules.ensure(), host.path("/"), symlinks=True, dirs_exist_ok=True)
            modulefiles(host.path(MODULES))
            relocated(tree, host.path(SOFTWARE))
            yield host
        finally:
            host.remove()


def ran_a_job(node: Host, grid: Grid, token: str, changes: dict[str, Any], script: str = ":") -> dict[str, Any]:
    """The runtime in the report of a pilot that a job in a container ended with 0 on."""
    wrapper = ("/bin/bash", "-c", f'{script}; exec "$@"', "bash")
    run = PilotRun(node, token, changes, payload="pyz", wrapper=wrapper)
    try:
        job = Jobs(grid).shell(". /etc/os-release; echo $VERSION_CODENAME $PWD", pilot=run.start()).wait_done()
        assert job.output() == "trixie /srv\n"
        run.signal(SIGTERM)
        assert run.wait() == 143, run.story()
        runtime: dict[str, Any] = run.report()["container"]["runtime"]
        return runtime
    finally:
        run.destroy()


@pytest.mark.parametrize("script", [LMOD, TCL], ids=["Lmod", "Environment Modules"])
def test_a_job_runs_with_the_runtime_of_a_module(node: Host, grid: Grid, good_token: str, script: str) -> None:
    kind = node.run(["bash", "-c", f"{script}; module --version 2>&1; type apptainer"], user="pilot").stdout
    assert ("Lua" in kind) == (script == LMOD), kind
    runtime = ran_a_job(node, grid, good_token, {}, script)
    assert (runtime["path"], runtime["origin"]) == (f"{SOFTWARE}/bin/apptainer", "module apptainer")


def test_a_job_runs_with_the_runtime_of_a_repository(node: Host, grid: Grid, good_token: str) -> None:
    place = f"/cvmfs/{REPOSITORY}"
    node.run(["mkdir", "-p", place, "/srv/repository/mis"])
    node.run(["cp", "-a", SOFTWARE, "/srv/repository/mis/apptainer"])
    node.run(["touch", "/srv/repository/new_repository"])
    assert node.run(["mount", "--bind", "/srv/repository", place]).returncode == 0
    runtime = ran_a_job(node, grid, good_token, {"cvmfs": {"repositories": [REPOSITORY]}})
    assert (runtime["path"], runtime["origin"]) == (f"{IN_REPOSITORY}/bin/apptainer", "CVMFS")


def test_a_job_runs_with_the_runtime_of_an_unpacked_tarball_of_htcondors(
    node: Host, grid: Grid, good_token: str
) -> None:
    """HTCondor's own tarballs bring an Apptainer, which the one that is made of the node's packages does not."""
    assert node.run(["sh", "-c", f"mkdir {CONDOR} && tar -xf /srv/condor/*.tar.gz -C {CONDOR}"]).returncode == 0
    (release,) = {path.parents[1] for path in node.path(CONDOR).rglob("condor_master")}
    inside = f"{CONDOR}/{release.relative_to(node.path(CONDOR))}".rstrip("/.")
    relocated(trees.ensure(), release / "usr")
    runtime = ran_a_job(node, grid, good_token, {"startd": {"condor_directory": inside}})
    assert (runtime["path"], runtime["origin"]) == (f"{inside}/usr/bin/apptainer", "HTCondor")
