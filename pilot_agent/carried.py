"""What this payload is and carries: the file that was sent, its manifest, and the Python that came with it."""

from __future__ import annotations

import os
import sys
import zipfile
from dataclasses import dataclass
from hashlib import file_digest

from pilot_agent.interpreter import payload_archive
from pilot_agent.light import loads
from pilot_agent.model import Failure, FailureKind, Json, PilotError

MANIFEST = "MANIFEST.json"
FILE_VARIABLE = "PILOT_AGENT_PAYLOAD_FILE"
"""Where ``pilot.sh`` says which file it is."""


@dataclass(frozen=True, slots=True)
class Carried:
    """Where the parts of a payload are.

    ``file`` is what the factory sent (``pilot.pyz`` or ``pilot.sh``), ``archive`` the zip file with the agent, and
    ``runtime`` the directory of the Python that ``pilot.sh`` brought, or None.
    """

    file: str
    archive: str
    runtime: str | None

    def manifest(self) -> dict[str, Json]:
        """What the archive says of itself. Raises ``PilotError`` (corruption) where it cannot be read."""
        try:
            document = loads(self.member(MANIFEST))
        except ValueError as error:
            raise _damaged(self.archive, f"{MANIFEST}: {error}") from error
        if not isinstance(document, dict):
            raise _damaged(self.archive, f"{MANIFEST} is no object")
        return document

    def member(self, name: str) -> bytes:
        """A file of the archive. Raises ``PilotError`` (corruption) where it is not there or damaged."""
        try:
            with zipfile.ZipFile(self.archive) as archive:
                return archive.read(name)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise _damaged(self.archive, f"{name}: {error}") from error

    def runtime_member(self, name: str) -> bytes:
        """A file beside the Python that was brought. Raises ``PilotError`` (corruption) where it cannot be read."""
        try:
            with open(os.path.join(self.runtime or "", name), "rb") as file:
                return file.read()
        except OSError as error:
            raise _damaged(self.file, f"{name}: {error}") from error

    def digest(self) -> str | None:
        """The sha256 of the file that was sent, as it is now; None where it is gone or cannot be read."""
        try:
            with open(self.file, "rb") as file:
                return file_digest(file, "sha256").hexdigest()
        except OSError:
            return None


def carried() -> Carried | None:
    """The payload that this process runs from; None in a checkout or an installed package."""
    archive = payload_archive()
    if archive is None:
        return None
    runtime = sys.prefix if os.path.exists(os.path.join(sys.prefix, "bin", "pilot-python")) else None
    # Without the runtime the variable is another payload's, whose child this process is.
    sent = os.environ.get(FILE_VARIABLE) if runtime else None
    return Carried(sent or archive, archive, runtime)


def _damaged(archive: str, why: str) -> PilotError:
    message = f"the payload {archive} is damaged: {why}"
    return PilotError(Failure(FailureKind.CORRUPTION, "artifact.digest", message, "transfer it again"))
