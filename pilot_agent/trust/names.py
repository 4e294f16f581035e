"""Names of artifacts, as names of directories."""

from __future__ import annotations


def directory_name(artifact: str, suffix: str) -> str | None:
    """One name for all of ``KIND/VO/NAME`` without its suffix, as two VOs may have artifacts of one name; None for what
    can be no such artifact's. No two have the same."""
    parts = artifact.split("/")
    if not artifact.endswith(suffix) or any(part in ("", ".", "..") or "--" in part for part in parts):
        return None
    if any(part.startswith("-") or part.endswith("-") for part in parts):
        return None
    return artifact.removesuffix(suffix).replace("/", "--")
