"""What the runtime that was taken can do on this node, established by running it a few times.

Most is seen in one run, in an image that holds the node's own programs; the rest needs a SIF file of our own. Both go
on at the same time and cost about as much as a single start of a container.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from pilot_agent.containers import node_image, tiny_image
from pilot_agent.containers.command import Bind, ContainerRun, runtime_options
from pilot_agent.containers.directives import directives
from pilot_agent.containers.messages import Diagnosis, diagnose
from pilot_agent.containers.proof import CONVERTED, UNPACKED, ProofSetting
from pilot_agent.containers.runtime import has_setuid_starter, mode_of
from pilot_agent.model import Ability, FailureKind, RuntimeAbilities
from pilot_agent.process import Result, Runner, WakeUp

MISSING_TARGET = "/pilot-agent/missing"
"""A path that the image lacks: a bind to it needs overlay or underlay."""

# Run by the node's own shell in the node's own programs. What it prints is read by ``_read``.
SCRIPT = r"""
m=$1
echo "$m pid $$ $PPID"
while read -r a; do echo "$m uid_map $a"; break; done < /proc/self/uid_map
while read -r a b c d e f; do case $e in /) r=$f;; esac; done < /proc/self/mountinfo
echo "$m root $r"
if [ -d "$2" ]; then echo "$m bound"; fi
for f in /.singularity.d/libs/*; do if [ -e "$f" ]; then echo "$m library ${f##*/}"; fi; done
for f in /dev/nvidiactl /dev/kfd; do if [ -c "$f" ]; then echo "$m device $f"; fi; done
if command -v unshare > /dev/null; then
n=$(unshare --user --map-root-user --mount /bin/sh -c 'mount -t tmpfs none /tmp && echo yes' 2>&1); echo "$m nested $n"
n=$(unshare --user --map-root-user --mount --pid --fork /bin/sh -c 'mount -t proc proc /proc && echo yes' 2>&1)
echo "$m nested_pid $n"
else echo "$m no_unshare"; fi
echo "$m end"
"""

_NV = ("libcuda.so", "libnvidia-ml.so")
_ROCM = ("libamdhip64.so", "libhsa-runtime64.so", "librocm_smi64.so", "libamd_smi.so")
_LIMITS = ("--memory", "64M", "--cpus", "1")
_CGROUP_VARIABLES = ("DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the proofs of images have shown already (None: nothing), and which vendors' GPUs the node has."""

    pid_namespace: bool | None = None
    sif: bool | None = None
    sif_reason: str = ""
    vendors: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Established:
    """``problem`` is why nothing at all ran, else None; ``mode`` is how it ran."""

    abilities: RuntimeAbilities
    mode: Literal["userns", "setuid"]
    problem: Diagnosis | None = None


def establish(setting: ProofSetting, known: Known, *, seconds: float, wake: WakeUp | None = None) -> Established:
    """Try what is not known. Each run ends after ``seconds`` at most; without any left nothing is run.

    Raises ``Interrupted``, and ``OSError`` when there is no room in the workspace.
    """
    trial = _Trial(setting, known, seconds, pid_namespace=known.pid_namespace is not False)
    if seconds <= 0:
        trial.nothing("not tried: the time for proofs was used up")
        return trial.result()
    trial.directory = os.path.join(setting.temporary, f"abilities-{os.urandom(8).hex()}")
    os.mkdir(trial.directory, 0o700)
    try:
        node_image.make_image(os.path.join(trial.directory, "image"))
        trial.run(wake)
    finally:
        shutil.rmtree(trial.directory, ignore_errors=True)
    return trial.result()


