"""What the pilot's own CVMFS client is configured with, and that its readers get back what was meant."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot_agent.config import Layer, load_config
from pilot_agent.config_cvmfs import OWNED, PARAMETER_VALUE, parameter_problem, value_problem
from pilot_agent.cvmfs.client_settings import (
    LEAST_MIB,
    ClientSettings,
    Places,
    Setting,
    client_settings,
    settings_problem,
    unmoved,
)
from pilot_agent.cvmfs.node_caches import NodeCache, node_caches
from pilot_agent.hookspecs import Service
from pilot_agent.model import Fact, FailureKind, Json, PilotError
from pilot_agent.probes.cvmfs.cvmfs_configuration import parse_assignments
from tests.cvmfs.grounds import A, configured, known
from tests.testbed.cvmfs import distribution

PLACES = Places("/scratch/w/cvmfs", "/scratch/w/cvmfs/cache", 100_000)
MOUNTREPO = Path(distribution.__file__).with_name("mountrepo")
SQUID, OTHER = "http://squid.example.org:3128", "http://other.example.org:3128"


def made(*facts: Fact, places: Places = PLACES, **cvmfs: Json) -> ClientSettings:
    """The client's settings for this section ``cvmfs``."""
    return client_settings(configured(cvmfs=cvmfs), known(*facts), places)


def failure(*facts: Fact, places: Places = PLACES, **cvmfs: Json) -> PilotError:
    with pytest.raises(PilotError) as raised:
        made(*facts, places=places, **cvmfs)
    return raised.value


def tried(**works: bool | None) -> Fact:
    """What the probe found of proxies by their hosts."""
    entries = [
        {"proxy": f"http://{name}.example.org:3128", "works": how, "reason": "" if how else "connection refused"}
        for name, how in works.items()
    ]
    return Fact("network.proxies", entries)


# ---- what is read back ------------------------------------------------------------------------------------------


def flattened(directory: Path, text: str) -> str:
    """What the stand-in's mountrepo makes of ``default.local``: its own function in a real shell."""
    script = MOUNTREPO.read_text()
    function = script[script.index("flatten() {") : script.index('if grep -q " $point fuse"')]
    (directory / "default.local").write_text(text)
    command = f"dist=/DIST; {function}\nflatten {directory}/default.local"
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True).stdout


def read_by_a_shell(directory: Path, text: str, name: str) -> str:
    """The variable after a real shell has sourced the text, as the client's own reader does."""
    (directory / "sourced").write_text(text)
    command = f'. {directory}/sourced; printf "%s" "${name}"'
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True, cwd=directory)
    assert done.stderr == ""
    return done.stdout


accepted = st.from_regex(PARAMETER_VALUE, fullmatch=True) | st.sampled_from(
    [
        "",
        "//var/x",
        "http://a/cvmfs/@fqrn@;http://b",
        "a b",
        "#x",
        "~",
        "*",
        "x=//etc",
        "-n",
        "{a,b}",
        "!x",
        "a;b|c&d>e",
    ]
)


@settings(max_examples=60, deadline=None)
@given(accepted)
def test_both_readers_get_back_every_value_that_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, value: str
) -> None:
    assert value_problem(value) is None
    directory = tmp_path_factory.mktemp("client")
    text = Setting("CVMFS_BEFORE", "1", "").line + Setting("CVMFS_X", value, "").line
    assert read_by_a_shell(directory, text, "CVMFS_X") == value
    moved = flattened(directory, text)
    assert read_by_a_shell(directory, moved, "CVMFS_X") == value
    assert read_by_a_shell(directory, moved, "CVMFS_BEFORE") == "1"
    assert parse_assignments(moved)["CVMFS_X"] == value


