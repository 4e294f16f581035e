"""`python benchmarks/run.py [NAME ...]`: measure all figures or some; `profile` shows where a start's time goes."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from benchmarks.command import main

    sys.exit(main(sys.argv[1:]))
