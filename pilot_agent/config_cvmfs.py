"""What may be written for the CVMFS client into its configuration: proxies, directories, and parameters by name.

The client's files are lines in the shell's form that two readers take apart: cvmfsexec's mountrepo, which flattens them
line by line and moves values that begin with /var, /etc or /cvmfs into its distribution, and a shell. What neither can
change in its meaning is allowed (README of cvmfsexec; CernVM-FS documentation, "Client Configuration").
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pilot_agent.config_images import REPOSITORY
from pilot_agent.config_values import Problems, mapping_problems, type_name
from pilot_agent.model import Json
from pilot_agent.spelling import nearest

PLAIN_DIRECTORY = r"/[A-Za-z0-9/._+@-]*"
"""A path that upstream's scripts can work in: nothing in it means anything to a shell."""

_ACCOUNT = r"([A-Za-z0-9._~%!*+,=-]+(:[A-Za-z0-9._~%!*+,=-]*)?@)?"
_PROXY = rf"https?://{_ACCOUNT}([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{{1,5}}/?"
PROXY_GROUP = rf"auto|{_PROXY}(\|{_PROXY})*"
"""Proxies of which the client takes one at random, separated by |; auto asks the site's WPAD server."""
_NO_GROUP = (
    "no group of proxies: http://host:port, several with | between them, or auto; what CVMFS_HTTP_PROXY "
    "separates by ; are items of the list, and DIRECT is said with cvmfs.direct (fallback or only)"
)
PROXY_GROUP_FORM = (PROXY_GROUP, _NO_GROUP)
"""The pattern and what is wrong with everything else, also for those who know the client's own form."""

KEYS_DIRECTORY = "/etc/cvmfs/keys/"
"""Where a client's keys lie; in a distribution it is below its own ``dist``."""

OWNED: dict[str, str] = {
    "CVMFS_HTTP_PROXY": "cvmfs.proxies and cvmfs.direct",
    "CVMFS_CLIENT_PROFILE": "cvmfs.direct",
    "CVMFS_CACHE_BASE": "cvmfs.cache_directory",
    "CVMFS_CACHE_DIR": "cvmfs.cache_directory",
    "CVMFS_QUOTA_LIMIT": "cvmfs.cache_mib",
    "CVMFS_SHARED_CACHE": "cvmfs.cache",
    "CVMFS_ALIEN_CACHE": "cvmfs.cache",
    "CVMFS_MOUNT_DIR": "cvmfs.rungs",
}
"""Parameters that the pilot itself decides, and the keys that say how."""
PARAMETER = rf"(?!(?:{'|'.join(OWNED)})(?![\s\S]))CVMFS_[A-Z0-9_]{{1,100}}"
"""The name of a parameter; names without CVMFS_ would be variables of the shell that reads them."""

_MOVED = "var|cvmfs|etc(?!/cvmfs/keys/)"
PARAMETER_VALUE = (
    rf"(?!/(?:{_MOVED}))(?![\s\S]*=/(?:var|etc|cvmfs))(?! )(?![\s\S]*  )(?![\s\S]* (?![\s\S]))"
    r"[ !#%&()*+,./0-9:;<=>?@A-Z\[\]^_a-z{|}~-]{0,1000}"
)
"""What both readers give back as it is."""


def direct_policy(config: Mapping[str, Json]) -> tuple[str, str]:
    """never, fallback or only, and who said so: never of anybody, else what the strongest layer says."""
    given = [(str(entry["value"]).lower(), f" ({entry['layer']})") for entry in config["cvmfs"]["direct"] or ()]
    never = next((entry for entry in given if entry[0] == "never"), None)
    word, who = never or (given[-1] if given else ("fallback", ""))
    return word, f"cvmfs.direct: {word}{who}"


def parameters_problems(value: Json, path: str) -> Problems:
    """(path, message) of everything that is wrong with a mapping of parameters."""
    problems = mapping_problems(value, path, _value_problems)
    names = [name for name in value if isinstance(name, str)] if isinstance(value, Mapping) else []
    return problems + [(f"{path}.{name}", problem) for name in names if (problem := parameter_problem(name))]


def repositories_problems(value: Json, path: str) -> Problems:
    """(path, message) of everything that is wrong with parameters by repository."""
    problems = mapping_problems(value, path, parameters_problems)
    names = [name for name in value if isinstance(name, str)] if isinstance(value, Mapping) else []
    message = "is no repository of CVMFS: its name alone is needed, such as sft.cern.ch"
    return problems + [
        (f"{path}.{name}", f"{name!r} {message}") for name in names if not re.fullmatch(REPOSITORY, name)
    ]


def _value_problems(value: Json, path: str) -> Problems:
    if not isinstance(value, str):
        return [(path, f"expected a string, found {type_name(value)}")]
    problem = value_problem(value)
    return [(path, problem)] if problem else []


def parameter_problem(name: str) -> str | None:
    """Why this is no parameter that a configuration may give, in words."""
    if re.fullmatch(PARAMETER, name):
        return None
    if name in OWNED:
        return f"the pilot sets it; give {OWNED[name]}"
    near = nearest(name, (f"CVMFS_{name.upper()}",)) if not name.startswith("CVMFS_") else ""
    return f"{name!r} is no parameter of the CVMFS client: CVMFS_ and capital letters, digits and _{near}"


def value_problem(value: str) -> str | None:
    """Why a parameter cannot have this value, in words that do not repeat it: it may be a secret."""
    if re.fullmatch(PARAMETER_VALUE, value):
        return None
    if re.match(rf"/(?:{_MOVED})", value):
        own = f" (except {KEYS_DIRECTORY}...)"
        return f"begins with /var, /etc or /cvmfs, which cvmfsexec takes for its own directories{own}; write //var/..."
    if re.search("=/(?:var|etc|cvmfs)", value):
        return "has /var, /etc or /cvmfs after a =, which cvmfsexec takes for its own directories; write =//var/..."
    if value != " ".join(value.split()):
        return "begins or ends with a blank, or has several in a row or another kind of them, which get lost"
    if len(value) > 1000:
        return f"has {len(value)} characters; 1000 are the most"
    return "has a quote, $, `, \\ or a character that is not ASCII, which the client's configuration cannot carry"
