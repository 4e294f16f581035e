"""What the options declare, and what of them is refused with its place."""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pilot_gwms_scripts import contained
from pilot_gwms_scripts.installing import FileProblem, config_key, install
from pilot_gwms_scripts.layout import Layout
from pilot_gwms_scripts.plugin import pilot_options, pilot_periodics, pilot_setups, pilot_startd
from pilot_gwms_scripts.settings import PATH, Script, settings_of

from pilot_agent.config import load_config
from pilot_agent.hookspecs import Setup
from pilot_agent.interpreter import interpreter_command
from pilot_agent.process import run


def config(*scripts: Any, **options: Any) -> dict[str, Any]:
    """A configuration with these options, all others as usual."""
    given = {option.name: option.default for option in pilot_options()} | {"directory": "/scripts"} | options
    values = dict(load_config([]).values)
    return values | {"plugins": {"options": {"gwms_scripts": given | {"scripts": list(scripts)}}}}


def setups(*scripts: Any, **options: Any) -> dict[str, Setup]:
    return {record.name: record for record in pilot_setups(config(*scripts, **options))}


def test_nothing_is_declared_where_nothing_is_configured() -> None:
    assert [*pilot_setups(config()), *pilot_periodics(config()), *pilot_startd(config())] == []


def test_scripts_are_a_chain_of_setups_in_both_stages() -> None:
    found = setups(
        {"file": "late.sh"},
        {"file": "last.sh", "id": "client", "after_group": True},
        {"file": "group.sh", "id": "client_group", "required": False, "timeout_seconds": 5},
        {"file": "entry.sh", "id": "entry"},
        {"file": "early.sh", "after_entry": False},
        {"file": "end.sh", "id": "main", "after_entry": True},
    )
    early = [name for name, record in found.items() if record.stage == "early"]
    assert early == ["gwms_scripts/prepare", "entry/entry.sh", "client/early.sh"]
    late = [name for name, record in found.items() if record.stage == "late"]
    assert late == ["client/late.sh", "client_group/group.sh", "main/end.sh", "client/last.sh", "gwms_scripts/conclude"]
    assert [found[name].after for name in early[1:]] == [(name,) for name in early[:-1]]
    assert [found[name].after for name in late] == [(), *((name,) for name in late[:-1])]
    assert (found["client_group/group.sh"].required, found["client/late.sh"].required) == (False, True)


def test_a_script_for_the_image_is_put_there_run_there_and_read_back() -> None:
    found = setups({"file": "x.sh", "type": "run:singularity", "id": "client_group", "timeout_seconds": 7})
    within = found["client_group/x.sh (image)"]
    assert (within.where, within.required, within.timeout_seconds) == ("image", False, 7)
    assert within.command[-2:] == ("client_group_main/x.sh", "client_group")
    assert within.after == ("client_group/x.sh (files)",)
    assert found["client_group/x.sh"].after == (within.name,)


def test_before_images_are_chosen_there_is_none_to_run_in() -> None:
    found = setups({"file": "x.sh", "type": "run:s", "after_entry": False})
    assert all(record.where == "host" for record in found.values())


def test_a_script_with_a_period_is_a_periodic_task_of_its_own_name() -> None:
    [record] = pilot_periodics(config({"file": "a/x.sh", "period": 60, "on_failure": "drain"}, {"file": "y.sh"}))
    assert (record.name, record.period_seconds, record.on_failure) == ("x.sh", 60, "drain")


def test_a_file_of_htcondor_configuration_is_a_fragment(tmp_path: Path) -> None:
    (tmp_path / "rank.conf").write_text("RANK = 1\n")
    [fragment] = pilot_startd(config({"file": "rank.conf", "type": "config:c"}, directory=str(tmp_path)))
    assert (fragment.name, fragment.text) == ("rank.conf", "RANK = 1\n")
    with pytest.raises(ValueError, match=rf"^{PATH}.scripts\[0\].file: there is no file"):
        list(pilot_startd(config({"file": "none.conf", "type": "config"}, directory=str(tmp_path))))


@pytest.mark.parametrize(
    ("scripts", "problem"),
    [
        (["x.sh"], r"scripts\[0\]: a mapping is needed"),
        ([{"name": "x"}], r"scripts\[0\].file: the path"),
        ([{"file": "x", "perid": 3}], r"scripts\[0\].perid: unknown"),
        ([{"file": "x"}, {"file": "a/x"}], r"scripts\[1\].name: 'x' is the name of scripts\[0\] too"),
        ([{"file": "x", "name": "../x"}], r"scripts\[0\].name: '../x' is no name"),
        ([{"file": "x", "id": "frontend"}], r"scripts\[0\].id: 'frontend' is none of main, entry"),
        ([{"file": "x", "type": "wrapper"}], r"scripts\[0\].type: no wrapper runs around jobs"),
        ([{"file": "x", "type": "exe"}], r"scripts\[0\].type: 'exe' is unknown"),
        ([{"file": "x", "type": "exec:s", "period": 9}], r"scripts\[0\].period: only type exec"),
        ([{"file": "x", "period": -1}], r"scripts\[0\].period: a number of seconds"),
        ([{"file": "x", "required": "yes"}], r"scripts\[0\].required: true or false"),
        ([{"file": "x", "prefix": "A B"}], r"scripts\[0\].prefix: 'A B' is no name"),
        ([{"file": "x", "on_failure": "stop"}], r"scripts\[0\].on_failure: 'stop' is none of"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_place(scripts: list[Any], problem: str) -> None:
    with pytest.raises(ValueError, match=rf"^{PATH}.{problem}"):
        settings_of(config(*scripts))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"directory": "scripts"}, "directory: 'scripts' is no absolute path"),
        ({"directory": ""}, r"scripts\[0\].file: 'x' is relative"),
        ({"package": "p"}, "package: directory is given too"),
        ({"attributes": [{"name": "A B", "value": 1}]}, r"attributes\[0\].name"),
        ({"attributes": [{"name": "A"}]}, r"attributes\[0\].value: missing"),
        ({"attributes": [{"name": "A", "value": [1]}]}, r"attributes\[0\].value: a text"),
        ({"attributes": [{"name": "A", "value": 1, "type": "real"}]}, r"attributes\[0\].type: 'real' is none"),
    ],
)
def test_a_wrong_option_is_refused_with_its_place(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=rf"^{PATH}.{problem}"):
        settings_of(config({"file": "x"}, **options))


