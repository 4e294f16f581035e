"""Proves the candidates of all platforms with one runtime: the default platform first, two at a time, in a budget."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pilot_agent.containers.candidates import Located
from pilot_agent.containers.messages import Diagnosis
from pilot_agent.containers.proof import Attempt, Proof, ProofSetting, prepare, read
from pilot_agent.process import Result, Runner, WakeUp

WIDTH = 2
LONGEST_SECONDS = 10.0
"""No single proof takes longer; the first one gets this even when the budget is smaller, because what the runtime can
do is known from nothing else."""

Ladder = Sequence[Located]
"""The candidates of one platform, best first. Remote ones are never tried: a proof would fetch them."""


@dataclass(frozen=True, slots=True)
class Trials:
    """What became of every candidate that was tried: ``proofs[ladder, step]``. Those not in it were not tried.

    ``pid_namespace``: every proven image ran in a PID namespace of its own. ``sif``: None when no SIF was tried;
    ``directories``: None when none ran.
    ``node_problem``: why nothing at all ran, when that lies with the node.
    """

    proofs: dict[tuple[int, int], Proof]
    pid_namespace: bool
    sif: bool | None
    directories: bool | None = None
    node_problem: Diagnosis | None = None

    @property
    def any_proven(self) -> bool:
        """True when a program ran in at least one image."""
        return any(proof.diagnosis is None for proof in self.proofs.values())

    def chosen(self, ladder: int, length: int) -> int | None:
        """The step that was proven, else the first that was not tried, else None."""
        for step in range(length):
            proof = self.proofs.get((ladder, step))
            if proof is None or proof.diagnosis is None:
                return step
        return None


class Beside(Protocol):
    """Runs of another purpose that go on with the proofs: the first of them right after the first proof."""

    @property
    def running(self) -> Collection[int]:
        """The handles of those that go on."""
        ...

    @property
    def waiting(self) -> bool:
        """Whether a run is to be started now."""
        ...

    def start(self, runner: Runner, seconds: float) -> None:
        """Start the next run, which may take so long."""
        ...

    def settle(self, handle: int, result: Result) -> None:
        """Take the result of one that is running."""
        ...


def try_all(
    setting: ProofSetting,
    ladders: Sequence[Ladder],
    *,
    budget_seconds: float,
    beside: Beside | None = None,
    wake: WakeUp | None = None,
) -> Trials:
    """Prove the best candidate of every ladder that runs; ``ladders[0]`` is the default platform's.

    Raises ``Interrupted``, and ``OSError`` when there is no room in the workspace.
    """
    course = _Course(setting, ladders, time.monotonic() + budget_seconds, beside)
    try:
        with Runner(wake) as runner:
            while course.fill(runner):
                course.take(*runner.wait_any())
    finally:
        for _, attempt in course.running.values():
            attempt.clear()
    return course.result()


@dataclass(frozen=True, slots=True)
class _Work:
    ladder: int
    step: int
    pid_namespace: bool = True


@dataclass(slots=True)
class _Course:
    """The state of one round of proofs."""

    setting: ProofSetting
    ladders: Sequence[Ladder]
    end: float
    beside: Beside | None = None
    queue: deque[_Work] = field(default_factory=deque)
    running: dict[int, tuple[_Work, Attempt]] = field(default_factory=dict)
    proofs: dict[tuple[int, int], Proof] = field(default_factory=dict)
    by_path: dict[str, Proof] = field(default_factory=dict)
    pid_namespace: bool = True
    sif_problem: Proof | None = None
    node_problem: Diagnosis | None = None

    def __post_init__(self) -> None:
        self.queue.extend(_Work(index, 0) for index, ladder in enumerate(self.ladders) if ladder)

    def fill(self, runner: Runner) -> bool:
        """Start what there is room for; False when nothing is left to wait for."""
        while self._count() < WIDTH:
            left = self.end - time.monotonic()
            begun = bool(self.proofs or self.running)
            useful = self.beside is not None and self.beside.waiting and left > 0 and self.node_problem is None
            if self.beside is not None and useful and (begun or not self.queue):
                self.beside.start(runner, min(left, LONGEST_SECONDS))
            elif (work := self._next()) is not None:
                self.start(runner, work)
            else:
                break
        return self._count() > 0

    def _next(self) -> _Work | None:
        """The next in the queue whose image is not being proven just now for another platform."""
        proven_now = {self._path(work) for work, _ in self.running.values()}
        work = next((work for work in self.queue if self._path(work) not in proven_now), None)
        if work is not None:
            self.queue.remove(work)
        return work

    def _path(self, work: _Work) -> str:
        return self.ladders[work.ladder][work.step].path

    def take(self, handle: int, result: Result) -> None:
        """Take the result of a child."""
        if self.beside is not None and handle in self.beside.running:
            self.beside.settle(handle, result)
        else:
            self.settle(handle, result)

    def _count(self) -> int:
        return len(self.running) + (len(self.beside.running) if self.beside is not None else 0)

    def start(self, runner: Runner, work: _Work) -> None:
        image = self.ladders[work.ladder][work.step]
        if image.form == "remote":
            return
        known = self.by_path.get(image.path) or (self.sif_problem if image.form == "file" else None)
        if known is not None:
            self._record(work, known)
            return
        first = not self.proofs and not self.running
        left = self.end - time.monotonic()
        if (left <= 0 and not first) or self.node_problem:
            return
        attempt = prepare(self.setting, image.path, pid_namespace=self.pid_namespace)
        started = runner.start(
            attempt.argv,
            deadline_seconds=LONGEST_SECONDS if first else min(left, LONGEST_SECONDS),
            environment=self.setting.environment,
            directory=attempt.scratch,
        )
        self.running[started if isinstance(started, int) else -1] = (
            _Work(work.ladder, work.step, self.pid_namespace),
            attempt,
        )
        if isinstance(started, Result):
            self.settle(-1, started)

    def settle(self, handle: int, result: Result) -> None:
        work, attempt = self.running.pop(handle)
        proof = read(attempt, result)
        attempt.clear()
        if proof.diagnosis is not None and proof.diagnosis.scope == "pid_namespace" and work.pid_namespace:
            self.pid_namespace = False
            self.queue.appendleft(_Work(work.ladder, work.step, pid_namespace=False))
            return
        self.by_path[self._path(work)] = proof
        self._record(work, proof)

    def _record(self, work: _Work, proof: Proof) -> None:
        self.proofs[work.ladder, work.step] = proof
        if proof.diagnosis is None:
            self.pid_namespace = self.pid_namespace and proof.pid_namespace
            return
        if proof.diagnosis.scope == "sif":
            self.sif_problem = proof
        if proof.diagnosis.scope == "node" and not any(other.diagnosis is None for other in self.proofs.values()):
            self.node_problem = proof.diagnosis
        elif work.step + 1 < len(self.ladders[work.ladder]):
            self.queue.appendleft(_Work(work.ladder, work.step + 1))

    def result(self) -> Trials:
        proven = {key for key, proof in self.proofs.items() if proof.diagnosis is None}
        files = [key for key in self.proofs if self.ladders[key[0]][key[1]].form == "file"]
        mounted = any(key in proven for key in files)
        sif = True if mounted else False if self.sif_problem else None
        return Trials(
            proofs=self.proofs,
            pid_namespace=self.pid_namespace and bool(proven),
            sif=sif,
            directories=any(self.ladders[key[0]][key[1]].form == "directory" for key in proven) or None,
            node_problem=None if proven else self.node_problem,
        )