@given(st.text(max_size=30))
def test_any_other_value_is_refused_with_words_that_do_not_repeat_it(value: str) -> None:
    problem = value_problem(value)
    if problem is None:
        assert value == value.strip()
        assert value.isprintable()
        assert not set("\"'`$\\\n") & set(value)
    elif len(value) > 12:
        assert value not in problem


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("/var/lib/x", "write //var"),
        ("/etc/passwd", "write //var"),
        ("/cvmfs", "begins with /var"),
        ("/various", "begins with /var"),
        ("x=/var/y", "after a ="),
        ('a"b', "a quote"),
        ("a'b", "a quote"),
        ("$HOME", "a quote, $"),
        ("`id`", "a quote, $, `"),
        ("a\\", "\\"),
        ("a\nb", "blank"),
        ("a\tb", "blank"),
        (" a", "blank"),
        ("a  b", "blank"),
        ("é", "not ASCII"),
        ("a\x7f", "not ASCII"),
        ("x" * 1001, "1001 characters"),
    ],
)
def test_what_a_reader_would_change_is_refused_at_its_place(value: str, said: str) -> None:
    with pytest.raises(PilotError) as raised:
        configured(cvmfs={"parameters": {"CVMFS_TIMEOUT": "5", "CVMFS_X": value}})
    assert raised.value.failure.code == "config.invalid"
    assert "cvmfs.parameters.CVMFS_X (site): " in raised.value.failure.message
    assert said in raised.value.failure.message
    with pytest.raises(PilotError, match=r"cvmfs\.repository_parameters\.a\.example\.org\.CVMFS_X \(site\)"):
        configured(cvmfs={"repository_parameters": {A: {"CVMFS_X": value}}})


@pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "cvmfs_timeout", "CVMFS_", "CVMFS_A B", "CVMFS_A=1", "TIMEOUT"])
def test_only_parameters_of_the_client_can_be_set(name: str) -> None:
    assert "is no parameter of the CVMFS client" in (parameter_problem(name) or "")


@pytest.mark.parametrize("name", OWNED)
def test_what_the_pilot_decides_is_not_set_beside_it(name: str) -> None:
    assert parameter_problem(name) == f"the pilot sets it; give {OWNED[name]}"
    assert parameter_problem(f"{name}_X") is None


@pytest.mark.parametrize("path", ["/var/tmp/w", "/etc/w", "/cvmfs/w", "/various"])
def test_a_path_of_the_node_stays_one(tmp_path: Path, path: str) -> None:
    text = made(places=Places("/var/tmp/w/cvmfs", path, 100_000)).text
    assert text.endswith("\n")
    read = read_by_a_shell(tmp_path, flattened(tmp_path, text), "CVMFS_CACHE_BASE")
    assert Path(read).resolve() == Path(path).resolve()
    assert read == unmoved(path)


def test_a_key_in_the_distribution_is_named_where_it_is(tmp_path: Path) -> None:
    value = "/etc/cvmfs/keys/a.pub:/etc/cvmfs/keys/b.pub:/opt/c.pub"
    text = made(parameters={"CVMFS_PUBLIC_KEY": value}, places=Places("/var/tmp/w", "/c", 100_000)).text
    keys = "//var/tmp/w/dist/etc/cvmfs/keys"
    expected = f"{keys}/a.pub:{keys}/b.pub:/opt/c.pub"
    assert read_by_a_shell(tmp_path, flattened(tmp_path, text), "CVMFS_PUBLIC_KEY") == expected


# ---- proxies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("direct", "proxies", "works", "expected"),
    [
        (None, [], {}, "DIRECT"),
        (None, [SQUID], {}, f"{SQUID};DIRECT"),
        ("never", [f"{SQUID}|{OTHER}", "auto"], {}, f"{SQUID}|{OTHER};auto"),
        ("only", [SQUID], {"squid": True}, "DIRECT"),
        (None, [], {"other": None, "squid": True, "third": False}, f"{SQUID};{OTHER};DIRECT"),
        ("never", [], {"squid": True}, SQUID),
        (None, [f"{SQUID}|{OTHER}"], {"squid": False, "other": True}, f"{OTHER};DIRECT"),
        ("Never", [SQUID, OTHER], {"squid": False, "other": None}, OTHER),
        (None, [SQUID], {"squid": False}, "DIRECT"),
        ("never", [SQUID], {"squid": False}, SQUID),
        (None, ["http://u:p@squid.example.org:3128/"], {"squid": False}, "DIRECT"),
    ],
)
def test_the_client_gets_the_proxies_that_work_and_goes_straight_only_where_it_may(
    direct: str | None, proxies: list[str], works: dict[str, bool | None], expected: str
) -> None:
    found = made(*([tried(**works)] if works else []), proxies=proxies, direct=direct)
    assert found.value("CVMFS_HTTP_PROXY") == expected
    assert found.value("CVMFS_CLIENT_PROFILE") == ("single" if expected == "DIRECT" else None)


def test_a_squid_that_is_left_out_is_told_with_its_reason() -> None:
    (note,) = made(tried(squid=False), proxies=[SQUID]).notes
    assert note == f"left out of cvmfs.proxies, as a probe found them not to work: {SQUID} (connection refused)"


