"""What a child may see of the site's environment, and how the pilot leaves root."""

from __future__ import annotations

import os
import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent import process
from pilot_agent.account import become, refuse_root, surroundings_of_another
from pilot_agent.environment import DEFAULT_PATH, INHERITED, clean_environment, clean_path
from pilot_agent.model import PilotError

POISON = {
    "_CONDOR_COLLECTOR_HOST": "evil.example.org",
    "CONDOR_CONFIG": "/etc/condor/condor_config",
    "CONDOR_INHERIT": "1234 <127.0.0.1:9618>",
    "APPTAINER_BIND": "/:/host",
    "APPTAINERENV_PATH": "/evil",
    "SINGULARITY_BIND": "/:/host",
    "PYTHONPATH": "/evil",
    "PYTHONHOME": "/evil",
    "LD_PRELOAD": "/evil/lib.so",
    "LD_LIBRARY_PATH": "/evil",
    "BASH_ENV": "/evil/rc",
    "PILOT_AGENT_PAYLOAD": "/elsewhere/pilot.pyz",
}


def cleaned(site: dict[str, str]) -> dict[str, str]:
    """A child's environment on a site with these variables."""
    return clean_environment(site, home="/work/home", temporary="/work/tmp")


def test_a_poisoned_site_environment_reaches_no_child() -> None:
    assert cleaned(POISON) == cleaned({})


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=8))
def test_only_named_variables_are_inherited_from_any_environment(site: dict[str, str]) -> None:
    allowed = {"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", *INHERITED}
    assert set(cleaned(site)) <= allowed


def test_home_and_temporary_directory_are_the_pilots_own() -> None:
    environment = cleaned({"HOME": "/home/someone", "TMPDIR": "/missing"})
    assert (environment["HOME"], environment["TMPDIR"]) == ("/work/home", "/work/tmp")


def test_an_unset_home_is_no_problem() -> None:
    assert cleaned({})["HOME"] == "/work/home"


def test_the_locale_is_utf8_wherever_the_site_runs() -> None:
    environment = cleaned({"LANG": "C", "LC_ALL": "de_DE.ISO-8859-1"})
    assert (environment["LANG"], environment["LC_ALL"]) == ("C.UTF-8", "C.UTF-8")


def test_proxies_and_the_time_zone_of_the_site_are_kept() -> None:
    site = {"http_proxy": "http://squid.example.org:3128", "TZ": "Europe/Berlin"}
    assert site.items() <= cleaned(site).items()


def test_a_search_path_has_absolute_directories_only() -> None:
    assert clean_path("/opt/htcondor/bin:.:bin::~/bin") == f"/opt/htcondor/bin:{DEFAULT_PATH}"


def test_a_search_path_names_every_directory_once_in_the_sites_order() -> None:
    assert clean_path("/usr/bin:/opt/bin:/usr/bin").split(":")[:2] == ["/usr/bin", "/opt/bin"]
    parts = clean_path("/usr/bin:/opt/bin:/usr/bin").split(":")
    assert len(parts) == len(set(parts))


@given(st.text(max_size=40))
def test_any_search_path_ends_with_the_system_directories(path: str) -> None:
    parts = clean_path(path).split(":")
    assert set(DEFAULT_PATH.split(":")) <= set(parts)
    assert all(part.startswith("/") for part in parts)


def test_a_cleaned_environment_starts_a_real_program() -> None:
    result = process.run(["env"], deadline_seconds=60, environment=cleaned(POISON))
    assert result.ok
    assert "evil" not in result.text


def test_an_account_that_does_not_exist_is_named() -> None:
    with pytest.raises(PilotError) as caught:
        become("nobody-of-this-name")
    assert caught.value.failure.code == "account.unknown"
    assert caught.value.failure.exit_code == 66
    assert "nobody-of-this-name" in caught.value.failure.message


def test_root_is_no_account_to_change_to() -> None:
    with pytest.raises(PilotError) as caught:
        become("root")
    assert caught.value.failure.code == "account.root"


def in_child(uid: int, name: str) -> str:
    """What ``become`` does in a process of this user: who it is afterwards, or the code of its failure."""

    def change() -> bytes:
        if uid != os.getuid():
            os.setresuid(uid, uid, uid)
        os.umask(0o077)
        os.environ.update(dict.fromkeys(OF_ROOT, "x"))
        try:
            become(name)
        except PilotError as error:
            if error.failure.code != "account.python":  # told after the change; these tests' own Python may be private
                return error.failure.code.encode()
        ids = (*os.getresuid(), *os.getresgid())
        if left := surroundings_of_another(os.environ):
            return f"still there: {left}".encode()
        umask = os.umask(0)
        return f"{umask:03o} {ids} {os.environ['HOME']} {os.environ['USER']} {sorted(os.getgroups())}".encode()

    with process.Runner() as runner:
        result = runner.wait(runner.start_call(change, name="become", deadline_seconds=60))
    assert result.ok, result.explain()
    return result.answer.decode()


OF_ROOT = ("XDG_RUNTIME_DIR", "XDG_DATA_DIRS", "KRB5CCNAME", "SSH_AUTH_SOCK", "SUDO_USER", "MAIL")


def test_what_belongs_to_the_earlier_account_is_known() -> None:
    kept = {"PATH": "/bin", "MAILTO": "x", "_CONDOR_SCRATCH_DIR": "/s", "X509_CERT_DIR": "/c", "LANG": "C"}
    assert surroundings_of_another({**dict.fromkeys(OF_ROOT, "x"), **kept}) == list(OF_ROOT)


def test_the_groups_are_those_that_the_system_gives_the_account() -> None:
    if os.geteuid() != 0:
        return
    entry = pwd.getpwnam("nobody")
    groups = sorted(set(os.getgrouplist("nobody", entry.pw_gid)))
    assert in_child(0, "nobody").endswith(f" {groups}")


def test_changing_the_account_leaves_nothing_of_root() -> None:
    entry = pwd.getpwnam("nobody")
    if os.geteuid() != 0:
        assert in_child(os.getuid(), "nobody") == "account.denied"
        return
    ids = (entry.pw_uid,) * 3 + (entry.pw_gid,) * 3
    assert in_child(0, "nobody") == f"022 {ids} {entry.pw_dir} nobody {[entry.pw_gid]}"


def test_an_ordinary_account_may_not_change_to_another() -> None:
    uid = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.getuid()
    assert in_child(uid, "daemon") == "account.denied"


def test_root_without_an_account_to_change_to_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(PilotError) as caught:
        refuse_root(None)
    assert caught.value.failure.code == "root.refused"
    assert "site.account" in caught.value.failure.hint


def test_an_ordinary_account_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    refuse_root("somebody-who-does-not-exist")
