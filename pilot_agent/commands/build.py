"""``images build``: a recipe becomes an image that was proven, and its entry for the dictionary."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pilot_agent import configure
from pilot_agent.commands.inspect import inspected
from pilot_agent.commands.trial import own_environment, prove, refuse_unfit, runtime_of, setting_of
from pilot_agent.config import Config
from pilot_agent.config_images import PLATFORM
from pilot_agent.configure import Given
from pilot_agent.containers.building import build_command, run_build
from pilot_agent.containers.candidates import REFUSED_CHARACTERS
from pilot_agent.containers.inspection import Inspected
from pilot_agent.containers.messages import diagnose
from pilot_agent.containers.proof import UNPACKED, Proof
from pilot_agent.containers.recipe import definition_of, read_recipe
from pilot_agent.containers.runtime import RuntimeProgram
from pilot_agent.environment import clean_environment
from pilot_agent.interruption import preempted
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.processes import kill_descendants
from pilot_agent.lifecycle.removal import remove_tree
from pilot_agent.lifecycle.signals import Alarm
from pilot_agent.lifecycle.subreaper import become_subreaper
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.printing import print_text
from pilot_agent.process import Interrupted, Result, run

PREFIX = ".pilot-image-"
CLEANING_SECONDS = 120.0
AS_ROOT_OF_OWN_IDS = ("unshare", "--user", "--map-auto", "--map-root-user")
LIKE_RHEL = ("rhel", "almalinux", "rocky", "centos", "ol", "scientific")
PASSED_ON = (
    *("APPTAINER_DOCKER_USERNAME", "APPTAINER_DOCKER_PASSWORD"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
"""What a person sets to reach a registry."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be built: from ``definition`` (text; None: the recipe itself) in the recipe's directory."""

    recipe: str
    definition: str | None
    target: str
    force: bool
    seconds: float

    @property
    def sandbox(self) -> bool:
        return not self.target.lower().endswith(".sif")


def run_build_command(parsed: argparse.Namespace, given: Given, environment: Mapping[str, str]) -> int:
    """Build, prove, put in place, print. Raises ``PilotError``; what stood in the target's place is untouched then."""
    config = configure.read_layers(given, environment)
    job = _job(parsed)
    become_subreaper()
    alarm = Alarm.install()
    began = time.monotonic()
    try:
        with _beside(job.target) as directory:
            found, proof = _built(job, config, environment, directory, alarm)
    except Interrupted:
        raise PilotError(preempted(alarm)) from None
    name = parsed.name or platform_of(found, job.target)
    entry = entry_of(job.target, found)
    if proof.diagnosis is not None:
        _say(f"pilot-agent: warning: {proof.diagnosis.message}; {proof.diagnosis.hint}\n")
    if parsed.json:
        answer: dict[str, Json] = {"path": job.target, "platform": name, "entry": entry, "form": found.form}
        answer |= {"architecture": found.architecture, "digest": found.digest, "facts": proof.facts}
        print_text(json.dumps(answer | {"seconds": round(time.monotonic() - began, 1)}, indent=2) + "\n")
    else:
        print_text(entry_text(name, entry))
    return 0


def _job(parsed: argparse.Namespace) -> _Job:
    recipe, target = os.path.abspath(parsed.recipe), os.path.abspath(parsed.target)
    _, kind = read_recipe(recipe)
    if parsed.name is not None and not re.fullmatch(PLATFORM, parsed.name):
        raise _usage(f"--name {parsed.name!r}: a platform's name has letters, digits and . _ + - only")
    bad = REFUSED_CHARACTERS.search(target)
    if bad:
        raise _usage(f"{target}: an image whose path has the character {bad[0]!r} is refused by every dictionary")
    if not parsed.seconds > 0:
        raise _usage("--seconds: a number above 0 is needed")
    if os.path.lexists(target):
        _require_replaceable(target, force=parsed.force)
    definition = definition_of(recipe) if kind == "dockerfile" else None
    return _Job(recipe, definition, target, parsed.force, parsed.seconds)


def _require_replaceable(target: str, *, force: bool) -> None:
    """Only what is an image may be replaced: a mistyped path must not cost anybody's files."""
    if not force:
        raise _usage(f"{target} is there already", "--force replaces it, or name another target")
    if os.path.islink(target):
        raise _usage(f"{target} is a link", "name what it leads to")
    empty = os.path.isdir(target) and not os.listdir(target)
    if not empty and (inspected(target).form == "unknown" or (os.path.isdir(target) and not _is_image(target))):
        raise _usage(f"{target} is no image, and is not replaced", "name another target")


def _is_image(directory: str) -> bool:
    return os.path.isdir(os.path.join(directory, ".singularity.d"))


@contextmanager
def _beside(target: str) -> Iterator[str]:
    """A directory on the target's file system, gone at the end with all that runs in it."""
    directory = os.path.join(os.path.dirname(target), f"{PREFIX}{os.urandom(6).hex()}")
    try:
        os.mkdir(directory, 0o700)
    except OSError as error:
        raise _usage(f"no image can be built in {os.path.dirname(target)}: {error.strerror}") from error
    try:
        yield directory
    finally:
        kill_descendants(Budget(CLEANING_SECONDS))
        _remove(directory)


def _remove(directory: str) -> None:
    """Remove a directory made here. Where the account has subordinate ids (subuid(5)) a build gives files to them, and
    only somebody who is root over these ids can remove those."""
    if not remove_tree(directory, Budget(CLEANING_SECONDS), prefix=PREFIX):
        return
    environment = clean_environment(os.environ, home="/", temporary="/tmp")  # noqa: S108 - nothing is written there
    argv = [*AS_ROOT_OF_OWN_IDS, "rm", "-rf", "--one-file-system", "--", directory]
    done = run(argv, deadline_seconds=CLEANING_SECONDS, environment=environment)
    if not done.ok:
        _say(f"pilot-agent: warning: left behind: {directory}: {done.explain()}\n")


