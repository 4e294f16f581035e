"""The outermost process, the one the batch system sees: starts the pipeline, forwards signals, undoes what is left.

It stays outside every namespace, adopts every orphan below it, and returns the exit code that the pipeline or the
keeper left. When they died without leaving one it does the whole teardown itself.
"""

from __future__ import annotations

import _socket
import os
import select
import sys
import time

from pilot_agent.events import EventLog
from pilot_agent.interpreter import interpreter_command
from pilot_agent.lifecycle import final_report
from pilot_agent.lifecycle.adopted import LOOK_SECONDS, Adopted
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.control import ControlSocket
from pilot_agent.lifecycle.finish import (
    FINAL_SECONDS,
    Outcome,
    conclude,
    leave_note,
    read_outcome,
    remove_the_rest,
    zero_or_one,
)
from pilot_agent.lifecycle.lock import LOCK_FD_VARIABLE, hold_beside
from pilot_agent.lifecycle.processes import kill_descendants, reap
from pilot_agent.lifecycle.publish import save_report, say_problem
from pilot_agent.lifecycle.signals import PILOT_REQUESTS, Alarm, reset_inherited
from pilot_agent.lifecycle.silence import answers
from pilot_agent.lifecycle.spawn import spawn
from pilot_agent.lifecycle.standing import in_one_line, standing
from pilot_agent.lifecycle.subreaper import become_subreaper
from pilot_agent.light import loads, signal, signal_name
from pilot_agent.startd.history import HISTORY
from pilot_agent.workspace import WORKSPACE_PREFIX, Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

GUARDIAN_FD_VARIABLE = "PILOT_AGENT_GUARDIAN_FD"
PIPELINE_COMMAND = "_pipeline"
DEFAULT_BUDGET_SECONDS = 25.0
GRACE_SECONDS = FINAL_SECONDS
"""How long after its budget a pilot that was told to stop may still live."""
COMMANDS = ("status", "drain", "stop")
EXIT_INTERNAL = 70
NODE_RESOURCE_EXIT = 64
SILENT_LOOK_SECONDS = 60.0
"""How long the guardian leaves a workspace alone that did not answer."""
CHILD_ENDINGS = (0, 2, *range(64, 71), *range(129, 192))
"""Exit codes of design section 6: with one of them the child ended as it meant to."""


def main(arguments: Sequence[str]) -> int:
    """``run ARGUMENTS``: the guardian's whole life; the pilot's exit code."""
    reset_inherited()
    become_subreaper()
    guardian = Guardian(arguments)
    return guardian.exit_code(guardian.run())


