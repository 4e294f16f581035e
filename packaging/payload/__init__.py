"""How build/pilot.pyz and build/pilot.sh are made. Run `python packaging/build_payload.py`."""

import sys
from pathlib import Path

# The package that lies beside these tools, and not one that happens to be installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
