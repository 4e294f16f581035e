"""Nothing that looks like a secret stays in a recording, wherever it stands; what probes read does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.hookspecs import Context
from pilot_agent.probes.kept_variables import is_kept
from pilot_agent.probes.redaction import kept_environment, redact, redact_json
from tests.probes.test_damage import PROBES
from tests.probes.trees import NAMES, context_of

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
        '<10.0.0.1:9618>#1700000000#3#[Encryption="YES";]{}',
        "http_proxy=user:{}@squid:3128",
        "CVMFS_HTTP_PROXY='http://a:3128|user:{}@b:3128'",
        "http://user:'{}\"@squid:3128",
        "curl -u user:{} https://example.org",
        "netrc\n  password {}",
        '{{"auths": {{"registry.example.org": {{"auth": "{}"}}}}}}',
        '{{\n "tokens": [\n  "{}"\n ]\n}}',
        'cut off: {{"cores": 4, "refresh_token": "{}", "a',
        '<property name="db.password" value="{}"/>',
        "escaped\\neyJhbGciOiJIUzI1NiJ9.{}",
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
        'CVMFS_SERVER_URL="http://a.example.org/cvmfs/@fqrn@;http://b.example.org/cvmfs/@fqrn@"',
        "CVMFS_PUBLIC_KEY=/etc/cvmfs/keys/cern.ch.pub",
        "Speculation_Store_Bypass:\tthread vulnerable\nSeccomp:\t0",
        "bugs\t\t: spectre_v1 spec_store_bypass swapgs",
        "activate-global-python-argcomplete",
        '{"path": "/usr/bin/passwd", "mode": 2541}',
        "60 59 0:31 / /sys/fs/bpf rw - bpf bpf rw,mode=700",
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


def test_a_file_of_json_loses_its_secrets_and_nothing_else() -> None:
    assert redact('{"token": "x", "cores": 4, "name": "a"}') == '{"token": "(removed)", "cores": 4, "name": "a"}'
    assert redact('say {"token": "x", "cores": 4}') == 'say {"token": "(removed)", "cores": 4}'


def test_paths_hosts_and_repositories_are_judged_by_what_they_hold_and_not_by_their_names() -> None:
    answer = {"/home/secret": "yes", "private.example.org": {"state": "mounted"}}
    assert redact_json(answer) == answer


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


class Asked(Mapping[str, str]):
    """Variables that remember which of them were asked for."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self.variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.variables)

    def __len__(self) -> int:
        return len(self.variables)


def test_of_several_proxies_of_cvmfs_each_keeps_its_host() -> None:
    kept = kept_environment({"CVMFS_HTTP_PROXY": "http://u:p@a:1|b:1;u:p@c:1;DIRECT"})
    assert kept == {"CVMFS_HTTP_PROXY": "http://(removed)@a:1|b:1;(removed)@c:1;DIRECT"}


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_that_a_probe_asks_for_is_kept(name: str) -> None:
    context = context_of(name)
    environment = Asked(context.environment)
    for probe in PROBES:
        list(probe(Context(root=context.root, environment=environment)))
    assert sorted(variable for variable in environment.asked if not is_kept(variable)) == []
    assert "PATH" in environment.asked
    assert kept_environment(context.environment) == context.environment


@given(
    st.text() | st.text(st.sampled_from("token=:\"'{}[]<>/@|-eyJ. \n")),
    st.sampled_from(
        ["token=", "--password ", "http://a:", "Bearer ", "", "{", "eyJhbGci.", "<token>", "<1.2.3.4:5>#1#2#", "-u a:"]
    ),
)
def test_redaction_takes_any_text_and_settles(text: str, start: str) -> None:
    once = redact(start + text)
    assert redact(once) == once
