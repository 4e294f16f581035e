"""What a pilot finds out about the node's runtimes, with the real Apptainer and what a site may forbid it."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import StartPilot
from tests.integration.test_containers import WITHOUT_FUSE, WITHOUT_USER_NAMESPACES
from tests.testbed.grid import IMAGES_INSIDE, Grid
from tests.testbed.hosts import Host
from tests.testbed.trees import PILOT
from tests.testbed.user_jobs import Jobs, slot_ads

SOURCES = "/var/tmp/runtimes-sources"
PROGRAM = "/var/tmp/runtimes-decide.py"
SETTINGS = "/etc/apptainer/apptainer.conf"
IMAGES = {"debian13": [f"{IMAGES_INSIDE}/debian13"]}
Json = Any

# The container stage alone, from the sources, as the pilots' account.
DECIDE = f"""
import json, os, sys
sys.path.insert(0, {SOURCES!r})
from pilot_agent.codec import to_json
from pilot_agent.config import Layer, load_config
from pilot_agent.containers.decision import decide
from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, PilotError
from pilot_agent.plugins.containers import pilot_images
config = load_config([Layer("vo", json.loads(sys.argv[1]))]).values
facts = [Fact("os.arch", os.uname().machine), Fact("gpu.count", 0)]
context = Context(facts={{fact.name: fact for fact in facts}}, config=config, environment=dict(os.environ), root="/")
try:
    print(json.dumps(to_json(decide(context, list(pilot_images(config))))))
except PilotError as error:
    print(json.dumps({{"code": error.failure.code, "message": error.failure.message, "hint": error.failure.hint}}))
"""


@pytest.fixture(scope="module")
def node(grid: Grid) -> Iterator[Host]:
    """A worker node with the sources on it."""
    host = grid.wn1
    package = Path(__file__).parents[2] / "pilot_agent"
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, host.path(SOURCES) / "pilot_agent", ignore=skipped)
    host.path(PROGRAM).write_text(DECIDE)
    yield host
    shutil.rmtree(host.path(SOURCES))
    host.path(PROGRAM).unlink()


def decide(
    host: Host, images: Mapping[str, Sequence[str]] | None = None, *, wrapper: Sequence[str] = (), **keys: Json
) -> Json:
    """The decision as JSON, or code, message and hint of the failure."""
    document = {"images": images or {}, "site": {"containers": "required"}, **keys}
    done = host.run([*wrapper, "python3", PROGRAM, json.dumps(document)], user=PILOT.name)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def abilities(decision: Json) -> dict[str, Json]:
    """Values by name."""
    return {name: ability["value"] for name, ability in decision["runtime"]["abilities"].items()}


@pytest.fixture
def settings(node: Host) -> Iterator[Path]:
    """The site's apptainer.conf, put back at the end."""
    path = node.path(SETTINGS)
    before = path.read_text()
    yield path
    path.write_text(before)


def say(settings: Path, *lines: str) -> None:
    names = {line.partition(" = ")[0] for line in lines}
    kept = [line for line in settings.read_text().splitlines() if line.partition(" = ")[0] not in names]
    settings.write_text("\n".join([*kept, *lines]) + "\n")


@pytest.mark.parametrize("images", [{}, IMAGES], ids=["no dictionary", "a dictionary without SIF"])
def test_what_the_runtime_can_do_is_known_without_any_sif_file_of_a_vo(node: Host, images: Json) -> None:
    decision = decide(node, images)
    runtime = decision["runtime"]
    assert (runtime["path"], runtime["flavour"], runtime["origin"]) == ("/usr/bin/apptainer", "apptainer", "PATH")
    assert runtime["full_version"] == f"apptainer version {runtime['version']}"
    assert runtime["sif"] is True
    found = abilities(decision)
    able = ("pid_namespace", "directories", "sif", "binds", "bind_anywhere", "nested")
    assert {name: found[name] for name in able} == dict.fromkeys(able, True), runtime["abilities"]
    assert (found["nv"], found["rocm"]) == (None, None)
    # Nodes of a batch system give jobs no session of systemd.
    assert found["cgroup_limits"] is False
    assert "overlay" in runtime["abilities"]["bind_anywhere"]["reason"]


