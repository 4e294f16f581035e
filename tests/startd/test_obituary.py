"""The ad of a failed pilot: what operators look for is in it, and nothing in a failure's text can break it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.startd.obituary import LIFETIME_SECONDS, failure_ad, query_ad, tool_configuration
from pilot_agent.startd.plan import CondorPaths, NetworkPlan

PROBLEM = {
    "kind": "node_resource",
    "code": "disk.too_small",
    "message": 'only "8" MiB',
    "stage": "validate",
    "hint": "x",
}
TEXTS = st.text(max_size=80)


def ad(**attributes: object) -> dict[str, str]:
    text = failure_ad("pilot-4f3a", "wn1", attributes, PROBLEM, exit_code=64, until=1000.7)
    pairs = [line.split(" = ", 1) for line in text.splitlines()]
    assert len({name.lower() for name, _ in pairs}) == len(pairs)
    return {name: value for name, value in pairs}  # noqa: C416 - pairs are lists


def test_it_says_what_failed_and_takes_no_job() -> None:
    found = ad(GLIDEIN_Site="Example")
    assert (found["PilotFailureKind"], found["PilotFailureCode"]) == ('"node_resource"', '"disk.too_small"')
    assert found["PilotFailureMessage"] == found["GLIDEIN_FAILURE_REASON"] == '"only \\"8\\" MiB"'
    assert (found["START"], found["Requirements"], found["State"]) == ("false", "false", '"Drained"')
    assert (found["GLIDEIN_EXIT_CODE"], found["GLIDEIN_ToDie"], found["GLIDEIN_Failed"]) == ("64", "1000", "true")
    assert found["ClassAdLifetime"] == str(LIFETIME_SECONDS)
    assert found["GLIDEIN_Site"] == '"Example"'


def test_what_condor_status_shows_of_every_machine_is_in_it() -> None:
    found = ad(Cpus=8, Memory=16000)
    assert (found["Cpus"], found["Memory"]) == ("0", "0")
    assert {"OpSys", "Arch", "LoadAvg", "CondorLoadAvg", "EnteredCurrentActivity"} <= set(found)


def test_the_pilots_own_attributes_hide_none_of_these() -> None:
    found = ad(start=True, GLIDEIN_failed=False, PilotId="4f3a")
    assert (found["START"], found["GLIDEIN_Failed"], found["PilotId"]) == ("false", "true", '"4f3a"')
    assert "start" not in found


def test_an_attribute_that_no_ad_can_hold_is_left_out() -> None:
    found = ad(**{"bad name": 1, "Huge": 10**40, "Good": 2})
    assert found["Good"] == "2"
    assert not {"bad name", "Huge"} & set(found)


@given(TEXTS, TEXTS, TEXTS)
def test_whatever_a_failure_says_each_attribute_is_one_line(message: str, code: str, site: str) -> None:
    problem = {"kind": "internal", "code": code, "message": message, "stage": "run", "hint": None}
    text = failure_ad("pilot-1", "wn1", {"GLIDEIN_Site": site}, problem, exit_code=70, until=1)
    assert [line for line in text.split("\n")[:-1] if " = " not in line] == []
    assert text.count("START = ") == 1


def test_it_is_taken_back_by_its_name() -> None:
    assert 'Requirements = Name == "pilot-4f3a"' in query_ad("pilot-4f3a").splitlines()


def test_the_tools_configuration_reads_nothing_of_the_nodes_and_trusts_the_token_alone() -> None:
    condor = CondorPaths("/usr", "/usr/bin", "/usr/sbin", "/usr/libexec/condor", "/usr/lib/condor")
    network = NetworkPlan(no_dns=True, domain="example.org", ccb=True)
    text = tool_configuration(condor, network, ["10.0.0.2:9618", "10.0.0.3"], "/w/tokens", "/w/obituary")
    lines = text.splitlines()
    assert "COLLECTOR_HOST = 10.0.0.2:9618, 10.0.0.3" in lines
    assert "LOCAL_CONFIG_FILE = " in lines
    assert "SEC_CLIENT_AUTHENTICATION_METHODS = IDTOKENS" in lines
    assert "SEC_CLIENT_ENCRYPTION = REQUIRED" in lines
    assert "SEC_TOKEN_DIRECTORY = /w/tokens" in lines
