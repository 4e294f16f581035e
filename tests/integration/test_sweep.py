"""Whatever is killed, the next pilot of the account leaves nothing of it on the node, and touches no live one."""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import Any

from tests.integration import plugins
from tests.integration.conftest import StartPilot
from tests.testbed.grid import Grid
from tests.testbed.hosts import Host
from tests.testbed.inspection import HostProcess
from tests.testbed.pilots import PilotRun
from tests.testbed.trees import PILOT
from tests.testbed.user_jobs import Jobs

LIST = f"/var/tmp/pilot-agent-{PILOT.uid}"
# Left by a job: a session of its own, a double fork, another process group, no environment, and memory that stays.
ESCAPING_JOB = (
    "setsid sleep 611 & (setsid sh -c 'sleep 612 & sleep 613' &); (env -i setsid /bin/sleep 614 &); set -m; sleep 615 &"
    " touch ready; sleep 600"
)
OWN_PROCESSES = ("unshare", "--user", "--map-current-user", "--pid", "--fork", "--mount-proc", "--kill-child=KILL")
"""A container's PID namespace: the pilot's process numbers mean nothing to the others on the node."""
DAEMONS = ("condor_master", "condor_startd")
MADE = f"{PILOT.home}/made-by-a-setup"
UNDONE = {
    "vo": {
        "setups": [
            {
                "name": "data",
                "script": f'#!/bin/sh\nif [ "$1" = undo ]; then rm {MADE}-$PILOT_ID; else touch {MADE}-$PILOT_ID; fi\n',
                "teardown": ["{script}", "undo"],
            }
        ]
    }
}
PLUGINS = {"files": plugins.PREAMBLE + plugins.FUSE, "bystanders": plugins.PREAMBLE + plugins.BYSTANDERS}


def workspace_name(run: PilotRun) -> str:
    """The directory, whose name is unique on the node."""
    assert run.workspace is not None, run.story()
    return run.workspace.name


def main_processes(run: PilotRun) -> list[str]:
    """The guardian and the pipeline or keeper of this very pilot, as its host numbers them."""
    assert run.workspace is not None
    owner = json.loads((run.workspace / "private" / "lock").read_text())
    return [str(identity["pid"]) for identity in owner["processes"]]


def kill_at_once(run: PilotRun) -> None:
    """SIGKILL to guardian and main process in one call."""
    run.host.run(["kill", "-KILL", *main_processes(run)])
    assert run.wait() == -signal.SIGKILL


def carrying(run: PilotRun, name: str) -> list[HostProcess]:
    """The processes that carry a workspace's name in their environment or directory."""
    found = []
    for process in run.processes():
        directory = run.host.path("/proc") / str(process.pid)
        try:
            carried = (directory / "environ").read_bytes() + bytes((directory / "cwd").readlink())
        except OSError:
            continue
        if name.encode() in carried:
            found.append(process)
    return found


def processes_of(run: PilotRun, name: str) -> list[str]:
    """What they run."""
    return [" ".join(process.argv)[:100] for process in carrying(run, name)]


def freeze_htcondor(run: PilotRun, name: str) -> None:
    """Without its parent HTCondor ends within seconds, and with it what a job leaves in its PID namespace."""
    daemons = [process for process in carrying(run, name) if os.path.basename(process.argv[0]) in DAEMONS]
    assert len(daemons) == len(DAEMONS), daemons
    run.host.run(["kill", "-STOP", *(str(process.pid) for process in daemons)])


def swept(by: PilotRun, name: str, *, clean: bool = True) -> dict[str, Any]:
    """What a pilot told of having swept a workspace, in which nothing is left unless ``clean`` is false."""

    def told() -> dict[str, Any] | None:
        events = [event for event in by.events() if event["event"] == "pilot.swept"]
        return next((event for event in events if event["workspace"].endswith(f"/{name}")), None)

    event: dict[str, Any] = by.wait_until(f"{by} swept {name}", told)
    assert not clean or event["leftovers"] == []
    return event


