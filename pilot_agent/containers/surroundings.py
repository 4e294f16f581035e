"""What jobs get beside their image: binds, options of the runtime and variables, from all who ask for them, in order;
and the restrictions, which hold for everybody."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pilot_agent import CVMFS
from pilot_agent.config_images import RUNTIME_OPTION
from pilot_agent.containers.binds import BindWish, judge_binds
from pilot_agent.containers.job_ad import LOADED
from pilot_agent.containers.restrictions import OfLayer, of_layers
from pilot_agent.model import BindVerdict, JobSurroundings, Json, OptionVerdict, VariableVerdict
from pilot_agent.workspace import Workspace

if TYPE_CHECKING:
    from pilot_agent.hookspecs import ContainerRequest, Context
    from pilot_agent.process import WakeUp

PILOT = "the pilot"
"""Who asks for what is built in."""

NVIDIA, AMD = "--nv", "--rocm"
GPU_OPTIONS = (NVIDIA, AMD, "--nvccli", "--intel-hpu")
OPENCL = "/etc/OpenCL/vendors"

HARMLESS = (
    *("--nv", "--nvccli", "--rocm", "--intel-hpu", "--underlay", "--writable-tmpfs", "--unsquash", "--no-mount"),
    *("--no-init", "--no-umask", "--uts", "--hostname", "--net", "--network=none", "--ipc", "--memory"),
    *("--memory-reservation", "--memory-swap", "--cpus", "--cpu-shares", "--cpuset-cpus", "--pids-limit"),
)
"""Options that anybody may ask for: none gives a job rights, or a path of the node. A site may say other ones."""

OF_THE_PILOT = frozenset(
    (
        *("--bind", "--mount", "--home", "--no-home", "--pwd", "--cwd", "--workdir", "--scratch", "--contain"),
        *(
            "--containall",
            "--cleanenv",
            "--no-eval",
            "--compat",
            "--env",
            "--env-file",
            "--no-env",
            "--pid",
            "--no-pid",
        ),
        *("--config", "--fusemount"),
    )
)
"""Options that HTCondor and the pilot set for every job, or that would pass by the keys for binds and variables."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = re.compile(f"APPTAINER|SINGULARITY|LD_|_CONDOR_|CONDOR_|HOME$|{'|'.join(LOADED)}")


def settle(
    context: Context,
    requests: Sequence[ContainerRequest],
    *,
    contained: bool = True,
    wake: WakeUp | None = None,
) -> JobSurroundings:
    """What jobs get here. ``requests`` are those of setups and plugins, in their order, each under the name that the
    report gives who asked; not ``contained``: jobs run without containers, and there are only variables.

    Raises ``PilotError`` (container.bind) for a bind that cannot be understood, or is required and cannot be given.
    """
    variables = judge_variables(
        list(_variables(context, requests)), of_layers(context.config["startd"]["allowed_environment"])
    )
    if not contained:
        return JobSurroundings(environment=variables)
    containers = context.config["containers"]
    binds: tuple[BindVerdict, ...] = ()
    if context.root == "/":
        allowed = of_layers(containers["allowed_binds"])
        private = Workspace(context.workspace).private if context.workspace is not None else None
        wishes, scratch = list(_binds(context, requests)), containers["scratch"]
        binds = judge_binds(wishes, allowed, scratch=scratch, private=private, wake=wake)
    allowed_options = of_layers(containers["allowed_options"])
    gpus = bool(containers["gpu_libraries"])
    options = judge_options(list(_options(containers, requests)), allowed_options, gpu_libraries=gpus)
    return JobSurroundings(binds, (*_gpu_options(context), *options), variables)


def uncontained(surroundings: JobSurroundings) -> JobSurroundings:
    """The same for jobs that run without a container after all: variables only."""
    why = "jobs run without a container here"
    return replace(
        surroundings,
        binds=tuple(replace(one, given=False, reason=one.reason or why) for one in surroundings.binds),
        options=tuple(replace(one, given=False, reason=why) for one in surroundings.options),
    )


def _binds(context: Context, requests: Sequence[ContainerRequest]) -> Iterator[BindWish]:
    containers = context.config["containers"]
    for switch, path in (("bind_hosts", "/etc/hosts"), ("bind_localtime", "/etc/localtime")):
        if containers[switch]:
            yield BindWish(source=path, destination=path, read_only=True, asked_by=PILOT, built_in=True)
    if containers["bind_cvmfs"] and context.value("cvmfs.repositories"):
        place = context.value("cvmfs.mount_point") or CVMFS
        yield BindWish(source=place, destination=CVMFS, read_only=True, asked_by=PILOT, built_in=True)
    if containers["bind_opencl"] and _vendors(context):
        yield BindWish(source=OPENCL, destination=OPENCL, read_only=True, asked_by=PILOT, built_in=True)
    for who, entry in _configured(containers["binds"]):
        yield BindWish.configured(entry, who)
    for request in requests:
        for text in request.binds:
            yield BindWish.of(text, request.name)


