"""``python -m server_stub.frontend``, the same as ``pilot-frontend``."""

from __future__ import annotations

import sys

from server_stub.cli import frontend

if __name__ == "__main__":
    sys.exit(frontend())
