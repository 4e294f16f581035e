"""CVMFS for the mount stage: what the site mounts itself, and which other way there would be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilot_agent.codec import to_json
from pilot_agent.hookspecs import Context, Mount, hookimpl
from pilot_agent.model import Failure, Json


@hookimpl
def pilot_mounts(config: Mapping[str, Json]) -> Iterable[Mount]:
    """The native CVMFS, unless the configuration wants none."""
    if "never" not in wishes(config) and native_allowed(config):
        yield Mount(
            name="cvmfs",
            run="pilot_agent.cvmfs.native:find_native",
            gives=("cvmfs.repositories", "cvmfs.refused", "cvmfs.revisions", "cvmfs.mount_point"),
        )


def wishes(config: Mapping[str, Json]) -> frozenset[str]:
    """What VO and site say of CVMFS, in lower case. Never in it means that there is none, else required in it that
    there must be: enough for what is declared, and without loading the table."""
    return frozenset((config["cvmfs"]["use"].lower(), config["site"]["cvmfs"].lower()))


def decide(context: Context) -> tuple[Json, Failure | None]:
    """The ladder as the report has it, and the failure of wishes that contradict each other.

    None where nobody asks for CVMFS (no repository is named and none is required): then nothing is loaded.
    """
    if not context.config["cvmfs"]["repositories"] and "required" not in wishes(context.config):
        return None, None
    from pilot_agent.cvmfs.ladder import climb, failure_of

    # On a recording the workspace is one of this machine.
    workspace = None if context.root.strip("/") else context.workspace
    ladder = climb(context.facts, context.config, workspace=workspace)
    # That something is missing is for the check to say, which knows what each repository answered.
    return to_json(ladder), failure_of(ladder) if ladder.decision == "FAIL" else None


def native_allowed(config: Mapping[str, Json]) -> bool:
    """Whether every layer lets jobs have what the site has mounted."""
    return all("native" in map(str.lower, entry["value"]) for entry in config["cvmfs"]["rungs"] or ())
