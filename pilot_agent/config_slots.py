"""The grammar of ``startd.resource_slots``, as entries of GlideinWMS have it in GLIDEIN_Resource_Slots.

``name[,number[,memory[,type[,disk]]]]``, several separated by semicolons, each part by its place or as ``key=value``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from pilot_agent.spelling import nearest

SlotKind = Literal["main", "extra", "static", "partitionable", "staticextra"]
KINDS: tuple[SlotKind, ...] = get_args(SlotKind)
IN_THE_MAIN_SLOT = ("main", "extra")
FIELDS = ("name", "number", "memory", "type", "disk")
MOST_ENTRIES = 32
MOST_UNITS = 1_000_000
MOST_TEXT = 4096
GPUS = "GPUs"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_NUMBER = re.compile(r"[0-9]{1,12}")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")
_FRACTION = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")
_DECIMAL = re.compile(r"0?\.[0-9]{1,6}")
_SIZE = re.compile(r"([0-9]{1,12})\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_KIB = {"": 1, "K": 1, "M": 1 << 10, "G": 1 << 20, "T": 1 << 30}
# HTCondor's own resources, which it takes by the first letters too.
_OWN = ("cpus", "memory", "ram", "disk", "swap", "virtualmemory")


@dataclass(frozen=True, slots=True)
class ResourceSlot:
    """One resource with its slots. ``number`` None: as many GPUs as were found. ``memory_mib`` is that of all its
    slots together, ``disk_share`` a part of the whole disk and ``disk_kib`` a size: of the two one at most."""

    name: str
    number: int | None = 1
    memory_mib: int | None = None
    kind: SlotKind | None = None
    disk_share: float | None = None
    disk_kib: int | None = None

    @property
    def is_gpus(self) -> bool:
        """Whether these are the node's GPUs and no resource of the configuration's own."""
        return self.name == GPUS


class ResourceSlotsError(ValueError):
    """A text that is not in the grammar; the message says which entry and what is needed."""


def parse_resource_slots(text: str) -> tuple[ResourceSlot, ...]:
    """The resources in their order. Raises ``ResourceSlotsError``."""
    if len(text) > MOST_TEXT:
        raise ResourceSlotsError(f"is longer than {MOST_TEXT} characters")
    entries = [entry.strip() for entry in text.split(";")]
    found = tuple(_entry(number, entry) for number, entry in enumerate(entries, start=1) if entry)
    if len(found) > MOST_ENTRIES:
        raise ResourceSlotsError(f"names more than {MOST_ENTRIES} resources")
    names = [slot.name.lower() for slot in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ResourceSlotsError(f"names the resource {twice} twice")
    return found


def resource_slots_problem(text: str) -> str | None:
    """What is wrong with the text; None when it is in the grammar."""
    try:
        parse_resource_slots(text)
    except ResourceSlotsError as error:
        return str(error)
    return None


def resource_slots_text(slots: tuple[ResourceSlot, ...]) -> str:
    """The text of these resources: parsed, it gives them again."""
    return ";".join(map(_text, slots))


def _text(slot: ResourceSlot) -> str:
    words = [slot.name]
    if slot.number is not None:
        words.append(f"number={slot.number}")
    if slot.memory_mib is not None:
        words.append(f"memory={slot.memory_mib}")
    if slot.kind is not None:
        words.append(f"type={slot.kind}")
    if slot.disk_share is not None:
        words.append(f"disk={f'{slot.disk_share * 100:.6f}'.rstrip('0').rstrip('.')}%")
    if slot.disk_kib is not None:
        words.append(f"disk={slot.disk_kib}KB")
    return ",".join(words)


def _entry(number: int, entry: str) -> ResourceSlot:
    parts: dict[str, str] = {}
    for place, word in enumerate(entry.split(",")):
        key, equals, value = (piece.strip() for piece in word.partition("="))
        if not equals:
            if place >= len(FIELDS):
                raise _wrong(number, entry, f"has more than {len(FIELDS)} parts")
            key, value = FIELDS[place], key
        key = key.lower()
        if key not in FIELDS:
            raise _wrong(number, entry, f"has no part {key!r}{nearest(key, FIELDS)}; known: {', '.join(FIELDS)}")
        if key in parts:
            raise _wrong(number, entry, f"gives its {key} twice")
        if value:
            parts[key] = value
    try:
        return _slot(parts)
    except ResourceSlotsError as error:
        raise _wrong(number, entry, str(error)) from None


def _slot(parts: dict[str, str]) -> ResourceSlot:
    name = _name(parts.get("name", ""))
    kind = parts.get("type", "").lower()
    if kind and kind not in KINDS:
        raise ResourceSlotsError(f"has the type {kind!r}{nearest(kind, KINDS)}; known: {', '.join(KINDS)}")
    share, kib = _disk(parts["disk"]) if "disk" in parts else (None, None)
    memory = _number("memory", parts["memory"], "MiB") if "memory" in parts else None
    units: int | None = 1
    if "number" in parts:
        units = _number("number", parts["number"], "units")
    elif name == GPUS:
        units = None
    if units == 0 and name != GPUS:
        raise ResourceSlotsError("has a number of 0; leave the entry out")
    return ResourceSlot(name, units, memory, next((known for known in KINDS if known == kind), None), share, kib)


def _name(name: str) -> str:
    if name.lower() == GPUS.lower():
        return GPUS
    if not _NAME.fullmatch(name):
        raise ResourceSlotsError(f"has the name {name!r}; letters, digits and _ are needed, a letter first")
    if any(own.startswith(name.lower()) or name.lower() == own for own in _OWN):
        raise ResourceSlotsError(f"has the name {name!r}, which HTCondor takes for a resource of its own")
    return name


def _number(what: str, text: str, unit: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > MOST_UNITS * (1 if what == "number" else 1024):
        raise ResourceSlotsError(f"has the {what} {text!r}; a whole number of {unit} is needed")
    return int(text)


def _disk(text: str) -> tuple[float | None, int | None]:
    """A share of the whole, or KiB."""
    share: float | None = None
    if found := _PERCENT.fullmatch(text):
        share = float(found[1]) / 100
    elif (found := _FRACTION.fullmatch(text)) and int(found[2]):
        share = int(found[1]) / int(found[2])
    elif _DECIMAL.fullmatch(text):
        share = float(text)
    if share is not None:
        if not 0 < share <= 1:
            raise ResourceSlotsError(f"has the disk {text!r}; more than nothing and 100% at most is needed")
        return share, None
    found = _SIZE.fullmatch(text)
    if not found or not int(found[1]):
        raise ResourceSlotsError(f"has the disk {text!r}; 10%, 1/4 or 20GB is needed")
    return None, int(found[1]) * _KIB[found[2].upper()]


def _wrong(number: int, entry: str, why: str) -> ResourceSlotsError:
    return ResourceSlotsError(f"entry {number}, {entry[:80]!r}, {why}")