@dataclass(slots=True)
class _Trial:
    """The state of one round: which runs go on, and what they showed so far."""

    setting: ProofSetting
    known: Known
    seconds: float
    pid_namespace: bool
    directory: str = ""
    missing: bool = True
    mark: str = field(default_factory=lambda: f"ability-{os.urandom(8).hex()}")
    found: dict[str, Ability] = field(default_factory=dict)
    mode: Literal["userns", "setuid"] | None = None
    problem: Diagnosis | None = None
    ran: bool = False

    def nothing(self, reason: str) -> None:
        self.found = {name: Ability(None, reason) for name in RuntimeAbilities.__dataclass_fields__}
        self._take_known()

    def run(self, wake: WakeUp | None) -> None:
        self._take_known()
        with Runner(wake) as runner:
            running: dict[int, str] = {}
            self._start(runner, running, "directory")
            if self.known.sif is None:
                if os.uname().machine == tiny_image.ARCHITECTURE:
                    self._start(runner, running, "sif")
                else:
                    self.found["sif"] = Ability(None, f"the pilot's own SIF file is for {tiny_image.ARCHITECTURE} only")
            while running:
                handle, result = runner.wait_any()
                what = running.pop(handle)
                if self._settle(what, result):
                    self._start(runner, running, what)
            self._start_limits(runner, running)
            while running:
                self._settle(running.pop((ended := runner.wait_any())[0]), ended[1])

    def _take_known(self) -> None:
        if self.known.sif is not None:
            self.found["sif"] = Ability(self.known.sif, self.known.sif_reason)
        if self.known.pid_namespace is not None:
            self.found["pid_namespace"] = Ability(self.known.pid_namespace, "seen in the images that were proven")

    def _start(self, runner: Runner, running: dict[int, str], what: str) -> None:
        scratch = os.path.join(self.directory, what)
        os.makedirs(scratch, 0o700, exist_ok=True)
        started = runner.start(
            self._command(what, scratch),
            deadline_seconds=self.seconds,
            environment=self.setting.environment,
            directory=scratch,
        )
        if isinstance(started, Result):
            self._settle(what, started)
        else:
            running[started] = what

    def _command(self, what: str, scratch: str) -> list[str]:
        image, program = os.path.join(self.directory, "image"), ("/bin/sh", "-c", SCRIPT, "sh", self.mark)
        binds: tuple[Bind, ...] = ()
        options: tuple[str, ...] = self.setting.options
        if what == "sif":
            image, program = os.path.join(self.directory, "tiny.sif"), (tiny_image.PROGRAM,)  # type: ignore[assignment]
            with open(image, "wb") as file:
                file.write(tiny_image.sif())
        elif what == "limits":
            binds, options, program = node_image.binds(), (*options, *_LIMITS), ("/bin/sh", "-c", "exit 37")  # type: ignore[assignment]
        else:
            binds, program = node_image.binds(), (*program, MISSING_TARGET)  # type: ignore[assignment]
            binds += (Bind(scratch, MISSING_TARGET),) if self.missing else ()
            options += tuple(f"--{option}" for option in ("nv", "rocm") if self._has_gpu(option))
        runtime = self.setting.program
        run = ContainerRun(
            runtime=runtime.path,
            image=image,
            program=program,
            scratch=scratch,
            binds=binds,
            pid_namespace=self.pid_namespace,
            options=(*runtime_options(runtime.numbers, singularity=runtime.singularity), *dict.fromkeys(options)),
        )
        return run.command_line()

    def _has_gpu(self, option: str) -> bool:
        return {"nv": "nvidia", "rocm": "amd"}[option] in self.known.vendors

    def _settle(self, what: str, result: Result) -> bool:
        """Read what a run showed; True when it is to be run again in another way."""
        if what == "sif":
            self._settle_sif(result)
            return False
        if what == "limits":
            self._settle_limits(result)
            return False
        lines = result.stdout.decode("utf-8", "replace").splitlines()
        told = [line.removeprefix(self.mark).strip() for line in lines if line.startswith(self.mark)]
        if told and told[-1] == "end" and result.ok:
            self._read(told, result.stderr.decode("utf-8", "replace"))
            return False
        return self._failed(result)

    def _failed(self, result: Result) -> bool:
        problem = _diagnosis(result)
        if problem.scope == "pid_namespace" and self.pid_namespace:
            self.pid_namespace = False
            self.found.setdefault("pid_namespace", Ability(False, f"{problem.code}: {problem.message}"))
            return True
        if problem.code == "apptainer.no_overlay" and self.missing:
            self.missing = False
            self.found["bind_anywhere"] = self._refused(problem)
            return True
        if problem.code == "apptainer.binds_forbidden":
            self.found["binds"] = self._refused(problem)
        elif problem.code == "apptainer.image_forbidden":
            self.found["directories"] = self._refused(problem)
        self.problem = self.problem or problem
        for name in ("pid_namespace", "directories", "binds", "bind_anywhere", "nv", "rocm", "nested"):
            self.found.setdefault(name, Ability(None, f"not known: {problem.code}: {problem.message}"))
        return False

    def _read(self, told: list[str], errors: str) -> None:
        self.ran = True
        said: dict[str, list[str]] = {}
        for line in told:
            what, _, value = line.partition(" ")
            said.setdefault(what, []).append(value)
        self.mode = mode_of(" ".join(said.get("uid_map", [])))
        self.found.setdefault("pid_namespace", self._pid_namespace(said))
        self.found["directories"] = Ability(True, "a program ran in a directory")
        self.found["binds"] = Ability(True, "the node's programs were bound")
        if "bound" in said:
            kind = _layer(" ".join(said.get("root", [])))
            self.found["bind_anywhere"] = Ability(True, f"{kind} made a missing directory")
        self.found.setdefault("bind_anywhere", Ability(False, "the bind was left out without a word"))
        self.found["nested"] = _nested(said)
        for option, names, device in (("nv", _NV, "/dev/nvidiactl"), ("rocm", _ROCM, "/dev/kfd")):
            self.found[option] = self._gpu(option, names, device, said, errors)

    def _pid_namespace(self, said: Mapping[str, list[str]]) -> Ability:
        if not self.pid_namespace:
            return Ability(False, "not asked for: an image was refused with it")
        if "1" in " ".join(said.get("pid", [])).split():
            return Ability(True, "a program saw its own")
        return Ability(
            False, "the program saw the node's processes" + directives(self.setting.program, ("allow pid ns",))
        )

    def _gpu(
        self, option: str, names: tuple[str, ...], device: str, said: Mapping[str, list[str]], errors: str
    ) -> Ability:
        if not self._has_gpu(option):
            return Ability(None, "no GPU of that vendor on this node")
        libraries = [name for name in said.get("library", []) if name.startswith(names)]
        there = device in said.get("device", [])
        if libraries and there:
            return Ability(True, f"--{option} brought {libraries[0]} and {device}")
        lacking = " and ".join([*(() if libraries else (names[0],)), *(() if there else (device,))])
        why = next((line for line in errors.splitlines() if "lib" in line.lower()), "")
        return Ability(False, f"--{option} did not bring {lacking}" + (f": {why[:200]}" if why else ""))

    def _settle_sif(self, result: Result) -> None:
        errors = result.stderr.decode("utf-8", "replace")
        ran = result.code == tiny_image.STATUS and tiny_image.MARK in result.text and not result.timed_out
        if ran and CONVERTED in errors:
            self.found["sif"] = Ability(False, UNPACKED.message)
        elif ran:
            self.ran = True
            self.found["sif"] = Ability(True, "a program ran in the pilot's own SIF file")
        else:
            problem = _diagnosis(result)
            # A node without any container says nothing of SIF files; what the other run met is told there.
            self.found["sif"] = self._refused(problem)
            if result.timed_out:
                self.found["sif"] = Ability(None, f"not known: {problem.message}")

    def _start_limits(self, runner: Runner, running: dict[int, str]) -> None:
        lacking = [name for name in _CGROUP_VARIABLES if name not in self.setting.environment]
        if self._mode() == "userns" and lacking:
            reason = f"without privileges it needs a session of systemd, and jobs have no {' and no '.join(lacking)}"
            self.found["cgroup_limits"] = Ability(False, reason)
        elif self.problem is not None:
            self.found["cgroup_limits"] = Ability(None, "not tried: no directory runs")
        else:
            self._start(runner, running, "limits")

    def _settle_limits(self, result: Result) -> None:
        if result.code == tiny_image.STATUS and not result.timed_out:
            self.found["cgroup_limits"] = Ability(True, f"it took {' '.join(_LIMITS)}")
        else:
            self.found["cgroup_limits"] = self._refused(_diagnosis(result))

    def _refused(self, problem: Diagnosis) -> Ability:
        return Ability(False, f"{problem.code}: {problem.message}{directives(self.setting.program, problem.code)}")

    def _mode(self) -> Literal["userns", "setuid"]:
        # A pilot that is in a user namespace already gets no help from setuid programs; only a run tells that.
        return self.mode or ("setuid" if has_setuid_starter(self.setting.program.path) else "userns")

    def result(self) -> Established:
        abilities = replace(RuntimeAbilities(), **self.found)
        return Established(abilities, self._mode(), None if self.ran else self.problem)


