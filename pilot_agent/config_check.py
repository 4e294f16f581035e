"""Everything that can be wrong with a configuration document.

All problems are reported together, each with its path, its layer and, for an unknown key, the nearest known one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilot_agent.config_collectors import DOMAIN, collectors_problem
from pilot_agent.config_cvmfs import PLAIN_DIRECTORY, PROXY_GROUP_FORM, parameters_problems, repositories_problems
from pilot_agent.config_expressions import expression_problem
from pilot_agent.config_images import (
    ANY_ARCHITECTURE,
    BIND,
    BIND_PATH,
    CONDOR_PLACE,
    CONDOR_VERSION,
    PLATFORM,
    REPOSITORY,
    RUNTIME_OPTION,
    SCRATCH_INSIDE,
    SHA256,
    TARBALLS,
    VARIABLE_PATTERN,
    architecture_problem,
    default_problem,
    digest_problem,
    line_problems,
    need_problem,
    prefix_problem,
)
from pilot_agent.config_keys import KEYS
from pilot_agent.config_kinds import (
    BIND_FIELDS,
    IMAGE_FIELDS,
    REQUIREMENT_FIELDS,
    SERVICE_FIELDS,
    SERVICE_NAME,
    WHERE,
    Key,
    Kind,
)
from pilot_agent.config_programs import PROGRAM_FIELDS, PROGRAM_NEEDS, entry_problems
from pilot_agent.config_services import service_problems
from pilot_agent.config_slots import resource_slots_problem
from pilot_agent.config_values import (
    form_wanted,
    is_finite,
    mapping_problems,
    name_problems,
    places,
    plain_problems,
    sequence_problems,
    type_name,
)
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.requirement_text import LEVELS, REQUIRED, RequirementError, parse
from pilot_agent.spelling import nearest

_BY_PATH = {key.path: key for key in KEYS}
_SECTIONS = {key.path.split(".")[0] for key in KEYS if "." in key.path}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration."""

    path: str
    layer: str
    message: str

    def __str__(self) -> str:
        return f"{self.path} ({self.layer}): {self.message}"


def invalid(problems: Sequence[Problem]) -> PilotError:
    """The error for a configuration with these problems."""
    count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
    return PilotError(
        Failure(
            FailureKind.CONFIG,
            "config.invalid",
            f"the configuration has {count}: " + "; ".join(map(str, problems)),
            hint="correct the named keys; `pilot-agent config reference` lists all keys",
        )
    )


def validate(document: Mapping[str, Json], layer: str) -> list[Problem]:
    """Everything wrong with one document of the layer of that name."""
    problems: list[Problem] = []
    for name, value in document.items():
        if name in _BY_PATH:
            problems += _check(_BY_PATH[name], value, layer)
        elif name not in _SECTIONS:
            problems.append(Problem(str(name), layer, "unknown key" + nearest(str(name), [*_SECTIONS, *_BY_PATH])))
        elif value is None:  # a section with nothing but comments in it
            continue
        elif not isinstance(value, Mapping):
            problems.append(Problem(name, layer, f"expected a mapping, found {type_name(value)}"))
        else:
            problems += _validate_section(name, value, layer)
    return problems


def _validate_section(section: str, values: Mapping[str, Json], layer: str) -> list[Problem]:
    problems: list[Problem] = []
    for name, value in values.items():
        path = f"{section}.{name}"
        if path in _BY_PATH:
            problems += _check(_BY_PATH[path], value, layer)
        else:
            known = [key.path for key in KEYS if key.path.startswith(f"{section}.")]
            problems.append(Problem(path, layer, "unknown key" + nearest(path, known)))
    return problems


def _check(key: Key, value: Json, layer: str) -> list[Problem]:
    if value is None:
        return []
    found = _type_problems(key.kind, value, key.path)
    problems = [Problem(path, layer, text + form_wanted(text, value, layer, key.choices)) for path, text in found]
    if problems:
        return problems
    if isinstance(value, list | Mapping):
        listed = places(value) if key.choices else []
        return [problem for place, item in listed for problem in _check_word(key, item, layer, place)]
    word = key.kind is not Kind.CORES or isinstance(value, str)
    if key.choices and word and (problems := _check_word(key, value, layer)):
        return problems
    if key.minimum is not None and not isinstance(value, str) and value < key.minimum:
        words = f"; give a number of cores, or one of {', '.join(key.choices)}" if key.choices else ""
        return [Problem(key.path, layer, f"{value} is less than {key.minimum:g}{words}")]
    if key.maximum is not None and value > key.maximum:
        return [Problem(key.path, layer, f"{value} is more than {key.maximum:g}")]
    return []


