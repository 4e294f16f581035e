"""Leaves in the workspace what it takes to tell the pool that this pilot failed, should it fail."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pilot_agent import CVMFS
from pilot_agent.codec import from_json
from pilot_agent.config import Config
from pilot_agent.config_collectors import drawn
from pilot_agent.containers.cvmfs_paths import real_place
from pilot_agent.environment import clean_environment
from pilot_agent.files import write_atomically, write_json
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.process import WakeUp
from pilot_agent.startd.artifacts import CONDOR
from pilot_agent.startd.classad import LiteralError
from pilot_agent.startd.discovery import find_condor
from pilot_agent.startd.network import plan_network
from pilot_agent.startd.obituary import PLAN_FILE, tool_configuration
from pilot_agent.startd.plan import CondorPaths
from pilot_agent.startd.sources import LOOK_SECONDS
from pilot_agent.startd.token import TOKEN_FILE, install_token
from pilot_agent.tarballs.stepping import step
from pilot_agent.workspace import Workspace

TOOL = "condor_advertise"
OWN_PREFIXES = ("GLIDEIN_", "GLIDECLIENT_")


@dataclass(frozen=True, slots=True)
class Deceased:
    """Whose obituary it is; ``environment`` is the one that the pilot was started with, ``release`` the directory of
    the HTCondor that was taken for it, empty where that was not done. ``mount_point`` is where this node has what is
    below /cvmfs."""

    pilot_id: str
    host: str
    config: Config
    environment: Mapping[str, str]
    attributes: Mapping[str, Json]
    release: str = ""
    mount_point: str = CVMFS


def prepare(pilot: Deceased, workspace: Workspace, *, started: bool, wake: WakeUp | None = None) -> None:
    """Write the plan, the tool's configuration and, if that was not done, the token into the workspace.

    With ``started`` the configuration of the pilot's daemons is there and in order, and serves the tool too. Raises
    ``PilotError`` that says what is missing (HTCondor, pool, token); ``Interrupted`` when ``wake`` becomes readable.
    """
    config, own = pilot.config, workspace.obituary
    condor = _condor(pilot, wake)
    places = [os.path.join(directory, TOOL) for directory in (condor.sbin, condor.bin)]
    tool = next((path for path in places if os.access(path, os.X_OK)), None)
    if tool is None:
        raise _error("condor.incomplete", f"the HTCondor of this node has none of {', '.join(places)}")
    if not config.get("pool.collectors") or not config.get("pool.token"):
        raise _error("pool.missing", "the configuration names no pool")
    try:
        if not os.path.exists(os.path.join(workspace.tokens, TOKEN_FILE)):
            install_token(config.get("pool.token"), workspace.tokens)
        os.makedirs(own, mode=0o700, exist_ok=True)
        configuration = workspace.condor_config if started else _configuration(pilot, workspace, condor, wake)
        write_json(os.path.join(own, PLAN_FILE), _plan(pilot, workspace, tool, configuration))
    except OSError as error:
        raise _error("workspace.write", f"{own} cannot be written: {error.strerror}") from error
    except LiteralError as error:
        raise _error("startd.value", str(error)) from error


def _condor(pilot: Deceased, wake: WakeUp | None) -> CondorPaths:
    """The HTCondor that was taken, or the first that may be and is there without being fetched: of any version, as only
    a tool is needed. Raises ``PilotError``."""
    startd = pilot.config.values["startd"]
    directory = startd["condor_directory"]
    places = {"directory": [directory] if directory else [], "path": [None], "cvmfs": startd["condor_cvmfs"]}
    wanted = [place for source in startd["condor_source"] for place in places.get(source.lower(), [])]
    problem = _error("condor.missing", "no HTCondor on this node: startd.condor_source names no place to look at")
    for place in [pilot.release] if pilot.release else wanted:
        try:
            return _look(place, pilot, wake)
        except PilotError as error:
            problem = error
    raise problem


def _look(place: str | None, pilot: Deceased, wake: WakeUp | None) -> CondorPaths:
    """One place, which may be a dead mount."""

    def look() -> Json:
        real = real_place(place, pilot.mount_point) if place is not None else None
        return asdict(find_condor(real, pilot.environment))

    what = f"the look for HTCondor in {place or 'the search path'}"
    return from_json(CondorPaths, step(CONDOR, what, look, seconds=LOOK_SECONDS, wake=wake))


def _configuration(pilot: Deceased, workspace: Workspace, condor: CondorPaths, wake: WakeUp | None) -> str:
    """The path of a configuration for the tool alone."""
    path, config = os.path.join(workspace.obituary, "condor_config"), pilot.config
    network, collectors = plan_network(
        config.get("startd.no_dns"),
        config.get("startd.domain"),
        drawn(config.get("pool.collectors"), pilot.pilot_id),
        ccb=config.get("pool.ccb"),
        wake=wake,
    )
    text = tool_configuration(condor, network, collectors, workspace.tokens, workspace.obituary)
    write_atomically(path, text.encode())
    return path


def _plan(pilot: Deceased, workspace: Workspace, tool: str, configuration: str) -> dict[str, Json]:
    environment = clean_environment(pilot.environment, home=workspace.private, temporary=workspace.private)
    return {
        "argv": [tool, "-tcp"],
        "environment": environment | {"CONDOR_CONFIG": configuration},
        "name": f"pilot-{pilot.pilot_id}",
        "host": pilot.host,
        "attributes": _attributes(pilot),
    }


def _attributes(pilot: Deceased) -> dict[str, Json]:
    """What tells whose pilot it is, under the names that the ad of a running one has."""
    own = {name: value for name, value in pilot.attributes.items() if name.startswith(OWN_PREFIXES)}
    config = pilot.config.values
    return {
        "IS_GLIDEIN": True,
        **own,
        "GLIDEIN_Site": config["site"]["name"],
        "GLIDEIN_Entry_Name": config["entry"]["name"],
        "GLIDEIN_Factory": config["factory"]["name"],
        "PilotId": pilot.pilot_id,
        **{name: value for name, value in pilot.attributes.items() if name.startswith("Pilot")},
    }


def _error(code: str, message: str) -> PilotError:
    return PilotError(Failure(FailureKind.INTERNAL, code, message))
