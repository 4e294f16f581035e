"""What a runtime can do on this node, established by running it.

Nearly all is seen in one run: the pilot's own SIF file holds places for the node's programs, a directory that it lacks
is bound into it, and a program tells what it finds. That run goes on beside the proofs of images, which show whether
directories run. What a node forbids of it is tried again apart.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Literal

from pilot_agent.containers import node_image, tiny_image
from pilot_agent.containers.ability_answers import SCRIPT, Answers, gpu_options
from pilot_agent.containers.command import Bind, ContainerRun, runtime_options
from pilot_agent.containers.directives import directives
from pilot_agent.containers.messages import Diagnosis, diagnose
from pilot_agent.containers.proof import CONVERTED, UNPACKED, ProofSetting
from pilot_agent.containers.runtime import Mode, has_setuid_starter
from pilot_agent.model import Ability, FailureKind, RuntimeAbilities
from pilot_agent.process import Result, Runner, WakeUp

MISSING_TARGET = "/pilot-agent/missing"
"""A path that the image lacks: a bind to it needs overlay or underlay."""

Run = Literal["together", "directory", "sif", "limits"]
"""The node's programs in the pilot's SIF file; the same in a directory; only the SIF file's own program; limits."""

_LIMITS = ("--memory", "64M", "--cpus", "1")
_CGROUP_VARIABLES = ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR")
_NOT_HERE = f"the pilot's own SIF file is for {tiny_image.ARCHITECTURE} only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the proofs of images have shown already (None: nothing)."""

    pid_namespace: bool | None = None
    directories: bool | None = None
    sif: bool | None = None
    sif_reason: str = ""


@dataclass(frozen=True, slots=True)
class Established:
    """``problem`` is why nothing at all ran, else None; ``mode`` is how it ran."""

    abilities: RuntimeAbilities
    mode: Mode
    problem: Diagnosis | None = None


