"""The fault suite: real pilots on the testbed's HTCondor, each broken at one chosen point of its life.

`python -m tests.chaos` (or `make chaos`) runs `CHAOS_POINTS` points chosen by `CHAOS_SEED`. `faults.py` is the table of
what is broken and what must come of it, `point.py` runs one of them, `ground.py` is the grid that they run on.
"""
