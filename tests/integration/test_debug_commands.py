"""`images`, `images inspect`, `images build` and `exec` with the real Apptainer, as a user of a node has them."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.containers.recipe import definition_of
from tests.testbed.grid import IMAGES_INSIDE, Grid
from tests.testbed.hosts import Host
from tests.testbed.image_server import ImageServer, image_server
from tests.testbed.pilots import INSTALLED
from tests.testbed.trees import PILOT

PLACE = "/var/tmp/debug-commands"
CONFIGURATION = f"{PLACE}/site.json"
DEBIAN13, DEBIAN12 = f"{IMAGES_INSIDE}/debian13", f"{IMAGES_INSIDE}/debian12.sif"
PATIENCE_SECONDS = 60
Json = Any

RECIPE = f"""\
Bootstrap: localimage
From: {DEBIAN13}.sif
%files
  greeting /greeting
%post
  cat /greeting > /made; mkdir -m 0755 /empty
%labels
  Maintainer somebody
"""


@pytest.fixture(scope="module")
def node(grid: Grid, payload: Path) -> Iterator[Host]:
    """A worker node with a directory of the pilot's account."""
    host = grid.wn1
    place = host.path(PLACE)
    place.mkdir()
    write(host, "image.def", RECIPE)
    write(host, "greeting", "hello\n")
    os.chown(place, PILOT.uid, PILOT.uid)
    document = {
        "images": {"debian13": [f"{IMAGES_INSIDE}/missing", DEBIAN13], "debian12": [DEBIAN12]},
        "startd": {"job_environment": {"FOR_JOBS": "a $(id) b"}},
    }
    write(host, "site.json", json.dumps(document))
    yield host
    # Where the account has subordinate ids some files of an image belong to them.
    shutil.rmtree(place)


def write(host: Host, name: str, text: str) -> str:
    path = host.path(f"{PLACE}/{name}")
    path.write_text(text)
    path.chmod(0o644)
    return f"{PLACE}/{name}"


