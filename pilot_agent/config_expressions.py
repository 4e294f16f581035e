"""What can be seen of a ClassAd expression without HTCondor: whether it is one, on one line, and closed.

An expression is put between parentheses among others, so what closes a parenthesis that it did not open, hides the
rest of the line or begins another one would change the meaning of everything around it. Whether the words mean
something is HTCondor's to judge, before the start (``startd.verify``).
"""

from __future__ import annotations

_PAIRS = {")": "(", "]": "[", "}": "{"}
MOST_CHARACTERS = 8192
MOST_DEPTH = 64


def expression_problem(text: str) -> str | None:
    """What is wrong with ``text`` as one ClassAd expression; None when nothing can be seen."""
    if not text.strip():
        return "is empty; give an expression, or leave the key out"
    if len(text) > MOST_CHARACTERS:
        return f"is longer than {MOST_CHARACTERS} characters"
    bad = next((c for c in text if (c < " " and c != "\t") or c == "\x7f" or "\ud800" <= c <= "\udfff"), None)
    if bad is not None:
        what = "a line end" if bad in "\n\r" else f"the control character {ord(bad):#x}"
        return f"has {what}; an expression is one line"
    if text.rstrip().endswith("\\"):
        return "ends with a backslash, which would join the next line"
    return _structure_problem(text)


def _structure_problem(text: str) -> str | None:
    opened: list[str] = []
    place = 0
    while place < len(text):
        character = text[place]
        if character in "\"'":
            after = _after_quoted(text, place)
            if after is None:
                return f"has a quote at character {place + 1} that is not closed"
            place = after
            continue
        if text.startswith(("//", "/*"), place):
            return f"has a comment at character {place + 1}, which would hide what follows"
        if character in "([{":
            opened.append(character)
            if len(opened) > MOST_DEPTH:
                return f"is nested more than {MOST_DEPTH} levels deep"
        elif character in _PAIRS and (not opened or opened.pop() != _PAIRS[character]):
            return f"closes {character} at character {place + 1}, which it did not open"
        elif character == ";" and "[" not in opened:
            return f"has a semicolon at character {place + 1}: one expression is needed"
        place += 1
    return f"opens {opened[-1]} and does not close it" if opened else None


def _after_quoted(text: str, begin: int) -> int | None:
    """Where the quoted text that begins at ``begin`` is over; None when it is not closed."""
    place = begin + 1
    while place < len(text):
        if text[place] == "\\" and text[place + 1 : place + 2] == text[begin]:
            place += 2
            continue
        if text[place] == text[begin]:
            return place + 1
        place += 1
    return None