def _options(containers: Mapping[str, Json], requests: Sequence[ContainerRequest]) -> Iterator[tuple[str, str]]:
    yield from _configured(containers["options"])
    yield from ((request.name, option) for request in requests for option in request.options)


def _configured(given: Json) -> Iterator[tuple[str, Json]]:
    """(who asked, item) of a key that keeps what each layer says."""
    for entry in given or ():
        for item in entry["value"]:
            yield f"configuration ({entry['layer']})", item


def _vendors(context: Context) -> set[str]:
    """Whose GPUs jobs can get here."""
    devices: Sequence[Mapping[str, Json]] = context.value("gpu.devices") or ()
    usable = [device for device in devices if device.get("state", "usable") == "usable"]
    return {str(device.get("vendor") or "nvidia") for device in usable}


def _gpu_options(context: Context) -> Iterator[OptionVerdict]:
    if not context.config["containers"]["gpu_libraries"]:
        return
    vendors = _vendors(context)
    if "nvidia" in vendors:
        yield OptionVerdict(NVIDIA, PILOT, given=True, reason="for jobs that were given GPUs", with_gpus=True)
    if "amd" in vendors:
        # HTCondor knows no option of the runtime for these.
        yield OptionVerdict(AMD, PILOT, given=True)


def judge_options(
    asked: Sequence[tuple[str, str]], allowed: Sequence[OfLayer], *, gpu_libraries: bool = True
) -> tuple[OptionVerdict, ...]:
    """One verdict for each (who, option). ``allowed`` is what each layer allows; only the site's list comes in place of
    ``HARMLESS``, all others restrict it further. Without ``gpu_libraries`` none may bring a driver's libraries in."""
    if not any(entry.layer == "site" for entry in allowed):
        allowed = (OfLayer("defaults", HARMLESS), *allowed)
    verdicts: list[OptionVerdict] = []
    for who, option in asked:
        reason = _option_refusal(option, allowed)
        if not gpu_libraries and option.partition("=")[0] in GPU_OPTIONS:
            reason = reason or "containers.gpu_libraries is false"
        if not reason and any(one.given and one.option == option for one in verdicts):
            reason = "it was asked for before"
        verdicts.append(OptionVerdict(option, who, given=not reason, reason=reason))
    return tuple(verdicts)


def _option_refusal(option: str, allowed: Sequence[OfLayer]) -> str:
    if not re.fullmatch(RUNTIME_OPTION, option):
        return "it is no option of one word in its long form, --name or --name=value"
    name = option.partition("=")[0]
    if name in OF_THE_PILOT:
        return "HTCondor and the pilot set it themselves; containers.binds and startd.job_environment say what jobs get"
    for entry in allowed:
        if name not in entry.allowed and option not in entry.allowed:
            told = "a site allows it in containers.allowed_options" if entry.layer == "defaults" else str(entry)
            return f"containers.allowed_options does not allow it: {told}"
    return ""


def _variables(context: Context, requests: Sequence[ContainerRequest]) -> Iterator[tuple[str, str, str | None]]:
    """(who, name, value); the value is None where the node does not set what is to be passed on."""
    startd = context.config["startd"]
    for who, pattern in _configured(startd["pass_environment"]):
        names = [name for name in sorted(context.environment) if fnmatch.fnmatchcase(name, pattern)]
        yield from (
            (who, name, context.environment.get(name)) for name in names or ([pattern] if "*" not in pattern else [])
        )
    for entry in startd["job_environment"] or ():
        yield from ((f"configuration ({entry['layer']})", name, value) for name, value in entry["value"].items())
    for request in requests:
        yield from ((request.name, name, value) for name, value in request.environment.items())


def judge_variables(
    asked: Sequence[tuple[str, str, str | None]], allowed: Sequence[OfLayer]
) -> tuple[VariableVerdict, ...]:
    """One verdict for each (who, name, value); of several values for a name the last that may be given counts."""
    reasons = [_variable_refusal(name, value, allowed) for _, name, value in asked]
    last = {name: who for (who, name, _), reason in zip(asked, reasons, strict=True) if not reason}
    places = {name: number for number, (_, name, _) in enumerate(asked) if not reasons[number]}
    verdicts = []
    for number, ((who, name, value), refused) in enumerate(zip(asked, reasons, strict=True)):
        reason = refused or ("" if places[name] == number else f"{last[name]} gives it a value after this")
        verdicts.append(VariableVerdict(name, value or "", who, given=not reason, reason=reason))
    return tuple(verdicts)


def _variable_refusal(name: str, value: str | None, allowed: Sequence[OfLayer]) -> str:
    if not _NAME.fullmatch(name):
        return "it is no name of a variable"
    if _RESERVED.match(name):
        return "HTCondor, the runtime or the C library of the node act on it outside the container"
    for entry in allowed:
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in entry.allowed):
            return f"startd.allowed_environment allows {entry}"
    if value is None:
        return "the node does not set it"
    return "" if value.isprintable() else "its value has a control character, which cannot reach a job"
