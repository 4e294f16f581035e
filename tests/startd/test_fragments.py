"""Plugins' raw lines are passed on, except those that touch what keeps the pilot safe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.hookspecs import StartdFragment
from pilot_agent.model import FailureKind, PilotError
from pilot_agent.startd.fragments import fragment_lines
from pilot_agent.startd.plan import PluginFragment
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
        "SEC_DEFAULT_ENC\\ \t\nRYPTION = NEVER",
        "STARTD.START = True",
        "startd.local.Start = True",
        "slot_type_1.START = True",
        "SLOT_TYPE_1_START = True",
        "SLOT1_START = True",
        "SLOT_TYPE_1 = cpus=100",
        "MACHINE_RESOURCE_INVENTORY_GPUs = /tmp/x",
        "STARTD_CRON_X_EXECUTABLE = /tmp/x",
        "FILETRANSFER_PLUGINS = /tmp/x",
        "MAIL = /tmp/x",
        "CREATE_CGROUP_WITHOUT_ROOT = True",
        "CGROUP_MEMORY_LIMIT_POLICY = none",
        "STARTER_JOB_ENVIRONMENT = X=1",
        "STARTD_ENVIRONMENT = LD_PRELOAD=/tmp/x",
        "DOLLAR = $",
        "if True\nSEC_DEFAULT_ENCRYPTION = NEVER\nendif",
    ],
)
def test_security_knobs_are_refused_with_plugin_and_line(line: str) -> None:
    with pytest.raises(PilotError, match=r"plugin example, fragment 'lines', line [23]") as caught:
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
        "use:SECURITY = x",
        "INCLUDE: /etc/passwd",
        "+Attribute = 1",
        "@A = 1",
        "A@=end",
        "STARTD:START = True",
        "if False",
        "else",
        "endif",
        "if True\nelse\n",
        "A = 1\x00",
        "A = 1 \x1b",
        "A = \\\\",
    ],
)
def test_lines_that_read_more_or_hide_a_name_are_refused(line: str) -> None:
    with pytest.raises(PilotError) as caught:
        list(fragment_lines((fragment(line),)))
    assert caught.value.failure.code == "fragment.directive"


@pytest.mark.parametrize("end", ["A = 1 \\", "A = 1 \\ ", "A = 1 \\\t \n", "A = 1 \\\n\n"])
def test_a_fragment_cannot_swallow_the_line_behind_it(end: str) -> None:
    lines = list(fragment_lines((fragment(end),)))
    assert lines[-1] == "A = 1"


@pytest.mark.parametrize("name", ["x\\", "x\\ ", "x\n\\"])
def test_the_name_of_a_fragment_cannot_swallow_the_line_behind_it(name: str) -> None:
    (line,) = fragment_lines((PluginFragment("example", StartdFragment(name=name, text="")),))
    assert not line.endswith("\\")
    assert "\n" not in line


def test_a_condition_that_is_closed_passes() -> None:
    text = "if defined A\nB = 1\nelif defined C\nB = 2\nelse\nB = 3\nendif"
    assert list(fragment_lines((fragment(text),)))[1:] == text.splitlines()


@given(st.text(st.sampled_from("A=1 \\\n\t#iISTARTfendSEC_.:@+$()"), max_size=40))
def test_no_fragment_reaches_beyond_its_lines(text: str) -> None:
    try:
        lines = list(fragment_lines((fragment(text),)))
    except PilotError:
        return
    assert not [line for line in lines if line.rstrip().endswith("\\") or "\n" in line]
