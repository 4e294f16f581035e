"""The factory on its store: what it knows of its pilots, who may tell it more, and what it shows of it."""
