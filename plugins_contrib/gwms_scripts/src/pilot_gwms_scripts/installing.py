"""Files of the list, put where scripts expect them."""

from __future__ import annotations

import gzip
import lzma
import os
import tarfile
import zlib

from pilot_agent.trust.local import writable_by_others
from pilot_gwms_scripts.layout import Layout, write_file
from pilot_gwms_scripts.settings import PATH, Script, Settings

SCRIPT_BYTES = 16 << 20
ARCHIVE_BYTES = 4 << 30
CONFIG_PREFIXES = {"entry": "ENTRY_", "client": "GLIDECLIENT_", "client_group": "GLIDECLIENT_GROUP_"}


class FileProblem(ValueError):  # noqa: N818 - the message is what is wrong with a file
    """A file of the list that cannot be used; ``code`` is the failure's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def config_key(script: Script) -> str:
    """The key that leads to the file; empty where none does."""
    return CONFIG_PREFIXES.get(script.id, "") + script.config_out if script.config_out else ""


def install(settings: Settings, layout: Layout, script: Script) -> str:
    """Put the file of an entry into its directory, or unpack it there; path. Raises ``FileProblem``, ``OSError``."""
    source = _source(settings, script)
    if script.type == "untar":
        return _unpack(source, os.path.join(layout.of_id(script.id), script.dir or script.name.partition(".")[0]))
    with open(source, "rb") as file:
        content = file.read(SCRIPT_BYTES + 1)
    if len(content) > SCRIPT_BYTES:
        raise FileProblem("script.file", f"{source} is larger than {SCRIPT_BYTES >> 20} MiB")
    place = os.path.join(layout.of_id(script.id), script.name)
    if script.type == "cleanup":
        earlier = len(os.listdir(layout.cleanup))
        place = os.path.join(layout.cleanup, f"{earlier:03d}_{script.name}")
    write_file(place, content, mode=0o644 if script.type == "regular" else 0o755)
    return place


def _source(settings: Settings, script: Script) -> str:
    try:
        source = settings.path_of(script)
    except ValueError as error:
        raise FileProblem("script.file", str(error)) from error
    if not os.path.isfile(source):
        problem = f"there is no file {source}: correct {PATH}.scripts, or what brings the file"
        raise FileProblem("script.file", problem)
    reason = writable_by_others(source)
    if reason:
        raise FileProblem("script.file", f"{script.name} is not used: {reason}")
    return source


def _unpack(source: str, place: str) -> str:
    os.makedirs(place, mode=0o755, exist_ok=True)
    try:
        with tarfile.open(source, "r:*") as archive:
            members = []
            size = 0
            for member in archive:
                size += member.size
                if size > ARCHIVE_BYTES:
                    raise FileProblem("script.file", f"{source} unpacks to more than {ARCHIVE_BYTES >> 30} GiB")
                members.append(member)
            # Nothing of it lies outside of the place: no absolute names, no links that lead out, no devices.
            archive.extractall(place, members, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise FileProblem("script.file", f"{source} cannot be unpacked: {error}") from error
    return place
