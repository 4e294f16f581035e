"""Setups, checks and periodic tests that VO and site configure without a plugin, with the real Apptainer."""

from __future__ import annotations

import signal
from functools import partial
from typing import Any

import pytest

from tests.integration.conftest import StartPilot
from tests.integration.plugins import PREAMBLE
from tests.testbed.grid import Grid
from tests.testbed.pilots import PRODUCTS, PilotRun
from tests.testbed.user_jobs import Jobs, slot_ads

Json = Any

SCRIPT = """\
#!/bin/sh
# Tells where it runs and what it finds there, and contributes a variable and an attribute named after itself.
here=/data; [ -d /srv/.pilot ] || here={start}/data
name=$1
if [ "$2" = undo ]; then echo "$name" >> $here/undone; exit; fi
echo "$name" >> $here/order
env | cut -d= -f1 | sort > $here/$name.environment
echo "$(. /etc/os-release; echo $ID) $PWD $FROM_site_node" > $here/$name.place
grep -c "\\"pilot_id\\": \\"$PILOT_ID\\"" "$PILOT_CONTEXT" > $here/$name.context
binds='[]'; [ "$name" = site_node ] && binds='["{start}/data:/data"]'
echo '{"environment": {"FROM_'$name'": "'$name'"}, "attributes": {"Has_'$name'": true}, "binds": '$binds'}'
"""
NAMES = ["site_node", "site_image", "vo_node", "vo_image"]


def setup(name: str, **more: Json) -> dict[str, Json]:
    return {
        "name": name,
        "script": SCRIPT,
        "command": ["{script}", name],
        "teardown": ["{script}", name, "undo"],
        "where": "image" if name.endswith("image") else "host",
        **more,
    }


BOTH = {
    "site": {"setups": [setup("site_node", stage="early"), setup("site_image")]},
    "vo": {"setups": [setup("vo_node"), setup("vo_image", platform="debian12")]},
}


def with_data(run: PilotRun) -> PilotRun:
    """A directory that scripts on the node and inside images both write to."""
    data = run.outer / "data"
    data.mkdir()
    data.chmod(0o777)
    return run


def words(run: PilotRun, name: str) -> list[str]:
    path = run.outer / "data" / name
    return path.read_text().split() if path.exists() else []


def nothing_but_data_left(run: PilotRun) -> None:
    files = [str(path.relative_to(run.outer)) for path in (run.outer / "data").rglob("*")]
    run.nothing_left(allowed=(*PRODUCTS, "data", *files))


@pytest.mark.parametrize("end", ["the pilot is told to end", "the keeper is killed"])
def test_setups_of_site_and_vo_run_in_order_outside_and_inside_and_are_undone_in_reverse(
    pilot: StartPilot, grid: Grid, jobs: Jobs, end: str
) -> None:
    run = with_data(pilot(BOTH)).start()
    job = jobs.shell("echo $FROM_site_node $FROM_site_image $FROM_vo_node $FROM_vo_image", pilot=run).wait_done()
    assert job.output().split() == NAMES
    ad = run.wait_until("the slot's ad", lambda: slot_ads(grid, run))[0]
    assert all(ad[f"Has_{name}"] for name in NAMES)
    assert words(run, "order") == NAMES
    places = {name: words(run, f"{name}.place") for name in NAMES}
    assert places["site_image"] == ["debian", "/srv", "site_node"]
    assert places["vo_image"] == ["debian", "/srv", "site_node"]
    assert "/tmp/" in places["vo_node"][1]
    # On the node a program gets no variables that are for jobs, and inside nothing of the node's.
    assert len(places["vo_node"]) == 2
    assert {name: words(run, f"{name}.context") for name in NAMES} == {name: ["1"] for name in NAMES}
    assert {"PILOT_CONTEXT", "PILOT_ID", "PATH", "HOME", "TMPDIR"} <= set(words(run, "vo_node.environment"))
    assert {"PILOT_CONTEXT", "PILOT_ID", "TMPDIR", "_CONDOR_SCRATCH_DIR"} <= set(words(run, "vo_image.environment"))
    if end == "the pilot is told to end":
        run.signal(signal.SIGTERM)
        assert run.wait() == 143, run.story()
        told = [
            (line["stage"], line["what"]) for line in run.report()["timeline"] if line["plugin"] == "builtin.setups"
        ]
        assert told == [
            ("setup early", "site.site_node"),
            ("setup late", "site.site_image"),
            ("setup late", "vo.vo_node"),
            ("setup late", "vo.vo_image"),
        ]
    else:
        run.signal(signal.SIGKILL, "_keeper")
        assert run.wait() == 70, run.story()
    assert words(run, "undone") == NAMES[::-1]
    nothing_but_data_left(run)


def failing(name: str, text: str, **more: Json) -> dict[str, Json]:
    teardown = ["/bin/sh", "-c", f"echo {name} >> {{start}}/data/undone"]
    return {"name": name, "script": f"#!/bin/sh\n{text}\n", "teardown": teardown, **more}