def test_an_unprivileged_runtime_runs_inside_where_nested_use_is_claimed(node: Host) -> None:
    """The ability is established with unshare; this is what it stands for."""
    words = ["apptainer", "exec", "-C", *(word for path in ("/etc/apptainer", "/images") for word in ("-B", path))]
    inner = ["apptainer", "exec", "-C", f"{IMAGES_INSIDE}/debian13", "/bin/echo", "inside inside"]
    binds = ["-B", "/usr:/usr", "-B", "/etc/passwd", "-B", "/etc/group", "-B", "/var/lib/apptainer"]
    done = node.run([*words, *binds, f"{IMAGES_INSIDE}/debian13", *inner], user=PILOT.name)
    assert "inside inside" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("lines", "ability", "reason"),
    [
        (("enable overlay = no", "enable underlay = no"), "bind_anywhere", "apptainer.no_overlay"),
        (("allow container dir = no",), "directories", "apptainer.image_forbidden"),
        (("allow container sif = no",), "sif", "apptainer.image_forbidden"),
        (("allow pid ns = no",), "pid_namespace", "the node's processes"),
    ],
)
def test_what_the_site_forbids_is_found_by_running_and_explained_by_its_line(
    node: Host, settings: Path, lines: Sequence[str], ability: str, reason: str
) -> None:
    say(settings, *lines)
    found = decide(node)["runtime"]["abilities"][ability]
    assert found["value"] is False
    assert reason in found["reason"]
    assert f"{SETTINGS} says: {', '.join(lines)}" in found["reason"]


def with_no_namespaces(kind: str) -> tuple[str, ...]:
    """Starts a command where the limit of one kind of namespaces is used up; what may be made is set from outside."""
    inner = f'exec unshare -U --map-user={PILOT.uid} --map-group={PILOT.uid} "$@"'
    return ("unshare", "-Ur", "sh", "-c", f"echo 0 > /proc/sys/user/max_{kind}_namespaces; {inner}", "sh")


def test_a_used_up_limit_of_pid_namespaces_is_no_full_disk(node: Host) -> None:
    decision = decide(node, IMAGES, wrapper=with_no_namespaces("pid"))
    assert decision["runtime"]["pid_namespace"] is False
    assert [image["proven"] for image in decision["verdicts"]] == [True], decision["verdicts"]
    refused = decide(node, wrapper=with_no_namespaces("pid"))["runtime"]["abilities"]["pid_namespace"]
    assert refused["value"] is False
    assert refused["reason"].startswith("node.pid_namespaces_used_up: ")


def test_a_used_up_limit_that_no_container_can_do_without_is_named_with_its_change(node: Host) -> None:
    failed = decide(node, IMAGES, wrapper=with_no_namespaces("ipc"))
    assert failed["code"] == "node.namespaces_used_up", failed
    assert "max_ipc_namespaces" in failed["message"] + failed["hint"]


def test_overlay_alone_is_not_needed_for_a_missing_directory(node: Host, settings: Path) -> None:
    say(settings, "enable overlay = no")
    assert decide(node)["runtime"]["abilities"]["bind_anywhere"] == {
        "value": True,
        "reason": "underlay made a missing directory",
    }


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("user bind control = no", "apptainer.binds_forbidden"),
        ("allow user ns = no", "apptainer.userns_forbidden"),
        ("limit container paths = /nowhere", "apptainer.configuration"),
    ],
)
def test_what_no_job_can_do_without_ends_the_pilot_with_the_sites_line(
    node: Host, settings: Path, line: str, code: str
) -> None:
    say(settings, line)
    for images in ({}, IMAGES):
        failure = decide(node, images)
        assert failure["code"] == code, failure
        assert "apptainer.conf" in failure["hint"]
    fallen_back = decide(node, IMAGES, site={"containers": "preferred"})
    assert fallen_back["runtime"] is None
    (looked_at,) = fallen_back["runtimes"]
    assert (looked_at["path"], looked_at["taken"]) == ("/usr/bin/apptainer", False)
    assert looked_at["reason"].startswith(code)


