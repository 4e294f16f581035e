"""The environment of everything the pilot starts: built from nothing, so that the site's cannot poison it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# What a child may inherit from the site. Everything else (_CONDOR_*, CONDOR_*, APPTAINER_*, SINGULARITY_*, PYTHON*,
# LD_*, BASH_ENV ...) is read by probes and then left behind.
INHERITED = ("TZ", "USER", "LOGNAME", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def clean_environment(site: Mapping[str, str], *, home: str, temporary: str) -> dict[str, str]:
    """A child's environment: the site's PATH without relative parts, ``home`` and ``temporary``, a UTF-8 locale."""
    kept = {name: site[name] for name in INHERITED if name in site}
    return kept | {
        "PATH": clean_path(site.get("PATH", "")),
        "HOME": home,
        "TMPDIR": temporary,
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
    }


def clean_path(path: str) -> str:
    """A search path of absolute directories only, ending with the usual system directories."""
    parts = [part for part in path.split(":") if part.startswith("/")]
    return ":".join(dict.fromkeys([*parts, *DEFAULT_PATH.split(":")]))