def _built(
    job: _Job, config: Config, environment: Mapping[str, str], directory: str, alarm: Alarm
) -> tuple[Inspected, Proof]:
    own = own_environment(environment, directory) | {n: environment[n] for n in PASSED_ON if n in environment}
    program = runtime_of(config, environment, directory)
    image = os.path.join(directory, "image" if job.sandbox else "image.sif")
    definition = job.recipe
    if job.definition is not None:
        definition = os.path.join(directory, "definition")
        with open(definition, "w", encoding="utf-8") as file:
            file.write(job.definition)
    _build(job, program, image, definition, own, alarm)
    _say("pilot-agent: running a program in it as in a job\n")
    proof = prove(setting_of(program, own_environment(environment, directory), directory), image, wake=alarm)
    if proof.diagnosis is not None and proof.diagnosis.code != UNPACKED.code:
        raise refuse_unfit(f"the image was built from {job.recipe} and is refused", proof.diagnosis)
    found = inspected(image)
    if not found.system:
        found = replace(found, system={key: str(proof.facts.get(f"os.{key}", "")) for key in ("id", "version")})
    _put_in_place(job, image, directory)
    return found, proof


def _build(
    job: _Job, program: RuntimeProgram, image: str, definition: str, environment: Mapping[str, str], alarm: Alarm
) -> None:
    argv = build_command(program.path, image, definition, sandbox=job.sandbox)
    try:
        built = run_build(
            argv,
            environment=environment,
            directory=os.path.dirname(job.recipe),
            deadline_seconds=job.seconds,
            pass_on=_pass_on,
            wake=alarm,
        )
    except OSError as error:
        message = f"{program.path} could not be started: {error.strerror}"
        raise PilotError(Failure(FailureKind.NODE_RESOURCE, "container.not_started", message)) from error
    if built.code is None:
        message = f"the build did not end within {job.seconds:g} s"
        raise PilotError(Failure(FailureKind.CONFIG, "build.timeout", message, "give it more time with --seconds"))
    if built.code != 0:
        raise _failed(job, built.code, built.said)


def _failed(job: _Job, code: int, said: str) -> PilotError:
    """Who must act: for what the node or the way to a registry lacks not the recipe's author."""
    from pilot_agent.containers.store.registry import read_failure

    problem = diagnose(said)
    kind, name, hint = FailureKind.CONFIG, "build.failed", "its output above says which command; correct the recipe"
    fetched = read_failure(Result((job.recipe,), code, stderr=problem.message.encode()), job.recipe)
    if problem.kind is FailureKind.NODE_RESOURCE and problem.scope == "node":
        kind, name, hint = problem.kind, problem.code, problem.hint
    elif "%post" not in problem.message and fetched.kind in (FailureKind.NETWORK, FailureKind.CREDENTIAL):
        kind, name = fetched.kind, fetched.code
        hint = "the site looks at the way to the registry; a private one needs APPTAINER_DOCKER_USERNAME and _PASSWORD"
    message = f"{job.recipe} could not be built (exit {code}): {problem.message}"
    return PilotError(Failure(kind, name, message, hint))


def _put_in_place(job: _Job, image: str, directory: str) -> None:
    os.chmod(image, 0o755 if job.sandbox else 0o644)
    if os.path.lexists(job.target):
        if not job.force:
            raise _usage(f"{job.target} came to be while the image was built", "--force replaces it")
        os.rename(job.target, os.path.join(directory, "replaced"))
    try:
        os.rename(image, job.target)
    except OSError as error:
        raise _usage(f"{job.target}: {error.strerror}") from error


def platform_of(found: Inspected, target: str) -> str:
    """The name that a platform like this usually has; that of the file where its system is not known."""
    system, version = found.system.get("id", ""), found.system.get("version", "")
    major = version.partition(".")[0]
    if system in LIKE_RHEL and major:
        return f"el{major}"
    name = f"{system}{version if system == 'ubuntu' else major}"
    stem = re.sub(r"\.sif$", "", os.path.basename(target), flags=re.IGNORECASE)
    return name if re.fullmatch(PLATFORM, name) else re.sub(r"[^A-Za-z0-9._+-]", "-", stem).lstrip(".-+_") or "image"


def entry_of(target: str, found: Inspected) -> dict[str, str]:
    """The candidate for the dictionary."""
    entry = {"path": target}
    if found.architecture:
        entry["arch"] = found.architecture
    if found.digest:
        entry["digest"] = found.digest
    return entry


def entry_text(name: str, entry: Mapping[str, str]) -> str:
    """YAML, ready to paste; every text is quoted as in JSON where YAML could read something else."""
    first, *others = (f"{key}: {_scalar(value)}" for key, value in entry.items())
    lines = ["images:", f"  {_scalar(name)}:", f"    - {first}", *(f"      {line}" for line in others)]
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z/][A-Za-z0-9_./+-]*(?::[0-9a-f]+)?", text) and text.lower() not in _WORDS
    return text if plain else json.dumps(text)


_WORDS = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")


def _pass_on(chunk: bytes) -> None:
    sys.stderr.buffer.write(chunk)
    sys.stderr.buffer.flush()


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _usage(message: str, hint: str = "") -> PilotError:
    return PilotError(Failure(FailureKind.USAGE, "usage", message, hint))
