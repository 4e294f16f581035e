#!/usr/bin/env python3
"""Scripts need not be shell scripts."""

import os
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    values = dict(line.rstrip("\n").partition(" ")[::2] for line in file)
assert values["EXAMPLE_Internal"] == "only for other scripts", values
assert values["GLIDEIN_Site"] == "Example_T2"
assert os.getcwd() == os.path.dirname(sys.argv[1])
with open(sys.argv[1], "a", encoding="utf-8") as file:
    file.write("EXAMPLE_FromPython 42\n")