def _diagnosis(result: Result) -> Diagnosis:
    if result.timed_out or result.error or result.abandoned is not None:
        code = "container.timeout" if result.timed_out else "container.not_started"
        hint = "the node is overloaded or a file system hangs: the site must act"
        return Diagnosis(code, FailureKind.NODE_RESOURCE, "node", result.explain(), hint)
    return diagnose(result.stderr.decode("utf-8", "replace"))


def _layer(root: str) -> str:
    """What the container's root file system is made with, from what follows "/" in its mountinfo (proc(5)): options,
    a hyphen, type, source."""
    _, _, after = root.partition(" - ")
    kind = after.partition(" ")[0]
    if kind == "overlay":
        return "the kernel's overlay"
    return "fuse-overlayfs" if kind.startswith("fuse") else "underlay"


def _nested(said: Mapping[str, list[str]]) -> Ability:
    if "no_unshare" in said:
        return Ability(None, "not tried: the node has no unshare program")
    answer = " ".join(said.get("nested", [])).strip()
    with_pid = " ".join(said.get("nested_pid", [])).strip()
    if answer != "yes":
        return Ability(False, f"unshare --user --mount and a mount inside: {answer[:200] or 'it said nothing'}")
    if with_pid == "yes":
        return Ability(True, "unshare --user --mount --pid and mounts worked inside")
    return Ability(True, f"unshare --user --mount worked inside, but no PID namespace: {with_pid[:200]}")