NEAR = "http://127.0.0.1:3129"


def beside(*caches: NodeCache) -> Places:
    """The places on a node where these caches will run."""
    return replace(PLACES, node_caches=caches)


@pytest.mark.parametrize(
    ("cvmfs", "expected"),
    [
        ({"proxies": [SQUID]}, f"{NEAR};{SQUID};DIRECT"),
        ({"proxies": [SQUID], "direct": "never"}, f"{NEAR};{SQUID}"),
        ({"proxies": [NEAR, SQUID]}, f"{NEAR};{SQUID};DIRECT"),
        ({"proxies": []}, f"{NEAR};DIRECT"),
    ],
)
def test_a_cache_that_the_pilot_runs_is_asked_before_the_sites_and_they_while_it_is_away(
    cvmfs: dict[str, Json], expected: str
) -> None:
    found = made(places=beside(NodeCache("squid", NEAR)), **cvmfs)
    assert found.value("CVMFS_HTTP_PROXY") == expected
    assert found.value("CVMFS_CLIENT_PROFILE") == (None if cvmfs["proxies"] else "single")
    assert found.value("CVMFS_PROXY_RESET_AFTER") == "60"
    assert found.settings[0].origin.startswith("the service squid, then ")


def test_a_cache_of_the_node_does_not_take_the_place_of_a_policy() -> None:
    places = beside(NodeCache("squid", NEAR))
    assert made(places=places, direct="only").value("CVMFS_HTTP_PROXY") == "DIRECT"
    # It is not there yet when CVMFS is mounted.
    assert failure(places=places, direct="never").failure.code == "cvmfs.no_proxy"
    assert made(proxies=[SQUID]).value("CVMFS_PROXY_RESET_AFTER") is None


def test_a_cache_whose_port_nobody_knows_is_left_out_and_told() -> None:
    found = made(proxies=[SQUID], places=beside(NodeCache("squid", "")))
    assert found.value("CVMFS_HTTP_PROXY") == f"{SQUID};DIRECT"
    assert found.notes == ("the service squid has no fixed port, so that the client is not told of it: give it one",)


def test_services_say_by_their_port_that_they_are_caches() -> None:
    services = [
        Service(name="web", ports={"http": 80}),
        Service(name="squid", ports={"http": 3129, "other": 1}, cvmfs_proxy="http"),
        Service(name="free", ports={"http": 0}, cvmfs_proxy="http"),
    ]
    assert node_caches(services) == (NodeCache("squid", NEAR), NodeCache("free", ""))


def test_what_stands_in_the_way_of_settings_is_told_only_where_a_probe_could_find_out() -> None:
    config = configured(cvmfs={"direct": "never"})
    lost = Fact.absent("network.proxy", f"{SQUID} does not answer")
    problem = settings_problem(config, {lost.name: lost}, PLACES)
    assert problem is not None
    assert (problem.code, problem.exit_code) == ("cvmfs.no_proxy", 65)
    assert lost.detail in problem.message
    untold = Fact.unknown("network.proxy", "not recorded")
    assert settings_problem(config, {untold.name: untold}, PLACES) is None
    assert settings_problem(config, {}, PLACES) is None
    assert settings_problem(configured(), {lost.name: lost}, PLACES) is None


def test_never_counts_whoever_says_it() -> None:
    layers = [Layer("entry", {"cvmfs": {"direct": "never"}}), Layer("vo", {"cvmfs": {"direct": "only"}})]
    config = dict(load_config(layers).values)
    with pytest.raises(PilotError) as raised:
        client_settings(config, {}, PLACES)
    assert raised.value.failure.code == "cvmfs.no_proxy"
    assert raised.value.failure.kind is FailureKind.NETWORK
    assert "cvmfs.direct: never (entry)" in raised.value.failure.message


@pytest.mark.parametrize(
    "proxy", ["squid:3128", "DIRECT", "http://squid", "ftp://a:1", 'http://a:1";x="', "http://a b:1"]
)
def test_what_is_no_proxy_is_refused_at_its_place(proxy: str) -> None:
    with pytest.raises(PilotError, match=r"cvmfs\.proxies\[1\] \(site\).*no group of proxies"):
        configured(cvmfs={"proxies": [SQUID, proxy]})


