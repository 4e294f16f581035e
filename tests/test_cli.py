"""The command line as callers see it: output, exit codes, and a sentence for every mistake."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import jsonschema
import pytest

from pilot_agent import __version__, cli
from pilot_agent.commands.parser import parser
from pilot_agent.config_keys import KEYS
from pilot_agent.dispatch import reference_page
from pilot_agent.environment import clean_environment
from pilot_agent.interpreter import interpreter_command
from pilot_agent.process import Result, run
from pilot_agent.report import report_schema
from tests.conftest import MakePlugin


def pilot(tmp_path: Path, *arguments: str, **environment: str) -> Result:
    """Run the real command in a process of its own, in an empty directory."""
    directory = tmp_path / "cwd"
    directory.mkdir(exist_ok=True)
    surroundings = clean_environment({}, home=str(tmp_path), temporary=str(tmp_path)) | environment
    command = [*interpreter_command(), *arguments]
    return run(command, deadline_seconds=120, environment=surroundings, directory=str(directory))


def said(result: Result) -> str:
    """What it said on standard error."""
    return result.stderr.decode()


def test_the_version_is_one_line(tmp_path: Path) -> None:
    assert pilot(tmp_path, "--version").stdout == f"pilot-agent {__version__}\n".encode()


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["check", "--colour"], ["config", "everything"]])
def test_a_wrong_command_line_exits_2_with_the_usage(tmp_path: Path, arguments: list[str]) -> None:
    result = pilot(tmp_path, *arguments)
    assert result.code == 2
    assert "usage: pilot-agent" in said(result)


@pytest.mark.parametrize("command", ["run", "check", "probe", "explain", "plugins", "config"])
def test_every_command_explains_itself_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    assert "example" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [[], ["status"], ["drain"], ["stop"], ["report"], ["check"], ["explain"], ["run"], ["plugins"]]
)
def test_the_help_fits_a_terminal_of_80_columns(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


def test_an_unknown_key_exits_66_with_its_path_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "vo.yaml"
    path.write_text("vo: {nme: x}\n")
    for command in ("check", "run", "explain"):
        result = pilot(tmp_path, command, "--config", f"vo={path}", "--set", "site.account=nobody")
        assert result.code == 66, said(result)
        assert "vo.nme (vo): unknown key; did you mean vo.name?" in said(result)
        assert "Traceback" not in said(result)


def test_a_plugin_that_does_not_load_exits_68_with_its_name(tmp_path: Path, make_plugin: MakePlugin) -> None:
    directory = make_plugin("broken", "raise RuntimeError('no licence')\n")
    given = ["--set", f'plugins.directories=["{directory}"]', "--set", 'plugins.load=["broken"]']
    result = pilot(tmp_path, "check", *given)
    assert result.code == 68
    assert "plugin.load: plugin broken" in said(result)
    assert "no licence" in said(result)
    assert "Traceback" not in said(result)


def test_a_check_that_cannot_begin_answers_in_every_format_that_was_asked_for(
    tmp_path: Path, make_plugin: MakePlugin
) -> None:
    directory = make_plugin("broken", "raise RuntimeError('no licence')\n")
    given = ["--set", f'plugins.directories=["{directory}"]', "--set", 'plugins.load=["broken"]']
    files = {"--junit": tmp_path / "j.xml", "--html": tmp_path / "h.html"}
    wanted = [word for option, path in files.items() for word in (option, str(path))]
    result = pilot(tmp_path, "check", "--json", *wanted, *given)
    assert result.code == 68
    report = json.loads(result.stdout)
    jsonschema.Draft202012Validator(report_schema()).validate(report)
    assert (report["outcome"]["status"], report["outcome"]["failure"]["code"]) == ("failed", "plugin.load")
    assert all("plugin.load" in path.read_text() for path in files.values())
    metrics = pilot(tmp_path, "check", "--prometheus", "--config", str(tmp_path / "missing.yaml"))
    assert metrics.code == 66
    assert "pilot_agent_info" in metrics.text


def test_check_prints_a_report_that_fits_its_schema_and_leaves_nothing(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    result = pilot(tmp_path, "check", "--json", "--set", f'site.scratch=["{scratch}"]')
    report = json.loads(result.stdout)
    jsonschema.Draft202012Validator(report_schema()).validate(report)
    assert report["node"]["cpu"]["usable"]["value"] >= 1
    assert (result.code == 0) == (report["outcome"]["status"] == "ok")
    assert list(scratch.iterdir()) == []
    assert list((tmp_path / "cwd").iterdir()) == []


def test_check_prints_a_page_with_a_verdict(tmp_path: Path) -> None:
    result = pilot(tmp_path, "check")
    assert "This node is" in result.text
    assert "cpu.usable" in result.text


def test_a_requirement_that_is_not_met_makes_the_node_unfit(tmp_path: Path) -> None:
    result = pilot(tmp_path, "check", "--set", 'requirements=["cpu.usable >= 100000"]')
    assert result.code == 64
    assert "NOT fit" in result.text
    assert "100000" in result.text


def test_probe_runs_only_what_is_named_and_judges_nothing(tmp_path: Path) -> None:
    result = pilot(tmp_path, "probe", "memory", "--json", "--set", 'requirements=["cpu.usable >= 100000"]')
    assert result.code == 0
    report = json.loads(result.stdout)
    jsonschema.Draft202012Validator(report_schema()).validate(report)
    assert {entry["what"] for entry in report["timeline"] if entry["plugin"] != "agent"} == {"memory"}


def test_an_unknown_probe_is_a_mistake_of_the_caller_who_is_told_the_known_ones(tmp_path: Path) -> None:
    result = pilot(tmp_path, "probe", "cpus")
    assert result.code == 2
    assert "there is no probe cpus; did you mean cpu?; known: " in said(result)


@pytest.mark.parametrize(
    "poison",
    [
        {"PYTHONPATH": "/evil", "PYTHONHOME": "/evil"},
        {"_CONDOR_COLLECTOR_HOST": "evil", "CONDOR_CONFIG": "/evil", "APPTAINER_BIND": "/evil"},
        {"LC_ALL": "C", "LANG": "C"},
        {"HOME": "/nowhere", "TMPDIR": "/nowhere"},
    ],
    ids=lambda poison: next(iter(poison)),
)
def test_a_site_with_an_odd_environment_is_still_probed(tmp_path: Path, poison: dict[str, str]) -> None:
    if "PYTHONHOME" in poison:  # only `-I` keeps it out, which the interpreter of the command has
        assert "-I" in interpreter_command()
    assert pilot(tmp_path, "probe", "cpu", "memory", **poison).code == 0


def redirected(tmp_path: Path, arguments: list[str], ending: str) -> Result:
    """Run the real command with what a shell does at the end of its line."""
    command = " ".join(f"'{part}'" for part in [*interpreter_command(), *arguments])
    environment = clean_environment({}, home=str(tmp_path), temporary=str(tmp_path))
    return run(["/bin/bash", "-c", f"{command} {ending}"], deadline_seconds=60, environment=environment)


@pytest.mark.parametrize("ending", [">&-", "2>&1 | head -c 10 >/dev/null; exit ${PIPESTATUS[0]}"])
def test_a_closed_standard_output_is_no_reason_to_fail(tmp_path: Path, ending: str) -> None:
    result = redirected(tmp_path, ["config", "reference"], ending)
    assert result.code == 0, result.explain()
    assert "Traceback" not in result.stdout.decode() + said(result)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["config", "reference"], 2),
        (["probe", "cpu"], 2),
        (["check", "--json", "--profile", "none"], 2),
        (["check", "--nagios", "--profile", "none"], 3),
    ],
)
def test_an_answer_that_cannot_be_written_is_told_and_no_success(
    tmp_path: Path, arguments: list[str], code: int
) -> None:
    result = redirected(tmp_path, arguments, ">/dev/full")
    assert result.code == code, result.explain()
    assert "standard output cannot be written: No space left on device" in said(result)
    assert "Traceback" not in said(result)


@pytest.mark.parametrize(
    ("vo", "site", "decision", "code"),
    [("required", "never", "FAIL", 66), ("REQUIRED", "Preferred", "REQUIRED", 0), ("never", "never", "NEVER", 0)],
)
def test_negotiate_prints_the_decision_also_when_it_fails(
    vo: str, site: str, decision: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["negotiate", "--vo", vo, "--site", site, "--json"]) == code
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["decision", "cell", "vo", "site", "reason"]
    assert answer["decision"] == decision


def test_config_show_says_where_every_value_is_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "show", "--set", "site.name=X"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["site.name"] == {"value": "X", "from": ["command line"]}
    assert set(shown) == {key.path for key in KEYS}


def test_what_an_option_of_a_plugin_keeps_secret_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    secret = "open-sesame"
    options = f'plugins.options={{"myvo": {{"api_token": "{secret}", "level": "debug"}}}}'
    assert cli.main(["config", "show", "--set", options, "--set", "pool.token=/etc/pool.token"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["plugins.options"]["value"] == {"myvo": {"api_token": "(removed)", "level": "debug"}}
    assert shown["pool.token"]["value"] == "/etc/pool.token"


def test_config_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "schema"]) == 0
    jsonschema.Draft202012Validator.check_schema(json.loads(capsys.readouterr().out))


def test_config_reference_is_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "reference"]) == 0
    assert capsys.readouterr().out == reference_page()


def test_plugins_and_explain_list_what_a_plugin_declares(tmp_path: Path, make_plugin: MakePlugin) -> None:
    source = "@hookimpl\ndef pilot_probes(config):\n    yield Probe(name='extra', run=f'{__name__}:look')\n"
    directory = make_plugin("myvo", source)
    given = ["--set", f'plugins.directories=["{directory}"]', "--set", 'plugins.load=["myvo"]']
    listed = {plugin["name"]: plugin for plugin in json.loads(pilot(tmp_path, "plugins", "--json", *given).stdout)}
    assert (listed["myvo"]["hooks"], listed["myvo"]["source"]) == (["pilot_probes"], f"{directory}/myvo.py")
    assert listed["builtin.probes"]["source"] == "payload"
    assert listed["myvo"]["records"] == [{"hook": "pilot_probes", "kind": "Probe", "name": "extra"}]
    assert "extra" in pilot(tmp_path, "plugins", *given).text
    explained = json.loads(pilot(tmp_path, "explain", "--json", *given).stdout)
    assert "extra" in {declared["record"]["name"] for declared in explained["plan"] if declared["plugin"] == "myvo"}
    assert "extra" in pilot(tmp_path, "explain", *given).text


def test_run_as_root_without_an_account_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        assert parser().parse_args(["run"]).command == "run"
        return
    result = pilot(tmp_path, "run")
    assert result.code == 66
    assert "root.refused" in said(result)
    assert "site.account" in said(result)


def test_probe_as_another_account_sees_what_that_account_sees(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        assert pilot(tmp_path, "probe", "cpu", "--user", "nobody").code == 66
        return
    done = pilot(tmp_path, "probe", "cpu", "--json", "--user", "nobody", TMPDIR="/tmp")
    if readable_by_nobody(os.__file__):
        assert json.loads(done.stdout)["pilot"]["user"] == "nobody"
    else:
        assert done.code == 66
        assert "account.python" in said(done)


def readable_by_nobody(path: str) -> bool:
    """Whether every account can reach the file."""
    return all(os.stat(parent).st_mode & 0o001 for parent in Path(path).resolve().parents)


def test_the_interpreter_of_these_tests_is_the_one_that_runs_them() -> None:
    assert interpreter_command()[0] == sys.executable


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("check", ("makes a directory of its own", "removes it", "0 fit", "64 the node")),
        ("negotiate", ("disable_gwms, never, optional, preferred, required, required_gwms", "what the site demands")),
        ("config", ("JSON Schema", "effective values")),
    ],
)
def test_the_help_of_a_command_says_what_it_takes_and_does(
    capsys: pytest.CaptureFixture[str], command: str, told: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    page = " ".join(capsys.readouterr().out.split())
    for words in told:
        assert words in page
