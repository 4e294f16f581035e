"""What is configured becomes squid's configuration, and what cannot be is told before anything starts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_squid.configuration import configuration, upstream
from pilot_squid.plugin import (
    NAME,
    START,
    TEMPLATE,
    can_be_started,
    pilot_options,
    pilot_services,
    write_configuration,
)

from pilot_agent.hookspecs import Context, Service
from pilot_agent.model import CheckStatus, Fact

FOUND: list[dict[str, Any]] = [
    {"proxy": "http://untried.example.org:3128", "works": None},
    {"proxy": "http://dead.example.org:3128", "works": False},
    {"proxy": "http://good.example.org:3128", "works": True},
    {"proxy": "http://127.0.0.1:3129", "works": True},
]


def options(**given: Any) -> dict[str, Any]:
    """All options, with their defaults."""
    return {option.name: option.default for option in pilot_options()} | given


def config(**given: Any) -> dict[str, Any]:
    """A configuration with these options."""
    return {"plugins": {"options": {NAME: options(**given)}}}


def service(**given: Any) -> Service:
    """The service as it is declared with these options."""
    [found] = pilot_services(config(**given))
    return found


def lines(**given: Any) -> list[str]:
    """Squid's configuration with these options, on a site with proxies."""
    return configuration(options(**given), upstream(options(**given), FOUND)).splitlines()


def test_it_listens_on_the_loopback_device_alone_and_offers_no_management_and_no_tunnels() -> None:
    text = lines()
    assert [line for line in text if "_port " in line] == ["http_port 127.0.0.1:@PORT@"]
    rules = [line for line in text if line.startswith("http_access")]
    assert rules[0] == "http_access deny manager"
    assert rules[1:3] == ["http_access allow own_name own_picture", "http_access deny refused_methods"]
    assert r"acl own_picture urlpath_regex ^/squid-internal-static/icons/SN[.]png$" in text
    assert rules[-1] == "http_access deny all"
    assert "acl refused_methods method CONNECT PURGE TRACE" in text


def test_the_proxies_that_worked_come_first_and_dead_and_own_ones_never() -> None:
    peers = [line.split()[1:4] for line in lines() if line.startswith("cache_peer")]
    assert peers == [["good.example.org", "parent", "3128"], ["untried.example.org", "parent", "3128"]]
    assert not [line for line in lines() if line.startswith(("always_direct", "never_direct"))]


def test_configured_proxies_are_taken_and_no_others() -> None:
    peers = [line for line in lines(proxies=["http://[2001:db8::1]:3128"]) if line.startswith("cache_peer")]
    assert len(peers) == 1
    assert peers[0].startswith("cache_peer 2001:db8::1 parent 3128 0 no-query")


def test_who_may_go_straight_is_what_direct_says() -> None:
    assert "always_direct allow all" in lines(direct="only")
    assert not [line for line in lines(direct="only") if line.startswith("cache_peer")]
    assert "never_direct allow all" in lines(direct="never")
    with pytest.raises(ValueError, match="no proxy of the site is known"):
        upstream(options(direct="never"), [])


def test_only_allowed_destinations_are_fetched_from() -> None:
    text = lines(destinations=[".example.org", "frontier.cern.ch"])
    assert "acl allowed dstdomain -n .example.org frontier.cern.ch" in text
    assert "http_access allow allowed" in text
    assert "http_access allow all" not in text


def test_behind_a_proxy_no_name_is_looked_up_to_keep_jobs_from_the_node_itself() -> None:
    assert [line for line in lines() if line.startswith("acl this_node dst -n 127.0.0.0/8 ")]
    assert [line for line in lines(direct="only") if line.startswith("acl this_node dst 127.0.0.0/8 ")]


def test_the_pilots_own_cvmfs_client_is_told_of_it_unless_it_would_be_refused() -> None:
    assert (service(port=3129).cvmfs_proxy, service(port=3129).ports) == ("http", {"http": 3129})
    assert service(port=3129, cvmfs=False).cvmfs_proxy is None
    assert service(port=3129, destinations=[".example.org"]).cvmfs_proxy is None


def test_memory_and_disk_are_bounded() -> None:
    text = lines(memory_mib=300, disk_mib=1024, object_mib=50)
    assert "cache_dir ufs @DIRECTORY@/cache 1024 8 32" in text
    assert "cache_mem 110 MB" in text
    assert "maximum_object_size 50 MB" in text
    assert service(memory_mib=300).memory_mib == 300
    assert not [line for line in lines(disk_mib=0) if line.startswith("cache_dir")]