def test_without_fuse_directories_run_and_sif_files_do_not(node: Host) -> None:
    decision = decide(node, wrapper=WITHOUT_FUSE)
    found = decision["runtime"]["abilities"]
    assert (found["directories"]["value"], found["sif"]["value"]) == (True, False)
    assert found["sif"]["reason"].startswith("fuse.missing")
    assert decision["runtime"]["sif"] is False


def test_without_user_namespaces_there_is_no_runtime_even_without_a_dictionary(node: Host) -> None:
    assert decide(node, wrapper=WITHOUT_USER_NAMESPACES)["code"] == "userns.disabled"


def test_nothing_is_left_in_the_home_and_in_the_directories_for_temporary_files(node: Host) -> None:
    places = [Path(f"/proc/{node.pid}/root{place}") for place in (PILOT.home, "/tmp", "/var/tmp")]
    before = [sorted(place.rglob("*")) for place in places]
    assert any(before)
    decide(node, {**IMAGES, "debian12": [f"{IMAGES_INSIDE}/debian12.sif"]})
    assert [sorted(place.rglob("*")) for place in places] == before


def test_a_runtime_is_found_through_modules_where_nothing_else_is_searched(node: Host) -> None:
    search: Json = {"containers": {"search": ["modules"]}}
    assert decide(node, **search)["code"] == "container.missing"
    modulecmd = node.path("/var/tmp/modulecmd")
    modulecmd.write_text('#!/bin/sh\n[ "$3" = apptainer ] && echo "PATH=/var/tmp/sw:/usr/bin; export PATH"\n')
    modulecmd.chmod(0o755)
    software = node.path("/var/tmp/sw")
    software.mkdir()
    (software / "apptainer").symlink_to("/usr/bin/apptainer")
    try:
        decision = decide(node, wrapper=("env", "MODULES_CMD=/var/tmp/modulecmd"), **search)
    finally:
        shutil.rmtree(software)
        modulecmd.unlink()
    assert (decision["runtime"]["path"], decision["runtime"]["origin"]) == (
        "/var/tmp/sw/apptainer",
        "module apptainer",
    )


def test_the_machine_ad_says_what_the_report_says_and_a_sif_job_runs(pilot: StartPilot, jobs: Jobs, grid: Grid) -> None:
    run = pilot({"images": IMAGES}).start()
    job = jobs.submit(
        f"universe = container\ncontainer_image = {IMAGES_INSIDE}/debian12.sif\n"
        "executable = /bin/cat\narguments = /etc/os-release\nrequirements = TARGET.PilotNestedContainers\n",
        pilot=run,
    )
    assert "bookworm" in job.wait_done().output()
    ad = slot_ads(grid, run)[0]
    run.signal(signal.SIGTERM)
    run.wait()
    runtime = run.report()["container"]["runtime"]
    expected = {
        "HAS_SINGULARITY": True,
        "GWMS_SINGULARITY_STATUS": "REQUIRED",
        "SINGULARITY_PATH": runtime["path"],
        "CONTAINERSW_FULL_VERSION": runtime["full_version"],
        "SINGULARITY_MODE": "unprivileged",
        "SINGULARITY_IMAGES_DICT": f"debian13:{IMAGES['debian13'][0]},default:{IMAGES['debian13'][0]}",
        "HasSIF": True,
        "HasSandboxImage": True,
        "HasSingularityPIDNamespaces": True,
        "SingularityUserNamespaces": True,
        "PilotNestedContainers": True,
        "HAS_UNPRIVILEGED_USER_NAMESPACES": "enabled",
    }
    assert {name: ad.get(name) for name in expected} == expected
    run.nothing_left()