def test_setups_that_fail_or_hang_cost_what_they_are_required_for(pilot: StartPilot) -> None:
    setups = [
        failing("fails", "echo no licence >&2; exit 3", required=False),
        failing("hangs", "trap '' TERM; sleep 600", required=False, timeout_seconds=1),
        failing("lies", "echo '{\"environment\": 3}'", required=False),
        failing("good", "exit 0"),
        failing("needed", "echo the disk of the VO is gone >&2; exit 4"),
        failing("late", "touch {start}/data/never"),
    ]
    run = with_data(pilot({"vo": {"setups": setups}})).start()
    assert run.wait() == 69, run.story()
    failure = run.failure()
    assert failure["plugin"] == "builtin.setups"
    assert failure["stage"] == "setup late"
    assert "vo.needed" in failure["message"]
    assert "the disk of the VO is gone" in failure["message"]
    assert "the VO for vo." in failure["hint"]
    lines = {line["what"]: line for line in run.report()["timeline"] if line["plugin"] == "builtin.setups"}
    assert [line["status"] for line in lines.values()] == ["failed", "timeout", "failed", "ok", "failed"]
    assert "no licence" in lines["vo.fails"]["detail"]
    assert "1" in lines["vo.hangs"]["detail"]
    assert "environment" in lines["vo.lies"]["detail"]
    assert words(run, "undone") == ["needed", "good", "lies", "hangs", "fails"]
    assert not (run.outer / "data" / "never").exists()
    nothing_but_data_left(run)


GUARD = """\
#!/bin/sh
cd /data
echo x >> runs
[ -e hang ] && sleep 600
[ -e bad ] && exit 1
echo "{\\"GuardOs\\": \\"$(. /etc/os-release; echo $VERSION_ID)\\", \\"GuardRuns\\": $(wc -l < runs)}"
"""


REPORTS_OFTEN = """
@hookimpl
def pilot_startd():
    yield StartdFragment(name="often", text="UPDATE_INTERVAL = 2")
"""
"""The pool hears what a test found with the startd's next report of its slots, which is else minutes away."""


def test_a_test_repeated_in_the_image_gives_attributes_and_keeps_jobs_away_while_it_fails_or_hangs(
    pilot: StartPilot, grid: Grid, jobs: Jobs
) -> None:
    bind = failing("data", 'echo \'{"binds": ["{start}/data:/data"]}\'', stage="early")
    guard = {
        "name": "guard",
        "where": "image",
        "script": GUARD,
        "period_seconds": 1,
        "timeout_seconds": 3,
        "on_failure": "stop_accepting",
    }
    changes = {"site": {"setups": [bind], "periodics": [guard]}}
    run = with_data(pilot(changes, plugins={"often": PREAMBLE + REPORTS_OFTEN})).start()
    run.joined()

    def failed(message: str) -> bool:
        return any(event.get("message") == f"the periodic task site.guard {message}" for event in run.events())

    def runs() -> int:
        return len((run.outer / "data" / "runs").read_text().splitlines())

    def more_runs(number: int) -> bool:
        return runs() >= number

    def accepting(whether: bool) -> bool:
        return any(ad.get("PilotAccepting") is whether for ad in slot_ads(grid, run, "PartitionableSlot"))

    ad = run.wait_until("two runs", lambda: [ad for ad in slot_ads(grid, run) if ad.get("GuardRuns", 0) >= 2])[0]
    assert ad["GuardOs"] == "13"
    for fault, message in (("bad", "exited 1"), ("hang", "did not end by itself within 3 s")):
        flag = run.outer / "data" / fault
        flag.touch()
        run.wait_until("no job is taken", lambda: accepting(False))
        job = jobs.shell(f"test ! -e /data/{fault} && grep Guard $_CONDOR_MACHINE_AD", pilot=run)
        run.wait_until("the test fails on", partial(more_runs, runs() + 5))
        assert failed(message), run.story()
        assert job.events(1) == 0
        flag.unlink()
        job.wait_done()
        assert job.exit_codes() == [0]
        assert 'GuardOs = "13"' in job.output()
    run.signal(signal.SIGTERM)
    assert run.wait() == 143, run.story()
    nothing_but_data_left(run)


RACK = "grep -q '\"pilot_id\"' && echo '{\"site.rack\": 7}'"
DISK = "echo 'DISK WARNING - 8% left | left=8%;10;5'; exit 1"


def test_programs_of_site_and_vo_find_out_and_judge_on_their_own(pilot: StartPilot) -> None:
    checks = {
        "requirements": ["site.rack >= 7"],
        "site": {
            "probes": [
                {"name": "rack", "command": ["/bin/sh", "-c", RACK], "protocol": "json", "gives": ["site.rack"]},
            ],
            "checks": [
                {"name": "disk", "command": ["/bin/sh", "-c", DISK], "protocol": "nagios"},
                {"name": "kernel", "command": ["/bin/cat", "/proc/sys/kernel/ostype"]},
                {"name": "licence", "command": ["/bin/false"], "kind": "credential", "required": False},
            ],
        },
        "vo": {
            "checks": [
                {
                    "name": "compiler",
                    "where": "image",
                    "platform": "debian12",
                    "kind": "config",
                    "script": '#!/bin/sh\necho \'{"message": "no gcc", "hint": "add it"}\'; exit 1\n',
                }
            ]
        },
    }
    run = pilot(checks).start()
    assert run.wait() == 66, run.story()
    assert run.report()["node"]["site"]["rack"]["value"] == 7
    found = {check["name"]: check for check in run.report()["checks"]}
    assert (found["site.disk"]["status"], found["site.disk"]["message"]) == ("warn", "DISK WARNING - 8% left")
    assert found["site.disk"]["metrics"] == {"left": 8.0}
    assert (found["site.kernel"]["status"], found["site.kernel"]["message"]) == ("pass", "Linux")
    assert (found["site.licence"]["status"], found["site.licence"]["kind"]) == ("warn", "credential")
    assert (found["vo.compiler"]["status"], found["vo.compiler"]["where"]) == ("fail", "image")
    failure = run.failure()
    assert (failure["code"], failure["message"], failure["hint"]) == ("check.vo.compiler", "no gcc", "add it")
    run.nothing_left()
