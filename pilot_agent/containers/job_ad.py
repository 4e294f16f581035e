"""A job's ClassAd as ``condor_q -l`` prints it, as far as it decides in which image and how the job runs.

Only plain literals are understood. What an expression means depends on the machine that evaluates it, so one in an
attribute that matters is refused by name; nothing here evaluates anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pilot_agent.containers.selection import Wishes
from pilot_agent.model import Failure, FailureKind, PilotError

STRINGS = ("REQUIRED_OS", "ContainerImage", "SingularityImage", "Environment")
READ = (*STRINGS, "WantContainer", "RequestGPUs")
MOST_BYTES = 4 << 20

_LINE = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.]*)\s*=(?![=?!])\s*(.*?)\s*", re.DOTALL)
_STRING = re.compile(r'"((?:[^"\\]|\\"|\\(?!"))*)"')
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}")
_IMAGE = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_.+:@=%/~-]*")
_BLANK = " \t\n\r"

LOADED = ("SHELLOPTS", "BASHOPTS", "BASH_", "GCONV_PATH", "LOCPATH")
"""How variables begin with which a shell or the C library of the node runs or loads what a job says: where /bin/sh is
bash, it evaluates PS4 under SHELLOPTS=xtrace before the first line of a script."""

# The guard of the pool's jobs holds jobs for these, as they act outside the container (startd.guard).
_REFUSED_VARIABLE = re.compile(f"APPTAINER_|SINGULARITY_|LD_[A-Z]|{'|'.join(LOADED)}")


@dataclass(frozen=True, slots=True)
class JobAd:
    """What an ad says: the image wishes, whether the job wants a container at all, its variables and GPUs."""

    wishes: Wishes = field(default_factory=Wishes)
    want_container: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0


def parse_job_ad(text: str) -> JobAd:
    """The ad in ``text``, in old syntax, one attribute a line.

    Raises ``PilotError``: ``job_ad.syntax`` and ``job_ad.expression`` (usage) for what cannot be read, ``job.refused``
    (config) for what the pool's pilots hold jobs for.
    """
    values = _attributes(text)
    strings = {name: _string(name, values.get(name)) for name in STRINGS}
    return JobAd(
        Wishes(
            container_image=_image("ContainerImage", strings["ContainerImage"]),
            singularity_image=_image("SingularityImage", strings["SingularityImage"]),
            required_os=strings["REQUIRED_OS"],
        ),
        _boolean("WantContainer", values.get("WantContainer")),
        _checked(parse_environment(strings["Environment"] or "")),
        _count("RequestGPUs", values.get("RequestGPUs")),
    )


def _attributes(text: str) -> dict[str, str]:
    """The attributes that matter, by their usual spelling; names are compared in any case, as ClassAds do."""
    usual = {name.lower(): name for name in (*READ, "ProcId", "Env")}
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith(("--", "#")):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            hint = "write the ad with `condor_q -l JOB`"
            raise _wrong("syntax", f"line {number} is no `Name = value`: {_shown(line)}", hint)
        name = usual.get(match[1].lower())
        if name in found:
            hint = "write one job's ad: `condor_q -l CLUSTER.PROC`"
            raise _wrong("syntax", f"line {number} gives {name} a second time: one ad is needed", hint)
        if name is not None:
            found[name] = match[2]
    if "Env" in found and "Environment" not in found and found["Env"] not in ('""', "undefined"):
        hint = 'write environment = "NAME=value" with double quotes in the submit file'
        raise _wrong("syntax", "it has its variables in Env, the old form, which is not read", hint)
    return found


def _undefined(value: str | None) -> bool:
    return value is None or value.lower() == "undefined"


def _string(name: str, value: str | None) -> str | None:
    if value is None or _undefined(value):
        return None
    match = _STRING.fullmatch(value)
    # A backslash before the last quote is read in two ways by HTCondor's own programs.
    if match is None or value.endswith('\\"'):
        raise _expression(name, value, "a string in double quotes")
    return match[1].replace('\\"', '"')


def _boolean(name: str, value: str | None) -> bool:
    if value is None or _undefined(value):
        return True
    if value.lower() not in ("true", "false"):
        raise _expression(name, value, "true or false")
    return value.lower() == "true"


def _count(name: str, value: str | None) -> int:
    if value is None or _undefined(value):
        return 0
    if not _INTEGER.fullmatch(value) or int(value) < 0:
        raise _expression(name, value, "a number, 0 or more")
    return int(value)


def _image(name: str, image: str | None) -> str | None:
    """An image that a job may name at all, by the guard's rule. Raises ``PilotError`` (job.refused)."""
    if image is None:
        return None
    if not _IMAGE.fullmatch(image) or ".." in image.split("/"):
        message = f"{name} = {_shown(image)} is no name of an image: letters, digits and _.+:@=%/~- are allowed"
        raise _refused(message + ", '..' is not")
    return image


def parse_environment(text: str) -> dict[str, str]:
    """The variables of HTCondor's newer syntax: ``NAME=value`` separated by blanks, parts in single quotes as they are,
    two single quotes in such a part for one. Raises ``PilotError`` (job_ad.syntax)."""
    variables: dict[str, str] = {}
    for word in _words(text):
        name, equals, value = word.partition("=")
        if not equals or not name or "\0" in word:
            hint = "write environment = \"NAME=value OTHER='with blanks'\" in the submit file"
            raise _wrong("syntax", f"Environment has {_shown(word)}, which is no NAME=value", hint)
        variables[name] = value
    return variables


def _words(text: str) -> list[str]:
    words: list[str] = []
    word: str | None = None
    quoted = False
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if quoted and character == "'" and text[position : position + 1] == "'":
            word, position = (word or "") + "'", position + 1
        elif character == "'":
            quoted, word = not quoted, word or ""
        elif character in _BLANK and not quoted:
            words += [word] if word is not None else []
            word = None
        else:
            word = (word or "") + character
    if quoted:
        raise _wrong("syntax", "Environment has a single quote without an end", "close it, or write two for one")
    return [*words, *([word] if word is not None else [])]


def _checked(variables: dict[str, str]) -> dict[str, str]:
    for name in variables:
        if _REFUSED_VARIABLE.match(name):
            message = f"Environment sets {_shown(name)}, which acts outside the job's container"
            raise _refused(message)
    return variables


def _expression(name: str, value: str, wanted: str) -> PilotError:
    hint = f"put what `condor_q -af {name} JOB` says there, or take the line out"
    message = f"{name} = {_shown(value)} is an expression, and {wanted} is needed"
    return _wrong("expression", message, hint)


def _wrong(code: str, message: str, hint: str) -> PilotError:
    return PilotError(Failure(FailureKind.USAGE, f"job_ad.{code}", f"the job's ad: {message}", hint))


def _refused(message: str) -> PilotError:
    hint = "take it out of the submit file"
    return PilotError(Failure(FailureKind.CONFIG, "job.refused", f"pilots hold such a job: {message}", hint))


def _shown(text: str) -> str:
    """A text of a stranger for a message: short, and without what a terminal would act on."""
    safe = "".join(character if character.isprintable() else "?" for character in text)
    return repr(safe if len(safe) <= 100 else safe[:97] + "...")