def plant(host: Host) -> str:
    """What a job without a container may leave: the workspace of a pilot that never was, with a journal; its name."""
    root = host.path(PILOT.home) / "pilot-0123456789ab"
    (root / "private").mkdir(parents=True)
    owner = {
        "host": host.run(["uname", "-n"]).stdout.strip(),
        "boot_id": "",
        "pid_namespace": 0,
        "locked": True,
        "runtime": "",
        "processes": [],
    }
    (root / "private" / "lock").write_text(json.dumps(owner))
    for number, label in enumerate(("teardown of vo.data", "teardown of vo.other"), 1):
        command = {"argv": ["/bin/touch", f"{PILOT.home}/planted"], "environment": {}, "directory": "/"}
        line = {"n": number, "kind": "command", "label": label, **command, "seconds": 5, "pilot_started": 0}
        with open(root / "private" / "journal.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    entry = host.path(LIST) / root.name
    entry.write_text(json.dumps({"workspace": f"{PILOT.home}/{root.name}", "owner": owner}))
    for path in (root, root / "private", *(root / "private").iterdir(), entry):
        os.chown(path, PILOT.uid, PILOT.uid)
        path.chmod(0o700)
    return root.name


def nothing_is_left_of(run: PilotRun, name: str) -> None:
    """No process, mount, file or entry, whoever else is on the node."""
    assert processes_of(run, name) == []
    assert not [process for process in run.processes() if process.argv[-1] in ("611", "612", "613", "614", "615")]
    assert not [mount for mount in run.host.mounts() if name in mount.target]
    assert not [path for path in run.outer.iterdir() if path.name.startswith("pilot-")]
    assert not (run.host.path(LIST) / name).exists()


def test_pilots_of_which_everything_that_watches_was_killed_are_swept_and_live_ones_are_not(
    pilot: StartPilot, jobs: Jobs
) -> None:
    busy = pilot().start()
    other = pilot(wrapper=OWN_PROCESSES, plugins={"slow": plugins.slow("probe")}).start()
    probing = pilot(plugins={"stubborn": plugins.PREAMBLE + plugins.STUBBORN_PROBE}).start()
    plain = pilot(UNDONE, plugins=PLUGINS).start()
    isolated = pilot({"startd": {"starter_isolation": "job"}}).start()
    long = jobs.shell("touch ready; sleep 600", pilot=busy)
    for run in (plain, isolated):
        jobs.shell(ESCAPING_JOB, pilot=run)
    for run in (busy, plain, isolated):
        run.job_file("ready")
    for run in (probing, other):
        run.wait_for("stage.started", stage="probe")
    dead = {run: workspace_name(run) for run in (probing, plain, isolated)}
    probing.wait_until("the probe's child", lambda: any("trap" in one for one in processes_of(probing, dead[probing])))
    live = {run: workspace_name(run) for run in (busy, other)}
    assert [mount for mount in plain.host.mounts() if dead[plain] in mount.target]
    freeze_htcondor(isolated, dead[isolated])
    for run, name in dead.items():
        kill_at_once(run)
        assert processes_of(run, name), "they do not see it"
    made = plain.host.path(f"{MADE}-{dead[plain].removeprefix('pilot-')}")
    assert made.exists()
    planted = plant(plain.host)
    following = pilot(UNDONE).start()
    (left,) = swept(following, planted, clean=False)["leftovers"]
    assert (left["kind"], left["name"]) == ("teardown", "teardown of vo.other")
    assert not plain.host.path(f"{PILOT.home}/planted").exists()
    shutil.rmtree(plain.host.path(PILOT.home) / planted)
    (plain.host.path(LIST) / planted).unlink()
    assert swept(following, dead[plain])["teardowns"] == ["teardown of vo.data: ok"]
    assert not made.exists()
    for run, name in dead.items():
        assert swept(following, name)["processes"]
        nothing_is_left_of(run, name)
    following.wait_for("pool.joined")
    for run, name in live.items():
        assert run.running
        assert workspace_name(run) == name
        assert processes_of(run, name)
    assert long.events(4) + long.events(22) == 0, "its job runs on"
    for run in (busy, following):
        run.signal(signal.SIGTERM)
        assert run.wait() == 143
    assert [line["status"] for line in following.report()["timeline"] if line["what"] == "sweep"] == ["warn"]


def test_after_a_loss_of_power_the_next_pilot_removes_what_is_on_the_disk(
    pilot: StartPilot, jobs: Jobs, grid: Grid
) -> None:
    host = grid.wn2
    run = pilot(host="wn2").start()
    jobs.shell(ESCAPING_JOB, pilot=run)
    run.job_file("ready")
    name = workspace_name(run)
    assert list(run.outer.glob("pilot-runtime*")), "the interpreter lies there, too"
    host.stop()
    run.wait()
    host.start()
    grid.start_condor(host)
    run.outer = host.path(run.start_directory)
    assert workspace_name(run) == name
    following = pilot(host="wn2").start()
    swept(following, name)
    nothing_is_left_of(run, name)
    following.signal(signal.SIGTERM)
    assert following.wait() == 143
    following.nothing_left()