def test_files_of_a_plugins_package_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gwms_test_package").mkdir()
    (tmp_path / "gwms_test_package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    settings = settings_of(config({"file": "x"}, directory="", package="gwms_test_package"))
    assert settings.path_of(settings.scripts[0]) == str(tmp_path / "gwms_test_package" / "x")
    with pytest.raises(ValueError, match="no plugin brings a package"):
        replace(settings, package="no_such_package_at_all").path_of(settings.scripts[0])


def archive(path: Path, *members: tarfile.TarInfo) -> None:
    with tarfile.open(path, "w:gz") as file:
        for member in members:
            member.size = 4
            file.addfile(member, io.BytesIO(b"abc\n"))


def test_an_archive_is_unpacked_and_its_key_leads_to_it(tmp_path: Path) -> None:
    archive(tmp_path / "tools.tar.gz", tarfile.TarInfo("bin/tool"))
    options = config({"file": "tools.tar.gz", "type": "untar", "config_out": "TOOLS"}, directory=str(tmp_path))
    settings, layout = settings_of(options), Layout(str(tmp_path / "gwms"))
    layout.make()
    place = install(settings, layout, settings.scripts[0])
    assert Path(place, "bin", "tool").read_text() == "abc\n"
    assert (place, config_key(settings.scripts[0])) == (f"{layout.root}/client/tools", "GLIDECLIENT_TOOLS")


@pytest.mark.parametrize("name", ["../outside", "/outside", "damaged"])
def test_an_archive_that_reaches_out_or_is_none_is_refused(tmp_path: Path, name: str) -> None:
    archive(tmp_path / "bad.tgz", tarfile.TarInfo(name))
    if name == "damaged":
        (tmp_path / "bad.tgz").write_bytes((tmp_path / "bad.tgz").read_bytes()[:30])
    settings = settings_of(config({"file": "bad.tgz", "type": "untar"}, directory=str(tmp_path)))
    layout = Layout(str(tmp_path / "gwms"))
    layout.make()
    if name == "/outside":  # made relative, as tar(1) does it
        assert os.listdir(install(settings, layout, settings.scripts[0])) == ["outside"]
        return
    with pytest.raises(FileProblem, match="cannot be unpacked"):
        install(settings, layout, settings.scripts[0])
    assert not (tmp_path / "gwms" / "client" / "outside").exists()


@pytest.mark.parametrize("compression", ["gz", "xz", "bz2"])
def test_an_archive_with_any_damaged_byte_is_unpacked_or_refused(tmp_path: Path, compression: str) -> None:
    place = tmp_path / "bad.tar"
    with tarfile.open(place, f"w:{compression}") as file:  # type: ignore[call-overload]
        content = os.urandom(600)
        member = tarfile.TarInfo("file")
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))
    whole = place.read_bytes()
    settings = settings_of(config({"file": "bad.tar", "type": "untar"}, directory=str(tmp_path)))
    layout = Layout(str(tmp_path / "gwms"))
    layout.make()
    refusals: list[str] = []
    for position in range(0, len(whole), 7):
        place.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            install(settings, layout, settings.scripts[0])
        except FileProblem as problem:
            refusals.append(str(problem))
    assert refusals
    assert all("cannot be unpacked" in refusal for refusal in refusals)


@pytest.mark.parametrize(
    ("which", "prefix"), [("main", ""), ("entry", "ENTRY_"), ("client_group", "GLIDECLIENT_GROUP_")]
)
def test_a_key_has_the_prefix_of_its_id(which: str, prefix: str) -> None:
    assert config_key(Script(file="x", name="x", id=which, config_out="A")) == f"{prefix}A"


LEFT = f"""
import os, sys
sys.path[:0] = {[str(Path(contained.__file__).parents[1]), str(Path(__file__).parents[3])]!r}
from pilot_gwms_scripts.contained import children, end_the_rest, run_contained
there = "(setsid sh -c ': >\\"$MARK\\"; exec sleep 611' >/dev/null 2>&1 &); while [ ! -e $MARK ]; do sleep 0.01; done"
script = f"rm -f $MARK; {{there}}; sleep 611 >/dev/null 2>&1 & exit 3"
for leaves in (False, True):
    ended, left = run_contained(["/bin/sh", "-c", script], seconds=60, environment=dict(os.environ),
                                directory="/", leaves_processes=leaves)
    print(ended.code, left > 0, len(children()))
print(end_the_rest(), len(children()))
"""


def test_what_a_program_leaves_is_ended_unless_it_may_stay(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "MARK": str(tmp_path / "mark")}
    done = run([interpreter_command()[0], "-c", LEFT], deadline_seconds=60, environment=environment)
    assert done.text.splitlines() == ["3 True 0", "3 False 2", "2 0"], done.explain()
