"""``status``, ``drain`` and ``stop``: talk to running pilots over their sockets."""

from __future__ import annotations

import argparse
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from pilot_agent.files import read_bounded
from pilot_agent.lifecycle.control import ask
from pilot_agent.lifecycle.final_report import LIMIT_BYTES
from pilot_agent.lifetime import utc
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.output.startd_rows import FIELDS, startd_rows
from pilot_agent.printing import print_page, print_text
from pilot_agent.render import paragraph, table
from pilot_agent.workspace import WORKSPACE_PREFIX, Workspace

PATIENCE_SECONDS = 5.0
PROC = "/proc"
REPORT_NAME = os.path.basename(Workspace("").report)
PRIVATE = re.compile(rf"/{WORKSPACE_PREFIX}[0-9A-Za-z_-]+/private$")
EPILOGS = {
    "status": """Without DIR: every pilot of this account on this node (as root, of every
account). DIR is a pilot's start directory, its output directory or its
workspace.

Exit code: 0, or 2 where no pilot of DIR runs.

examples:
  pilot-agent status
  pilot-agent status /scratch/job_1234
  pilot-agent status --json
""",
    "drain": """Running jobs end in their own time, no further one begins, and then the pilot
ends with exit code 0. The same as the signal USR1. DIR may be left out when
only one pilot of this account runs on this node.

Exit code: 0 once the pilot was told, or 2 where no pilot of DIR runs.

example:
  pilot-agent drain /scratch/job_1234
""",
    "stop": """Running jobs get the configured time to end and go back to their queue. The same
as the signal TERM; with --fast as QUIT, which ends jobs at once. DIR may be
left out when only one pilot of this account runs on this node.

Exit code: 0 once the pilot was told, or 2 where no pilot of DIR runs.

example:
  pilot-agent stop /scratch/job_1234
""",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A running pilot: the private directory by which it can be asked, its workspace, and where it was started."""

    private: str
    workspace: str
    start_directory: str


def add_control(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The parsers of the three commands."""
    texts = {
        "status": "show the pilots that run on this node, or one of them",
        "drain": "let a running pilot finish its jobs, take no more, and end",
        "stop": "end a running pilot",
    }
    for name, text in texts.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=EPILOGS[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("directory", nargs="?", metavar="DIR", help="start or output directory, or workspace")
        command.add_argument("--json", action="store_true", help="print JSON")
        if name == "stop":
            command.add_argument("--fast", action="store_true", help="give jobs no time")


def run_status(parsed: argparse.Namespace) -> int:
    """Print how the pilots stand. Raises ``PilotError`` (usage) where ``DIR`` has none."""
    answers = [answer for found in _chosen(parsed.directory) if (answer := _looked_at(found))]
    if parsed.directory is not None and not answers:
        raise _nobody(parsed.directory)
    if parsed.json:
        print_text(json.dumps(answers if parsed.directory is None else answers[0], indent=2) + "\n")
    elif len(answers) == 1:
        print_page(page(answers[0]))
    else:
        print_page(overview(answers) if answers else _none_here()[0].upper() + _none_here()[1:] + ".\n")
    return 0


def run_command(parsed: argparse.Namespace) -> int:
    """Tell one pilot to drain or to stop, and print how it stands. Raises ``PilotError`` (usage) when it is not
    clear which one is meant."""
    chosen = [found for found in _chosen(parsed.directory) if _looked_at(found)]
    if not chosen:
        raise _nobody(parsed.directory)
    if len(chosen) > 1:
        listed = ", ".join(found.workspace for found in chosen)
        message = f"{len(chosen)} pilots could be meant: {listed}"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message, "name one of them as DIR"))
    request = {"command": parsed.command, "fast": bool(getattr(parsed, "fast", False))}
    answer = _asked(chosen[0], request)
    if answer is None:
        raise _nobody(parsed.directory)
    if parsed.json:
        print_text(json.dumps(answer, indent=2) + "\n")
    elif parsed.command == "drain":
        jobs = answer["jobs_running"]
        print_page(f"Pilot {answer['id']} drains: {jobs} job{'s' * (jobs != 1)} running, no more begin.\n")
    else:
        print_page(f"Pilot {answer['id']} ends.\n")
    return 0


