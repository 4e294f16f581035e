"""JSON and signals from the compiled halves of their modules, for processes that stay in memory.

``json`` and ``signal`` load ``re``, ``enum``, ``functools`` and ``collections``: 1.2 MiB in each resident process, a
quarter of what it has of its own. The compiled halves (``_json``, ``_signal``) do the work anyway. They are no public
interface, so on a Python that has changed them this falls back to the public modules.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any
else:
    try:
        import _signal as signal
    except ImportError:
        import signal

__all__ = ["dumps", "loads", "mapping", "sha256_hex", "signal", "signal_name"]


class _Rules:
    """What the compiled scanner asks its owner for (json.JSONDecoder's defaults)."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}  # noqa: RUF012 - the scanner clears it after each text

    @staticmethod
    def parse_constant(name: str) -> float:
        """NaN, Infinity and -Infinity."""
        return float(name)


def _refuse(value: object) -> object:
    raise TypeError(f"a {type(value).__name__} cannot become JSON")


def loads(text: str | bytes | bytearray) -> Any:
    """The value of a JSON text (UTF-8). Raises ``ValueError``."""
    if not isinstance(text, str):
        text = text.decode()
    text = text.strip(" \t\r\n")
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("no JSON value where one must be") from None
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    except (ImportError, OSError, SystemError) as error:
        # What says what is wrong is the public module's: the scanner loads it, and that may be gone, or (Python 3.11)
        # looks for it among what is loaded, and says nothing where it is not there.
        raise ValueError("damaged JSON") from error
    if end != len(text):
        raise ValueError(f"{len(text) - end} characters follow the JSON value")
    return value


def mapping(text: bytes) -> dict[str, Any]:
    """The object that a JSON text is; an empty one for whatever else it is."""
    try:
        value = loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def dumps(data: Any, *, indent: int | None = None, default: Callable[[Any], Any] = _refuse) -> str:
    """The JSON text of ``data``, ASCII only, in one line or with ``indent``. Raises ``TypeError``, ``ValueError``."""
    if indent is None:
        return _encode(data, default)
    return _indented(data, indent, "\n", default)


def _indented(data: Any, indent: int, line: str, default: Callable[[Any], Any]) -> str:
    if isinstance(data, str):
        return _quoted(data)
    inner = line + " " * indent
    if isinstance(data, dict) and data:
        items = [
            f"{_quoted(key) if isinstance(key, str) else _encode({key: 0}, default)[1:-4]}: "
            f"{_indented(value, indent, inner, default)}"
            for key, value in data.items()
        ]
        return f"{{{inner}{f',{inner}'.join(items)}{line}}}"
    if isinstance(data, list | tuple) and data:
        return f"[{inner}{f',{inner}'.join(_indented(item, indent, inner, default) for item in data)}{line}]"
    return _encode(data, default)


def signal_name(number: int) -> str:
    """SIGTERM for 15; ``signal N`` for one without a name."""
    for name in dir(signal):
        if name.startswith("SIG") and not name.startswith("SIG_") and getattr(signal, name) == number:
            return name
    return f"signal {number}"


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of ``data`` in hexadecimal digits. ``hashlib`` loads OpenSSL for it, which takes longer than a short
    program's whole work."""
    for name in ("_sha2", "_sha256"):  # the second until Python 3.11
        try:
            digits: str = __import__(name).sha256(data).hexdigest()
        except (ImportError, AttributeError):
            continue
        return digits
    from hashlib import sha256

    return sha256(data).hexdigest()


def _public_loads(text: str, start: int) -> tuple[Any, int]:
    import json

    return json.JSONDecoder().raw_decode(text, start)


def _public_dumps(data: Any, default: Callable[[Any], Any]) -> str:
    import json

    return json.dumps(data, default=default)


def _quoting() -> Callable[[str], str]:
    """The compiled function for texts, which is most of what is written."""
    try:
        from _json import encode_basestring_ascii

        if encode_basestring_ascii('x"\n\u00e9') == '"x\\"\\n\\u00e9"':
            return encode_basestring_ascii  # type: ignore[no-any-return,unused-ignore]
    except (ImportError, TypeError):
        pass
    return lambda text: _encode(text, _refuse)


def _compiled() -> tuple[Callable[[str, int], tuple[Any, int]], Callable[[Any, Callable[[Any], Any]], str]]:
    """The compiled scanner and encoder, or the public ones where those do not work as expected."""
    try:
        import _json

        scan = _json.make_scanner(_Rules)  # type: ignore[arg-type]  # whatever has these attributes will do

        def encode(data: Any, default: Callable[[Any], Any]) -> str:
            encoder = _json.make_encoder(
                None, default, _json.encode_basestring_ascii, None, ": ", ", ", False, False, True
            )
            return "".join(encoder(data, 0))

        sample: dict[str, Any] = {"a": [1, 2.5, None, True, 'x"\n\u00e9', {}]}
        if scan(encode(sample, _refuse), 0)[0] == sample:
            return scan, encode
    except (ImportError, AttributeError, TypeError):
        return _public_loads, _public_dumps
    return _public_loads, _public_dumps


_scan, _encode = _compiled()
_quoted = _quoting()
