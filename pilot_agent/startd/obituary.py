"""The ad with which a pilot that failed tells its pool so, and the configuration of the tool that sends it.

Loaded by the resident keeper: standard library only, and nothing heavy at import.
"""

from __future__ import annotations

import os
import time

from pilot_agent.startd.classad import LiteralError, attribute_name, config_text, literal, printable, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pilot_agent.startd.plan import CondorPaths, NetworkPlan

ADVERTISE, INVALIDATE = "UPDATE_STARTD_AD", "INVALIDATE_STARTD_ADS"
"""What a token with ADVERTISE_STARTD may send, and what operators look at with ``condor_status`` (HTCondor 23.9)."""
LIFETIME_SECONDS = 300
"""How long the collector keeps an ad that is not renewed."""
TEXT_CHARACTERS = 1000
PLAN_FILE = "plan.json"
"""How to send the ad, in the workspace's directory for it."""


def failure_ad(
    name: str, host: str, attributes: Mapping[str, Any], problem: Mapping[str, Any], *, exit_code: int, until: float
) -> str:
    """The machine ad of a failed pilot that holds its slot until then (seconds since the epoch); it takes no job.

    ``attributes`` are those of the pilot itself; what cannot be written in an ad is left out.
    """
    told = {
        "MyType": "Machine",
        "Name": name,
        "Machine": host,
        "State": "Drained",
        "Activity": "Retiring",
        # Without these condor_status takes the ad for a malformed one and leaves the pilot out of its sums.
        "OpSys": os.uname().sysname.upper(),
        "Arch": os.uname().machine.upper(),
        "Cpus": 0,
        "Memory": 0,
        "LoadAvg": 0.0,
        "CondorLoadAvg": 0.0,
        "EnteredCurrentActivity": int(time.time()),
        "START": False,
        "Requirements": False,
        "ClassAdLifetime": LIFETIME_SECONDS,
        "GLIDEIN_Failed": True,
        "GLIDEIN_EXIT_CODE": exit_code,
        "GLIDEIN_FAILURE_REASON": problem.get("message"),
        "GLIDEIN_LAST_SCRIPT": problem.get("stage"),
        "GLIDEIN_ToRetire": 0,
        "GLIDEIN_ToDie": int(until),
        "GLIDEIN_Expire": int(until),
        "PilotFailureKind": problem.get("kind"),
        "PilotFailureCode": problem.get("code"),
        "PilotFailureMessage": problem.get("message"),
        "PilotFailureHint": problem.get("hint"),
    }
    own = {name: value for name, value in attributes.items() if name.lower() not in {key.lower() for key in told}}
    return _text({**own, **told})


def query_ad(name: str) -> str:
    """What takes the ad of that name out of the collector."""
    return (
        _text({"MyType": "Query", "TargetType": "Machine", "Name": name}) + f"Requirements = Name == {string(name)}\n"
    )


def tool_configuration(
    condor: CondorPaths, network: NetworkPlan, collectors: Sequence[str], tokens: str, directory: str
) -> str:
    """HTCondor's configuration for its tools alone, as strict as that of the pilot's daemons. Raises
    ``LiteralError`` for a value that it cannot carry."""
    knobs = {
        "LOCAL_CONFIG_FILE": "",
        "LOCAL_CONFIG_DIR": "",
        "USER_CONFIG_FILE": "",
        "REQUIRE_LOCAL_CONFIG_FILE": "False",
        "RELEASE_DIR": config_text(condor.release),
        "BIN": config_text(condor.bin),
        "SBIN": config_text(condor.sbin),
        "LIB": config_text(condor.lib),
        "LIBEXEC": config_text(condor.libexec),
        "LOCAL_DIR": config_text(directory),
        "LOG": "$(LOCAL_DIR)",
        "COLLECTOR_HOST": ", ".join(config_text(address) for address in collectors),
        "UID_DOMAIN": "pilot",
        "DEFAULT_DOMAIN_NAME": config_text(network.domain),
        "NO_DNS": str(network.no_dns),
        "SEC_TOKEN_DIRECTORY": config_text(tokens),
        "SEC_TOKEN_SYSTEM_DIRECTORY": config_text(tokens),
        "SEC_ENABLE_TOKEN_REQUEST": "False",
        "SEC_ENABLE_TOKEN_FETCH": "False",
    }
    for level in ("DEFAULT", "CLIENT"):
        for feature in ("AUTHENTICATION", "ENCRYPTION", "INTEGRITY", "NEGOTIATION"):
            knobs[f"SEC_{level}_{feature}"] = "REQUIRED"
        knobs[f"SEC_{level}_AUTHENTICATION_METHODS"] = "IDTOKENS"
    if network.no_dns:
        knobs["ENABLE_IPV6"] = "False"
    return "".join(f"{name} = {value}\n" for name, value in knobs.items())


def _text(attributes: Mapping[str, Any]) -> str:
    lines = []
    for name, value in attributes.items():
        shown = printable(value)[:TEXT_CHARACTERS] if isinstance(value, str) else value
        try:
            lines.append(f"{attribute_name(name)} = {literal(shown)}\n")
        except LiteralError:
            continue
    return "".join(lines)
