"""Lines of ``condor_vars.lst``: which values of glidein_config reach the machine ad and the jobs, and how."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from pilot_agent.model import Json
from pilot_gwms_scripts.ad_text import NoLiteralError, parse_literal

MOST_DEPTH = 32
NONE = "-"
SAME = "+"
CONDOR_NAME = "@"
COLUMNS = 7
# Lists of today mix attributes of the machine with HTCondor's own settings; a pilot has written those already.
_KNOB = re.compile(
    r"""(?ix)
    start | rank | preempt | kill | suspend | continue | requirements | cpus | memory | disk | gpus | name | machine
    | state | activity | daemon_list | collector_host | condor_host | ccb_address | claim_worklife | is_owner | isowner
    | num_cpus | num_slots.* | slot_type_.* | slots?\d*_.* | max_.*_log | sec_.* | allow_.* | deny_.* | want_.*
    | (preempt|hold)_grace_time | maxjobretirementtime | use_(ccb|shared_port|process_groups|match_auth|procd)
    | (startd|master|starter|shared_port|procd|schedd|preen)(_.*)? | user_job_wrapper
    | machine_resource_.* | reserved_.* | .*_timeout | update_interval | shutdown_.* | log | execute | spool | lock
    """
)
_OWN_NAMES = ("GLIDEIN_", "GLIDECLIENT_", "SINGULARITY_", "GWMS_")
_QUOTED = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""")
_CLOSED = re.compile(r"\([^()\[\]{};]*\)|\{[^()\[\]{};]*\}|\[[^()\[\]{}]*\]")
_BROKEN = re.compile(r"""[()\[\]{};"'\x00-\x08\x0a-\x1f\x7f]|//|/\*""")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class LineError(ValueError):
    """A line that is none; the message says why."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One line: ``kind`` is C (an expression as it is), S (a text) or I (an integer), ``default`` None where there is
    none, ``job`` the name under which jobs have it, empty for no job."""

    name: str
    kind: Literal["C", "S", "I"]
    default: str | None
    attribute: str
    required: bool
    exported: bool
    job: str


@dataclass(frozen=True, slots=True)
class Exports:
    """What the values give: attributes of the machine ad (constants, expressions), variables of jobs, names of what is
    required and missing, and what cannot be given as it is meant."""

    attributes: dict[str, Json] = field(default_factory=dict)
    expressions: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def parse_line(line: str) -> Variable | None:
    """The variable of a line; None for an empty one or a comment. Raises ``LineError``."""
    columns = line.split()
    if not columns or columns[0].startswith("#"):
        return None
    if len(columns) != COLUMNS:
        raise LineError(f"{line[:200]!r} has {len(columns)} columns; {COLUMNS} are needed")
    name, kind, default, condor_name, required, exported, job = columns
    attribute = name if condor_name == SAME else condor_name
    if kind not in ("C", "S", "I"):
        raise LineError(f"{name}: the type is {kind!r}; C, S or I is needed")
    if required not in ("Y", "N") or exported not in ("Y", "N"):
        raise LineError(f"{name}: columns 5 and 6 are {required!r} and {exported!r}; Y or N is needed")
    if job not in (NONE, SAME, CONDOR_NAME):
        raise LineError(f"{name}: column 7 is {job!r}; -, + or @ is needed")
    if not (_NAME.fullmatch(name) and _NAME.fullmatch(attribute)):
        raise LineError(f"{line[:200]!r}: a name has letters, digits and _ only")
    return Variable(
        name=name,
        kind=cast("Literal['C', 'S', 'I']", kind),
        default=None if default == NONE else default,
        attribute=attribute,
        required=required == "Y",
        exported=exported == "Y",
        job={NONE: "", SAME: name, CONDOR_NAME: attribute}[job],
    )


def format_line(variable: Variable) -> str:
    """The line that is read as this variable."""
    job = {"": NONE, variable.name: SAME}.get(variable.job, CONDOR_NAME)
    yes = {True: "Y", False: "N"}
    default = NONE if variable.default is None else variable.default
    columns = (variable.name, variable.kind, default, variable.attribute, yes[variable.required])
    return "\t".join((*columns, yes[variable.exported], job))


def parse_lines(texts: Iterable[str]) -> tuple[list[Variable], list[str]]:
    """The variables of several files, of which a later one overrides an earlier one by name, and what is wrong."""
    found: dict[str, Variable] = {}
    problems = []
    for line in (line for text in texts for line in text.splitlines()):
        try:
            variable = parse_line(line)
        except LineError as error:
            problems.append(str(error))
            continue
        if variable is not None:
            found[variable.name] = variable
    return list(found.values()), problems


def resolve(variables: Iterable[Variable], values: Mapping[str, str]) -> Exports:
    """What these variables give with these values of glidein_config."""
    attributes: dict[str, Json] = {}
    expressions: dict[str, str] = {}
    environment: dict[str, str] = {}
    missing, problems = [], []
    for variable in variables:
        text = values.get(variable.name) or variable.default
        if text is None:
            if variable.required:
                missing.append(variable.name)
            continue
        if variable.exported and is_knob(variable.attribute):
            problems.append(f"{variable.attribute} is not in the machine ad: it is a setting of HTCondor")
        elif variable.exported:
            try:
                attributes[variable.attribute] = _value(variable, text)
            except NoLiteralError as error:
                if variable.kind == "C" and is_expression(text):
                    expressions[variable.attribute] = text.strip()
                else:
                    problems.append(f"{variable.attribute} is not in the machine ad: {error}")
        if variable.job:
            environment[variable.job] = text
    return Exports(attributes, expressions, environment, tuple(missing), tuple(problems))


def is_knob(attribute: str) -> bool:
    """Whether HTCondor would take an attribute of this name for one of its settings."""
    return not attribute.upper().startswith(_OWN_NAMES) and _KNOB.fullmatch(attribute) is not None


def is_expression(text: str) -> bool:
    """Whether a text can be one ClassAd expression: its quotes and parentheses are closed, and nothing follows it.

    The pilot looks again; here it is only to leave out one value and not to lose all of a script's.
    """
    bare = _QUOTED.sub("0", text)
    for _ in range(MOST_DEPTH):
        bare, changed = _CLOSED.subn("0", bare)
        if not changed:
            break
    return bool(bare.strip()) and not _BROKEN.search(bare) and not text.rstrip().endswith("\\")


def _value(variable: Variable, text: str) -> Json:
    """Raises ``NoLiteralError``."""
    if variable.kind == "S":
        return text
    value = parse_literal(text)
    if variable.kind == "I" and (isinstance(value, bool) or not isinstance(value, int)):
        raise NoLiteralError(f"{text[:200]!r} is no integer")
    return value
