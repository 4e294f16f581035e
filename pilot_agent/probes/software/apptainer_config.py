"""What a site's ``apptainer.conf`` or ``singularity.conf`` allows: lines of ``directive = value``.

The directives are those of the administrator guides of Apptainer ("Apptainer Configuration Files") and Singularity. An
installation without a setuid program cannot hold anybody to most of them, as the account could bring its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from pilot_agent.model import Json
from pilot_agent.probes.parsing import parse_integer

_SWITCHES = (
    *("allow setuid", "allow pid ns", "allow user ns", "allow ipc ns", "user bind control", "enable fusemount"),
    *("mount proc", "mount sys", "mount devpts", "mount home", "mount tmp", "mount hostfs", "mount slave"),
    *("allow container sif", "allow container encrypted", "allow container squashfs", "allow container extfs"),
    *("allow container dir", "always use nv", "always use rocm", "use nvidia-container-cli", "shared loop devices"),
    *("systemd cgroups",),
)
# Yes, no, or a way in between: "try" and "driver" for overlay, "preferred" for underlay, "minimal" for /dev.
_CHOICES = ("enable overlay", "enable underlay", "mount dev", "allow setuid-mount squashfs", "allow setuid-mount extfs")
_NUMBERS = {"max loop devices": "max_loop_devices", "sessiondir max size": "sessiondir_max_size_mib"}
_LISTS = ("limit container owners", "limit container groups", "limit container paths", "bind path")
_LONGEST = 300
_MOST_ENTRIES = 50
_NO_CONFIGURATION: Mapping[str, Json] = {}


def parse_config(text: str) -> dict[str, Json]:
    """The directives that matter to a pilot, as far as the file sets them; others and damaged ones are left out.

    Names with underscores; yes and no are booleans, lists are lists (empty where the file says NULL), numbers integers:
    ``{"allow_setuid": True, "max_loop_devices": 256, "limit_container_paths": ["/cvmfs"], "enable_overlay": "try"}``.
    """
    found: dict[str, Json] = {}
    for line in text.splitlines():
        directive, equals, value = (part.strip() for part in line.partition("="))
        if not equals or directive.startswith("#"):
            continue
        name = directive.lower()
        key = _NUMBERS.get(name, name.replace(" ", "_").replace("-", "_"))
        if name in _LISTS:
            # "bind path" may be there several times, once for each path.
            found[key] = [*found.get(key, []), *_entries(value)][:_MOST_ENTRIES]
            continue
        parsed = _value(name, value)
        if parsed is not None:
            found[key] = parsed
    return found


def _value(name: str, value: str) -> Json:
    word = value.lower()
    if name in _SWITCHES:
        return {"yes": True, "no": False}.get(word)
    if name in _CHOICES:
        return {"yes": True, "no": False}.get(word, word[:_LONGEST] or None)
    return parse_integer(value) if name in _NUMBERS else None


def _entries(value: str) -> list[str]:
    entries = (entry.strip() for entry in value.split(","))
    return [entry[:_LONGEST] for entry in entries if entry and entry.upper() != "NULL"]


def hindrances(config: Mapping[str, Json], *, setuid: bool) -> list[str]:
    """What in a configuration stands in the way of pilots' containers, in words; ``setuid`` where it is enforced."""
    enforced = config if setuid else _NO_CONFIGURATION
    found = [f"{key.replace('_', ' ')} = no" for key in _NEEDED if config.get(key) is False]
    found += [f"{key.replace('_', ' ')} = no" for key in _NEEDED_OF_SETUID if enforced.get(key) is False]
    for key in ("limit_container_owners", "limit_container_groups", "limit_container_paths"):
        if enforced.get(key):
            found.append(f"{key.replace('_', ' ')} = {', '.join(enforced[key])}")
    if config.get("enable_overlay") is False and config.get("enable_underlay") is False:
        found.append("neither overlay nor underlay is enabled, so that only paths existing in an image can be bound")
    return found


_NEEDED = ("allow_pid_ns", "allow_ipc_ns", "user_bind_control", "mount_proc")
_NEEDED_OF_SETUID = ("allow_container_sif", "allow_container_dir")
