"""The directory that scripts know: where its parts are, and how it is made."""

from __future__ import annotations

import importlib.resources
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from pilot_agent.hookspecs import Context
from pilot_agent.model import Json
from pilot_gwms_scripts.glidein_config import plain_file

DIRECTORY = "gwms"
"""Below ``tmp`` of the workspace; the setups share it."""
INSIDE = "/srv"
"""Where the same directory is inside an image."""
SHELL_FILES = {
    "add_config_line.source": "ADD_CONFIG_LINE_SOURCE",
    "error_gen.sh": "ERROR_GEN_PATH",
    "logging_utils.source": "LOGGING_UTILS_SOURCE",
}
"""Helper in ``main`` -> the key by which scripts find it."""
VARS_FILES = {
    "client_group": ("GLIDECLIENT_GROUP_CONDOR_VARS_FILE", "condor_vars.lst"),
    "client": ("GLIDECLIENT_CONDOR_VARS_FILE", "condor_vars.lst"),
    "entry": ("CONDOR_VARS_ENTRY_FILE", "condor_vars.lst.entry"),
    "main": ("CONDOR_VARS_FILE", "condor_vars.lst"),
}
"""Id -> key and name of its condor vars file, in the order in which they are read: the last line of a name counts."""
RESULT = "otrb_output.xml"
FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below the glidein directory, outside any image."""

    root: str
    entry: str = "unknown"
    group: str = "main"

    @classmethod
    def of(cls, context: Context) -> Layout:
        """That of a pilot."""
        return cls.configured(context.config, os.path.join(context.workspace or os.curdir, "tmp", DIRECTORY))

    @classmethod
    def configured(cls, config: Mapping[str, Json], root: str = "") -> Layout:
        """That of a configuration, below ``root``."""
        return cls(root, _name(config["entry"]["name"]), _name(config["vo"]["group"]))

    @property
    def config(self) -> str:
        """glidein_config"""
        return os.path.join(self.root, "glidein_config")

    @property
    def config_inside(self) -> str:
        """The copy whose paths are those inside an image."""
        return os.path.join(self.root, "glidein_config.inside")

    @property
    def result(self) -> str:
        """The XML document of the script that runs."""
        return os.path.join(self.root, RESULT)

    @property
    def temporary(self) -> str:
        """TMP_DIR"""
        return os.path.join(self.root, "tmp")

    @property
    def cleanup(self) -> str:
        """Scripts that run at the end."""
        return os.path.join(self.root, ".gwms.d", "exec", "cleanup")

    @property
    def memory(self) -> str:
        """What the adapter remembers from one script to the next."""
        return os.path.join(self.root, ".adapter", "memory.json")

    def of_id(self, which: str) -> str:
        """The directory of ``main``, ``entry``, ``client`` or ``client_group``."""
        return os.path.join(self.root, self.name_of(which))

    def name_of(self, which: str) -> str:
        """The name of that directory."""
        return {"entry": f"entry_{self.entry}", "client_group": f"client_group_{self.group}"}.get(which, which)

    def inside_mark(self, which: str, name: str, end: str) -> str:
        """A file by which the program inside an image and the adapter know of each other."""
        return os.path.join(self.root, ".adapter", "inside", f"{self.name_of(which)}_{name}.{end}")

    def fixed_keys(self) -> dict[str, str]:
        """Keys of glidein_config that lead to files of the adapter."""
        main = self.of_id("main")
        keys = {key: os.path.join(main, name) for name, key in SHELL_FILES.items()}
        keys |= {key: os.path.join(self.of_id(which), name) for which, (key, name) in VARS_FILES.items()}
        return keys | {
            "GLIDEIN_WORK_DIR": main,
            "GLIDEIN_ENTRY_WORK_DIR": self.of_id("entry"),
            "GLIDECLIENT_WORK_DIR": self.of_id("client"),
            "GLIDECLIENT_GROUP_WORK_DIR": self.of_id("client_group"),
            "TMP_DIR": self.temporary,
            "GLIDEIN_LOCAL_TMP_DIR": self.temporary,
        }

    def make(self) -> None:
        """All directories, the helpers, and empty condor vars files. Raises ``OSError``."""
        parts = [self.of_id(which) for which in VARS_FILES]
        hidden = [f".gwms.d/{part}" for part in ("bin", "lib/python", "exec/setup", "exec/prejob", "exec/postjob")]
        parts += [os.path.join(self.root, part) for part in (*hidden, ".adapter/inside", "condor_config.d")]
        for part in (*parts, self.temporary, self.cleanup):
            os.makedirs(part, mode=0o755, exist_ok=True)
        for name in SHELL_FILES:
            place = os.path.join(self.of_id("main"), name)
            write_file(place, shell_file(name).encode(), mode=0o755 if name.endswith(".sh") else 0o644)
        for which, (_, name) in VARS_FILES.items():
            write_file(os.path.join(self.of_id(which), name), b"")


@dataclass(slots=True)
class Memory:
    """What was told before: attributes of the ad, variables of jobs, image candidates, binds; the glidein_config that
    was last in order; where the adapter began."""

    values: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Json] = field(default_factory=dict)
    expressions: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    binds: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, layout: Layout) -> Memory:
        """As the last script left it; empty where nothing is remembered."""
        try:
            with open(layout.memory, encoding="utf-8") as file:
                known = json.load(file)
            return cls(**known)
        except (OSError, ValueError, TypeError):
            return cls()

    def save(self, layout: Layout) -> None:
        """Raises ``OSError``."""
        known: Mapping[str, Json] = {name: getattr(self, name) for name in Memory.__dataclass_fields__}
        write_file(layout.memory, json.dumps(known).encode())


def shell_file(name: str) -> str:
    """The text of one of the adapter's own shell files."""
    return importlib.resources.files(__package__).joinpath("shell", name).read_text(encoding="utf-8")


def write_file(path: str, content: bytes, *, mode: int = 0o644) -> None:
    """Replace a file in one step. Raises ``OSError``."""
    new = f"{path}.adapter"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode), "wb") as file:
        file.write(content)
    os.chmod(new, mode)
    os.replace(new, path)


def read_text(path: str, limit_bytes: int = FILE_BYTES) -> str:
    """The beginning of a regular file; empty where there is none."""
    try:
        with open(path, "rb", opener=plain_file) as file:
            return file.read(limit_bytes).decode("utf-8", "replace")
    except OSError:
        return ""


def read_whole(path: str, limit_bytes: int) -> bytes:
    """A regular file; empty where there is none, or it is larger."""
    try:
        with open(path, "rb", opener=plain_file) as file:
            content = file.read(limit_bytes + 1)
    except OSError:
        return b""
    return content if len(content) <= limit_bytes else b""


def _name(text: Json) -> str:
    """A part of a file name."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in str(text or "main"))[:100]