@pytest.mark.parametrize("proxy", ["DIRECT", f"{SQUID};DIRECT", f"{SQUID};http://other:3128"])
def test_who_writes_proxies_as_the_clients_own_file_has_them_is_told_how_they_are_written_here(proxy: str) -> None:
    with pytest.raises(
        PilotError, match=r"separates by ; are items of the list, and DIRECT is said with cvmfs\.direct"
    ):
        configured(cvmfs={"proxies": [proxy]})


def test_the_password_of_a_proxy_is_written_and_never_shown() -> None:
    found = made(proxies=["http://pilot:hunter2@squid:3128|http://a:3128"], parameters={"CVMFS_AUTH_TOKEN": "hunter3"})
    assert "http://pilot:hunter2@squid:3128|http://a:3128;DIRECT" in found.text
    shown = [setting.shown for setting in found.settings]
    assert shown[0] == "http://(removed)@squid:3128|http://a:3128;DIRECT"
    assert not [value for value in shown if "hunter" in value]


# ---- the cache ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "share", "most", "quota"),
    [
        (100_000, 0.5, 4000, 4000),
        (8_000, 0.5, 4000, 2500),
        (3_200, 0.5, 4000, 500),
        (11_600, 0.5, 4000, 4000),
        (5_800, 1, 4000, 4000),
        (2_240, 0.5, 100, 100),
        (None, 0.5, 4000, 4000),
    ],
)
def test_the_quota_leaves_the_disk_what_the_client_needs_beside_it(
    free: int | None, share: float, most: int, quota: int
) -> None:
    found = made(places=Places("/w", "/w/cache", free), cache_mib=most, cache_share=share)
    assert found.value("CVMFS_QUOTA_LIMIT") == str(quota)
    assert found.value("CVMFS_SHARED_CACHE") == "yes"
    assert bool(found.notes) is (free is None)
    if free is not None:
        assert quota * 1.2 + 1000 <= free * share


@given(st.integers(0, 10**6), st.floats(0.01, 1), st.integers(100, 10**5))
def test_a_quota_always_fits_or_is_refused_with_what_would_do(free: int, share: float, most: int) -> None:
    refused, places = None, Places("/w", "/w/cache", free)
    try:
        found = made(places=places, cache_mib=most, cache_share=share)
    except PilotError as error:
        refused = error.failure
    if refused is None:
        quota = int(found.value("CVMFS_QUOTA_LIMIT") or 0)
        assert min(LEAST_MIB, most) <= quota <= most
        assert quota * 1.2 + 1000 <= free * share + 1e-6
        return
    assert refused.code == "cvmfs.cache_too_small"
    words = refused.message.split()
    needed = int(words[words.index("and") + 1])
    assert needed > free
    assert f"{min(LEAST_MIB, most)} MiB of files" in refused.message
    enough = made(places=Places("/w", "/w/cache", needed), cache_mib=most, cache_share=share)
    assert int(enough.value("CVMFS_QUOTA_LIMIT") or 0) >= min(LEAST_MIB, most)


def test_an_alien_cache_has_no_quota_and_no_manager_that_others_could_take_along() -> None:
    found = made(cache="alien", cache_directory="/var/shared")
    told = {
        setting.name: setting.value for setting in found.settings if "CACHE" in setting.name or "QUOTA" in setting.name
    }
    assert told == {
        "CVMFS_ALIEN_CACHE": "//var/shared",
        "CVMFS_CACHE_BASE": PLACES.cache,
        "CVMFS_SHARED_CACHE": "no",
        "CVMFS_QUOTA_LIMIT": "-1",
    }


def test_a_shared_cache_lies_in_its_directory() -> None:
    assert made(cache="Shared", cache_directory="/caches").value("CVMFS_CACHE_BASE") == "/caches"


@pytest.mark.parametrize("kind", ["shared", "alien"])
def test_a_cache_for_several_needs_a_directory(kind: str) -> None:
    error = failure(cache=kind).failure
    assert (error.kind, error.code) == (FailureKind.CONFIG, "config.invalid")
    assert "no cvmfs.cache_directory" in error.message


def test_a_repository_can_have_parameters_of_its_own() -> None:
    found = made(repository_parameters={A: {"CVMFS_SERVER_URL": "http://s/cvmfs/@fqrn@"}})
    assert found.text_of(A) == 'CVMFS_SERVER_URL="http://s/cvmfs/@fqrn@"\n'
    assert found.text_of("other.example.org") == ""
    assert "SERVER_URL" not in found.text
