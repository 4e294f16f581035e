"""What a pilot decides about containers on a real node, with the real Apptainer: `check` as the pilots' account."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.grid import IMAGES_INSIDE, Grid
from tests.testbed.hosts import Host
from tests.testbed.leftovers import snapshot
from tests.testbed.pilots import INSTALLED
from tests.testbed.trees import PILOT

SCRATCH = "/var/tmp/odd-images"
CONFIGURATION = "/var/tmp/containers.json"
# One user namespace is left, and this shell takes it: the pilot in it gets none.
WITHOUT_USER_NAMESPACES = (
    "unshare", "-Ur", "sh", "-c",
    'echo 1 > /proc/sys/user/max_user_namespaces; exec unshare -U --map-user="$0" --map-group="$0" "$@"',
    str(PILOT.uid),
)  # fmt: skip
WITHOUT_FUSE = (
    "unshare", "-Urm", "sh", "-c",
    'mount --bind /dev/null /dev/fuse; exec unshare -U --map-user="$0" --map-group="$0" "$@"',
    str(PILOT.uid),
)  # fmt: skip
Json = Any


@pytest.fixture(scope="module")
def node(grid: Grid, payload: Path) -> Iterator[Host]:
    """A worker node with images that are wrong in one way each."""
    host = grid.wn1
    odd = host.path(SCRATCH)
    odd.mkdir()
    sif = host.path(f"{IMAGES_INSIDE}/debian13.sif")
    whole = sif.read_bytes()
    (odd / "short.sif").write_bytes(whole[: len(whole) // 2])
    (odd / "head.sif").write_bytes(whole[:2000])
    (odd / "page.sif").write_text("<html>404</html>")
    (odd / "empty").mkdir()
    (odd / "no-shell").mkdir()
    for name in ("proc", "sys", "dev", "tmp", "etc"):
        (odd / "no-shell" / name).mkdir()
    (odd / "current").symlink_to(f"{IMAGES_INSIDE}/debian12")
    yield host
    shutil.rmtree(odd)
    host.path(CONFIGURATION).unlink(missing_ok=True)


def check(
    host: Host,
    images: Mapping[str, Sequence[Json]],
    *,
    wrapper: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    **more: Json,
) -> tuple[int, Json]:
    """Exit code and report of `check` with this dictionary."""
    document = {"images": images, "site": {"containers": "required"}, **more}
    host.path(CONFIGURATION).write_text(json.dumps(document))
    host.path(CONFIGURATION).chmod(0o644)
    words = [*wrapper, "python3", f"{INSTALLED}/pilot.pyz", "check", "--json", "--config", CONFIGURATION]
    done = host.run(words, user=PILOT.name, env=env)
    return done.returncode, json.loads(done.stdout)


def verdicts(report: Json) -> dict[str, Json]:
    """The verdicts by candidate."""
    return {why["candidate"]: why for why in report["container"]["why"]}


def test_a_directory_and_a_sif_file_are_proven_by_running_a_program(node: Host) -> None:
    directory, sif = f"{IMAGES_INSIDE}/debian13", f"{IMAGES_INSIDE}/debian12.sif"
    code, report = check(node, {"debian13": [directory], "debian12": [sif]})
    assert code == 0, report
    runtime = report["container"]["runtime"]
    assert (runtime["path"], runtime["mode"]) == ("/usr/bin/apptainer", "userns")
    assert runtime["pid_namespace"]
    assert runtime["sif"]
    found = verdicts(report)
    assert found[directory]["taken"]
    assert found[sif]["taken"]


def test_the_next_candidate_is_taken_when_one_is_wrong_and_each_keeps_its_reason(node: Host) -> None:
    wrong = {
        f"{SCRATCH}/nowhere": "image.missing",
        f"{SCRATCH}/page.sif": "image.format",
        f"{SCRATCH}/head.sif": "image.",
        f"{SCRATCH}/short.sif": "image.damaged",
        f"{SCRATCH}/empty": "image.incomplete",
        f"{SCRATCH}/no-shell": "image.no_shell",
        f"{SCRATCH}/a;b": "image.path",
    }
    other = {"path": f"{IMAGES_INSIDE}/debian12", "arch": "aarch64"}
    code, report = check(node, {"any": [*wrong, other, f"{IMAGES_INSIDE}/debian13", "docker://debian:13"]})
    assert code == 0, report
    found = verdicts(report)
    for candidate, reason in wrong.items():
        assert not found[candidate]["taken"]
        assert found[candidate]["reason"].startswith(reason)
    assert found[f"{IMAGES_INSIDE}/debian12"]["reason"].startswith("image.not_in_dictionary")
    assert found[f"{IMAGES_INSIDE}/debian13"]["taken"]
    assert not found["docker://debian:13"]["taken"]


def test_a_link_is_followed_to_the_image_itself(node: Host) -> None:
    _, report = check(node, {"el": [f"{SCRATCH}/current"]})
    assert verdicts(report)[f"{IMAGES_INSIDE}/debian12"]["taken"]


def test_a_dictionary_without_a_usable_image_refuses_the_node(node: Host) -> None:
    code, report = check(node, {"any": [f"{SCRATCH}/empty"]})
    assert code == 66
    assert "image.incomplete" in json.dumps(report["outcome"])


@pytest.mark.parametrize(("containers", "expected"), [("required", 64), ("optional", 0)])
def test_a_node_without_user_namespaces_is_refused_or_runs_jobs_without_containers(
    node: Host, containers: str, expected: int
) -> None:
    code, report = check(
        node,
        {"debian13": [f"{IMAGES_INSIDE}/debian13"]},
        wrapper=WITHOUT_USER_NAMESPACES,
        site={"containers": containers},
    )
    assert code == expected, report
    assert "userns.disabled" in json.dumps(report)


def test_without_fuse_the_directory_is_taken_instead_of_the_sif_file(node: Host) -> None:
    directory, sif = f"{IMAGES_INSIDE}/debian13", f"{IMAGES_INSIDE}/debian13.sif"
    code, report = check(node, {"debian13": [sif, directory]}, wrapper=WITHOUT_FUSE)
    assert code == 0, report
    found = verdicts(report)
    assert found[sif]["reason"].startswith("fuse.missing")
    assert found[directory]["taken"]
    assert not report["container"]["runtime"]["sif"]


def test_the_sites_settings_of_apptainer_change_nothing(node: Host) -> None:
    poison = {
        "APPTAINER_BIND": "/nowhere",
        "APPTAINER_CONTAINALL": "no",
        "SINGULARITY_BINDPATH": "/nowhere",
        "APPTAINERENV_LD_PRELOAD": "/nowhere.so",
        "APPTAINER_CACHEDIR": "/nowhere",
        "APPTAINER_WORKDIR": "/nowhere",
    }
    code, report = check(node, {"debian13": [f"{IMAGES_INSIDE}/debian13"]}, env=poison)
    assert code == 0, report


def test_a_configured_bind_without_a_source_is_left_out_and_told(node: Host) -> None:
    images = {"debian13": [f"{IMAGES_INSIDE}/debian13"]}
    code, report = check(node, images, containers={"binds": ["/no/such/source:/data"]})
    assert code == 0, report
    (told,) = [bind for bind in report["container"]["binds"] if bind["source"] == "/no/such/source"]
    assert (told["asked_by"], told["given"]) == ("configuration (site)", False)
    assert "no such file" in told["reason"]


SUITE = """#!/bin/sh
mkdir "$1" && cd "$1" && . /etc/os-release || exit 1
cat > bmkrun_report.json <<END
{"host": {"image": "$VERSION_ID"}, "profiles": {"hepscore": {"score": 12.5, "status": "success",
 "wl-scores": {"cms-gen-sim": {"gen": 0.5}, "image": $VERSION_ID}}}}