def _check_word(key: Key, value: Json, layer: str, place: str = "") -> list[Problem]:
    if str(value).lower() in key.choices:
        return []
    expected = ", ".join(key.choices)
    number = ", and no integer" if key.kind is Kind.CORES else ""
    message = f"{value!r} is none of {expected}{number}{nearest(str(value), key.choices)}"
    return [Problem(f"{key.path}{place}", layer, message)]


def _type_problems(kind: Kind, value: Json, path: str) -> list[tuple[str, str]]:
    """(path, message) of everything in ``value`` that is not of ``kind``."""
    match kind:
        case Kind.STRINGS:
            return sequence_problems(value, path, lambda item, where: _type_problems(Kind.STRING, item, where))
        case Kind.STRING_MAPPING | Kind.PORTS:
            inner = Kind.STRING if kind is Kind.STRING_MAPPING else Kind.INTEGER
            return mapping_problems(value, path, lambda item, where: _type_problems(inner, item, where))
        case Kind.REQUIREMENTS:
            return sequence_problems(value, path, _requirement_problems)
        case Kind.IMAGES:
            return _dictionary_problems(value, path)
        case Kind.PLATFORM:
            return _default_problems(value, path)
        case Kind.PREFIXES | Kind.COLLECTORS:
            return sequence_problems(value, path, lambda item, where: _address_problems(kind, item, where))
        case Kind.BINDS:
            return sequence_problems(value, path, _bind_problems)
        case _ if kind in _TEXTS or kind in _GRAMMARS or kind in _MAPPINGS:
            return _text_problems(kind, value, path)
        case Kind.SERVICES:
            return mapping_problems(value, path, _service_problems) + _service_name_problems(value, path)
        case Kind.PROBES | Kind.SETUPS | Kind.CHECKS | Kind.PERIODICS | Kind.BENCHMARKS:
            return sequence_problems(value, path, lambda item, where: _program_problems(kind, item, where))
        case Kind.MAPPING if isinstance(value, Mapping):
            return plain_problems(value, path)
        case _:
            return [] if _is_scalar(kind, value) else [(path, f"expected {_article(kind)}, found {type_name(value)}")]


def _is_scalar(kind: Kind, value: Json) -> bool:
    match kind:
        case Kind.STRING:
            return isinstance(value, str)
        case Kind.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool)
        case Kind.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool) and is_finite(value)
        case Kind.BOOLEAN:
            return isinstance(value, bool)
        case Kind.WEIGHTED:
            return isinstance(value, str | bool)
        case Kind.CORES | Kind.PORT | Kind.DEVICES:
            return isinstance(value, int | str) and not isinstance(value, bool)
        case _:
            return False


def _record_problems(
    value: Json, path: str, fields: Mapping[str, Kind], needed: tuple[str, ...]
) -> list[tuple[str, str]]:
    if not isinstance(value, Mapping):
        return [(path, f"expected a mapping, found {type_name(value)}")]
    problems = [(f"{path}.{name}", "missing") for name in needed if name not in value]
    for name, item in value.items():
        if name in fields:
            problems += _type_problems(fields[name], item, f"{path}.{name}")
        else:
            meant = "port" if name == "ready_port" and "port" in fields else str(name)
            problems.append((f"{path}.{name}", "unknown key" + nearest(meant, fields)))
    return problems


def _dictionary_problems(value: Json, path: str) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(path, message) for message in line_problems(value)]
    if not isinstance(value, Mapping):
        return [(path, f"expected a mapping or one line of platform:path, found {type_name(value)}")]
    return mapping_problems(value, path, _platform_problems)


