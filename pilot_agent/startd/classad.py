"""Values as ClassAd text, and text as the value of a line in an HTCondor configuration file.

The resident keeper loads this module: nothing is imported, neither ``re`` nor ``typing``.

Two layers with rules of their own. HTCondor reads configuration values and the output of startd cron jobs in the
*old* ClassAd syntax: in a string only ``\\"`` is an escape, every other backslash stands for itself, and no control
character but the tab can be written. A configuration value is one line in which ``$`` may begin a macro.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilot_agent.model import Json

INTEGER_LIMIT = 2**63
DEPTH_LIMIT = 16

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_NAME_CHARACTERS = _LETTERS | frozenset("0123456789")
# Words of the language: as a name each of them would be read as something else.
_RESERVED = frozenset(("true", "false", "undefined", "error", "is", "isnt", "my", "target", "parent", "toplevel"))


class LiteralError(ValueError):
    """A value that the old ClassAd syntax or a configuration line cannot carry; the message says why."""


def attribute_name(name: str) -> str:
    """The name itself when it can name a ClassAd attribute. Raises ``LiteralError``."""
    if not name or name[0] not in _LETTERS or not _NAME_CHARACTERS.issuperset(name):
        raise LiteralError(f"{name!r} cannot name a ClassAd attribute: letters, digits and _ only, no digit first")
    if name.lower() in _RESERVED:
        raise LiteralError(f"{name!r} is a word of the ClassAd language and cannot name an attribute")
    return name


def literal(value: Json) -> str:
    """The ClassAd expression, in old syntax, that evaluates to ``value``.

    None becomes undefined, lists become ClassAd lists, mappings nested ads. Raises ``LiteralError`` for what the
    syntax cannot carry: control characters, integers beyond 64 bits, names that are no attribute names.
    """
    return _literal(value, 0)


def _literal(value: Json, depth: int) -> str:
    if depth > DEPTH_LIMIT:
        raise LiteralError(f"the value is nested more than {DEPTH_LIMIT} levels deep")
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return _real(value)
    if isinstance(value, str):
        return string(value)
    if isinstance(value, list | tuple):
        return "{ " + ", ".join(_literal(item, depth + 1) for item in value) + " }"
    if isinstance(value, dict):
        return "[ " + "; ".join(f"{attribute_name(k)} = {_literal(v, depth + 1)}" for k, v in value.items()) + " ]"
    raise LiteralError(f"a {type(value).__name__} has no ClassAd form")


def string(text: str) -> str:
    """A ClassAd string literal in old syntax. Raises ``LiteralError`` when it holds a control character."""
    found = _unwritable(text)
    if found:
        raise LiteralError(f"{found} cannot be written in a ClassAd string")
    quoted = text.replace('"', '\\"')
    if quoted.endswith("\\"):
        # A backslash before the closing quote would escape it wherever something follows the literal.
        return f'substr("{quoted} ", 0, -1)'
    return f'"{quoted}"'


def printable(text: str) -> str:
    """``text`` with everything that ``string`` refuses replaced by spaces, for messages that only people read."""
    return "".join(" " if _is_unwritable(character) else character for character in text)


def _is_unwritable(character: str) -> bool:
    """Control characters but the tab, and lone surrogates, which no file can hold as UTF-8."""
    return (character < " " and character != "\t") or character == "\x7f" or "\ud800" <= character <= "\udfff"


def _unwritable(text: str) -> str:
    """The first character that cannot be written, in words; empty when there is none."""
    for position, character in enumerate(text):
        if _is_unwritable(character):
            return f"character {ord(character):#x} at {position}"
    return ""


def _integer(value: int) -> str:
    if not -INTEGER_LIMIT < value < INTEGER_LIMIT:
        raise LiteralError(f"{value} does not fit a ClassAd integer of 64 bits")
    return str(value)


def _real(value: float) -> str:
    if value != value:  # only NaN differs from itself
        return 'real("NaN")'
    if value in (float("inf"), float("-inf")):
        return 'real("INF")' if value > 0 else '-real("INF")'
    return repr(value)


def config_text(text: str) -> str:
    """``text`` as the value of one configuration line, so that HTCondor reads back exactly ``text``.

    Raises ``LiteralError`` for what no line can hold: line ends, NUL, space at either end, a backslash at the end
    (it would join the next line).
    """
    found = _unwritable(text)
    if found:
        raise LiteralError(f"{found} cannot be in a configuration value")
    if text != text.strip():
        raise LiteralError("a configuration value cannot begin or end with space")
    if text.endswith("\\"):
        raise LiteralError("a configuration value cannot end with a backslash: it would join the next line")
    return text.replace("$", "$(DOLLAR)")


def config_literal(value: Json) -> str:
    """``literal(value)`` as the value of a configuration line. Raises ``LiteralError``."""
    return config_text(literal(value))


def environment_string(variables: Mapping[str, str], *, more: str = "") -> str:
    """An environment in HTCondor's double-quoted form, as STARTER_JOB_ENVIRONMENT takes it, safe in a line. ``more`` is
    the knob that holds further words; of two values of one name the later counts.

    Raises ``LiteralError`` for a name with ``=`` or space, and for a value with a control character.
    """
    return '"' + environment_words(variables) + (f" $({more})" if more else "") + '"'


def environment_words(variables: Mapping[str, str]) -> str:
    """The words inside of an ``environment_string``. Raises ``LiteralError`` as it does."""
    words = []
    for name, value in variables.items():
        if not name or any(character.isspace() or character in "='\"" for character in name):
            raise LiteralError(f"{name!r} cannot name a variable of the jobs' environment")
        found = _unwritable(value)
        if found:
            raise LiteralError(f"variable {name}: {found} cannot reach a job")
        quoted = value.replace("'", "''").replace('"', '""')
        words.append(f"{name}='{quoted}'")
    return config_text(" ".join(words))
