"""The command line of a container: what HTCondor gives jobs, and nothing of the site's own settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.containers.command import (
    Bind,
    BindError,
    ContainerRun,
    existing,
    runtime_environment,
    runtime_options,
)


def run(*binds: Bind, pid_namespace: bool = True, scratch: str = "/w/s") -> list[str]:
    return ContainerRun(
        runtime="/usr/bin/apptainer",
        image="/images/a",
        program=("/bin/sh", "-c", "true"),
        scratch=scratch,
        binds=binds,
        pid_namespace=pid_namespace,
        options=("--no-eval",),
    ).command_line()


def test_options_and_their_order_are_those_of_htcondors_starter() -> None:
    assert run(Bind("/cvmfs", "/cvmfs", read_only=True)) == [
        "/usr/bin/apptainer", "exec", "-S", "/tmp", "-S", "/var/tmp", "-W", "/w/s", "--pwd", "/srv",
        "-B", "/w/s:/srv", "-B", "/cvmfs:/cvmfs:ro", "--home", "/w/s:/srv", "-C", "--no-eval", "--", "/images/a",
        "/bin/sh", "-c", "true",
    ]  # fmt: skip


def test_without_a_pid_namespace_everything_else_stays_contained() -> None:
    words = run(pid_namespace=False)
    assert "-C" not in words
    assert words[words.index("--contain") :][:3] == ["--contain", "--ipc", "--cleanenv"]


def test_a_path_with_a_comma_a_colon_or_a_quote_is_given_in_the_long_form() -> None:
    words = run(scratch="/w/a,b")
    assert words[words.index("--mount") + 1] == 'type=bind,"source=/w/a,b",destination=/srv'
    assert Bind('/a"b', "/c:d", read_only=True).words() == (
        "--mount",
        'type=bind,"source=/a""b",destination=/c:d,ro',
    )


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("/data", Bind("/data", "/data")),
        ("/data:/d", Bind("/data", "/d")),
        ("/data:/d:ro", Bind("/data", "/d", read_only=True)),
        ("/data:/d:rw", Bind("/data", "/d")),
        ("/data::ro", Bind("/data", "/data", read_only=True)),
    ],
)
def test_a_bind_is_source_target_and_mode(text: str, bind: Bind) -> None:
    assert Bind.parse(text) == bind


@pytest.mark.parametrize("text", ["", "data", "/data:d", "/data:/d:rx", "/data:/d:ro:x", ":/d"])
def test_anything_else_is_no_bind(text: str) -> None:
    with pytest.raises(BindError, match="absolute paths"):
        Bind.parse(text)


def test_binds_without_a_source_are_told_from_those_that_have_one(tmp_path: Path) -> None:
    there, missing = Bind(str(tmp_path), "/a"), Bind(str(tmp_path / "no"), "/b")
    assert existing((there, missing)) == ((there,), (missing,))


def test_the_sites_settings_of_the_runtime_do_not_reach_it() -> None:
    poisoned = {
        "PATH": "/bin",
        "APPTAINER_BIND": "/etc",
        "SINGULARITY_BINDPATH": "/etc",
        "APPTAINERENV_LD_PRELOAD": "x",
        "SINGULARITYENV_X": "y",
        "APPTAINER_CACHEDIR": "/home/user",
    }
    environment = runtime_environment(poisoned, "/w/tmp")
    assert environment == {
        "PATH": "/bin",
        "APPTAINER_CACHEDIR": "/w/tmp/cache",
        "APPTAINER_TMPDIR": "/w/tmp",
        "APPTAINER_CONFIGDIR": "/w/tmp/runtime",
        "SINGULARITY_CACHEDIR": "/w/tmp/cache",
        "SINGULARITY_TMPDIR": "/w/tmp",
        "SINGULARITY_CONFIGDIR": "/w/tmp/runtime",
    }


def test_variables_are_kept_from_a_shell_where_the_runtime_knows_how() -> None:
    assert runtime_options((1, 4, 5)) == ("--no-eval",)
    assert runtime_options((1, 0)) == ()
    assert runtime_options((3, 8, 7), singularity=True) == ()
