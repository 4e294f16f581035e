"""The user pool as it is now: idle jobs of every access point, and the slots there are.

Each question has a process of its own. Whatever is not answered, or only in part, is named as missing: nothing may be
concluded from jobs that were not seen. An access point that the collector no longer tells is missing too, for a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from zipfile import BadZipFile

from pilot_agent.codec import to_json
from pilot_agent.files import read_bounded
from pilot_agent.model import Json
from pilot_agent.process import Result, Runner, WakeUp
from server_stub.frontend.configuration import AccessPointPlan, PoolPlan
from server_stub.frontend.jobs import JobTable, job_table
from server_stub.frontend.query import Question
from server_stub.frontend.slots import SlotTable, slot_table
from server_stub.frontend.tables import load_jobs, load_slots

LIST_LIMIT_BYTES = 16 << 20
SAID_CHARACTERS = 200
TAKEN = ("PATH", "LANG", "HOME")
SECURE = {
    "SEC_CLIENT_AUTHENTICATION": "REQUIRED",
    "SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
    "SEC_CLIENT_ENCRYPTION": "REQUIRED",
    "SEC_CLIENT_INTEGRITY": "REQUIRED",
}
"""What holds where the operator names no configuration of HTCondor's own."""


@dataclass(frozen=True, slots=True)
class AccessPoint:
    """An access point as the collector tells it; ``closed`` says why it starts no more jobs for now."""

    name: str
    location: Mapping[str, str]
    idle: int = 0
    closed: str = ""


@dataclass(frozen=True, slots=True)
class PoolView:
    """What was seen. ``missing`` says for each thing that was not, or only in part, why; ``given_up`` are access points
    that have been missing for so long that they count as without jobs; ``heard`` is when each last answered."""

    jobs: JobTable
    slots: SlotTable
    closed: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    given_up: tuple[str, ...] = ()
    heard: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PoolReader:
    """Asks one pool; ``attributes`` and ``lengths`` are what is read of jobs beside the usual. ``progress`` is called
    after every answer."""

    pool: PoolPlan
    access_points: AccessPointPlan
    attributes: tuple[str, ...] = ()
    lengths: tuple[tuple[str, str], ...] = ()
    wake: WakeUp | None = None
    python: tuple[str, ...] = (sys.executable,)
    progress: Callable[[], None] = lambda: None

    def read(self, now: float, heard: Mapping[str, float]) -> PoolView:
        """The pool at ``now``; ``heard`` is what the last view said. Raises ``Interrupted`` only."""
        with tempfile.TemporaryDirectory(prefix="frontend-") as directory:
            first = [self._question("access_points"), self._question("slots")]
            told = dict(self._ask(first, directory))
            points, missing = self._points(told[first[0]], directory)
            slots = self._slots(told[first[1]], _place(directory, first[1]), missing)
            files, failed = self._ask_jobs(points, directory)
            jobs = _jobs(files, missing)
        closed = {point.name: point.closed for point in points if point.closed}
        answered = {*closed, *(name for name, _ in files)}
        known = PoolView(jobs, slots, closed, missing, (), heard)
        return known if not points and missing else self._remembering(known, now, answered, failed)

    def find(self) -> tuple[list[AccessPoint], dict[str, str]]:
        """The access points that are to be asked, and what is missing of them. Raises ``Interrupted`` only."""
        with tempfile.TemporaryDirectory(prefix="frontend-") as directory:
            question = self._question("access_points")
            return self._points(dict(self._ask([question], directory))[question], directory)

    def _ask_jobs(self, points: Sequence[AccessPoint], directory: str) -> tuple[list[tuple[str, str]], dict[str, str]]:
        """The files with the jobs of those that answered, and why others did not. Closed ones are not asked."""
        questions = {self._jobs_question(point): point.name for point in points if not point.closed}
        files, failed = [], {}
        for question, result in self._ask(list(questions), directory):
            name = questions[question]
            if result.ok:
                files.append((name, _place(directory, question)))
            else:
                failed[name] = _why(result)
        return sorted(files), failed

    def _question(self, kind: str) -> Question:
        constraint = self.pool.slots if kind == "slots" else self.access_points.constraint
        return Question(kind, self.pool.collectors, constraint)

    def _jobs_question(self, point: AccessPoint) -> Question:
        return Question(
            "jobs", self.pool.collectors, self.access_points.jobs, tuple(point.location.items()), point.idle,
            self.attributes, self.lengths,
        )  # fmt: skip

    def _ask(self, questions: Sequence[Question], directory: str) -> Iterator[tuple[Question, Result]]:
        """Each question with what became of it, as they come; not more at once than the plan says."""
        left = list(questions)
        asked: dict[int, Question] = {}
        with Runner(self.wake) as runner:
            while left or asked:
                while left and len(asked) < self.access_points.at_once:
                    question = left.pop(0)
                    started = runner.start(
                        [*self.python, "-m", "server_stub.frontend.query", _place(directory, question)],
                        deadline_seconds=self.pool.most_seconds,
                        environment=environment(self.pool),
                        standard_input=json.dumps(to_json(question)).encode(),
                    )
                    if isinstance(started, Result):
                        yield question, started
                    else:
                        asked[started] = question
                if asked:
                    handle, result = runner.wait_any()
                    self.progress()
                    yield asked.pop(handle), result

    def _points(self, result: Result, directory: str) -> tuple[list[AccessPoint], dict[str, str]]:
        collector = f"the collector {', '.join(self.pool.collectors)}"
        if not result.ok:
            return [], {collector: _why(result)}
        try:
            path = _place(directory, self._question("access_points"))
            told: Json = json.loads(read_bounded(path, limit_bytes=LIST_LIMIT_BYTES))
            points = [AccessPoint(**each) for each in told]
        except (OSError, ValueError, TypeError) as error:
            return [], {collector: f"its answer is no list of access points: {error}"}
        wanted = self.access_points.names
        return [point for point in points if not wanted or point.name in wanted], {}

    def _remembering(self, view: PoolView, now: float, answered: set[str], failed: Mapping[str, str]) -> PoolView:
        """The view with what is missing of the access points that are named in the file, or were ever seen."""
        expected = set(self.access_points.names) or {*view.heard, *answered, *failed}
        heard, missing, given_up = {}, dict(view.missing), []
        for name in sorted(expected):
            heard[name] = now if name in answered else view.heard.get(name, now)
            if name in answered:
                continue
            if answered and now - heard[name] >= self.access_points.forget_seconds:
                given_up.append(name)
                if name not in failed and not self.access_points.names:
                    del heard[name]
            else:
                missing[name] = failed.get(name, "the collector does not tell of it")
        if not expected:
            missing["the access points"] = "the collector knows none"
        return replace(view, missing=missing, given_up=tuple(given_up), heard=heard)

    def _slots(self, result: Result, path: str, missing: dict[str, str]) -> SlotTable:
        try:
            if result.ok:
                return load_slots(path)
            missing["the pool's slots"] = _why(result)
        except (OSError, ValueError, BadZipFile) as error:
            missing["the pool's slots"] = str(error)
        return slot_table([])


