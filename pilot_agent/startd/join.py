"""Did the pilot join the pool? One handshake proves network, token and authorisation.

Loaded by the resident keeper: standard library only, and nothing heavy at import.
"""

from __future__ import annotations

from pilot_agent.startd.classad import string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot_agent.model import Failure
    from pilot_agent.startd.plan import StartdPlan

# What a pilot's token must allow at the collector.
PERMISSION = "ADVERTISE_STARTD"

# Said by condor_ping, in the order in which they decide (HTCondor 23.9, seen with each fault made for real).
_UNREACHABLE = ("failed to make connection", "unknown host", "failed to connect", "timed out", "can't find address")
_REJECTED = ("failed to authenticate", "authenticate:100")
_DENIED = ('"denied"', "secman:2010")
_NO_TOKEN = ("security policy is invalid", "secman:2002")


def join_commands(plan: StartdPlan) -> tuple[tuple[str, ...], ...]:
    """One command per collector, to be run with condor_master's environment; the pilot joined when one exits 0."""
    tool = plan.condor.tool("condor_ping")
    return tuple((tool, "-verbose", "-pool", address, "-type", "collector", PERMISSION) for address in plan.collectors)


def clock_commands(plan: StartdPlan, pilot_id: str) -> tuple[tuple[str, ...], ...]:
    """One command per collector that prints when the pilot's slot wrote its ad and when it came, epoch seconds."""
    tool, mine = plan.condor.tool("condor_status"), f"PilotId == {string(pilot_id)}"
    wanted = ("-startd", "-limit", "1", "-constraint", mine, "-af", "MyCurrentTime", "LastHeardFrom")
    return tuple((tool, "-pool", address, *wanted) for address in plan.collectors)


def denied(output: bytes) -> bool:
    """Whether the collector knew the token and refused what the pilot needs: no later try changes that."""
    lower = output.decode("utf-8", "replace").lower()
    return any(word in lower for word in _DENIED) and not any(word in lower for word in _UNREACHABLE)


def classify(code: int | None, output: bytes, collector: str, *, timed_out: bool = False) -> Failure | None:
    """None when the handshake succeeded, else who must act.

    ``code`` is the command's exit code (None: it did not run or was killed), ``output`` what it said on both
    streams. Retrying can help only where the failure says ``retry``.
    """
    if code == 0 and not timed_out:
        return None
    # Imported here: records cost the keeper memory, and most pilots never need one.
    from pilot_agent.model import Failure, FailureKind

    text = output.decode("utf-8", "replace")
    said = " ".join(text.split())[-300:]
    lower = text.lower()
    if timed_out or any(word in lower for word in _UNREACHABLE):
        return Failure(
            FailureKind.NETWORK,
            "collector.unreachable",
            f"the pool's collector {collector} does not answer from this node ({said or 'no answer in time'})",
            hint="the site opens the way out to that address and port, or the VO corrects pool.collectors",
            stage="handoff",
            retry=True,
        )
    if any(word in lower for word in _DENIED):
        return Failure(
            FailureKind.CREDENTIAL,
            "token.unauthorized",
            f"the pool's collector {collector} knows the token but does not let it bring execute nodes ({said})",
            hint=f"the pool allows {PERMISSION} to the token's identity, or the VO gives a token that has it",
            stage="handoff",
        )
    if any(word in lower for word in (*_REJECTED, *_NO_TOKEN)):
        return Failure(
            FailureKind.CREDENTIAL,
            "token.rejected",
            f"the pool's collector {collector} does not accept the pilot's token ({said})",
            hint="the VO gives a token that this pool signed and that is not expired or revoked",
            stage="handoff",
        )
    return Failure(
        FailureKind.NETWORK,
        "collector.handshake",
        f"the handshake with the pool's collector {collector} failed ({said or f'exit code {code}'})",
        hint="look at the collector's log; the pool may be starting or overloaded",
        stage="handoff",
        retry=True,
    )
