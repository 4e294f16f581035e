"""Images and nodes that are wrong, with the real Apptainer, and what becomes of real jobs: a reason that says who must
act, the next candidate, another node; never a hold for the node's fault, and never the same job on the same slot again
and again."""

from __future__ import annotations

import hashlib
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from signal import Signals
from typing import Any

import pytest

from tests.integration.conftest import StartPilot
from tests.integration.test_containers import check, verdicts
from tests.integration.test_remote_images import ended, server, started
from tests.testbed.grid import IMAGES_INSIDE, Grid
from tests.testbed.hosts import Host
from tests.testbed.image_server import ImageServer
from tests.testbed.trees import PILOT, USER
from tests.testbed.user_jobs import Jobs, slot_ads

__all__ = ["server"]

PLACE = "/var/tmp/faults"
GOOD = f"{IMAGES_INSIDE}/debian13"
DIRECTORIES = ("bin", "dev", "etc", "home", "proc", "root", "srv", "sys", "tmp", "var/tmp")
FILES = ("lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6", "bin/cat")
ODD_NAMES = ("with space", 'dou"ble', "sin'gle", "dollar$HOME", "semi;colon", "line\nend", "back`tick", "back\\slash")
CODENAME = ". /etc/os-release; echo $VERSION_CODENAME"
AARCH64 = 183
Json = Any


