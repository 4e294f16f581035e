"""`python -m tests.testbed.triton_demo`: jobs in containers that use a Triton server which their pilot runs beside them
and which is killed once in the middle; exit status 0 only if all is as expected."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.contributed import install
from tests.testbed import prerequisites, triton
from tests.testbed.command import CommandError
from tests.testbed.demo.account import heading, table, terminal_width
from tests.testbed.demo.factory import PROJECT, require_payloads
from tests.testbed.demo.progress import Progress
from tests.testbed.grid import Grid
from tests.testbed.namespaces import StartError
from tests.testbed.pilots import PilotError, PilotRun, install_payload
from tests.testbed.prerequisites import PrerequisiteError
from tests.testbed.runs import run_directory
from tests.testbed.trees import PILOT, USER
from tests.testbed.user_jobs import Job, Jobs, slot_ads

JOBS = 8
ANSWERS = 40
CLIENT = Path(__file__).with_name("jobs") / "ask_triton.py"
PATIENCE_SECONDS = 180.0
PILOT_ATTRIBUTES = ("TritonVersion", "TritonModels", "TritonReadyModels", "TritonHttpPort", "TritonGrpcPort")


@dataclass(frozen=True, slots=True)
class JobStory:
    """One job: its exit code, and what it said at its end."""

    number: int
    exit_code: int | None
    said: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Story:
    """The whole run: the slot's ad while the server was ready, the jobs, the pilot's events and its report."""

    ad: dict[str, Any]
    jobs: tuple[JobStory, ...]
    events: tuple[dict[str, Any], ...]
    report: dict[str, Any]

    @property
    def service(self) -> dict[str, Any]:
        """The server in the report; empty where there is none."""
        found = [one for one in self.report.get("services", []) if one["name"] == "triton"]
        return dict(found[0]) if found else {}

    def problems(self) -> list[str]:
        """What is not as it must be."""
        found = [f"job {job.number}: exit {job.exit_code}, {job.said}" for job in self.jobs if job.exit_code != 0]
        few = [job.number for job in self.jobs if job.said.get("answers", 0) < ANSWERS]
        found += [f"job {number}: fewer than {ANSWERS} answers" for number in few]
        if not any(job.said.get("retries") for job in self.jobs):
            found.append("no job saw that the server was away")
        if self.service.get("restarts") != 1:
            found.append(f"expected the server to be started again once, found {self.service.get('restarts')}")
        if self.ad.get("TritonReadyModels") != "scale":
            found.append(f"expected the model scale to be ready, found {self.ad.get('TritonReadyModels')!r}")
        if self.report["outcome"]["status"] != "ok" or self.report["leftovers"]:
            found.append(f"the pilot: {self.report['outcome']}, leftovers {self.report['leftovers']}")
        return found


def make_pilot(
    grid: Grid, token: str, repository: str = "models", artifacts: Mapping[str, Any] | None = None, **options: Any
) -> PilotRun:
    """A pilot (not yet started) that runs the server on the CPU, and whose jobs get an image with its clients.
    ``artifacts`` say where signed ones are and whom to believe."""
    place = triton.inside(triton.ensure())
    named = repository if repository.startswith("signed:") else f"{place}/{repository}"
    given = {"repository": named, "devices": "none", **options}
    plugins = {"directories": ["{start}/plugins"]}
    images = {"triton": [{"path": f"{place}/image"}]}
    changes = {
        "images": images,
        "plugins": plugins,
        "services": {"triton": given},
        "startd": {"tail_shutdown_seconds": 1},
        **({"artifacts": dict(artifacts)} if artifacts else {}),
    }
    run = PilotRun(grid.wn1, token, changes)
    directory = install("triton", run.outer / "plugins")
    for path in (directory, *directory.rglob("*")):
        os.chown(path, PILOT.uid, PILOT.uid)
    return run


def submit(grid: Grid, jobs: Jobs, run: PilotRun, count: int) -> Job:
    """Queue jobs that ask the server; the first of them goes on until the server was away."""
    path = grid.pool.path(f"{USER.home}/{CLIENT.name}")
    path.write_bytes(CLIENT.read_bytes())
    text = (
        f"executable = /usr/bin/python3\narguments = {CLIENT.name} {ANSWERS} $(Process)\n"
        f'transfer_input_files = {CLIENT.name}\n+WantServices = "triton"'
    )
    return jobs.submit(text, pilot=run, count=count)


def play(grid: Grid, jobs: Jobs, run: PilotRun, count: int, progress: Progress) -> Story:
    """Everything in order. Raises PilotError for what does not happen."""
    progress.say("starting a pilot with a Triton server")
    run.start().joined()
    progress.say("waiting for the server in the slot's ad")
    wanted = 'PartitionableSlot && HasTriton && TritonReadyModels == "scale"'
    ads: list[dict[str, Any]] = run.wait_until(
        "the server's model in the ad", lambda: slot_ads(grid, run, wanted), PATIENCE_SECONDS
    )
    progress.say(f"{count} jobs ask the server")
    cluster = submit(grid, jobs, run, count)
    run.job_file("began")
    progress.say("the server was killed; waiting for the jobs")
    run.signal(signal.SIGKILL, "tritonserver")
    cluster.wait_done(PATIENCE_SECONDS)
    progress.say("waiting for the pilot to leave after its last job")
    run.wait()
    codes = exit_codes(cluster)
    stories = tuple(JobStory(number, codes.get(number), last_words(cluster, number)) for number in range(count))
    return Story(ads[0], stories, tuple(run.events()), run.report())


def last_words(cluster: Job, number: int) -> dict[str, Any]:
    """The JSON of a job's last line."""
    lines = cluster.output(number).splitlines()
    try:
        said: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        return {"problem": f"{lines[-1:]} {cluster.error(number)[-300:]}"}
    return said