def _platform_problems(value: Json, path: str) -> list[tuple[str, str]]:
    """Of the candidates of one platform: a list, or a list for each architecture."""
    if isinstance(value, list):
        return sequence_problems(value, path, _candidate_problems)
    if not isinstance(value, Mapping):
        return [(path, f"expected a list or a mapping of architectures, found {type_name(value)}")]
    problems = name_problems(value, path)
    for name, candidates in value.items():
        where = f"{path}.{name}"
        if isinstance(name, str) and (problem := architecture_problem(name, also=(ANY_ARCHITECTURE,))):
            listed = "; a candidate of the form {path: ...} stands in a list" if name in IMAGE_FIELDS else ""
            problems.append((where, problem + listed))
            continue
        problems += sequence_problems(candidates, where, _candidate_problems)
        problems += [
            (f"{where}[{index}].arch", f"the candidate stands under {name} already")
            for index, entry in enumerate(candidates if isinstance(candidates, list) else ())
            if isinstance(entry, Mapping) and "arch" in entry
        ]
    return problems


def _candidate_problems(value: Json, path: str) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return []
    problems = _record_problems(value, path, IMAGE_FIELDS, ("path",))
    if problems:
        return problems
    for name, check in (("arch", architecture_problem), ("digest", digest_problem)):
        if name in value and (problem := check(value[name])):
            problems.append((f"{path}.{name}", problem))
    for name, need in value.get("requires", {}).items():
        if problem := need_problem(name, need):
            problems.append((f"{path}.requires.{name}", problem))
    return problems


def _address_problems(kind: Kind, value: Json, path: str) -> list[tuple[str, str]]:
    problems = _type_problems(Kind.STRING, value, path)
    judge = collectors_problem if kind is Kind.COLLECTORS else prefix_problem
    if not problems and (problem := judge(value)):
        problems.append((path, problem))
    return problems


_TEXTS = {
    Kind.CONDOR_VERSION: (CONDOR_VERSION, "no version of HTCondor: any, latest, or such as 23, 23.9 or 23.9.6"),
    Kind.CONDOR_PLACES: (CONDOR_PLACE, "no directory below /cvmfs/REPOSITORY/"),
    Kind.TARBALLS: (
        TARBALLS,
        "neither `signed`, an absolute path, nor an https:// or http:// address without a password",
    ),
    Kind.SHA256: (SHA256, "no SHA-256 digest: 64 hexadecimal digits in small letters are needed"),
    Kind.SCRATCH: (SCRATCH_INSIDE, "no place for it: a path such as /srv is needed, not in /etc, /usr, /tmp ..."),
    Kind.DIRECTORIES: (BIND_PATH, "no directory: an absolute path without space, comma, colon or quote is needed"),
    Kind.DOMAIN: (DOMAIN, "no domain, such as example.org: letters, digits and - only, a dot between its parts"),
    Kind.REPOSITORIES: (REPOSITORY, "no repository of CVMFS: its name alone is needed, such as sft.cern.ch"),
    Kind.PLAIN_DIRECTORY: (PLAIN_DIRECTORY, "no absolute path of letters, digits and /._+@-, which cvmfsexec needs"),
    Kind.CVMFS_PROXIES: PROXY_GROUP_FORM,
    Kind.OPTIONS: (RUNTIME_OPTION, "no option of one word in its long form: --name or --name=value is needed"),
    Kind.VARIABLES: (VARIABLE_PATTERN, "no name of a variable: letters, digits and _ only, and * for any characters"),
}
_SINGLE = (Kind.DOMAIN, Kind.SCRATCH, Kind.CONDOR_VERSION, Kind.TARBALLS, Kind.SHA256, Kind.PLAIN_DIRECTORY)
"""One text, and no list of them."""
_GRAMMARS = {Kind.EXPRESSION: expression_problem, Kind.RESOURCE_SLOTS: resource_slots_problem}
"""What is wrong with a text, or None."""
_MAPPINGS = {Kind.CVMFS_PARAMETERS: parameters_problems, Kind.CVMFS_REPOSITORY_PARAMETERS: repositories_problems}


def _text_problems(kind: Kind, value: Json, path: str) -> list[tuple[str, str]]:
    """Of a text, a list or a mapping of texts, for which there is a pattern or a grammar."""
    if kind in _MAPPINGS:
        return _MAPPINGS[kind](value, path)
    if kind in _GRAMMARS:
        problem = _GRAMMARS[kind](value) if isinstance(value, str) else f"expected a text, found {type_name(value)}"
        return [(path, problem)] if problem else []
    if kind not in _SINGLE:
        return sequence_problems(value, path, lambda item, where: _one_text_problems(kind, item, where))
    return _one_text_problems(kind, value, path)


def _one_text_problems(kind: Kind, value: Json, path: str) -> list[tuple[str, str]]:
    problems = _type_problems(Kind.STRING, value, path)
    pattern, message = _TEXTS[kind]
    return problems or ([] if re.fullmatch(pattern, value) else [(path, f"{value!r} is {message}")])


