# The start of pilot.pyz. Parses under any Python; byte code for CPython 3.13 lies beside the sources (other versions
# skip it), that of 3.11 in a directory of its own, which has to come first.
import sys

if sys.version_info[:2] == (3, 11) and sys.implementation.name == "cpython":
    sys.path.insert(0, sys.path[0] + "/cp311")

from pilot_agent.__main__ import main

sys.exit(main())