def small_image(host: Host, name: str, *, without: tuple[str, ...] = (), machine: int | None = None) -> str:
    """An image with a shell, cat and a password file, but for what is named; its path on the node."""
    source, target = host.path(f"{IMAGES_INSIDE}/debian12"), host.path(PLACE) / name
    for directory in DIRECTORIES:
        if directory not in without:
            (target / directory).mkdir(parents=True)
    for file in FILES:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / "usr" / file, target / file)
        (target / file).chmod(0o755)
    shell = bytearray((source / "usr/bin/dash").read_bytes())
    if machine is not None:
        struct.pack_into("<H", shell, 18, machine)
    (target / "bin/sh").write_bytes(shell)
    (target / "bin/sh").chmod(0o755)
    (target / "etc/os-release").write_text("ID=small\nVERSION_ID=7\nVERSION_CODENAME=small\n")
    if "etc/passwd" not in without:
        (target / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        (target / "etc/group").write_text("root:x:0:\n")
    return f"{PLACE}/{name}"


@pytest.fixture(scope="module")
def node(grid: Grid, payload: Path) -> Iterator[Host]:
    """A worker node with a directory for images that are wrong."""
    host = grid.wn1
    host.path(PLACE).mkdir()
    yield host
    shutil.rmtree(host.path(PLACE))


@pytest.fixture
def no_device(node: Host) -> Iterator[Host]:
    """The node without /dev/fuse."""
    assert node.run(["rm", "/dev/fuse"]).returncode == 0
    yield node
    assert node.run(["mknod", "-m", "666", "/dev/fuse", "c", "10", "229"]).returncode == 0


def test_where_the_fuse_device_is_missing_jobs_get_the_directory_and_the_site_its_line(
    pilot: StartPilot, jobs: Jobs, no_device: Host
) -> None:
    sif = f"{IMAGES_INSIDE}/debian12.sif"
    run = pilot({"images": {"any": [sif, GOOD]}}).start()
    assert jobs.shell(CODENAME, pilot=run).wait_done().output().strip() == "trixie"
    run.signal(Signals.SIGTERM)
    assert run.wait() == 143
    found = verdicts(run.report())
    assert found[sif]["reason"].startswith("fuse.missing")
    assert "the site makes /dev/fuse usable" in found[sif]["reason"]
    assert found[GOOD]["taken"]


def test_an_image_without_a_password_file_runs_jobs(pilot: StartPilot, jobs: Jobs, node: Host) -> None:
    image = small_image(node, "no-passwd", without=("etc/passwd",))
    run = pilot({"images": {"small": [image]}}).start()
    assert jobs.shell(CODENAME, pilot=run).wait_done().output().strip() == "small"
    run.signal(Signals.SIGTERM)
    run.wait()
    assert verdicts(run.report())[image]["facts"]["account.in_passwd"] is False


def test_each_refused_image_has_its_facts_and_a_reason_for_who_must_act(node: Host) -> None:
    sif = bytearray(node.path(f"{IMAGES_INSIDE}/debian13.sif").read_bytes())
    place = node.path(PLACE)
    (place / "short.sif").write_bytes(sif[: len(sif) // 2])
    here, other = b"02\0", b"04\0"
    (place / "arm.sif").write_bytes(sif.replace(here, other))
    wrong: dict[str, tuple[str, Json]] = {
        small_image(node, "no-dev", without=("dev",)): ("image.incomplete", {"os.id": "small", "lacks": ["/dev"]}),
        small_image(node, "arm", machine=AARCH64): ("image.wrong_architecture", {"os.arch": "aarch64", "lacks": []}),
        f"{PLACE}/arm.sif": ("image.wrong_architecture", {"os.arch": "aarch64"}),
        f"{PLACE}/short.sif": ("image.damaged", {"os.arch": "x86_64"}),
    }
    declared = {"path": f"{PLACE}/nowhere", "arch": "arm64", "requires": {"cpu_level": "x86_64-v2"}}
    code, report = check(node, {"any": [*wrong, declared, GOOD]})
    assert code == 0, report
    found = verdicts(report)
    for path, (reason, facts) in wrong.items():
        assert found[path]["reason"].startswith(f"{reason}: "), found[path]
        assert "; " in found[path]["reason"], "what to change follows what was found"
        assert found[path]["facts"].items() >= facts.items(), found[path]
    assert "truncated" in found[f"{PLACE}/short.sif"]["facts"]["lacks"][0]
    assert found[f"{PLACE}/nowhere"]["facts"] == {"os.arch": "aarch64", "requires": {"cpu_level": "x86_64-v2"}}
    assert found[GOOD]["taken"]


def test_an_image_for_another_processor_ends_the_pilot_with_what_the_vo_must_change(node: Host) -> None:
    image = small_image(node, "arm-only", machine=AARCH64)
    code, report = check(node, {"any": [image]})
    failure = report["outcome"]["failure"]
    assert (code, failure["code"]) == (66, "image.wrong_architecture"), failure
    assert "arch" in failure["hint"]


def test_paths_with_odd_characters_reach_no_interpreter_and_one_with_a_space_works(
    pilot: StartPilot, jobs: Jobs, node: Host
) -> None:
    paths = [small_image(node, f"odd/{name}") for name in ODD_NAMES]
    plain, refused = paths[0], paths[1:]
    code, report = check(node, {f"odd{number}": [path] for number, path in enumerate(paths)})
    found = verdicts(report)
    assert code == 0, report
    for path in refused:
        assert (found[path]["taken"], found[path]["reason"].split(":")[0]) == (False, "image.path"), found[path]
    (node.path(PLACE) / "innocent").symlink_to(refused[2])
    _, report = check(node, {"link": [f"{PLACE}/innocent"], "any": [GOOD]})
    assert verdicts(report)[f"{PLACE}/innocent"]["reason"].startswith("image.path"), "a link leads to no such path"
    run = pilot({"images": {"debian13": [GOOD], "small": [plain]}}).start()
    assert jobs.shell(CODENAME, pilot=run, extra='+REQUIRED_OS = "small"').wait_done().output().strip() == "small"
    ended(run)


# What a submit file writes, and what the job's owner reads.
HELD = {
    '+SingularityImage = "-B/etc:/x"': "SingularityImage is no name of an image",
    '+SingularityImage = "--bind=/etc:/x"': "SingularityImage is no name of an image",
    '+SingularityImage = "/images/debian12;id"': "SingularityImage is no name of an image",
    '+SingularityImage = "$(touch /tmp/evil)"': "SingularityImage is no name of an image",
    '+SingularityImage = "docker://x`touch /tmp/evil`"': "SingularityImage is no name of an image",
    '+SingularityImage = "/cvmfs/../etc"': "SingularityImage is no name of an image",
    '+SingularityImage = strcat("/im", "ages/debian12")': "SingularityImage must be a plain string",
    '+ContainerImage = "-B/etc:/x"': "ContainerImage is no name of an image",
    '+ContainerImage = "/etc"': "ContainerImage is no image on offer",
    '+REQUIRED_OS = strcat("debian", "13")': "REQUIRED_OS must be a plain string",
}
# Values that match and act on nothing: the platform behind them is taken.
PLATFORMS = (
    "$(touch /tmp/evil),debian12",
    "`touch /tmp/evil`,debian12",
    ";touch,/tmp/evil;,debian12",
    "'; touch /tmp/evil; ', debian12",
    "debian13)||(true,.*,[,debian12",
    "--bind=/etc:/x,debian12",
    "*,?ebian13,${HOME},debian12",
)


def test_what_a_job_says_reaches_no_interpreter(pilot: StartPilot, jobs: Jobs, node: Host, grid: Grid) -> None:
    platforms = {"debian13": [GOOD], "debian12": [f"{IMAGES_INSIDE}/debian12"]}
    run = pilot({"images": platforms}).start()
    script = f"{CODENAME}; ls -d /x"
    good = [jobs.shell(script, pilot=run, extra=f'+REQUIRED_OS = "{value}"') for value in PLATFORMS]
    bad = {line: jobs.shell(script, pilot=run, extra=line) for line in HELD}
    for job in good:
        assert job.wait_done().output().strip() == "bookworm"
    for line, job in bad.items():
        assert HELD[line] in job.wait_held().log, (line, job.log)
        assert job.events(5) == 0
    assert not node.path("/tmp/evil").exists()
    ended(run)


def test_a_forbidden_image_is_held_or_goes_elsewhere_as_configured(pilot: StartPilot, jobs: Jobs, grid: Grid) -> None:
    line = '+SingularityImage = "/opt/images/mine.sif"'
    run = pilot({"containers": {"forbidden_image": "elsewhere"}}).start()
    job = jobs.shell("true", pilot=run, extra=line).wait_evicted()
    assert "image.forbidden: /opt/images/mine.sif: SingularityImage is no image on offer: use REQUIRED_OS" in job.log
    run.wait_until("the ad", lambda: slot_ads(grid, run, 'PilotFailingImages == "/opt/images/mine.sif"'))
    stays_away(job)
    assert jobs.shell(CODENAME, pilot=run).wait_done().output().strip() == "trixie"
    assert job.events(12) == 0
    ended(run)


def test_an_image_that_a_job_names_is_tried_on_the_node_before_its_files_come(
    pilot: StartPilot, jobs: Jobs, node: Host
) -> None:
    images = {name: small_image(node, f"named/{name}") for name in ("good", "wrong")}
    shutil.rmtree(node.path(f"{PLACE}/named/wrong/etc"))
    shutil.rmtree(node.path(f"{PLACE}/named/wrong/dev"))
    run = pilot({"containers": {"allowed_paths": [f"{PLACE}/named"]}}).start()
    good = jobs.shell(CODENAME, pilot=run, extra=f'+SingularityImage = "{images["good"]}"', count=2).wait_done()
    assert [good.output(number).strip() for number in range(2)] == ["small"] * 2
    wrong = jobs.shell("true", pilot=run, extra=f'+SingularityImage = "{images["wrong"]}"').wait_held()
    assert f"image.incomplete: {images['wrong']}" in wrong.log
    gone = jobs.shell("true", pilot=run, extra='+SingularityImage = "/cvmfs/gone.example.org/image"').wait_evicted()
    assert "image.missing: /cvmfs/gone.example.org/image" in gone.log
    assert (gone.events(5), gone.events(12)) == (0, 0)
    ended(run)


def test_an_image_that_a_job_transfers_cut_short_is_its_owners_to_mend(
    pilot: StartPilot, jobs: Jobs, grid: Grid
) -> None:
    own, whole = grid.pool.path(USER.home) / "cut.sif", grid.pool.path(f"{IMAGES_INSIDE}/debian12.sif").read_bytes()
    own.write_bytes(whole[: len(whole) // 2])
    run = pilot().start()
    job = jobs.shell(CODENAME, pilot=run, extra="container_image = cut.sif").wait_held()
    assert "The job wrapper failed to execute the job: image.damaged: the image that the job transfers" in job.log
    assert "This pilot refuses the job: image.damaged: the image that the job transfers is no image" in job.log
    assert job.events(5) == 0
    own.write_bytes(whole)
    assert job.release().wait_done().output().strip() == "bookworm"
    own.unlink()
    ended(run)


def stays_away(job: Any, seconds: float = 15) -> None:
    """No further start of the job in the time of several negotiations."""
    time.sleep(3)  # the ad has to reach the pool
    before = job.events(1) + job.events(21)
    time.sleep(seconds)
    assert job.events(1) + job.events(21) == before, job.log


@pytest.mark.parametrize(
    ("name", "code"),
    [("slow.sif?fault", "image.deadline"), ("down.sif?fault", "image.server_error"), ("nosuch.sif", "image.missing")],
)
def test_a_pull_that_fails_sends_the_job_elsewhere_and_the_slot_stays_open_for_others(
    pilot: StartPilot, server: ImageServer, jobs: Jobs, grid: Grid, name: str, code: str
) -> None:
    url = f"{server.url}{name}"
    run = started(pilot, server, {"far": [url], "debian13": [GOOD]}, containers={"fetch_seconds": 3})
    job = jobs.shell(CODENAME, pilot=run, extra='+REQUIRED_OS = "far"').wait_evicted()
    assert code in job.log, job.log
    run.wait_until("the ad", lambda: slot_ads(grid, run, f'PilotFailingImages == "{url}"'))
    stays_away(job)
    assert (job.status(), job.events(12)) == ({1}, 0)
    assert jobs.shell(CODENAME, pilot=run, extra='+REQUIRED_OS = "debian13"').wait_done().output().strip() == "trixie"
    ended(run)
    failing = [event for event in run.events() if event["event"] == "image.failing"]
    assert {event["image"] for event in failing} == {url}
    assert len(failing) <= 2


@pytest.fixture
def small_disk(node: Host) -> Iterator[str]:
    """A file system for the store with 6 MiB more than what is always left free."""
    place = f"{PLACE}/disk"
    node.path(place).mkdir()
    options = f"size=70m,mode=700,uid={PILOT.uid},gid={PILOT.uid}"
    assert node.run(["mount", "-t", "tmpfs", "-o", options, "none", place]).returncode == 0
    yield place
    assert node.run(["umount", place]).returncode == 0
    node.path(place).rmdir()


def test_a_disk_that_is_full_sends_the_job_elsewhere_and_tells_the_site(
    pilot: StartPilot, server: ImageServer, jobs: Jobs, small_disk: str
) -> None:
    containers = {"store_directory": f"{small_disk}/store"}
    run = started(pilot, server, {"far": [f"{server.url}debian13.sif?disk"]}, containers=containers)
    run.joined()
    job = jobs.shell("true", pilot=run).wait_evicted()
    assert "disk.full" in job.log
    assert "the site frees space" in job.log
    stays_away(job)
    assert job.events(12) == 0
    run.signal(Signals.SIGTERM)
    assert run.wait() == 143, run.story()


def test_two_pilots_of_one_node_fetch_an_image_once(
    pilot: StartPilot, server: ImageServer, jobs: Jobs, node: Host
) -> None:
    place = f"{PLACE}/shared"
    node.path(place).mkdir()
    shutil.chown(node.path(place), PILOT.uid, PILOT.uid)
    url = f"{server.url}debian12.sif?shared"
    pinned = {"path": url, "digest": digest_of(server.files / "debian12.sif")}
    containers = {"store_directory": f"{place}/store"}
    runs = [started(pilot, server, {"far": [pinned]}, containers=containers) for _ in range(2)]
    done = [jobs.shell(CODENAME, pilot=run, count=2) for run in runs]
    for job in done:
        assert [job.wait_done().output(number).strip() for number in range(2)] == ["bookworm"] * 2
    assert server.requests().count("/debian12.sif?shared") == 1
    for run in runs:
        run.signal(Signals.SIGTERM)
    for run in runs:
        assert run.wait() == 143, run.story()
    (entry,) = node.path(f"{place}/store/images").iterdir()
    assert sorted(file.name for file in entry.iterdir()) == ["about.json", "image.sif"]
    assert list(node.path(f"{place}/store/partial").iterdir()) == []


def digest_of(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
