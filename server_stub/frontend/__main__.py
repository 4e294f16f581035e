"""``python -m server_stub.frontend``."""

from __future__ import annotations

import sys

from server_stub.frontend.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
