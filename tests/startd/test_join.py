"""What condor_ping said decides who must act; the texts are those of HTCondor 23.9.6."""

from __future__ import annotations

import pytest

from pilot_agent.model import FailureKind
from pilot_agent.startd.join import classify, clock_commands, join_commands
from tests.startd.plans import plan

SAID = [
    (b"ERROR: failed to make connection to <10.77.0.2:9619>", FailureKind.NETWORK, "collector.unreachable"),
    (b"ERROR: unknown host nosuch.example.org", FailureKind.NETWORK, "collector.unreachable"),
    (
        (
            b"ADVERTISE_STARTD failed!\nAUTHENTICATE:1003:Failed to authenticate with any method\n"
            b"AUTHENTICATE:1004:Failed to authenticate using IDTOKENS"
        ),
        FailureKind.CREDENTIAL,
        "token.rejected",
    ),
    (
        b"ADVERTISE_STARTD failed!\nSECMAN:2002:Configuration Problem: The security policy is invalid.",
        FailureKind.CREDENTIAL,
        "token.rejected",
    ),
    (
        b'ADVERTISE_STARTD failed!\nSECMAN:2010:Received "DENIED" from server for user x@pool using method IDTOKENS.',
        FailureKind.CREDENTIAL,
        "token.unauthorized",
    ),
    (b"something new", FailureKind.NETWORK, "collector.handshake"),
    (b"", FailureKind.NETWORK, "collector.handshake"),
]


@pytest.mark.parametrize(("output", "kind", "code"), SAID)
def test_each_refusal_names_who_must_act(output: bytes, kind: FailureKind, code: str) -> None:
    failure = classify(1, output, "cm:9618")
    assert failure is not None
    assert (failure.kind, failure.code) == (kind, code)
    assert "cm:9618" in failure.message
    assert failure.hint


def test_success_is_no_failure() -> None:
    assert classify(0, b"succeeded", "cm:9618") is None


def test_silence_until_the_deadline_is_the_network() -> None:
    failure = classify(None, b"", "cm:9618", timed_out=True)
    assert failure is not None
    assert failure.code == "collector.unreachable"


def test_every_collector_is_asked_for_the_right_permission() -> None:
    commands = join_commands(plan(collectors=("a:1", "b:2")))
    assert [command[3] for command in commands] == ["a:1", "b:2"]
    assert all(command[0] == "/usr/bin/condor_ping" and command[-1] == "ADVERTISE_STARTD" for command in commands)


def test_each_collector_is_asked_for_the_times_of_the_pilots_own_ad() -> None:
    [words] = clock_commands(plan(collectors=("cm:9618",)), 'a"b')
    assert words[1:3] == ("-pool", "cm:9618")
    assert 'PilotId == "a\\"b"' in words
    assert words[-2:] == ("MyCurrentTime", "LastHeardFrom")
