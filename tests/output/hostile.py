"""Reports that a damaged file or a hostile node could give: the full one with anything in any place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.output.reports import full

MARK = "zz9"
"""The name of an element that no page has: where a parser meets it as an element, a text was not escaped."""
TRICKS = (
    f"<{MARK}>",
    f"</td></table></details></section><{MARK} onload=alert(1)>",
    f"\"'><{MARK}>",
    f"--><{MARK}>]]><!--",
    "</style><script>alert(1)</script>",
    "javascript:alert(1)",
    "&amp;&lt;&#x0;",
    "a | b;c='1'\nPILOT OK - all is well | 'x'=1",
    'x"} 1\npilot_agent_node_fit{vo="y"} 1\n# TYPE x counter',
    "\\",
    "\\n\\",
    "\x00\x01\x08\x0b\x0c\x1b[31m\x7f\x85\ufffe\uffff",
    "\ud800 alone",
    "\u202eabc\u2066",
    "\r\n\t ",
    "",
    "x" * 5000,
    "é漢字🎉",
)
texts = st.sampled_from(TRICKS) | st.text(max_size=20) | st.text(st.characters(), max_size=5)
numbers = st.integers() | st.floats() | st.sampled_from([10**400, -(10**30), 1e308, 2**63, 0.1, -0.0])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def _leaves(data: Any, change: Callable[[Any], Any]) -> Any:
    """The data with every leaf changed, in order; and keys, where a plugin chooses them, that are texts."""
    if isinstance(data, dict):
        return {key: _leaves(value, change) for key, value in data.items()}
    if isinstance(data, list):
        return [_leaves(item, change) for item in data]
    return change(data)


def _with(places: dict[int, Any]) -> Any:
    """The full report with these values in place of its leaves of these numbers."""
    count = iter(range(10_000))
    return _leaves(full(), lambda leaf: places.get(next(count), leaf))


def everywhere(text: str) -> Any:
    """The full report with one text in place of every other, as value and as name."""
    report = _leaves(full(), lambda leaf: text if isinstance(leaf, str) and leaf not in ("pass", "known") else leaf)
    report["node"][text] = {text: report["node"]["os"]["arch"], "number": {"value": 3, "unit": text, "status": "known"}}
    report["ad"][text] = text
    return report


reports = (
    st.builds(_with, st.dictionaries(st.integers(0, 800), values, min_size=1, max_size=60))
    | st.builds(everywhere, texts)
    | st.builds(lambda key, value: full() | {key: value}, st.sampled_from(sorted(full())), values)
    | values
)