@dataclass(slots=True)
class AbilityTrial:
    """The state of one runtime's trial: which runs go on, and what they showed so far.

    Whoever made it calls ``finish`` or ``clear``. ``vendors`` are those of the node's GPUs; ``sif_files`` tells that
    the dictionary has SIF files that will be proven, so that none of the pilot's own is needed.
    """

    setting: ProofSetting
    vendors: frozenset[str] = frozenset()
    sif_files: bool = False
    queue: deque[Run] = field(default_factory=deque)
    running: dict[int, Run] = field(default_factory=dict)
    found: dict[str, Ability] = field(default_factory=dict)
    problem: Diagnosis | None = None
    pid_namespace: bool = True
    missing: bool = True
    ran: bool = False
    tried: set[Run] = field(default_factory=set)
    mode: Mode | None = None
    mark: str = field(default_factory=lambda: f"ability-{os.urandom(8).hex()}")

    def __post_init__(self) -> None:
        here = os.uname().machine == tiny_image.ARCHITECTURE
        self.queue.append("together" if here and not self.sif_files else "directory")

    @property
    def waiting(self) -> bool:
        """Whether a run is to be started now."""
        return bool(self.queue)

    def start(self, runner: Runner, seconds: float) -> None:
        """Start the next run. Raises ``OSError`` when there is no room in the workspace."""
        what = self.queue.popleft()
        self.tried.add(what)
        scratch = os.path.join(self.directory, what)
        for directory in (self.directory, scratch):
            os.makedirs(directory, 0o700, exist_ok=True)
        started = runner.start(
            self._command(what, scratch),
            deadline_seconds=seconds,
            environment=self.setting.environment,
            directory=scratch,
        )
        if isinstance(started, Result):
            self._settle(what, started)
        else:
            self.running[started] = what

    def settle(self, handle: int, result: Result) -> None:
        """Take the result of a run that ``start`` started."""
        self._settle(self.running.pop(handle), result)

    def finish(self, known: Known, *, seconds: float, wake: WakeUp | None = None) -> Established:
        """Try what is not known yet. Each run ends after ``seconds`` at most; without any left nothing is run.

        Raises ``Interrupted``, and ``OSError`` when there is no room in the workspace.
        """
        try:
            self._take(known)
            if seconds > 0:
                with Runner(wake) as runner:
                    self._go_on(runner, seconds)
        finally:
            self.clear()
        for name in RuntimeAbilities.__dataclass_fields__:
            self.found.setdefault(name, Ability(None, "not tried: the time for proofs was used up"))
        abilities = replace(RuntimeAbilities(), **self.found)
        return Established(abilities, self._mode(), None if self.ran else self.problem)

    def clear(self) -> None:
        """Remove what the runs left; what cannot be removed goes with the workspace."""
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def directory(self) -> str:
        """Where the runs have their images and scratch directories."""
        return os.path.join(self.setting.temporary, self.mark)

    def _take(self, known: Known) -> None:
        if known.sif is not None:
            self.found["sif"] = Ability(known.sif, known.sif_reason)
        if known.pid_namespace is not None:
            self.found["pid_namespace"] = Ability(known.pid_namespace, "seen in the images that were proven")
            self.pid_namespace = known.pid_namespace
        if known.directories:
            self.found["directories"] = Ability(True, "a directory of the dictionary ran")

    def _go_on(self, runner: Runner, seconds: float) -> None:
        while True:
            if not self.queue:
                self.queue.extend(self._lacking())
            if not self.queue and not self.running:
                return
            while self.queue:
                self.start(runner, seconds)
            if self.running:
                self.settle(*runner.wait_any())

    def _lacking(self) -> list[Run]:
        """The runs that are still needed, once those before have ended or beside them."""
        lacking: list[Run] = []
        told = {"nested", "bind_anywhere"} <= self.found.keys()
        if "directory" not in self.tried and ("directories" not in self.found or (not told and not self.running)):
            lacking.append("directory")
        if self.running:
            return lacking
        if "sif" not in self.found and "sif" not in self.tried and not lacking:
            if os.uname().machine == tiny_image.ARCHITECTURE:
                lacking.append("sif")
            else:
                self.found["sif"] = Ability(None, _NOT_HERE)
        if not lacking and "cgroup_limits" not in self.found and "limits" not in self.tried:
            lacking += self._limits()
        return lacking

    def _limits(self) -> list[Run]:
        missing = [name for name in _CGROUP_VARIABLES if name not in self.setting.environment]
        if self._mode() == "userns" and missing:
            reason = f"without privileges it needs a session of systemd, and jobs have no {' and no '.join(missing)}"
            self.found["cgroup_limits"] = Ability(False, reason)
        elif self.found["directories"].value is not True:
            self.found["cgroup_limits"] = Ability(None, "not tried: no directory runs")
        else:
            return ["limits"]
        return []

    def _command(self, what: Run, scratch: str) -> list[str]:
        options, binds = self.setting.options, node_image.binds()
        program: tuple[str, ...] = ("/bin/sh", "-c", SCRIPT, "sh", self.mark, MISSING_TARGET)
        if what == "sif":
            program, binds = (tiny_image.PROGRAM,), ()
        elif what == "limits":
            program, options = ("/bin/sh", "-c", f"exit {tiny_image.STATUS}"), (*options, *_LIMITS)
        else:
            binds += (Bind(scratch, MISSING_TARGET),) if self.missing else ()
            options += tuple(f"--{option}" for option in gpu_options(self.vendors))
        runtime = self.setting.program
        run = ContainerRun(
            runtime=runtime.path,
            image=self._sif() if what in ("together", "sif") else self._image(),
            program=program,
            scratch=scratch,
            binds=binds,
            pid_namespace=self.pid_namespace,
            options=(*runtime_options(runtime.numbers, singularity=runtime.singularity), *dict.fromkeys(options)),
        )
        return run.command_line()

    def _image(self) -> str:
        return node_image.make_image(os.path.join(self.directory, "image"))

    def _sif(self) -> str:
        path = os.path.join(self.directory, "tiny.sif")
        places: tiny_image.Tree = {name: link or {} for name, link in node_image.places().items()}
        with open(path, "wb") as file:
            file.write(tiny_image.sif(places))
        return path

    def _settle(self, what: Run, result: Result) -> None:
        if what == "sif":
            self._settle_sif(result)
        elif what == "limits":
            self._settle_limits(result)
        else:
            answers = Answers.of(self.mark, result.stdout, result.stderr) if result.ok else None
            if answers is not None:
                self._read(what, answers)
            elif not self._again(what, problem := _diagnosis(result)):
                self._failed(what, problem)

    def _again(self, what: Run, problem: Diagnosis) -> bool:
        """Have a run made again without what it failed with."""
        if problem.scope == "pid_namespace" and self.pid_namespace:
            self.pid_namespace = False
            self.found.setdefault("pid_namespace", Ability(False, f"{problem.code}: {problem.message}"))
        elif problem.code == "apptainer.no_overlay" and self.missing:
            self.missing = False
            self.found["bind_anywhere"] = self._refused(problem)
        else:
            return False
        self.queue.append(what)
        return True

    def _failed(self, what: Run, problem: Diagnosis) -> None:
        if what == "together" and problem.scope != "node":
            # The file or its mount: the rest is seen in a directory.
            if problem.scope == "sif" or problem.code == "apptainer.image_forbidden":
                self.found.setdefault("sif", self._refused(problem))
            return
        if problem.code == "apptainer.binds_forbidden":
            self.found["binds"] = self._refused(problem)
        elif problem.code == "apptainer.image_forbidden":
            self.found["directories"] = self._refused(problem)
        if what == "together":
            # A node without any container says nothing of SIF files; what the other run met is told there.
            timed_out = problem.code == "container.timeout"
            unknown = Ability(None, f"not known: {problem.message}")
            self.found.setdefault("sif", unknown if timed_out else self._refused(problem))
        self.problem = self.problem or problem
        for name in ("pid_namespace", "directories", "binds", "bind_anywhere", "nv", "rocm", "nested"):
            self.found.setdefault(name, Ability(None, f"not known: {problem.code}: {problem.message}"))

    def _read(self, what: Run, answers: Answers) -> None:
        self.ran = True
        self.mode = answers.mode()
        self.found.setdefault("pid_namespace", self._pid_namespace(answers))
        self.found["binds"] = Ability(True, "the node's programs were bound")
        if what == "directory":
            self.found["directories"] = Ability(True, "a program ran in a directory")
        elif CONVERTED in answers.errors:
            self.found.setdefault("sif", Ability(False, UNPACKED.message))
        else:
            self.found.setdefault("sif", Ability(True, "a program ran in the pilot's own SIF file"))
        for name, ability in (("bind_anywhere", answers.bind_anywhere()), ("nested", answers.nested())):
            self.found.setdefault(name, ability)
        for option in ("nv", "rocm"):
            self.found.setdefault(option, answers.gpu(option, self.vendors))

    def _pid_namespace(self, answers: Answers) -> Ability:
        if not self.pid_namespace:
            return Ability(False, "not asked for: an image was refused with it")
        if answers.own_processes:
            return Ability(True, "a program saw its own")
        return Ability(
            False, "the program saw the node's processes" + directives(self.setting.program, ("allow pid ns",))
        )

    def _settle_sif(self, result: Result) -> None:
        errors = result.stderr.decode("utf-8", "replace")
        if result.code != tiny_image.STATUS or tiny_image.MARK not in result.text or result.timed_out:
            problem = _diagnosis(result)
            unknown = Ability(None, f"not known: {problem.message}")
            self.found["sif"] = unknown if result.timed_out else self._refused(problem)
        elif CONVERTED in errors:
            self.found["sif"] = Ability(False, UNPACKED.message)
        else:
            self.ran = True
            self.found["sif"] = Ability(True, "a program ran in the pilot's own SIF file")

    def _settle_limits(self, result: Result) -> None:
        if result.code == tiny_image.STATUS and not result.timed_out:
            self.found["cgroup_limits"] = Ability(True, f"it took {' '.join(_LIMITS)}")
        else:
            self.found["cgroup_limits"] = self._refused(_diagnosis(result))

    def _refused(self, problem: Diagnosis) -> Ability:
        return Ability(False, f"{problem.code}: {problem.message}{directives(self.setting.program, problem.code)}")

    def _mode(self) -> Mode:
        # A pilot that is in a user namespace already gets no help from setuid programs; only a run tells that.
        return self.mode or ("setuid" if has_setuid_starter(self.setting.program.path) else "userns")


def _diagnosis(result: Result) -> Diagnosis:
    if result.timed_out or result.error or result.abandoned is not None:
        code = "container.timeout" if result.timed_out else "container.not_started"
        hint = "the node is overloaded or a file system hangs: the site must act"
        return Diagnosis(code, FailureKind.NODE_RESOURCE, "node", result.explain(), hint)
    return diagnose(result.stderr.decode("utf-8", "replace"))
