"""Programs of plugins inside the images of jobs, with the real Apptainer: setups, checks, services, periodic tasks."""

from __future__ import annotations

import json
import shutil
import signal
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import StartPilot
from tests.integration.plugins import PREAMBLE
from tests.testbed.grid import IMAGES_INSIDE, Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.user_jobs import Jobs, slot_ads

Json = Any

HERE = "/var/tmp/of-the-node"


def plugin(body: str, hook: str) -> dict[str, str]:
    return {"inside": PREAMBLE + f"@hookimpl\ndef {hook}():\n{body}"}


def check_report(run: PilotRun) -> Json:
    """The report of `check` with the pilot's configuration."""
    done = run.call("check", "--json", "--config", f"factory={run.factory_file}")
    return json.loads(done.stdout) if done.stdout else pytest.fail(done.stderr)


def checks(report: Json) -> dict[str, Json]:
    return {result["name"]: result for result in report["checks"]}


SEES = """\
#!/bin/sh
# What a job sees, as one object.
. /etc/os-release
own=no; [ -d /srv/.pilot ] && own=yes
there=no; [ -e /var/tmp/of-the-node ] && there=yes
echo "noise before the answer"
echo "on the log" >&2
context=$(head -c 8 "$PILOT_CONTEXT" | tr -d '{"')
printf '{"message": "%s pwd=%s own=%s there=%s variable=%s bound=%s context=%s argument=%s"}\\n' \\
  "$VERSION_ID" "$PWD" "$own" "$there" "$FROM_SETUP" "$(cat /bound/hello)" "$context" "$1"
"""

CHECKS = """
    yield Check(name="sees", where="image", script="sees.sh", command=("{script}", "a b"))
    yield Check(name="other", where="image", platform="debian12", command=("/bin/grep", "bookworm", "/etc/os-release"))
    yield Check(name="fails", where="image", command=("/bin/sh", "-c", "echo too bad >&2; exit 3"), required=False)
    yield Check(name="gone", where="image", command=("/no/such/program",), required=False)
    yield Check(name="status", where="image", command=("/bin/sh", "-c", "exit 255"), required=False)
    yield Check(name="slow", where="image", command=("/bin/sh", "-c", "sleep 600"), timeout_seconds=1, required=False)
    yield Check(name="loud", where="image", command=("/bin/sh", "-c", "yes | head -c 3000000"), required=False)
    yield Check(name="nowhere", where="image", platform="el7", command=("/bin/true",), required=False)
    yield Check(name="writes", where="image", command=("/bin/sh", "-c", "echo x >> {script}"), script="sees.sh",
                required=False)
    yield Check(name="node", command=("/bin/cat", "/etc/hostname"))

def early(context):
    return SetupResult(environment={"FROM_SETUP": "a $(touch /tmp/evaluated) b"}, binds=("/var/tmp/bound:/bound:ro",))

@hookimpl
def pilot_setups():
    yield Setup(name="early", run=f"{__name__}:early", stage="early")
"""


def test_checks_see_what_jobs_see_and_their_ends_are_told_apart(pilot: StartPilot, grid: Grid) -> None:
    for path, text in ((HERE, "x"), ("/var/tmp/bound/hello", "hello")):
        outer = grid.wn1.path(path)
        outer.parent.mkdir(exist_ok=True)
        outer.write_text(text)
    run = pilot(plugins=plugin(CHECKS, "pilot_checks"))
    run.write("plugins/sees.sh", SEES, mode=0o755)
    report = check_report(run)
    found = checks(report)
    message = found["sees"]["message"]
    assert found["sees"]["where"] == "image"
    assert found["sees"]["status"] == "pass", found["sees"]
    assert message.startswith("13 pwd=/srv own=yes there=no variable=a $(touch /tmp/evaluated) b "), message
    assert "bound=hello" in message
    assert message.endswith("context=facts argument=a b")
    assert found["other"]["status"] == "pass"
    assert "bookworm" in found["other"]["message"]
    assert "too bad" in found["fails"]["message"]
    assert found["gone"]["code"] != "plugin.crashed", found["gone"]
    assert found["status"]["status"] == "warn"
    assert "exited 255" in found["status"]["message"]
    assert "did not end within" in found["slow"]["message"]
    assert found["loud"]["status"] == "pass"
    assert (found["nowhere"]["status"], found["nowhere"]["code"]) == ("skip", "image.not_in_dictionary")
    assert found["writes"]["status"] == "warn"
    assert (run.outer / "plugins" / "sees.sh").read_text() == SEES
    assert found["node"]["message"] == "wn1"
    assert found["node"]["where"] == "host"
    run.nothing_left()


WHOLE = """
def early(context):
    return SetupResult(environment={"FROM_SETUP": "early"})

@hookimpl
def pilot_setups():
    yield Setup(name="early", run=f"{__name__}:early", stage="early",
                teardown=("/bin/sh", "-c", "echo of the node >> {start}/undone"))
    yield Setup(name="late", where="image", script="late.sh", teardown=("{script}", "undo"))

@hookimpl
def pilot_containers():
    yield ContainerRequest(name="data", binds=("{start}/data:/data",))

@hookimpl
def pilot_services():
    yield Service(name="inside", where="image", script="service.sh", command=("{script}", "{workspace}/state"),
                  environment={"OWN": "{workspace}"}, readiness=Readiness(file="ready"),
                  attributes={"HasInside": True}, stop_seconds=10)
    yield Service(name="asked", where="image", platform="debian12", command=("/bin/sleep", "600"), after=("inside",),
                  readiness=Readiness(command=("/bin/grep", "bookworm", "/etc/os-release")), stop_seconds=0.1)

@hookimpl
def pilot_periodics():
    yield Periodic(name="inside", where="image", script="periodic.sh", period_seconds=1)
    yield Periodic(name="nowhere", where="image", platform="el7", command=("/bin/true",), period_seconds=1)
"""

