"""Where a pilot keeps its things: every path of the workspace has its name here and nowhere else.

No dataclass and no typing import: the resident processes load this, and each of those modules costs them memory.
"""

from __future__ import annotations

import os

WORKSPACE_PREFIX = "pilot-"
BEING_MADE = ".new"
"""What a workspace's name ends with until it is locked: from its first moment under its own name it has an owner."""


class Workspace:
    """The directory ``pilot-<id>`` of one pilot (mode 0700) and the paths in it."""

    __slots__ = ("root",)

    def __init__(self, root: str) -> None:
        self.root = root

    DIRECTORIES = (
        "private",
        "private/tokens",
        "private/condor",
        "plugins",
        "artifacts",
        "images",
        "condor",
        "condor/log",
        "condor/spool",
        "condor/execute",
        "condor/lock",
        "services",
        "tmp",
    )

    def _at(self, *names: str) -> str:
        return os.path.join(self.root, *names)

    @property
    def private(self) -> str:
        """Tokens, journal, state, socket, HTCondor configuration: never bound into a job's container."""
        return self._at("private")

    @property
    def tokens(self) -> str:
        """Token files, mode 0600 in a directory of mode 0700."""
        return self._at("private", "tokens")

    @property
    def journal(self) -> str:
        """What must be undone, written before it is done."""
        return self._at("private", "journal.jsonl")

    @property
    def state(self) -> str:
        """The whole state after the last finished stage."""
        return self._at("private", "state.json")

    @property
    def lock(self) -> str:
        """Locked as long as the pilot lives: nobody else may take its workspace up."""
        return self._at("private", "lock")

    @property
    def adopted(self) -> str:
        """The guardian's note of what the keeper is the parent of."""
        return self._at("private", "adopted.json")

    @property
    def keeper_plan(self) -> str:
        """What the keeper supervises."""
        return self._at("private", "keeper.json")

    @property
    def outcome(self) -> str:
        """The outcome and exit code, read by the guardian."""
        return self._at("private", "outcome.json")

    @property
    def ad_channel(self) -> str:
        """The FIFO from the keeper to the startd's cron job."""
        return self._at("private", "ads.fifo")

    @property
    def control(self) -> str:
        """The guardian's socket for ``pilot-agent status | drain | stop``."""
        return self._at("private", "control.sock")

    @property
    def drain(self) -> str:
        """There once the pilot shall run no further job."""
        return self._at("private", "drain")

    @property
    def unprinted(self) -> str:
        """There when the report is not wanted on standard output."""
        return self._at("private", "unprinted")

    @property
    def factory_output(self) -> str:
        """There when standard output and exit code are what an existing factory reads: who the pilot is."""
        return self._at("private", "factory_output.json")

    @property
    def obituary(self) -> str:
        """How to tell the pool that this pilot failed."""
        return self._at("private", "obituary")

    @property
    def upload(self) -> str:
        """How events and report get to the factory, and how far that came."""
        return self._at("private", "upload")

    @property
    def condor_config(self) -> str:
        """The complete HTCondor configuration of the pilot's daemons."""
        return self._at("private", "condor", "condor_config")

    @property
    def image_failures(self) -> str:
        """The FIFO from the image hook to the keeper, where a job's starter sees it too."""
        return self._at("private", "condor", "image-failures.fifo")

    @property
    def condor(self) -> str:
        """HTCondor's LOCAL_DIR: log, spool, execute, lock."""
        return self._at("condor")

    @property
    def condor_log(self) -> str:
        """HTCondor's log directory."""
        return self._at("condor", "log")

    @property
    def services(self) -> str:
        """One directory per sidecar service."""
        return self._at("services")

    @property
    def images(self) -> str:
        """Images fetched or unpacked by this pilot."""
        return self._at("images")

    @property
    def plugins(self) -> str:
        """Plugins that were fetched and verified, each in a directory of its own."""
        return self._at("plugins")

    @property
    def artifacts(self) -> str:
        """What was published and fetched for this pilot, unpacked: an HTCondor, where the node has none."""
        return self._at("artifacts")

    @property
    def temporary(self) -> str:
        """TMPDIR of everything the pilot starts, and the container runtime's caches."""
        return self._at("tmp")

    @property
    def report(self) -> str:
        """The report, rewritten after every stage."""
        return self._at("report.json")

    @property
    def events(self) -> str:
        """One line per event, as it happens."""
        return self._at("events.jsonl")

    def create(self) -> None:
        """Make the directories, mode 0700, whatever the umask. Raises ``OSError``; ``root`` must exist."""
        for name in self.DIRECTORIES:
            path = self._at(name)
            os.mkdir(path, 0o700)
            os.chmod(path, 0o700)