def words(*arguments: str) -> list[str]:
    """The command line, with this configuration in front of what `exec` runs."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    given = [*arguments[:place], "--config", CONFIGURATION]
    return ["python3", f"{INSTALLED}/pilot.pyz", *given, *arguments[place:]]


def pilot(host: Host, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002
    env = {"COLUMNS": "80"}
    return host.run(words(*arguments), user=PILOT.name, cwd=PLACE, env=env, timeout_seconds=300, input=input)


def left_behind(host: Host) -> list[str]:
    return [path.name for path in [*host.path("/tmp").iterdir(), *host.path(PLACE).glob(".pilot-image-*")]]


def test_images_lists_what_jobs_get_in_80_columns(node: Host) -> None:
    done = pilot(node, "images")
    assert done.returncode == 0, done.stderr
    for part in ("/usr/bin/apptainer", "image.missing", DEBIAN13, DEBIAN12, "Jobs that name no platform get debian13"):
        assert part in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    answer = json.loads(pilot(node, "images", "--json").stdout)
    assert {one["candidate"]: one["proven"] for one in answer["images"] if one["taken"]} == {
        DEBIAN13: True,
        DEBIAN12: True,
    }


def test_a_command_finds_what_a_job_finds(node: Host) -> None:
    script = (
        "pwd; echo $FOR_JOBS; set -- /proc/[0-9]*; echo $#; ls /tmp /var/tmp; touch /srv/x /tmp/y; id -un; cat; exit 7"
    )
    done = pilot(node, "exec", "--", "/bin/bash", "-c", script, input="typed\n")
    assert done.returncode == 7, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["/srv", "a $(id) b"]
    assert int(lines[2]) < 10, "it sees few processes, as it is in a PID namespace of its own"
    assert lines[-2:] == [PILOT.name, "typed"]
    assert f"pilot-agent: {DEBIAN13}: the job names no platform" in done.stderr
    assert left_behind(node) == []


def test_any_image_of_the_node_can_be_tried(node: Host) -> None:
    for image, version in (("debian12", "12"), (f"{IMAGES_INSIDE}/debian12", "12"), (f"{DEBIAN13}.sif", "13")):
        done = pilot(node, "exec", "--image", image, "--", "/bin/sh", "-c", ". /etc/os-release; echo $VERSION_ID")
        assert (done.returncode, done.stdout) == (0, f"{version}\n"), done.stderr
    done = pilot(node, "exec", "--image", "debian11", "--", "/bin/true")
    assert done.returncode == 66
    assert "did you mean debian1" in done.stderr


def test_an_image_that_does_not_run_is_told_with_its_kind(node: Host) -> None:
    write(node, "broken.sif", "")
    node.path(f"{PLACE}/broken.sif").write_bytes(node.path(DEBIAN12).read_bytes()[:50000])
    done = pilot(node, "exec", "--image", "broken.sif", "--", "/bin/echo", "ran")
    assert done.returncode == 66, done.stderr
    assert "image.damaged" in done.stderr
    assert done.stdout == ""
    assert pilot(node, "images", "inspect", "broken.sif").returncode == 68
    assert left_behind(node) == []


def test_a_jobs_ad_decides_and_none_of_it_acts(node: Host) -> None:
    ad = write(
        node,
        "job.ad",
        'ProcId = 0\nREQUIRED_OS = "el6 debian12 debian13"\nWantContainer = true\nRequestGPUs = 0\n'
        "Environment = \"A='$(touch /tmp/evil) `id`; x' B=--bind=/etc:/x C='it''s \\\"q\\\"'\"\n"
        'Args = "$(touch /tmp/evil)"\nCmd = "/bin/false"\n',
    )
    script = '. /etc/os-release; printf "%s\\n" "$VERSION_ID" "$A" "$B" "$C"; ls -d /x /tmp/evil'
    done = pilot(node, "exec", "--as-job", ad, "--", "/bin/sh", "-c", script)
    assert done.stdout.splitlines() == ["12", "$(touch /tmp/evil) `id`; x", "--bind=/etc:/x", 'it\'s "q"'], done.stderr
    assert "the first platform of REQUIRED_OS on offer is debian12" in done.stderr
    assert left_behind(node) == []


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('SingularityImage = "--bind /etc:/x"', 66),
        ('SingularityImage = "-B"', 66),
        ('ContainerImage = "/images/debian12; id"', 66),
        ('ContainerImage = "$(id)"', 66),
        ('ContainerImage = "/etc"', 66),
        ('ContainerImage = "/cvmfs/../images/debian12"', 66),
        ('ContainerImage = strcat("/images/", "debian12")', 2),
        ('REQUIRED_OS = "el6"', 66),
        ('Environment = "APPTAINER_BIND=/etc:/x"', 66),
        ('Environment = "LD_PRELOAD=/tmp/x.so"', 66),
        ("RequestGPUs = 64", 64),
    ],
)
def test_a_job_that_would_not_run_does_not_run(node: Host, line: str, code: int) -> None:
    ad = write(node, "hostile.ad", line + "\n")
    done = pilot(node, "exec", "--as-job", ad, "--", "/bin/echo", "ran")
    assert (done.returncode, done.stdout) == (code, ""), done.stderr


@pytest.mark.parametrize(("name", "code"), [("TERM", 3), ("INT", 3), ("USR1", 3)])
def test_a_signal_reaches_the_program_in_the_container(node: Host, name: str, code: int) -> None:
    script = f"trap 'exit 3' {name}; echo ready; while :; do sleep 0.1; done"
    command = words("exec", "--quiet", "--", "/bin/sh", "-c", script)
    with node.popen(command, user=PILOT.name, cwd=PLACE, stdout=subprocess.PIPE) as door:
        assert door.stdout is not None
        assert door.stdout.readline() == "ready\n"
        node.signal(door, getattr(signal, f"SIG{name}"))
        assert door.wait(PATIENCE_SECONDS) == code
    assert left_behind(node) == []


def test_a_shell_in_the_container_has_the_terminal(node: Host) -> None:
    ours, theirs = pty.openpty()
    command = ["setsid", "--ctty", "--wait", *words("exec", "--quiet", "--", "/bin/bash", "--norc")]
    door = node.popen(command, user=PILOT.name, cwd=PLACE, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""

    def expect(text: bytes) -> None:
        nonlocal said
        end = time.monotonic() + PATIENCE_SECONDS
        while text not in said:
            assert time.monotonic() < end, said
            if select.select([ours], [], [], 1.0)[0]:
                said += os.read(ours, 4096)
        said = said.partition(text)[2]

    try:
        os.write(ours, b"echo up''time; pwd\n")
        expect(b"uptime\r\n/srv")
        os.write(ours, b"sleep 600; echo af''ter $?\n")
        time.sleep(1)  # the program has to run before the key is typed; later is as good
        os.write(ours, b"\x03")
        os.write(ours, b"echo go''ing; exit 5\n")
        expect(b"going")
        assert door.wait(PATIENCE_SECONDS) == 5
    finally:
        os.close(ours)
        door.kill()
        door.wait()


def test_a_sif_file_is_built_proven_described_and_run(node: Host) -> None:
    done = pilot(node, "images", "build", "image.def", "made.sif", "--name", "mine")
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256(node.path(f"{PLACE}/made.sif").read_bytes()).hexdigest()
    entry = f"    - path: {PLACE}/made.sif\n      arch: {os.uname().machine}\n      digest: sha256:{digest}\n"
    assert done.stdout == f"images:\n  mine:\n{entry}"
    assert "Running post scriptlet" in done.stderr
    found = json.loads(pilot(node, "images", "inspect", "made.sif", "--json").stdout)
    assert (found["form"], found["architecture"]) == ("sif", os.uname().machine)
    assert found["labels"]["Maintainer"] == "somebody"
    assert found["system"]["version"] == "13"
    assert found["digest"] == f"sha256:{digest}"
    assert found["deffile"] == RECIPE
    done = pilot(node, "exec", "--image", "made.sif", "--", "/bin/cat", "/made")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    assert left_behind(node) == []


def test_a_directory_is_built_and_only_replaced_when_asked(node: Host) -> None:
    done = pilot(node, "images", "build", "image.def", "made", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["platform"] == "debian13"
    found = json.loads(pilot(node, "images", "inspect", "made", "--json").stdout)
    assert (found["form"], found["deffile"].strip()) == ("directory", RECIPE.strip())
    assert found["labels"]["Maintainer"] == "somebody"
    done = pilot(node, "images", "build", "image.def", "made")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--force" in done.stderr
    write(node, "greeting", "again\n")
    assert pilot(node, "images", "build", "image.def", "made", "--force").returncode == 0
    assert node.path(f"{PLACE}/made/made").read_text() == "again\n"
    assert left_behind(node) == []


def test_a_failing_build_leaves_nothing_and_touches_nothing(node: Host) -> None:
    for name, script, seconds, code in (
        ("bad.def", "exit 3", "300", "build.failed"),
        ("slow.def", "sleep 600", "5", "build.timeout"),
        ("useless.def", "rm /bin/sh", "300", "image."),
    ):
        write(node, name, f"Bootstrap: localimage\nFrom: {DEBIAN13}.sif\n%post\n  {script}\n")
        done = pilot(node, "images", "build", name, "nothing", "--seconds", seconds)
        assert (done.returncode, done.stdout) == (66, ""), done.stderr
        assert f"pilot-agent: {code}" in done.stderr
        assert not node.path(f"{PLACE}/nothing").exists()
        assert left_behind(node) == []
    assert not [process for process in node.processes() if "sleep 600" in " ".join(process.argv)]


def test_a_registry_that_cannot_be_reached_is_the_networks_fault(node: Host) -> None:
    write(node, "remote.def", "Bootstrap: docker\nFrom: registry.invalid/el9:1\n")
    done = pilot(node, "images", "build", "remote.def", "nothing")
    assert (done.returncode, done.stdout) == (65, ""), done.stderr
    assert "pilot-agent: image.unreachable" in done.stderr
    done = pilot(node, "exec", "--image", "docker://registry.invalid/el9:1", "--", "/bin/echo", "ran")
    assert (done.returncode, done.stdout) == (65, ""), done.stderr


def test_a_converted_dockerfile_is_built(node: Host) -> None:
    # The node has no spython, so it is converted here, as on a machine of whoever writes it.
    context = node.path(f"{PLACE}/context")
    context.mkdir()
    shutil.copytree(node.path(f"{DEBIAN13}/usr"), context / "usr", symlinks=True)
    (context / "Dockerfile").write_text(
        "FROM scratch AS base\nLABEL Maintainer=somebody\nENV GREETING=hello\n"
        "COPY usr /usr\n"
        "RUN mkdir -p /etc /tmp /var/tmp && echo made > /made\n"
    )
    for name in ("bin", "lib", "lib64"):
        os.symlink(f"usr/{name}", context / name)
    text = definition_of(str(context / "Dockerfile"))
    # A link cannot be copied by COPY alone, and %post needs its shell.
    text = text.replace("%post\n", "%setup\ncp -a bin lib lib64 $APPTAINER_ROOTFS\n%post\n")
    write(node, "context/image.def", text)
    done = pilot(node, "images", "build", "context/image.def", "docker.sif", "--name", "mine")
    assert done.returncode == 0, done.stderr
    done = pilot(node, "exec", "--image", "docker.sif", "--", "/bin/sh", "-c", "cat /made; echo $GREETING")
    assert done.stdout == "made\nhello\n", done.stderr
    labels = json.loads(pilot(node, "images", "inspect", "docker.sif", "--json").stdout)["labels"]
    assert labels["Maintainer"] == "somebody"


@pytest.fixture(scope="module")
def server(grid: Grid) -> Iterator[ImageServer]:
    with image_server(grid) as running:
        shutil.copyfile(grid.pool.path(DEBIAN12), running.files / "debian12.sif")
        (running.files / "page.sif").write_text("<html>Please log in</html>")
        yield running


def test_a_remote_image_is_fetched_once_and_proven_before_the_command_runs(node: Host, server: ImageServer) -> None:
    right = "sha256:" + hashlib.sha256(node.path(DEBIAN12).read_bytes()).hexdigest()
    wrong = "sha256:" + "0" * 64
    images = {"far": [{"path": f"{server.url}debian12.sif", "digest": right}]}
    images["changed"] = [{"path": f"{server.url}debian12.sif?other", "digest": wrong}]
    document = {"images": images, "containers": {"store_directory": f"{PLACE}/store"}}
    site, authority = write(node, "remote.json", json.dumps(document)), write(node, "ca.pem", server.certificate)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["python3", f"{INSTALLED}/pilot.pyz", "exec", "--config", site, *arguments]
        environment = {"SSL_CERT_FILE": authority}
        return node.run(command, user=PILOT.name, cwd=PLACE, env=environment, timeout_seconds=300)

    for _ in range(2):
        done = run("--", "/bin/sh", "-c", ". /etc/os-release; echo $VERSION_ID")
        assert (done.returncode, done.stdout) == (0, "12\n"), done.stderr
    assert server.requests().count("/debian12.sif") == 1
    assert run("--image", "changed", "--", "/bin/echo", "ran").returncode == 68
    done = run("--image", f"{server.url}page.sif", "--", "/bin/echo", "ran")
    assert (done.returncode, done.stdout) == (66, ""), done.stderr
    assert "Please log in" in done.stderr
    assert left_behind(node) == []


def test_only_an_image_is_ever_replaced(node: Host) -> None:
    write(node, "notes.sif", "not an image\n")
    directory = node.path(f"{PLACE}/notes")
    directory.mkdir(exist_ok=True)
    (directory / "letter").write_text("dear\n")
    for target in ("notes.sif", "notes"):
        done = pilot(node, "images", "build", "image.def", target, "--force")
        assert done.returncode == 2, done.stderr
        assert "is no image" in done.stderr
    assert (directory / "letter").exists()


def test_a_dockerfile_without_spython_says_what_to_install(node: Host) -> None:
    write(node, "Dockerfile", "FROM scratch\nCOPY greeting /greeting\n")
    done = pilot(node, "images", "build", "Dockerfile", "nothing")
    assert done.returncode == 2
    assert "pip install 'pilot-agent[images]'" in done.stderr
