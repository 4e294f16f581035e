"""Plugins' raw lines are passed on, except those that touch what keeps the pilot safe."""

from __future__ import annotations

import pytest

from pilot_agent.model import FailureKind, PilotError
from pilot_agent.startd.fragments import fragment_lines
from tests.startd.plans import fragment


def test_plain_lines_pass_under_their_plugins_name() -> None:
    text = '# note\nRANK = (TARGET.Owner == "x") \\\n  * 10\n\nSTARTD_ATTRS = $(STARTD_ATTRS) A\nA = 1\n'
    assert list(fragment_lines((fragment(text),))) == [
        "# example: lines",
        'RANK = (TARGET.Owner == "x")   * 10',
        "STARTD_ATTRS = $(STARTD_ATTRS) A",
        "A = 1",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "SEC_DEFAULT_AUTHENTICATION = NEVER",
        "sec_default_authentication_methods = CLAIMTOBE",
        "ALLOW_WRITE = *",
        "DENY_READ =",
        "STARTD.ALLOW_DAEMON = *",
        "SEC_TOKEN_DIRECTORY = /tmp",
        "DAEMON_LIST = MASTER, SCHEDD",
        "LOCAL_CONFIG_DIR = /etc/condor/config.d",
        "USER_JOB_WRAPPER = /tmp/x",
        "SINGULARITY_BIND_EXPR = SingularityBind",
        "slot_type_1.SINGULARITY = /tmp/x",
        "PILOT_START = True",
        "EXECUTE = /tmp",
        "STARTD.DAEMON_SHUTDOWN = False",
        "SEC_DEFAULT_ENC\\\nRYPTION = NEVER",
    ],
)
def test_security_knobs_are_refused_with_plugin_and_line(line: str) -> None:
    with pytest.raises(PilotError, match="plugin example, fragment 'lines', line 2") as caught:
        list(fragment_lines((fragment("A = 1\n" + line),)))
    assert caught.value.failure.kind is FailureKind.CONFIG
    assert caught.value.failure.code == "fragment.security_knob"
    assert caught.value.failure.plugin == "example"


@pytest.mark.parametrize(
    "line",
    [
        "include : /etc/passwd",
        "@include /etc/passwd",
        "include command : rm -rf /",
        "use SECURITY : HOST_BASED",
        "use feature:GPUs",
        "A @=end\nSEC_DEFAULT_ENCRYPTION = NEVER\n@end",
        "$(X)C_Y = 1",
        "nonsense",
        "A : 3",
    ],
)
def test_lines_that_read_more_or_hide_a_name_are_refused(line: str) -> None:
    with pytest.raises(PilotError) as caught:
        list(fragment_lines((fragment(line),)))
    assert caught.value.failure.code == "fragment.directive"