def page(status: Json) -> str:
    """One pilot for people."""
    if "problem" in status:
        return paragraph(f"{status['problem']}; it may be suspended") + "\n"
    rows = [
        ("Stage", _stage(status)),
        ("Up", _span(status.get("up_seconds"))),
        ("Time left", _left(status)),
        ("Pool", {True: "joined", False: "not joined yet"}.get(status.get("joined"), "")),
        ("Jobs", _jobs(status)),
        ("Workspace", str(status.get("workspace"))),
        ("Output", str(status.get("output") or "nowhere")),
        ("Process", f"{status.get('pid')} on {status.get('host')}"),
    ]
    if status.get("token_expires") is not None:
        rows.append(("Token", f"expires in {_span(status['token_expires'] - _now(status))}"))
    if status.get("suspended_seconds"):
        rows.append(("Suspended", f"{_span(status['suspended_seconds'])} in all"))
    rows = [(name, text) for name, text in rows if text]
    rows += startd_rows(status | {"time": _end(status)})
    rows += [("Service", f"{one['name']}: {one['status']}") for one in status.get("services", [])]
    events = [(_span(one.get("seconds")), one["event"], _about(one)) for one in status.get("events", [])]
    parts = [f"Pilot {status.get('id')}", table([(f"  {name}", text) for name, text in rows])]
    if events:
        parts.append("Last events\n" + table([(f"  {when:>8}", name, about) for when, name, about in events]))
    return "\n\n".join(parts) + "\n"


def overview(answers: list[Json]) -> str:
    """Several pilots, one line each."""
    rows = [("PILOT", "STAGE", "JOBS", "UP", "LEFT", "PID", "DIRECTORY")]
    for one in answers:
        jobs, process = (str(one.get(name, "-")) for name in ("jobs_running", "pid"))
        where = str(one.get("output") or one.get("workspace"))
        up, left = _span(one.get("up_seconds")), _span(one.get("left_seconds"))
        rows.append((str(one.get("id")), _stage(one), jobs, up, left, process, where))
    return table(rows) + "\n" + paragraph("`pilot-agent status DIRECTORY` shows one of them.") + "\n"


def live_pilots() -> Iterator[Found]:
    """The running pilots whose guardians this account may look at: each holds its private directory open."""
    for name in sorted(filter(str.isdigit, os.listdir(PROC)), key=int):
        try:
            if os.geteuid() not in (0, os.stat(f"{PROC}/{name}").st_uid):
                continue
            yield from _pilots_of(name)
        except OSError:  # it ended, or is none of ours
            continue


def _pilots_of(name: str) -> Iterator[Found]:
    for descriptor in os.listdir(f"{PROC}/{name}/fd"):
        path = f"{PROC}/{name}/fd/{descriptor}"
        target = os.readlink(path)
        if PRIVATE.search(target):
            try:
                there = stat.S_ISSOCK(os.lstat(f"{path}/control.sock").st_mode)
            except OSError:
                continue
            if there:
                yield Found(path, os.path.dirname(target), os.readlink(f"{PROC}/{name}/cwd"))


def _chosen(directory: str | None) -> list[Found]:
    """The pilots that are meant by ``DIR``; all without it."""
    found = list(live_pilots())
    if directory is None:
        return found
    wanted = os.path.realpath(directory)
    if os.path.basename(wanted) == "private":
        wanted = os.path.dirname(wanted)
    exact = [one for one in found if one.workspace == wanted]
    if exact:
        return exact
    if os.path.lexists(Workspace(wanted).control):  # its guardian is out of sight, in another PID namespace
        return [Found(Workspace(wanted).private, wanted, "")]
    return [one for one in found if wanted in (one.start_directory, os.path.dirname(one.workspace), _output(one))]


def _output(found: Found) -> str:
    answer = _looked_at(found)
    return os.path.realpath(str(answer.get("output") or "")) if answer else ""


