"""The options of the plugin as records: the list of scripts, the attributes that they read."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from pilot_agent.model import Json
from pilot_gwms_scripts.condor_vars import Variable
from pilot_gwms_scripts.glidein_config import clean

NAME = "gwms_scripts"
PATH = f"plugins.options.{NAME}"
IDS = ("main", "entry", "client", "client_group")
DEFAULT_PREFIX = "GLIDEIN_PS_"
NO_PREFIX = "NOPREFIX"
CONDOR_FILE = "config"
TYPES = {
    "exec": "exec",
    "run": "exec",
    "exec:s": "exec:s",
    "run:s": "exec:s",
    "run:singularity": "exec:s",
    "regular": "regular",
    "nocache": "regular",
    "untar": "untar",
    CONDOR_FILE: CONDOR_FILE,
    "config:c": CONDOR_FILE,
    "config:condor": CONDOR_FILE,
    "cleanup": "cleanup",
}
"""Words for types -> what they are."""
WRAPPER = "wrapper"
ON_FAILURE = ("report", "stop_accepting", "drain")
SECONDS = 300.0

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One entry of the list: a file, where it goes, and what is done with it."""

    file: str
    name: str
    id: str = "client"
    type: str = "exec"
    period_seconds: float = 0.0
    prefix: str = DEFAULT_PREFIX
    cond_attr: str = "TRUE"
    config_out: str = ""
    dir: str = ""
    after_entry: bool = True
    after_group: bool = False
    required: bool = True
    timeout_seconds: float = SECONDS
    leaves_processes: bool = False
    on_failure: str = "report"

    @property
    def record(self) -> str:
        """The name of its setup, and of its verdict in the report."""
        return f"{self.id}/{self.name}"

    @property
    def early(self) -> bool:
        """Whether it runs before the images are chosen."""
        return not self.after_entry

    @property
    def inside(self) -> bool:
        """Whether it runs inside the image of jobs; before one is chosen there is none."""
        return self.type == "exec:s" and not self.early

    @property
    def runs(self) -> bool:
        """Whether it is a program that runs before jobs may begin."""
        return self.type in ("exec", "exec:s")


@dataclass(frozen=True, slots=True)
class Attribute:
    """A value of glidein_config that the configuration gives, and the line that makes it known elsewhere."""

    value: str
    variable: Variable


@dataclass(frozen=True, slots=True)
class Settings:
    """All options."""

    scripts: tuple[Script, ...]
    attributes: tuple[Attribute, ...]
    directory: str
    package: str
    cleanup_seconds: float

    def path_of(self, script: Script) -> str:
        """Where the file of a script is. Raises ``ValueError`` with the place of what is wrong."""
        if os.path.isabs(script.file):
            return script.file
        return os.path.join(self.directory or _package_directory(self.package), script.file)


def settings_of(config: Mapping[str, Json]) -> Settings:
    """The options of a whole configuration. Raises ``ValueError``: the path of the wrong option, and what is needed."""
    options = config["plugins"]["options"][NAME]
    scripts = tuple(_script(f"{PATH}.scripts[{index}]", entry) for index, entry in enumerate(options["scripts"]))
    directory, package = options["directory"], options["package"]
    if directory and package:
        raise ValueError(f"{PATH}.package: directory is given too; the scripts are in one place")
    if directory and not os.path.isabs(directory):
        raise ValueError(f"{PATH}.directory: {directory!r} is no absolute path")
    taken: dict[str, int] = {}
    for index, script in enumerate(scripts):
        if script.name in taken:
            problem = f"{script.name!r} is the name of scripts[{taken[script.name]}] too; give one of them another name"
            raise ValueError(f"{PATH}.scripts[{index}].name: {problem}")
        taken[script.name] = index
        if not os.path.isabs(script.file) and not directory and not package:
            problem = f"{script.file!r} is relative, and neither directory nor package says to what"
            raise ValueError(f"{PATH}.scripts[{index}].file: {problem}")
    attributes = [_attribute(f"{PATH}.attributes[{index}]", one) for index, one in enumerate(options["attributes"])]
    return Settings(scripts, tuple(attributes), directory, package, options["cleanup_seconds"])


def in_order(scripts: Sequence[Script], *, early: bool) -> list[Script]:
    """Those of one stage, as the list has them; those with ``after_group`` behind all others."""
    return sorted((script for script in scripts if script.early == early), key=lambda script: script.after_group)


