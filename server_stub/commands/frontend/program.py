"""``pilot-frontend`` as a whole."""

from __future__ import annotations

from server_stub.commands.frontend import simulate
from server_stub.commands.frontend.common import PROGRAM
from server_stub.commands.tree import Program

FRONTEND = Program(
    PROGRAM,
    "A frontend for pilots.",
    (*simulate.COMMANDS,),
    "docs/how-to/simulate-a-frontend.md",
    simulate.EXAMPLES,
)