class Guardian:
    """One child, which is the pipeline and becomes the keeper; what it said; what was forwarded to it."""

    _zero_or_one = False
    """Whether the factory knows no other exit codes, as far as the child has said."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = tuple(arguments)
        others = (*PILOT_REQUESTS, signal.SIGCHLD, signal.SIGCONT)
        self._alarm = Alarm.install(also=others, requests=PILOT_REQUESTS, sticky=False)
        self._control: ControlSocket | None = None
        self._told: dict[str, Any] = {}
        self._draining = False
        self._child_hears: tuple[int, ...] = ()
        """Requests that the child watches although it is no keeper."""
        self._status: int | None = None
        self._heard = b""
        self._workspace: Workspace | None = None
        self._output: str | None = None
        self._started = time.time()
        self._role = "pipeline"
        self._budget_seconds = DEFAULT_BUDGET_SECONDS
        self._ended: Outcome | None = None
        self._forwarded: int | None = None
        self._patience: Budget | None = None
        self._killed = False
        self._adopted = Adopted()
        self._next_look = Budget(LOOK_SECONDS)
        self._silence = Budget(0)

    def exit_code(self, code: int) -> int:
        """The exit code as whoever submitted the pilot reads it."""
        return zero_or_one(code) if self._zero_or_one else code

    def run(self) -> int:
        """Start the child, wait for it, clean up after it; the exit code."""
        try:
            self._start()
        except OSError as error:
            sys.stderr.write(
                f"pilot-agent: node_resource: process.limit: no process could be started: {error.strerror}\n"
                "  the site raises the account's limit of processes (ulimit -u) or ends what else it runs\n"
            )
            return NODE_RESOURCE_EXIT
        self._poll = select.poll()
        self._poll.register(self._alarm.fileno(), select.POLLIN)
        self._poll.register(self._socket, select.POLLIN)
        listening = True
        while self._status is None:
            self._poll.poll(self._longest_wait())
            if self._control is not None:
                self._control.serve()
            # First, as it may say that the child has become the keeper, for whom a signal is that came since.
            if listening and not self._hear():
                listening = False
                self._poll.unregister(self._socket)
            self._forward()
            self._status = reap().get(self._pid)
            self._lose_patience()
            self._note_adopted()
        if listening:
            self._hear()
        if self._control is not None and self._can_write():
            self._control.close()
        return self._clean_up(self._status)

    def _longest_wait(self) -> float | None:
        """Milliseconds."""
        ends = [self._patience.left()] if self._patience is not None else []
        until = self._control.next_seconds() if self._control is not None else None
        ends += [until] if until is not None else []
        ends += [self._next_look.left()] if self._role == "keeper" else []
        return min(ends) * 1000 + 1 if ends else None

    def _start(self) -> None:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._socket = ours.detach()
        os.environ.pop(LOCK_FD_VARIABLE, None)
        descriptor = theirs.detach()
        os.set_blocking(self._socket, False)
        os.set_inheritable(descriptor, True)
        environment = {**os.environ, GUARDIAN_FD_VARIABLE: str(descriptor)}
        command = [*interpreter_command(), PIPELINE_COMMAND, *self._arguments]
        self._pid = spawn(command, environment, keep_input=True)
        os.close(descriptor)

    def _forward(self) -> None:
        """Pass on each signal once. Whoever is suspended is woken first, or it could not end."""
        requests = self._alarm.requests()
        if signal.SIGCONT in requests:
            self._send(signal.SIGCONT)
        if signal.SIGUSR1 in requests:
            self._drain("SIGUSR1")
        if signal.SIGUSR2 in requests:
            self._dump()
        if signal.SIGHUP in requests and self._role == "keeper":
            self._send(signal.SIGHUP)
        stop = self._alarm.signal
        if stop is not None and self._forwarded is None:
            self._forwarded = stop
            self._patience = Budget(self._budget_seconds + GRACE_SECONDS)
            self._send(stop)
            self._send(signal.SIGCONT)
            if not self._can_write():
                # The child will not come to its end, and the rest takes its time, too.
                self._patience = Budget(self._budget_seconds / 2)
        elif self._alarm.fast and self._forwarded != signal.SIGQUIT:
            self._forwarded = signal.SIGQUIT
            self._send(signal.SIGQUIT)

    def _drain(self, by: str) -> None:
        """Run no further job and end when the running ones have: the pipeline looks for the file after each stage, the
        keeper is told by signal."""
        self._draining = True
        if not self._can_write():
            return
        if self._workspace is not None:
            EventLog(self._workspace.events, self._started).write("pilot.draining", by=by)
        self._pass_drain_on()

    def _pass_drain_on(self) -> None:
        if self._role == "keeper" or signal.SIGUSR1 in self._child_hears:
            self._send(signal.SIGUSR1)
        if self._workspace is None:
            return
        try:
            os.close(os.open(self._workspace.drain, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError:  # not made yet, gone, or the disk is full: whoever comes next is told when it says its role
            return

    def _dump(self) -> None:
        """The status into the event log, and a line of it to standard error."""
        if self._workspace is None or not self._can_write():
            return
        status = self._standing(self._workspace)
        EventLog(self._workspace.events, self._started).write("pilot.status", **{**status, "events": []})
        try:
            os.write(2, f"pilot-agent: {in_one_line(status)}\n".encode())
        except OSError:
            return

    def _standing(self, workspace: Workspace) -> dict[str, Any]:
        stage = ""
        if self._ended is not None:
            stage = "hold" if self._patience is None and self._ended.exit_code else "end"
        elif self._role == "keeper":
            stage = self._told.get("stage", "run")
        return standing(workspace, started=self._started, output=self._output, stage=stage, told=self._told)

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What ``pilot-agent status | drain | stop`` get."""
        command = request.get("command")
        if self._workspace is None or command not in COMMANDS:
            return {"error": f"unknown command; known: {', '.join(COMMANDS)}"}
        if not self._can_write():
            if command == "stop":
                os.kill(os.getpid(), signal.SIGTERM)
            return {"error": f"the file system of {self._workspace.root} does not answer"}
        if command == "drain":
            self._drain("pilot-agent drain")
        elif command == "stop":
            EventLog(self._workspace.events, self._started).write("pilot.stopping", by="pilot-agent stop")
            os.kill(os.getpid(), signal.SIGQUIT if request.get("fast") is True else signal.SIGTERM)
        return self._standing(self._workspace)

    def _open_control(self, workspace: Workspace) -> None:
        """As soon as its directory is there, which is shortly after the workspace was announced."""
        try:
            directory, name = os.path.split(workspace.control)
            self._control = ControlSocket(directory, name, self._answer)
        except OSError:  # not yet, or the node has no place for it: signals do the same
            return
        self._poll.register(self._control.fileno(), select.POLLIN)

    def _send(self, number: int) -> None:
        # Only before the child is reaped, so its pid cannot belong to another process.
        if self._status is None:
            os.kill(self._pid, number)

    def _hear(self) -> bool:
        """Read the child's messages; False once nobody can send any more."""
        while True:
            try:
                chunk = os.read(self._socket, 65536)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not chunk:
                return False
            *lines, self._heard = (self._heard + chunk).split(b"\n")
            for line in lines:
                try:
                    self._take(loads(line))
                except (ValueError, AttributeError, TypeError):  # torn: its sender was killed, or could send no more
                    continue

    def _take(self, message: dict[str, Any]) -> None:
        if "workspace" in message:
            self._workspace = Workspace(message["workspace"])
        self._output = message.get("output", self._output)
        self._started = message.get("started", self._started)
        self._role = message.get("role", self._role)
        self._zero_or_one = bool(message.get("zero_or_one", self._zero_or_one))
        self._child_hears = tuple(message.get("hears", self._child_hears))
        if self._draining and ("role" in message or "hears" in message):
            self._pass_drain_on()
        self._told.update(message.get("told", {}))
        self._budget_seconds = message.get("budget_seconds", self._budget_seconds)
        if "ended" in message:
            self._ended = Outcome.from_json(message["ended"])
        if self._workspace is not None:
            hold_beside(self._workspace)
            if self._control is None:
                self._open_control(self._workspace)

    def _note_adopted(self) -> None:
        if self._role == "keeper" and self._status is None and self._next_look.left() <= 0:
            self._next_look = Budget(LOOK_SECONDS)
            if self._workspace is not None and self._adopted.others(self._pid) and self._can_write():
                self._adopted.look(self._workspace, self._pid)

    def _can_write(self) -> bool:
        """Whether the workspace answers: this process waits for nothing in it that may never come. One that did not
        is left alone for a while."""
        if self._workspace is None:
            return True
        if self._silence.left() > 0:
            return False
        if answers(self._workspace.root):
            return True
        self._silence = Budget(SILENT_LOOK_SECONDS)
        return False

    def _lose_patience(self) -> None:
        if self._status is None and self._patience is not None and self._patience.left() <= 0:
            if self._killed:  # in uninterruptible sleep: nobody can end it, and the rest must be undone
                self._status = signal.SIGKILL
                return
            self._send(signal.SIGKILL)
            self._killed = True
            self._patience = Budget(FINAL_SECONDS)

    def _clean_up(self, status: int) -> int:
        code = os.waitstatus_to_exitcode(status)
        if self._workspace is None:
            kill_descendants(Budget(FINAL_SECONDS))
            if code in CHILD_ENDINGS:
                return code
            leave_note(None, self._problem(code))
            return self._explain(self._problem(code))
        if not self._can_write():
            return self._end_without(self._workspace)
        known = self._ended or read_outcome(self._workspace)
        if known is None and code in CHILD_ENDINGS and not os.path.lexists(self._workspace.root):
            # It ended as it meant to, but somebody removed the workspace and with it the outcome.
            known = Outcome(code, {}, [])
        if known is not None:
            remove_the_rest(self._workspace, known, self._output)
            return known.exit_code
        problem = self._problem(code)
        exit_code = self._explain(problem)
        self._conclude(self._workspace, problem, exit_code)
        return exit_code

    def _conclude(self, workspace: Workspace, problem: dict[str, Any], exit_code: int) -> None:
        """Everything that the child did not come to."""
        EventLog(workspace.events, self._started).write("pilot.ending", by="guardian", failure=problem)
        report = final_report.read_report(workspace.report) or final_report.empty_report(
            os.path.basename(workspace.root).removeprefix(WORKSPACE_PREFIX), self._started
        )
        final_report.set_outcome(report, problem)
        final_report.add_scores(report, workspace.private)
        final_report.set_jobs_of_killed(report, os.path.join(workspace.condor_log, HISTORY), self._started)
        leftovers = conclude(
            workspace,
            output=self._output,
            report=report,
            exit_code=exit_code,
            budget_seconds=self._left(),
            started=self._started,
        )
        remove_the_rest(workspace, Outcome(exit_code, report["outcome"], leftovers), self._output)

    def _end_without(self, workspace: Workspace) -> int:
        """The end where the workspace does not answer: kill what can be killed, list the rest, touch nothing there."""
        began = time.monotonic()
        silent = {"kind": "path", "path": workspace.root, "cause": "its file system does not answer"}
        leftovers = [*kill_descendants(Budget(FINAL_SECONDS)), silent]
        number = self._alarm.signal
        problem: Any = final_report.preempted(number) if number is not None else final_report.silent(workspace.root)
        exit_code = NODE_RESOURCE_EXIT if number is None else 128 + number
        if self._ended is not None:
            problem, exit_code = self._ended.outcome.get("failure"), self._ended.exit_code
        report = final_report.empty_report(
            os.path.basename(workspace.root).removeprefix(WORKSPACE_PREFIX), self._started
        )
        final_report.set_outcome(report, problem)
        final_report.set_end(report, leftovers, time.monotonic() - began, self._started)
        say_problem(final_report.silent(workspace.root))
        output = self._output if self._output is not None and answers(self._output) else None
        save_report(report, output, also_print=True)
        return exit_code

    def _left(self) -> float:
        """Seconds for an end that the child did not come to: who told the pilot to stop does not wait twice for it."""
        if self._patience is None:
            return self._budget_seconds
        return max(FINAL_SECONDS, min(self._budget_seconds, self._patience.left()))

    def _problem(self, code: int) -> dict[str, Any]:
        """What to make of a child that ended without saying how."""
        if self._alarm.signal is not None:
            return final_report.preempted(self._alarm.signal)
        how = f"was killed by signal {-code} ({signal_name(-code)})" if code < 0 else f"exited {code}"
        return final_report.failure(
            "internal",
            f"{self._role}.killed",
            f"the {self._role} {how} without saying how the pilot ended; the guardian undid everything",
            hint="look for the out-of-memory killer or a limit of the batch system; the site must act",
            stage=self._role,
            retry=True,
        )

    def _explain(self, problem: dict[str, Any]) -> int:
        """One line on standard error; the exit code."""
        line = f"pilot-agent: {problem['kind']}: {problem['code']}: {problem['message']}\n"
        try:
            os.write(2, line.encode())
        except OSError:  # standard error is closed or full
            return EXIT_INTERNAL if problem["signal"] is None else 128 + int(problem["signal"])
        return EXIT_INTERNAL if problem["signal"] is None else 128 + int(problem["signal"])