MISTAKES: dict[str, dict[str, Any]] = {
    "needs 110 at least": {"memory_mib": 100},
    "disk_mib must be": {"disk_mib": -1},
    "one of never, fallback, only": {"direct": "no"},
    "pilot or node": {"per": "site"},
    "port is 99999; 1 to 65535": {"port": 99999},
    "destinations has 'a b'": {"destinations": ["a b"]},
    "destinations has 5": {"destinations": [5]},
    "without an account": {"proxies": ["http://user:word@proxy.example.org:3128"]},
    "http://host:port": {"proxies": ["https://proxy.example.org:3128"]},
}


@pytest.mark.parametrize("told", MISTAKES)
def test_a_mistake_in_the_options_is_told_and_nothing_is_started(told: str) -> None:
    wrong = config(**MISTAKES[told])
    found = can_be_started(Context(config=wrong))
    assert found.status is CheckStatus.FAIL
    assert told in found.message
    assert list(pilot_services(wrong)) == []


@given(
    st.lists(st.text() | st.just(".example.org"), max_size=3),
    st.lists(st.text() | st.from_regex(r"http://[a-z\n]{1,5}:[0-9]{1,5}\n?", fullmatch=True), max_size=3),
)
def test_no_option_can_add_a_line_to_the_configuration(destinations: list[str], proxies: list[str]) -> None:
    given = options(destinations=destinations, proxies=proxies)
    try:
        text = configuration(given, upstream(given, []))
    except ValueError:
        return
    known = {line.split()[0] for line in configuration(options(), upstream(options(), FOUND)).splitlines()}
    assert {line.split()[0] for line in text.splitlines()} <= known | {"acl", "always_direct"}


def test_a_node_without_squid_is_told_what_to_install(tmp_path: Path) -> None:
    found = can_be_started(Context(config=config(program="squid-of-nowhere"), environment={"PATH": str(tmp_path)}))
    assert found.status is CheckStatus.FAIL
    assert "no program squid-of-nowhere on this node" in found.message
    assert "services.squid.program" in found.hint
    inside = can_be_started(Context(config=config(program="squid-of-nowhere", platform="el9")))
    assert inside.status is CheckStatus.PASS


def test_jobs_are_told_in_the_forms_that_their_clients_read() -> None:
    assert service().exports == {
        "http_proxy": "http://{host}:{port:http}",
        "HTTP_PROXY": "http://{host}:{port:http}",
        "FRONTIER_PROXY": "http://{host}:{port:http}",
        "OSG_SQUID_LOCATION": "{host}:{port:http}",
    }
    assert service(exports=[]).exports == {}


def test_the_service_starts_squid_with_the_port_that_was_chosen(tmp_path: Path) -> None:
    directory = tmp_path / "services" / NAME
    facts = {"network.proxies": Fact("network.proxies", FOUND)}
    write_configuration(Context(config=config(), facts=facts, workspace=str(tmp_path)))
    assert (directory / TEMPLATE).stat().st_mode & 0o777 == 0o600
    # What would be squid shows what it was started with.
    program = tmp_path / "squid"
    program.write_text('#!/bin/sh\necho "$@" >> asked\n[ "$2" = -z ] && mkdir -p cache/00\nexit 0\n')
    program.chmod(0o755)
    command = [word.replace("{port:http}", "40123") for word in service(program=str(program)).command]
    for _ in range(2):
        subprocess.run(command, cwd=directory, env={"PATH": "/usr/bin:/bin"}, check=True, timeout=60)
    name = f"pilotsquid{os.getuid()}p40123"
    asked = [f"-N -z -n {name} -f squid.conf", *2 * [f"-N -d 1 -n {name} -f squid.conf"]]
    assert (directory / "asked").read_text().splitlines() == asked
    written = (directory / "squid.conf").read_text()
    assert "http_port 127.0.0.1:40123\n" in written
    assert f"cache_dir ufs {directory}/cache 2048 8 32\n" in written
    assert (directory / "squid.conf").stat().st_mode & 0o777 == 0o600


def test_without_its_configuration_the_service_says_where_to_look(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", START, NAME, "squid", "40123"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "the setup squid in the report says why" in done.stdout
