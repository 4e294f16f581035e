"""Sends to a factory everything that its description allows, and what it does not; each answer must be as described.

Run as ``python -m tests.server_stub.factory.attack ADDRESS TOKEN``: a process of its own, for what the generator keeps.
"""

from __future__ import annotations

import sys
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import sampled_from
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

CHECKS = (not_a_server_error, content_type_conformance, response_schema_conformance)
EXAMPLES = 5


@schemathesis.serializer("application/x-ndjson")
def lines(context: Any, value: Any) -> bytes:
    """What goes where lines of events belong."""
    return value if isinstance(value, bytes) else str(value).encode()


def main(address: str, token: str) -> None:
    """Print each operation that was asked."""
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()

        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(), headers=sampled_from([{}, {"Authorization": f"Bearer {token}"}]))
        def attempt(case: Any, headers: dict[str, str]) -> None:
            case.call_and_validate(headers=headers, checks=list(CHECKS))

        attempt()
        print(operation.label)


if __name__ == "__main__":
    main(*sys.argv[1:])
