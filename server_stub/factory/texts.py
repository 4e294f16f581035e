"""Strangers' texts made fit for a table, a terminal and a database."""

from __future__ import annotations

SHOWN_CHARACTERS = 300


def shown(text: object) -> str:
    """A stranger's text as one short line for a table or a terminal: nothing in it moves a cursor or turns the
    direction of writing, and every database and encoding takes it."""
    return "".join(sign if sign.isprintable() else " " for sign in str(text)[:SHOWN_CHARACTERS])
