"""Words for people: what a misspelt one was probably meant to be, and units of one thing and of several."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean x?`` for the end of a message, or nothing."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def unit_of(number: object, unit: str) -> str:
    """The unit behind a number: ``core`` behind 1 where it is ``cores``; what is no plural stays."""
    if number != 1 or isinstance(number, bool):
        return unit
    return _SINGULAR.get(unit, unit)


_SINGULAR = {"processes": "process", "entries": "entry"} | {
    f"{word}s": word for word in ("core", "socket", "thread", "GPU", "byte", "node", "restart", "page", "cycle")
}
