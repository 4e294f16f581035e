"""Sends to a factory everything that its description allows, and what it does not; each answer must be as described.

Run as ``python -m tests.server_stub.factory.attack ADDRESS TOKEN KEY``: a process of its own, for what the generator
keeps. TOKEN is a pilot's, KEY a frontend's private key in PEM.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import schemathesis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from tests.server_stub.factory.keys import Signer

CHECKS = (not_a_server_error, content_type_conformance, response_schema_conformance)
EXAMPLES = 3


@schemathesis.serializer("application/x-ndjson")
def lines(context: Any, value: Any) -> bytes:
    """What goes where lines of events belong."""
    return value if isinstance(value, bytes) else str(value).encode()


def main(address: str, token: str, key: str) -> None:
    """Print each operation that was asked, and each status that it answered with."""
    private = load_pem_private_key(key.encode(), None)
    assert isinstance(private, Ed25519PrivateKey)
    signer = Signer(key=private)
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        print(operation.label, *sorted(attack(operation, token, signer)))


def attack(operation: Any, token: str, signer: Signer) -> set[int]:
    """Ask one operation whatever its description allows; the statuses of its answers."""
    # A frontend's token writes once: each attempt has its own.
    return attack_as(operation, None) | attack_as(operation, lambda: token) | attack_as(operation, signer.token)


def attack_as(operation: Any, tokens: Callable[[], str] | None) -> set[int]:
    """The same with tokens of one kind."""
    statuses: set[int] = set()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def attempt(case: Any) -> None:
        headers = {"Authorization": f"Bearer {tokens()}"} if tokens is not None else {}
        statuses.add(case.call_and_validate(headers=headers, checks=list(CHECKS)).status_code)

    attempt()
    return statuses


if __name__ == "__main__":
    main(*sys.argv[1:])
