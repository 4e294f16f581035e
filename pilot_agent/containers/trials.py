"""Proves the candidates of all platforms with one runtime: the default platform first, two at a time, in a budget."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

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

    ``pid_namespace``: every proven image ran in a PID namespace of its own. ``sif``: None when no SIF was tried.
    ``node_problem``: why nothing at all ran, when that lies with the node.
    """

    proofs: dict[tuple[int, int], Proof]
    pid_namespace: bool
    sif: bool | None
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


def try_all(
    setting: ProofSetting, ladders: Sequence[Ladder], *, budget_seconds: float, wake: WakeUp | None = None
) -> Trials:
    """Prove the best candidate of every ladder that runs; ``ladders[0]`` is the default platform's.

    Raises ``Interrupted``, and ``OSError`` when there is no room in the workspace.
    """
    course = _Course(setting, ladders, time.monotonic() + budget_seconds)
    try:
        with Runner(wake) as runner:
            while course.queue or course.running:
                while course.queue and len(course.running) < WIDTH:
                    course.start_next(runner)
                if course.running:
                    course.settle(*runner.wait_any())
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
    queue: deque[_Work] = field(default_factory=deque)
    running: dict[int, tuple[_Work, Attempt]] = field(default_factory=dict)
    proofs: dict[tuple[int, int], Proof] = field(default_factory=dict)
    by_path: dict[str, Proof] = field(default_factory=dict)
    pid_namespace: bool = True
    sif_problem: Proof | None = None
    node_problem: Diagnosis | None = None

    def __post_init__(self) -> None:
        self.queue.extend(_Work(index, 0) for index, ladder in enumerate(self.ladders) if ladder)

    def start_next(self, runner: Runner) -> None:
        work = self.queue.popleft()
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
        self.by_path[self.ladders[work.ladder][work.step].path] = proof
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
            node_problem=None if proven else self.node_problem,
        )
