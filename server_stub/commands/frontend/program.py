"""``pilot-frontend`` as a whole."""

from __future__ import annotations

from server_stub.commands.frontend import importing, looking, serving, setup, simulate
from server_stub.commands.frontend.common import PROGRAM
from server_stub.commands.tree import Program

FRONTEND = Program(
    PROGRAM,
    "A frontend for pilots.",
    (*setup.COMMANDS, *serving.COMMANDS, *looking.COMMANDS, *importing.COMMANDS, *simulate.COMMANDS),
    "docs/how-to/run-a-frontend.md",
    (
        *simulate.EXAMPLES,
        "init /etc/pilot-frontend --vo example",
        "check",
        "run",
        "status",
        "import glideinwms frontend.xml --vo example",
    ),
)