def _script(path: str, entry: Json) -> Script:
    given = _mapping(path, entry, Script.__dataclass_fields__.keys() - {"period_seconds"} | {"period"})
    file = _text(path, given, "file", "")
    if not file or "\0" in file:
        raise ValueError(f"{path}.file: the path of the script is needed")
    kind = _text(path, given, "type", "exec")
    if kind == WRAPPER:
        problem = "no wrapper runs around jobs: HTCondor starts their containers itself; use environment, binds, setups"
        raise ValueError(f"{path}.type: {problem}")
    if kind not in TYPES:
        raise ValueError(f"{path}.type: {kind!r} is unknown; one of {', '.join(TYPES)} is needed")
    where = _word(path, given, "id", "client", IDS)
    period = _number(path, given, "period", 0)
    if period and TYPES[kind] != "exec":
        raise ValueError(f"{path}.period: only type exec runs again; this is {kind}")
    return Script(
        file=file,
        name=_matching(path, given, "name", os.path.basename(file), _FILE_NAME),
        id=where,
        type=TYPES[kind],
        period_seconds=period,
        prefix=_matching(path, given, "prefix", DEFAULT_PREFIX, _PREFIX),
        cond_attr=_text(path, given, "cond_attr", "TRUE") or "TRUE",
        config_out="" if given.get("config_out") == "FALSE" else _key(path, given, "config_out"),
        dir=_matching(path, given, "dir", "", re.compile(f"({_FILE_NAME.pattern})?")),
        after_entry=_flag(path, given, "after_entry", where in ("client", "client_group")),
        after_group=_flag(path, given, "after_group", False),
        required=_flag(path, given, "required", True),
        timeout_seconds=_number(path, given, "timeout_seconds", SECONDS) or SECONDS,
        leaves_processes=_flag(path, given, "leaves_processes", False),
        on_failure=_word(path, given, "on_failure", "report", ON_FAILURE),
    )


def _attribute(path: str, entry: Json) -> Attribute:
    given = _mapping(path, entry, {"name", "value", "type", "glidein_publish", "job_publish"})
    name = _matching(path, given, "name", "", _KEY)
    if "value" not in given:
        raise ValueError(f"{path}.value: missing")
    value = given["value"]
    usual = "int" if isinstance(value, int) and not isinstance(value, bool) else "string"
    kind = _word(path, given, "type", usual, ("string", "int", "expr"))
    if isinstance(value, dict | list) or value is None:
        raise ValueError(f"{path}.value: a text, a number or a truth value is needed")
    published, for_jobs = _flag(path, given, "glidein_publish", False), _flag(path, given, "job_publish", False)
    letter = cast("Literal['S', 'I', 'C']", {"string": "S", "int": "I", "expr": "C"}[kind])
    variable = Variable(name, letter, None, name, False, published, name if for_jobs else "")
    return Attribute(clean(str(value)), variable)


def _mapping(path: str, entry: Json, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        raise ValueError(f"{path}: a mapping is needed, with {', '.join(sorted(known))}")
    unknown = sorted(set(entry) - known)
    if unknown:
        raise ValueError(f"{path}.{unknown[0]}: unknown; there are {', '.join(sorted(known))}")
    return entry


def _text(path: str, given: Mapping[str, Any], field: str, default: str) -> str:
    value = given.get(field, default)
    if not isinstance(value, str):
        raise ValueError(f"{path}.{field}: a text is needed")
    return value


def _matching(path: str, given: Mapping[str, Any], field: str, default: str, pattern: re.Pattern[str]) -> str:
    value = _text(path, given, field, default)
    if not pattern.fullmatch(value):
        raise ValueError(f"{path}.{field}: {value!r} is no name: letters, digits and _ are, for files also . + -")
    return value


def _key(path: str, given: Mapping[str, Any], field: str) -> str:
    return _matching(path, given, field, "", _KEY) if given.get(field) else ""


def _word(path: str, given: Mapping[str, Any], field: str, default: str, words: Sequence[str]) -> str:
    value = _text(path, given, field, default)
    if value not in words:
        raise ValueError(f"{path}.{field}: {value!r} is none of {', '.join(words)}")
    return value


def _flag(path: str, given: Mapping[str, Any], field: str, default: bool) -> bool:
    value = given.get(field, default)
    if not isinstance(value, bool):
        raise ValueError(f"{path}.{field}: true or false is needed")
    return value


def _number(path: str, given: Mapping[str, Any], field: str, default: float) -> float:
    value = given.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 31:
        raise ValueError(f"{path}.{field}: a number of seconds is needed")
    return value


def _package_directory(package: str) -> str:
    """The directory of a package that came with the plugins, such as a signed one."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        found = None
    places = list(found.submodule_search_locations or ()) if found is not None else []
    if not places:
        raise ValueError(f"{PATH}.package: no plugin brings a package {package!r}")
    return places[0]