def _bind_problems(value: Json, path: str) -> list[tuple[str, str]]:
    needed = "without space, comma, colon, quote, $ ; or backslash"
    if isinstance(value, str):
        form = f"{value!r} is no bind: source[:destination[:ro]] with absolute paths {needed}"
        return [] if re.fullmatch(BIND, value) else [(path, form)]
    problems = _record_problems(value, path, BIND_FIELDS, ("source",))
    return problems or [
        (f"{path}.{name}", f"{value[name]!r} is no absolute path {needed}")
        for name in ("source", "destination")
        if name in value and not re.fullmatch(BIND_PATH, value[name])
    ]


def _program_problems(kind: Kind, value: Json, path: str) -> list[tuple[str, str]]:
    problems = _record_problems(value, path, PROGRAM_FIELDS[kind], PROGRAM_NEEDS[kind])
    if not problems:
        problems = [(f"{path}.{name}", message) for name, message in entry_problems(value)]
    return problems or _place_problems(value, path)


def _default_problems(value: Json, path: str) -> list[tuple[str, str]]:
    if isinstance(value, str):
        problem = default_problem(value)
        return [(path, problem)] if problem else []
    if not isinstance(value, Mapping):
        return [(path, f"expected a platform or a mapping of weights, found {type_name(value)}")]
    if not value:
        return [(path, "is empty; give a platform")]
    problems = mapping_problems(value, path, _weight_problems)
    return problems + [
        (f"{path}.{name}", f"{name!r} is no name of a platform: letters, digits and . _ + - only")
        for name in value
        if isinstance(name, str) and not re.fullmatch(PLATFORM, name)
    ]


def _weight_problems(value: Json, path: str) -> list[tuple[str, str]]:
    problems = _type_problems(Kind.NUMBER, value, path)
    return problems or ([] if value > 0 else [(path, f"{value} is no weight: it must be more than 0")])


def _service_name_problems(value: Json, path: str) -> list[tuple[str, str]]:
    names = [name for name in value if isinstance(name, str)] if isinstance(value, Mapping) else []
    message = "is no name of a service: letters, digits and . _ - only, a letter or digit first"
    return [(f"{path}.{name}", f"{name!r} {message}") for name in names if not re.fullmatch(SERVICE_NAME, name)]


def _service_problems(value: Json, path: str) -> list[tuple[str, str]]:
    """Of what one layer says of a service. Without a command it adds to another layer's, or has the options of a
    plugin, which the plugin judges."""
    if value is None:
        return []
    if isinstance(value, Mapping) and "command" not in value:
        return plain_problems(value, path)
    return service_entry_problems(value, path)


def service_entry_problems(value: Json, path: str) -> list[tuple[str, str]]:
    """(path, message) of all that is wrong with one whole entry of ``services``, which is at ``path``."""
    problems = _record_problems(value, path, SERVICE_FIELDS, ("command",)) or _place_problems(value, path)
    return problems or [(f"{path}.{name}" if name else path, message) for name, message in service_problems(value)]


def _requirement_problems(value: Json, path: str) -> list[tuple[str, str]]:
    if not isinstance(value, str):
        problems = _record_problems(value, path, REQUIREMENT_FIELDS, ("require",)) or _place_problems(value, path)
        if problems:
            return problems
        level = value.get("level") or REQUIRED
        if level not in LEVELS:
            return [(f"{path}.level", f"{level!r} is none of {', '.join(LEVELS)}{nearest(level, LEVELS)}")]
        value = value["require"]
    try:
        parse(value)
    except RequirementError as error:
        return [(path, error.failure.message)]
    return []


def _place_problems(value: Mapping[str, Json], path: str) -> list[tuple[str, str]]:
    """Of ``where`` and ``platform`` in a record whose fields have the right types."""
    where = value.get("where", WHERE[0])
    if where not in WHERE:
        return [(f"{path}.where", f"{where!r} is none of {', '.join(WHERE)}{nearest(where, WHERE)}")]
    if where == "host" and "platform" in value:
        return [(f"{path}.platform", "names an image, and only what has where: image is in one")]
    return []


def _article(kind: Kind) -> str:
    return f"an {kind.value}" if kind.value[0] in "aeiou" else f"a {kind.value}"