def _jobs(found: list[tuple[str, str]], missing: dict[str, str]) -> JobTable:
    try:
        return load_jobs(found)
    except (OSError, ValueError, BadZipFile) as error:
        missing["the jobs"] = str(error)
        return job_table({})


def environment(plan: PoolPlan) -> dict[str, str]:
    """The environment of what asks the pool: HTCondor's configuration is the operator's, or nothing but what the plan
    says."""
    told = {name: os.environ[name] for name in TAKEN if name in os.environ}
    # The child finds the same modules as this process.
    told["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    own = {} if plan.condor_config else dict(SECURE)
    if plan.tokens:
        # The library takes one for root, the other for everybody else.
        own |= {"SEC_TOKEN_DIRECTORY": plan.tokens, "SEC_TOKEN_SYSTEM_DIRECTORY": plan.tokens}
    own |= plan.parameters
    return {
        **told,
        "CONDOR_CONFIG": plan.condor_config or "ONLY_ENV",
        **{f"_CONDOR_{name}": value for name, value in own.items()},
    }


def _place(directory: str, question: Question) -> str:
    """The file for the answer; an access point's name is no name of a file."""
    name = dict(question.location).get("Name", "")
    return os.path.join(directory, f"{question.kind}-{hashlib.sha256(name.encode()).hexdigest()[:16]}")


def _why(result: Result) -> str:
    """Why there is no answer, in a line."""
    if result.timed_out:
        return result.explain()
    said = result.stderr.decode(errors="replace").strip().splitlines()
    return (said[-1] if said else result.explain())[:SAID_CHARACTERS]
