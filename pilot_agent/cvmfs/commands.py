"""What the keeper has a child do with CVMFS: ``_cvmfs look PATH``, ``_cvmfs remount DISTRIBUTION REPOSITORY ...``,
``_cvmfs published WAY PATH``."""

from __future__ import annotations


def main(arguments: list[str]) -> int:
    """Run one of them; its exit code."""
    verb, *rest = arguments
    if verb == "remount":
        from pilot_agent import dataclass_code

        dataclass_code.use_carried()
        from pilot_agent.cvmfs import remounting

        return remounting.main(rest)
    if verb == "published":
        from pilot_agent.cvmfs import published

        return published.main(rest)
    from pilot_agent.cvmfs import looking

    return looking.main(rest)
