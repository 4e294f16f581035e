"""What every source of entries gives, and how entries are corrected, compared and written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from pilot_agent.model import Json
from server_stub.factory.scores import is_number
from server_stub.factory.texts import shown

Entry = dict[str, Json]
LONGEST_NAME = 63
SKIP = "skip"


@dataclass(slots=True)
class Imported:
    """Entries as the factory's file holds them, and what of the source they do not hold, each with its place. ``pilot``
    is what the source tells all pilots, for ``pilot`` in the factory's file."""

    entries: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pilot: Entry = field(default_factory=dict)

    def add(self, entry: Mapping[str, Json]) -> None:
        """One more entry, without what is not known; a name that is taken gets a number."""
        made = {key: value for key, value in entry.items() if value not in (None, "", [], {})}
        taken = {other["name"] for other in self.entries}
        name, number = made["name"], 2
        while made["name"] in taken:
            made["name"], number = f"{name[: LONGEST_NAME - 4]}-{number}", number + 1
        self.entries.append(made)

    def note(self, place: str, what: str) -> None:
        """Something that has no counterpart."""
        self.notes.append(f"{shown(place)}: {shown(what)}")


def name_of(*parts: object) -> str:
    """A name that an entry may have, made of these."""
    cleaned = (re.sub(r"[^A-Za-z0-9_.]+", "_", str(part)).strip("_.") for part in parts if part)
    return "-".join(filter(None, cleaned))[:LONGEST_NAME] or "unnamed"


def whole(value: Json) -> int | None:
    """A positive whole number that was written as one or as its text; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}", value):
        value = int(value)
    return int(value) if is_number(value) and 0 < value < 10**12 else None


def overridden(imported: Imported, overrides: Mapping[str, Json]) -> Imported:
    """The entries as people corrected them: ``defaults`` for what the source does not say, below ``entries`` what
    counts instead for one of them, ``skip: true`` for one that is not wanted. A name that fits no entry is noted."""
    defaults, changes = _mapping(overrides, "defaults"), _mapping(overrides, "entries")
    made = Imported(notes=list(imported.notes), pilot=imported.pilot)
    names = [str(entry["name"]) for entry in imported.entries]
    for name in sorted(map(str, changes)):
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            made.note(f"overrides.entries.{name}", "no such entry" + (f"; did you mean {near[0]}?" if near else ""))
    for name in sorted(set(map(str, overrides)) - {"defaults", "entries"}):
        made.note(f"overrides.{name}", "neither defaults nor entries")
    for entry in imported.entries:
        change = _mapping(changes, str(entry["name"]))
        if change.get(SKIP) is not True:
            made.entries.append({**defaults, **entry, **{k: v for k, v in change.items() if k != SKIP}})
    return made


def _mapping(document: Mapping[str, Json], key: str) -> Mapping[str, Json]:
    found = document.get(key)
    return found if isinstance(found, Mapping) else {}


def difference(before: Iterable[Entry], after: Iterable[Entry]) -> list[str]:
    """What changed between two lists of entries, a line for each, by name."""
    old, new = ({str(entry["name"]): entry for entry in entries} for entries in (before, after))
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            lines.append(f"- {name}")
        elif name not in old:
            lines.append(f"+ {name} ({new[name].get('site', '')})")
        else:
            lines += _changed(name, old[name], new[name])
    return lines


def _changed(name: str, old: Entry, new: Entry) -> list[str]:
    keys = [key for key in dict.fromkeys((*old, *new)) if old.get(key) != new.get(key)]
    return [f"~ {name}: {key} {_said(old, key)} -> {_said(new, key)}" for key in keys]


def _said(entry: Entry, key: str) -> str:
    if key not in entry:
        return "nothing"
    return yaml.safe_dump(entry[key], default_flow_style=True).strip().removesuffix("\n...")


def written(imported: Imported) -> str:
    """The entries as a file that ``entries_files`` may name; the same entries always give the same text."""
    entries = sorted(imported.entries, key=lambda entry: str(entry["name"]))
    document: dict[str, Any] = {"entries": entries}
    return _for_all(imported) + _yaml(document)


def _for_all(imported: Imported) -> str:
    """What belongs into the factory's own file, as remarks."""
    if not imported.pilot:
        return ""
    lines = _yaml({"pilot": imported.pilot}).splitlines()
    return "# For every entry, in factory.yaml:\n" + "".join(f"#   {line}\n" for line in lines) + "\n"


def _yaml(document: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return text
