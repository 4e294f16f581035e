"""Attributes and files of GlideinWMS as options of the plugin that runs existing scripts in a pilot."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

from pilot_agent.model import Json
from server_stub.factory.importing.xml import Part

PLUGIN = "gwms_scripts"
Note = Callable[[str, str], None]
TRUE = ("True", "true")
TYPES = {"string": "string", "int": "int", "expr": "expr"}


def pilot_of(note: Note, owners: Iterable[tuple[Part, str]], attributes: Iterable[Part]) -> dict[str, Json]:
    """What pilots are told of the files of ``owners``, each with whose they are to a script (``main``, ``entry``,
    ``client``, ``client_group``), and of these attributes; empty where there is neither."""
    scripts = [script for owner, whose in owners for script in _files(note, owner, whose)]
    options = {"scripts": scripts, "attributes": [_attribute(note, one) for one in attributes]}
    known = {key: value for key, value in options.items() if value}
    return {"plugins": {"load": [PLUGIN], "options": {PLUGIN: known}}} if known else {}


def _attribute(note: Note, one: Part) -> dict[str, Json]:
    kind = one.take("type", "string")
    if kind not in TYPES:
        note(f"{one.place}.type", f"{kind} is not known; taken for a string")
    made: dict[str, Json] = {"name": one.take("name"), "value": _value(kind, one.take("value"))}
    if kind in ("int", "expr"):
        made["type"] = kind
    for flag in ("glidein_publish", "job_publish"):
        if one.take(flag) in TRUE:
            made[flag] = True
    return made


def _value(kind: str, text: str) -> str | int:
    return int(text) if kind == "int" and re.fullmatch(r"[-+]?[0-9]{1,15}", text) else text


def _files(note: Note, owner: Part, whose: str) -> list[dict[str, Json]]:
    """The scripts in their order; those without a counterpart are told."""
    found = []
    for one in owner.all("files/file"):
        kind = _kind(one)
        if kind is None:
            note(one.place, "a wrapper has no counterpart: HTCondor starts jobs' containers; see vo.setups and binds")
            continue
        found.append(_file(one, whose, kind))
    return found


def _kind(one: Part) -> str | None:
    """What the script is to the plugin; None for a wrapper."""
    if one.take("wrapper") in TRUE or one.look("type") == "wrapper":
        return None
    executable, packed = one.take("executable") in TRUE, one.take("untar") in TRUE
    given = one.take("type")
    if packed:
        return "untar"
    if given.startswith(("run", "config", "exec")):
        return given
    return "exec" if executable else "regular"


def _file(one: Part, whose: str, kind: str) -> dict[str, Json]:
    path = one.take("absfname")
    made: dict[str, Json] = {"file": path, "id": whose, "type": kind}
    name, prefix = one.take("relfname"), one.take("prefix")
    if name and name != os.path.basename(path):
        made["name"] = name
    if prefix and prefix != "GLIDEIN_PS_":
        made["prefix"] = prefix
    period = one.take("period")
    if re.fullmatch(r"[1-9][0-9]{0,8}", period):
        made["period"] = int(period)
    if one.take("after_entry") == "False":
        made["after_entry"] = False
    if one.take("after_group") in TRUE:
        made["after_group"] = True
    options = one.one("untar_options")
    names = {"cond_attr": "cond_attr", "dir": "dir", "absdir_outattr": "config_out"}
    made |= {ours: value for theirs, ours in names.items() if (value := options.take(theirs))}
    return made
