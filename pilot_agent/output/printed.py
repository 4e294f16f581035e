"""Reports in what batch jobs wrote to standard output: found between their markers, unpacked, proven whole."""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pilot_agent.lifecycle.printed import checksum
from pilot_agent.model import Json

BEGIN = re.compile(
    r"^(?P<label>\d+: *)?=== pilot-agent report (?P<name>[A-Za-z0-9-]+): (?P<encoding>json|zlib base64), "
    r"(?P<size>\d{1,12}) bytes, checksum (?P<check>[0-9a-f]{8}|none) ===$"
)
UNPACKED_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Printed:
    """One report that was begun. ``problem`` says why it cannot be read; ``report`` is None then."""

    name: str
    report: Json | None
    problem: str


def find_printed(text: str) -> list[Printed]:
    """Every report that is begun in a text, in its order. With ``srun --label`` the lines of several pilots may be
    mixed: only those with the label of a report's first line belong to it."""
    lines = text.splitlines()
    found = []
    for number, line in enumerate(lines):
        began = BEGIN.match(line)
        if began is not None:
            found.append(_read(began, _body(lines[number + 1 :], began)))
    return found


def _body(lines: list[str], began: re.Match[str]) -> list[str] | None:
    """The lines of one report; None when its end did not come."""
    label, name = began["label"] or "", began["name"]
    body: list[str] = []
    for line in _labelled(lines, label):
        if line == f"=== end of pilot-agent report {name} ===":
            return body
        if BEGIN.match(line):
            return None
        body.append(line)
    return None


def _labelled(lines: list[str], label: str) -> Iterator[str]:
    if not label:
        yield from lines
    number = label.strip()
    for line in lines if label else ():
        first, colon, _ = line.partition(":")
        if colon and f"{first}:".strip() == number:
            yield line[len(label) :]


def _read(began: re.Match[str], body: list[str] | None) -> Printed:
    name, size = began["name"], int(began["size"])
    if body is None:
        return Printed(name, None, "the output ends, or another report begins, before this one does: it was cut off")
    if size > UNPACKED_LIMIT_BYTES:
        return Printed(name, None, f"it says to have {size} bytes, and more than {UNPACKED_LIMIT_BYTES} are not read")
    try:
        content = _unpacked("".join(body)) if began["encoding"] != "json" else "".join(body).encode()
    except (binascii.Error, ValueError, zlib.error) as error:
        return Printed(name, None, f"lines are missing in it or something else was written into it ({error})")
    if len(content) != size or began["check"] not in ("none", checksum(content)):
        message = f"lines are missing in it or something else was written into it ({len(content)} of {size} bytes)"
        return Printed(name, None, message)
    try:
        return Printed(name, json.loads(content, parse_constant=_refuse_constant), "")
    except (ValueError, RecursionError) as error:
        return Printed(name, None, f"it came whole but is no JSON ({error})")


def _unpacked(text: str) -> bytes:
    packed = base64.b64decode(text, validate=True)
    reader = zlib.decompressobj()
    content = reader.decompress(packed, UNPACKED_LIMIT_BYTES)
    if not reader.eof:
        raise ValueError("it is not complete")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
