"""The submit description of a pilot's job, for entries of every type."""

from __future__ import annotations

from collections.abc import Callable

from server_stub.factory.descriptions import arc, blahp, clouds, schedd, vanilla
from server_stub.factory.descriptions.parcel import Lines, Parcel
from server_stub.factory.entry import Entry

KINDS: dict[str, Callable[[Parcel], Lines]] = {
    "local": vanilla.describe,
    "batch": blahp.describe,
    "condor": schedd.describe,
    "arc": arc.describe,
    **dict.fromkeys(clouds.CLOUDS, clouds.describe),
}
"""By the first word of the entry's type."""


def description(parcel: Parcel) -> str:
    """The whole description. Every value in it was checked when the factory's file was read."""
    lines = {**KINDS[parcel.entry.type.split()[0]](parcel), **parcel.entry.submit.lines}
    for name, value in lines.items():
        if "\n" in value or "\r" in value:
            raise ValueError(f"{name} of the entry {parcel.entry.name} is more than one line")
    return "".join(f"{name} = {value}\n" for name, value in lines.items()) + "queue 1\n"


def makes_logs(entry: Entry) -> bool:
    """Whether the directory of logs comes into being only when the pilot's files come home."""
    return entry.type.startswith("batch ") and blahp.makes_logs(entry)
