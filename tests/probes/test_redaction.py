"""Nothing that looks like a secret stays in a recording, wherever it stands; what probes read does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.probes.redaction import kept_environment, redact, redact_json

SECRET = "S3CRETS3CRETS3CRET"


@pytest.mark.parametrize(
    "text",
    [
        "http://user:{}@proxy:3128",
        "http://user:{}/x@proxy:3128",
        "http://u:p@{}@proxy:3128",
        '{{"token": "{}"}}',
        "--password {}",
        "curl --token {} https://example.org",
        "--api-key={}",
        "Authorization: Token {}",
        "authorization: negotiate {}",
        "Authorization: Digest a=1, response={}",
        "a lone Bearer {}",
        "DB_PASS={}",
        "MYSQL_PWD={}",
        "pass={}",
        "https://example.org/x?a=1&X-Amz-Signature={}&b=2",
        "https://example.org/x?sig={}",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n{}\n-----END PGP PRIVATE KEY BLOCK-----",
        "-----BEGIN EC PRIVATE KEY-----\n{}",
        "<password>{}</password>",
        "machine example.org login me password {}",
        "ghp_{}",
        "glpat-{}",
        "eyJhbGciOiJkaXIifQ..{}.abc.def",
        "eyJhbGciOiJkaXIifQ.eyJzdWIiOiJ4In0.{}",
        "<10.0.0.1:9618>#1700000000#3#[Integrity=1;Key={};]",
        "ClaimId = <10.0.0.1:9618>#1700000000#3#{}",
        "\tSEC_PASSWORD : {}",
    ],
)
def test_every_usual_form_of_a_secret_is_taken_out(text: str) -> None:
    assert SECRET not in redact(f"before\n{text.format(SECRET)}\nafter")
    assert redact(f"before\n{text.format(SECRET)}").startswith("before\n")


@pytest.mark.parametrize(
    "text",
    [
        "PWD=/home/pilot\nOLDPWD=/\nPATH=/usr/bin",
        "3 tests passed: all",
        "https://example.org:8443/a/b",
        "SLURM_JOB_CPUS_PER_NODE=72(x2),36",
        "auth/munge",
        "AuthType=auth/munge",
        "proxy.example.org:3128",
        "user@example.org",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "value",
    [
        {"token": [SECRET]},
        {"credentials": {"a": {"b": [SECRET]}}},
        ["curl", "--token", SECRET],
        {"argv": ["x", "--password", SECRET, "y"]},
        [{"db_pass": SECRET}],
    ],
)
def test_a_name_or_an_option_that_speaks_of_a_secret_empties_what_belongs_to_it(value: object) -> None:
    assert SECRET not in str(redact_json(value))


def test_what_stands_beside_a_secret_stays() -> None:
    assert redact_json({"argv": ["x", "--password", SECRET, "y"], "token": 3}) == {
        "argv": ["x", "--password", "(removed)", "y"],
        "token": 3,
    }


@pytest.mark.parametrize(
    "name",
    ["CONDOR_PASS", "OSG_PW", "GLIDEIN_KEY", "PYTHONPASS", "MODULE_AUTH", "SLURM_SPANK_X", "APPTAINER_DOCKER_PASSWORD"],
)
def test_variables_with_secrets_are_not_kept(name: str) -> None:
    assert kept_environment({name: SECRET}) == {}


@pytest.mark.parametrize(
    ("proxy", "kept"),
    [
        (f"user:{SECRET}@127.0.0.1:1", "(removed)@127.0.0.1:1"),
        (f"http://user:{SECRET}/x@127.0.0.1:1", "http://(removed)@127.0.0.1:1"),
        (f"http://u:p@{SECRET}@127.0.0.1:1", "http://(removed)@127.0.0.1:1"),
        (f"http://u:'{SECRET}\"@squid:3128", "http://(removed)@squid:3128"),
        ("http://squid:3128", "http://squid:3128"),
        ("squid:3128", "squid:3128"),
    ],
)
def test_of_a_proxy_only_the_host_is_kept(proxy: str, kept: str) -> None:
    assert kept_environment({"https_proxy": proxy}) == {"https_proxy": kept}


def test_the_variables_that_probes_read_are_kept() -> None:
    read = {
        "SLURM_JOB_ID": "7",
        "PBS_NODEFILE": "/x",
        "OSG_SITE_NAME": "s",
        "MODULEPATH": "/m",
        "CUDA_VISIBLE_DEVICES": "",
    }
    assert kept_environment(read) == read


@given(st.text(), st.sampled_from(["token=", "--password ", "http://a:", "Bearer ", ""]))
def test_redaction_takes_any_text_and_settles(text: str, start: str) -> None:
    once = redact(start + text)
    assert redact(once) == once
