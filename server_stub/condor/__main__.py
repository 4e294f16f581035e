"""The child of ``server_stub.condor.asking``: reads one question, writes one answer."""

from __future__ import annotations

import sys

from server_stub.condor.child import main

sys.exit(main(sys.argv[1:]))