LATE = """\
#!/bin/sh
if [ "$1" = undo ]; then echo "of $(cat /etc/debian_version)" >> /data/undone; exit; fi
echo '{"environment": {"LATE": "from the image"}, "attributes": {"LateSetup": true}}'
"""

SERVICE = """\
#!/bin/sh
trap 'echo ended in order > /data/service; exit 0' TERM
echo "$1 $OWN $FROM_SETUP $LATE" > /data/seen
touch ready
while :; do sleep 0.1; done
"""

PERIODIC = """\
#!/bin/sh
echo x >> /srv/runs
echo "{\\"InsideRuns\\": $(wc -l < /srv/runs), \\"InsideOs\\": \\"$(. /etc/os-release; echo $ID)\\"}"
"""


def test_setups_services_and_periodic_tasks_run_inside_and_are_undone_in_reverse(
    pilot: StartPilot, grid: Grid, jobs: Jobs
) -> None:
    run = pilot()
    start = run.start_directory
    (run.outer / "plugins").mkdir()
    (run.outer / "data").mkdir(mode=0o777)
    (run.outer / "data").chmod(0o777)
    source = PREAMBLE.replace("Check, ", "Check, ContainerRequest, ", 1) + WHOLE.replace("{start}", start)
    run.write("plugins/whole.py", source)
    for name, text in (("late.sh", LATE), ("service.sh", SERVICE), ("periodic.sh", PERIODIC)):
        run.write(f"plugins/{name}", text, mode=0o755)
    loaded = {"directories": [f"{start}/plugins"], "load": ["whole"]}
    run.configuration["plugins"] = loaded
    run.write("factory.json", json.dumps(run.configuration))
    run.start()
    job = jobs.shell("echo $LATE $FROM_SETUP", pilot=run).wait_done()
    assert job.output().strip() == "from the image early"

    def ran_twice() -> Json:
        return [ad for ad in slot_ads(grid, run) if ad.get("InsideRuns", 0) >= 2]

    ad = run.wait_until("two runs of the periodic task", ran_twice)[0]
    assert (ad["InsideOs"], ad["LateSetup"], ad["HasInside"]) == ("debian", True, True)
    assert ad["Inside_Ready"]
    assert ad["Asked_Ready"]
    assert (run.outer / "data" / "seen").read_text() == "/srv/state /srv early from the image\n"
    run.signal(signal.SIGTERM)
    assert run.wait() == 143, run.story()
    assert (run.outer / "data" / "service").read_text() == "ended in order\n"
    assert (run.outer / "undone").read_text() == "of the node\n"
    assert (run.outer / "data" / "undone").read_text().startswith("of 13")
    ends = [event["name"] for event in run.events() if event["event"] == "teardown.ended"]
    assert ends == ["teardown of late", "teardown of early"]
    failed = [event for event in run.events() if event["event"] == "periodic.failed"]
    assert [event["task"] for event in failed] == ["nowhere"]
    run.nothing_left(allowed=("report.json", "events.jsonl", "logs", "data", "data/seen", "data/service", "data/undone",
                              "undone"))  # fmt: skip


def program(code: bytes) -> bytes:
    """A whole ELF program of x86_64 without a library that runs these instructions."""
    header, start = 64 + 56, 0x400000
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, start + header, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    size = header + len(code)
    return elf + struct.pack("<IIQQQQQQ", 1, 5, 0, start, start, size, size, 0x1000) + code


UNDEFINED = bytes.fromhex("0f0b")
READS_ADDRESS_ZERO = bytes.fromhex("31c08a00")
DIRECTORIES = ("bin", "dev", "etc", "home", "proc", "root", "srv", "sys", "tmp", "var/tmp")


@pytest.fixture
def odd_images(grid: Grid) -> Iterator[str]:
    """Images whose programs this node cannot run."""
    inside = "/var/tmp/unfit-images"
    outer = grid.wn1.path(inside)
    source = grid.wn1.path(f"{IMAGES_INSIDE}/debian12")
    loader = (source / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2").read_bytes()
    shells = {
        "level": {"bin/sh": program(UNDEFINED)},
        "crash": {"bin/sh": program(READS_ADDRESS_ZERO)},
        "library": {"bin/sh": (source / "usr/bin/dash").read_bytes(), "lib64/ld-linux-x86-64.so.2": loader},
    }
    for name, files in shells.items():
        for directory in DIRECTORIES:
            (outer / name / directory).mkdir(parents=True)
        for file, content in files.items():
            path = outer / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755)
    yield inside
    shutil.rmtree(outer)


def test_an_image_that_processor_or_kernel_cannot_run_is_refused_with_the_reason(
    pilot: StartPilot, odd_images: str
) -> None:
    names = {"level": "image.cpu_level", "crash": "image.crashed", "library": "image.library"}
    good = f"{IMAGES_INSIDE}/debian13"
    run = pilot({"images": {"any": [*(f"{odd_images}/{name}" for name in names), good]}})
    why = {verdict["candidate"]: verdict for verdict in check_report(run)["container"]["why"]}
    for name, code in names.items():
        assert why[f"{odd_images}/{name}"]["reason"].startswith(code), why
    assert why[good]["taken"]
    found = why[good]["facts"]
    assert found["os.arch"] == "x86_64"
    assert (found["os.id"], found["os.version"]) == ("debian", "13")
    assert isinstance(found["home.writable"], bool)
    assert found["account.in_passwd"]
    assert not found["gpu.visible"]
    assert found["os.locale"]