END
echo "a suite says much, and its score is in its file"
"""


def test_a_suite_in_an_image_scores_and_so_do_the_benchmarks_that_were_named(node: Host) -> None:
    suite = {
        "name": "hepscore",
        "script": SUITE,
        "command": ["{script}", "out"],
        "where": "image",
        "platform": "debian12",
        "timeout_seconds": 120,
        "result": "out/bmkrun_report.json",
        "score_at": "profiles.hepscore.score",
        "parts_at": "profiles.hepscore.wl-scores",
        "unit": "HS23",
        "disk_mib": 16,
    }
    document = {
        "images": {"debian13": [f"{IMAGES_INSIDE}/debian13"], "debian12": [f"{IMAGES_INSIDE}/debian12.sif"]},
        "site": {"benchmarks": [suite]},
        "benchmarks": {"run": ["memory", "disk"], "disk_mib": 16, "memory_mib": 256},
    }
    node.path(CONFIGURATION).write_text(json.dumps(document))
    node.path(CONFIGURATION).chmod(0o644)
    words = ["python3", f"{INSTALLED}/pilot.pyz", "bench", "--no-cache", "--json", "--config", CONFIGURATION]
    done = node.run(words, user=PILOT.name)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {score["name"]: score for score in json.loads(done.stdout)["benchmarks"]}
    assert found["site.hepscore"]["status"] == "ok", found
    assert (found["site.hepscore"]["score"], found["site.hepscore"]["unit"]) == (12.5, "HS23")
    assert found["site.hepscore"]["attributes"]["BENCHMARK_SITE_HEPSCORE_CMS_GEN_SIM_GEN"] == 0.5
    assert found["site.hepscore"]["attributes"]["BENCHMARK_SITE_HEPSCORE_IMAGE"] == 12
    assert (found["disk"]["status"], found["disk"]["conditions"]["engine"]) == ("ok", "system calls"), found
    # A machine with a large cache is told that nothing else would be measured.
    assert found["memory"]["status"] in ("ok", "skipped"), found


def test_nothing_is_left_on_the_node(node: Host) -> None:
    check(node, {"debian13": [f"{IMAGES_INSIDE}/debian13"]})
    before = snapshot(node)
    check(node, {"debian13": [f"{IMAGES_INSIDE}/debian13"], "any": [f"{SCRATCH}/short.sif"]})
    assert snapshot(node) == before
