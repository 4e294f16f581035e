"""The reference of all hooks and their records, Markdown, from the contract itself."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
import typing

from pilot_agent import hookspecs
from pilot_agent.hookspecs import DECLARATIONS
from pilot_agent.model import FailureKind

EVENT_HOOK = "pilot_event"


def hook_page() -> str:
    """A heading for each hook, what it is for, what it yields with all fields and defaults, and its example."""
    parts = ["## Every hook\n"]
    for hook in (*DECLARATIONS, EVENT_HOOK):
        about, _, example = (inspect.getdoc(getattr(hookspecs, hook)) or "").partition("Example::\n")
        parts += [f"### {hook}\n", _markdown(about)]
        record = DECLARATIONS.get(hook)
        if record is not None:
            parts += [f"`{record.__name__}`: {_markdown(inspect.getdoc(record) or '')}", _fields(record)]
        # Two empty lines before a function, as the documentation's other code has them.
        code = textwrap.dedent(example).strip().replace("\n\n@hookimpl", "\n\n\n@hookimpl")
        parts += [f"```python\n{code}\n```\n"]
    return "\n".join(parts)


def _markdown(text: str) -> str:
    return text.strip().replace("``", "`") + "\n"


def _fields(record: type) -> str:
    hints = typing.get_type_hints(record)
    rows = ["| field | type | default |", "|---|---|---|"]
    for field in dataclasses.fields(record):
        rows.append(f"| `{field.name}` | {_type(hints[field.name])} | {_default(field)} |")
    return "\n".join(rows) + "\n"


def _type(hint: object) -> str:
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    text = str(hint)
    for module in ("typing.", "pilot_agent.hookspecs.", "pilot_agent.model."):
        text = text.replace(module, "")
    return f"`{text}`" if "[" in text else text.replace("|", "or")


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default.value if isinstance(field.default, FailureKind) else field.default
        return f"`{value!r}`"
    return "needed" if field.default_factory is dataclasses.MISSING else "empty"