def exit_codes(cluster: Job) -> dict[int, int]:
    """Exit code of each job by its number in the cluster."""
    codes: dict[int, int] = {}
    number = -1
    for line in cluster.log.splitlines():
        if line.startswith("005 ("):
            number = int(line.split(".")[1])
        elif "Normal termination (return value " in line:
            codes[number] = int(line.split("return value ")[1].split(")")[0])
    return codes


def account(story: Story, width: int) -> str:
    """What happened, for people."""
    service = story.service
    told = ", ".join(f"{name} {story.ad.get(name)!r}" for name in PILOT_ATTRIBUTES)
    lines = [heading("the server beside the jobs", width), f"image {service.get('image')}", f"in the ad: {told}", ""]
    for event in story.events:
        if str(event.get("event", "")).startswith("service."):
            rest = {key: value for key, value in event.items() if key not in ("event", "seconds", "time", "service")}
            lines.append(f"{event.get('seconds', 0):8.1f} s  {event['event']:18} {json.dumps(rest)}"[:width])
    rows = [("job", "exit", "right answers", "tried again", "server away")]
    for job in story.jobs:
        said = job.said
        away = f"{said.get('away_seconds', 0)} s"
        rows.append((str(job.number), str(job.exit_code), str(said.get("answers")), str(said.get("retries")), away))
    lines += ["", heading("jobs", width), *table(rows, width), "", heading("the report", width)]
    lines.append(f"started {service.get('starts')} times, ready for {service.get('ready_seconds')} s; ends:")
    lines += [f"  {end}"[:width] for end in service.get("ends", [])]
    lines += [f"  {name} {number:g}" for name, number in sorted((service.get("metrics") or {}).items())]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all was as expected, 1 when not, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.testbed.triton_demo", description=__doc__)
    parser.add_argument("--payloads", type=Path, default=PROJECT / "build", help="directory of pilot.pyz and pilot.sh")
    options = parser.parse_args(arguments)
    try:
        prerequisites.require()
        require_payloads(options.payloads)
        triton.ensure()
        return _run(options.payloads)
    except (PrerequisiteError, CommandError, StartError, PilotError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def _run(payloads: Path) -> int:
    with run_directory() as directory, Grid(directory) as grid, Progress() as progress:
        install_payload(grid.wn1, payloads)
        run = make_pilot(grid, grid.token())
        try:
            story = play(grid, Jobs(grid), run, JOBS, progress)
        finally:
            run.destroy()
    width = terminal_width()
    print(account(story, width), f"\n{heading('result', width)}", sep="\n")
    problems = story.problems()
    for problem in problems:
        print(f"NOT AS EXPECTED: {problem}")
    print("All is as expected." if not problems else f"{len(problems)} things are not as expected.", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
