"""The report on standard output, between two markers, so that a batch system brings it home whatever else is lost.

A small one is one line of JSON, a larger one is compressed and in base64. The first marker says what follows, how long
it is and its checksum: who reads it (``pilot_agent.output.printed``) sees whether all of it came.
"""

from __future__ import annotations

from pilot_agent.light import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PLAIN_LIMIT_BYTES = 8 << 10
PRINT_LIMIT_BYTES = 1 << 20
CONTENT_LIMIT_BYTES = 16 << 20
"""More is not even packed."""
LINE_BYTES = 57
"""Of what becomes one line of base64: 76 characters."""
DROPPABLE = ("node", "ad", "timeline", "checks", "verdicts", "plugins", "benchmarks", "container", "time")
"""What a report that is too large is printed without, in this order, until it is small enough."""


def printed(report: dict[str, Any]) -> str:
    """The report with its markers: lines of ASCII, of bounded size."""
    for dropped in range(len(DROPPABLE) + 1):
        text = _block({**report, **{name: _empty(report.get(name)) for name in DROPPABLE[:dropped]}})
        if text and len(text) <= PRINT_LIMIT_BYTES:
            return text
    return _block({name: report.get(name) for name in ("schema", "pilot", "outcome")})[:PRINT_LIMIT_BYTES]


def _block(report: dict[str, Any]) -> str:
    """The lines; none for what is far too large."""
    content = dumps(report).encode()
    if len(content) > CONTENT_LIMIT_BYTES:
        return ""
    encoding, body = "json", content.decode() + "\n"
    if len(content) > PLAIN_LIMIT_BYTES:
        encoding, body = _packed(content) or (encoding, body)
    return (
        f"{begin_marker(_name(report), encoding, len(content), checksum(content))}\n{body}{end_marker(_name(report))}\n"
    )


def begin_marker(name: str, encoding: str, size: int, check: str) -> str:
    """The line before a printed report; ``size`` in bytes of the JSON, before it was packed."""
    return f"=== pilot-agent report {name}: {encoding}, {size} bytes, checksum {check} ==="


def end_marker(name: str) -> str:
    """The line after a printed report."""
    return f"=== end of pilot-agent report {name} ==="


def checksum(content: bytes) -> str:
    """Adler-32, eight hexadecimal digits; ``none`` where the module for it is gone with the payload."""
    try:
        import zlib
    except (ImportError, OSError):
        return "none"
    return f"{zlib.adler32(content):08x}"


def _packed(content: bytes) -> tuple[str, str] | None:
    """The encoding's name and the lines; None where the modules for it are gone with the payload."""
    try:
        import binascii
        import zlib
    except (ImportError, OSError):
        return None
    packed = zlib.compress(content, 9)
    lines = (binascii.b2a_base64(packed[start : start + LINE_BYTES]) for start in range(0, len(packed), LINE_BYTES))
    return "zlib base64", b"".join(lines).decode()


def _name(report: dict[str, Any]) -> str:
    """The pilot's identifier; a dash where it has none, or one that is no word."""
    pilot = report.get("pilot")
    name = pilot.get("id") if isinstance(pilot, dict) else None
    return name if isinstance(name, str) and name.isascii() and name.replace("-", "").isalnum() else "-"


def _empty(value: Any) -> Any:
    return type(value)() if isinstance(value, dict | list) else None
