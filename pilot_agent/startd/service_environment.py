"""The file with the variables that jobs get of services: a part of HTCondor's private configuration of its own, because
it changes while the pilot runs. Each job's starter reads the configuration when it begins.

The resident keeper loads this module: nothing large is imported.
"""

from __future__ import annotations

import os

from pilot_agent.files import write_atomically
from pilot_agent.startd.classad import environment_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICES_FILE = "services"
"""Its name beside the configuration, where a confined starter sees it too: the directory, and so what is put into it
later."""

SERVICE_ENVIRONMENT = "PILOT_SERVICE_ENVIRONMENT"
"""The knob in it. Plugins' fragments may set none that begins so."""


def write_service_environment(directory: str, variables: Mapping[str, str]) -> None:
    """Write the file in one step: a starter reads the old one or the new one. Raises ``OSError``, and ``LiteralError``
    for a value that no job can get."""
    text = f"{SERVICE_ENVIRONMENT} = {environment_words(variables)}".rstrip()
    write_atomically(os.path.join(directory, SERVICES_FILE), f"{text}\n".encode())