def _looked_at(found: Found) -> Json:
    """The pilot's status; of one that does not answer as much as can be seen from outside. None when it ended."""
    try:
        answer = _asked(found, {"command": "status"})
        return answer and answer | _reported(found)
    except PilotError as error:
        name = os.path.basename(found.workspace).removeprefix(WORKSPACE_PREFIX)
        return {"id": name, "workspace": found.workspace, "stage": "no answer", "problem": error.failure.message}


def _reported(found: Found) -> dict[str, Json]:
    """What the pilot's report has of its HTCondor so far; null for what it does not say yet."""
    try:
        report = json.loads(read_bounded(os.path.join(found.private, "..", REPORT_NAME), limit_bytes=LIMIT_BYTES))
    except (OSError, ValueError, RecursionError):
        report = {}
    return {name: report.get(name) if isinstance(report, dict) else None for name in FIELDS}


def _asked(found: Found, request: dict[str, Json]) -> Json:
    """The pilot's answer; None when it ended meanwhile. Raises ``PilotError`` (usage) when it refuses."""
    try:
        answer = ask(found.private, os.path.basename(Workspace("").control), request, PATIENCE_SECONDS)
    except PermissionError as error:
        message = f"the pilot {found.workspace} does not answer: {error.strerror}"
        hint = "only its own account and root may ask, and nothing that the pilot itself runs"
        raise PilotError(Failure(FailureKind.USAGE, "control.refused", message, hint)) from error
    except TimeoutError as error:
        message = f"the pilot {found.workspace} did not answer within {PATIENCE_SECONDS:g} s"
        raise PilotError(Failure(FailureKind.USAGE, "control.silent", message, "wake it with SIGCONT")) from error
    except (OSError, ValueError):
        return None
    if "error" in answer:
        raise PilotError(Failure(FailureKind.USAGE, "control.refused", str(answer["error"])))
    return answer


def _nobody(directory: str | None) -> PilotError:
    message, hint = _none_here(), ""
    if directory is not None:
        message = f"no pilot runs in {directory}"
        hint = "`pilot-agent status` lists the pilots of this account on this node"
    return PilotError(Failure(FailureKind.USAGE, "control.nobody", message, hint))


def _none_here() -> str:
    return "no pilot runs on this node" if os.geteuid() == 0 else "no pilot of this account runs on this node"


def _stage(status: Json) -> str:
    stage = str(status.get("stage"))
    return f"{stage} (draining)" if status.get("draining") and stage != "drain" else stage


def _jobs(status: Json) -> str:
    reasons = ", ".join(map(str, status.get("not_accepting", [])))
    return f"{status.get('jobs_running')} running" + (f"; no further one begins: {reasons}" if reasons else "")


def _left(status: Json) -> str:
    return "no limit known" if status.get("left_seconds") is None else _span(status["left_seconds"])


def _end(status: Json) -> Json:
    """What the report says of the pilot's end, as long as that is the one that is meant: a fresh token may have moved
    it, and the slot of a failed pilot is held for another time."""
    told, deadline = status.get("time"), status.get("deadline")
    if deadline is None or (isinstance(told, dict) and told.get("to_die") == deadline):
        return told
    return {"summary": utc(deadline)} if isinstance(deadline, int | float) else None


def _now(status: Json) -> float:
    return float(status.get("started", 0)) + float(status.get("up_seconds", 0))


def _span(seconds: Json) -> str:
    """A time as people read it: 12.3 s, 4 min 5 s, 3 h 20 min."""
    if not isinstance(seconds, int | float):
        return "-"
    if seconds < 60:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _about(event: Json) -> str:
    words = {key: value for key, value in event.items() if key not in ("seconds", "event") and value not in (None, "")}
    return " ".join(f"{key}={_text(value)}" for key, value in words.items())


def _text(value: Json) -> str:
    if isinstance(value, dict) and {"code", "message"} <= set(value):  # a failure: the report has the rest of it
        return f"{value['code']}: {value['message']}"
    return value if isinstance(value, str) else json.dumps(value)
