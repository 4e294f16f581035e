"""``check`` and ``probe`` as site administrators use them: several VOs, rules, formats, recordings."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pilot_agent import cli, colour
from pilot_agent.config import load_config
from pilot_agent.config_read import command_line_layer
from pilot_agent.environment import clean_environment
from pilot_agent.host import Loaded
from pilot_agent.interpreter import interpreter_command
from pilot_agent.plan_page import plan_page
from pilot_agent.plugins.profile import RULES
from pilot_agent.process import Result, run
from pilot_agent.report import report_schema
from tests.probes.hanging_fuse import hanging_mount
from tests.probes.namespaced import in_namespace

NODE = Path(__file__).parent / "probes" / "nodes" / "slurm_cgroup2"


def pilot(directory: Path, *arguments: str, **environment: str) -> Result:
    """Run the real command in a process of its own, in this directory."""
    surroundings = clean_environment({}, home=str(directory), temporary=str(directory)) | environment
    return run(
        [*interpreter_command(), *arguments],
        deadline_seconds=120,
        environment=surroundings,
        directory=str(directory),
    )


def report_of(result: Result) -> dict[str, Any]:
    """The report that was printed; it fits its schema."""
    report: dict[str, Any] = json.loads(result.stdout)
    jsonschema.Draft202012Validator(report_schema()).validate(report)
    return report


def vo_file(directory: Path, name: str, *requirements: str) -> str:
    path = directory / f"{name}.yaml"
    path.write_text(json.dumps({"vo": {"name": name}, "requirements": list(requirements)}))
    return str(path)


def checks_of(report: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(check["vo"], check["name"]): check["status"] for check in report["checks"]}


def test_a_node_is_judged_for_each_vo_and_probed_once(tmp_path: Path) -> None:
    modest = vo_file(tmp_path, "modest", "cpu.usable >= 1")
    greedy = vo_file(tmp_path, "greedy", "cpu.usable >= 100000")
    result = pilot(tmp_path, "check", "--json", "--vo", modest, "--vo", greedy)
    report = report_of(result)
    assert [(verdict["vo"], verdict["fit"]) for verdict in report["verdicts"]] == [("modest", True), ("greedy", False)]
    assert result.code == 64
    assert report["verdicts"][1]["failure"]["code"] == "requirement.cpu.usable"
    checks = checks_of(report)
    assert checks["modest", "cpu.usable >= 1"] == "pass"
    assert checks["greedy", "cpu.usable >= 100000"] == "fail"
    probed = [entry["what"] for entry in report["timeline"] if entry["plugin"] == "builtin.probes"]
    assert len(probed) == len(set(probed))
    page = pilot(tmp_path, "check", "--vo", modest, "--vo", greedy).text
    assert "This node is fit for modest." in page
    assert "This node is NOT fit for greedy: found cpu.usable" in page


@pytest.mark.parametrize("order", [("strict", "easy"), ("easy", "strict")])
def test_one_vo_is_not_judged_by_what_another_one_needs(tmp_path: Path, order: tuple[str, str]) -> None:
    files = {name: str(tmp_path / f"{name}.yaml") for name in order}
    wishes = {"strict": "required", "easy": "never"}
    for name, path in files.items():
        content = {"vo": {"name": name, "containers": wishes[name]}, "containers": {"runtime": "/no/such/runtime"}}
        Path(path).write_text(json.dumps(content))
    arguments = [word for name in order for word in ("--vo", files[name])]
    report = report_of(pilot(tmp_path, "check", "--json", *arguments, PATH="/no/such/directory"))
    verdicts = {verdict["vo"]: verdict["fit"] for verdict in report["verdicts"]}
    assert verdicts["easy"]
    if not os.path.exists("/usr/bin/apptainer"):
        assert not verdicts["strict"]


def test_two_vos_of_one_name_are_told_apart_by_their_files(tmp_path: Path) -> None:
    first, second = vo_file(tmp_path, "same", "cpu.usable >= 1"), str(tmp_path / "copy.yaml")
    Path(second).write_text(Path(first).read_text())
    report = report_of(pilot(tmp_path, "check", "--json", "--vo", first, "--vo", second))
    assert [verdict["vo"] for verdict in report["verdicts"]] == [first, second]


def test_without_any_configuration_the_built_in_profile_applies(tmp_path: Path) -> None:
    names = {check["name"] for check in report_of(pilot(tmp_path, "check", "--json"))["checks"]}
    assert names >= {rule.name for rule in RULES}
    without = report_of(pilot(tmp_path, "check", "--json", "--profile", "none"))
    assert not {rule.name for rule in RULES} & {check["name"] for check in without["checks"]}


def test_a_configuration_stands_in_for_the_profile_unless_it_is_asked_for(tmp_path: Path) -> None:
    demanding = vo_file(tmp_path, "example", "cpu.usable >= 1")
    names = {name for _, name in checks_of(report_of(pilot(tmp_path, "check", "--json", "--vo", demanding)))}
    assert not {rule.name for rule in RULES} & names
    both = pilot(tmp_path, "check", "--json", "--vo", demanding, "--profile", "pilot", "--require", "cpu.logical >= 1")
    names = {name for _, name in checks_of(report_of(both))}
    assert names >= {rule.name for rule in RULES} | {"cpu.usable >= 1", "cpu.logical >= 1"}


def test_a_requirement_that_the_shell_tore_apart_is_a_usage_error_that_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["check", "--require", "cpu.usable", "8"])
    assert caught.value.code == 2
    assert "put quotes around a requirement" in capsys.readouterr().err


def test_a_misspelt_fact_is_the_callers_mistake_and_not_the_sites(tmp_path: Path) -> None:
    result = pilot(tmp_path, "check", "--profile", "none", "--require", "cpu.useable >= 1")
    assert result.code == 66
    assert "did you mean cpu.usable?" in " ".join(result.text.split())


def test_nagios_gets_its_own_exit_codes_also_for_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["check", "--nagios", "--no-such-option"])
    assert caught.value.code == 3
    capsys.readouterr()
    unreadable = pilot(tmp_path, "check", "--nagios", "--vo", str(tmp_path / "missing.yaml"))
    assert unreadable.code == 3
    assert unreadable.text.startswith("PILOT UNKNOWN - ")
    fit = pilot(tmp_path, "check", "--nagios", "--profile", "none")
    assert fit.code in (0, 1)
    assert fit.text.startswith(("PILOT OK", "PILOT WARNING"))
    unfit = pilot(tmp_path, "check", "--nagios", "--require", "cpu.usable >= 100000")
    assert unfit.code == 2


def test_files_of_every_format_are_written_beside_the_printed_one(tmp_path: Path) -> None:
    page, suite = tmp_path / "node.html", tmp_path / "node.xml"
    result = pilot(tmp_path, "check", "--prometheus", "--html", str(page), "--junit", str(suite))
    assert "# TYPE pilot_agent_" in result.text
    assert page.read_text().lower().startswith("<!doctype html>")
    assert "<testsuite" in suite.read_text()
    refused = pilot(tmp_path, "check", "--html", str(tmp_path / "none" / "node.html"))
    assert refused.code == 2
    assert "cannot be written" in refused.stderr.decode()


def test_services_and_benchmarks_run_when_they_are_asked_for_and_nothing_of_them_stays(tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    script = f"trap 'echo well > {stopped}; exit 0' TERM; while :; do sleep 0.1; done"
    vo = tmp_path / "vo.yaml"
    vo.write_text(json.dumps({"services": {"beside": {"command": ["/bin/sh", "-c", script]}}}))
    plain = report_of(pilot(tmp_path, "check", "--json", "--vo", str(vo)))
    assert (plain["services"], plain["benchmarks"]) == ([], [])
    asked = report_of(pilot(tmp_path, "check", "--json", "--services", "--benchmarks", "--vo", str(vo)))
    assert [(one["name"], one["status"]) for one in asked["services"]] == [("beside", "ready")]
    assert [one["name"] for one in asked["benchmarks"]] == ["hash"]
    assert asked["leftovers"] == []
    assert stopped.read_text() == "well\n"


def test_what_even_sigkill_does_not_end_is_abandoned_and_told(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def work() -> Any:
        with hanging_mount(tmp_path / "hung") as served:
            served.become("silent")
            places = json.dumps([str(tmp_path / "hung"), str(scratch)])
            result = pilot(tmp_path, "check", "--json", "--profile", "none", "--set", f"site.scratch={places}")
            return result.code, result.stdout.decode(), result.stderr.decode()

    code, printed, errors = in_namespace(work)
    assert code == 0, errors + printed[:4000]
    report = json.loads(printed)
    jsonschema.Draft202012Validator(report_schema()).validate(report)
    assert report["leftovers"]
    for left in report["leftovers"]:
        assert left["kind"] == "process", left
        assert "uninterruptible sleep" in left["cause"]
    candidates = {entry["path"]: entry for entry in report["node"]["disk"]["candidates"]["value"]}
    assert not candidates[str(tmp_path / "hung")]["usable"]
    assert candidates[str(scratch)]["usable"]
    assert list(scratch.iterdir()) == []


def test_a_recording_tells_again_what_the_node_told(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    secret = "open-sesame"
    live = pilot(tmp_path, "probe", "--json", "--record", str(kept), HTTP_PROXY=f"http://me:{secret}@squid:3128")
    assert live.code == 0, live.stderr
    assert "read it before you give it away" in live.stderr.decode()
    again = report_of(pilot(tmp_path, "probe", "--json", "--root", str(kept)))["node"]
    now = report_of(live)["node"]
    assert again.keys() == now.keys()
    differing = {
        f"{group}.{name}": (fact["status"], fact["value"], again[group][name]["status"], again[group][name]["value"])
        for group, facts in now.items()
        for name, fact in facts.items()
        if (fact["status"], fact["value"]) != (again[group][name]["status"], again[group][name]["value"])
    }
    assert differing == {}
    files = [path for path in kept.rglob("*") if path.is_file()]
    assert not any(secret.encode() in path.read_bytes() for path in files)


def test_a_directory_that_holds_something_is_not_recorded_into(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    result = pilot(tmp_path, "probe", "cpu", "--record", str(tmp_path / "full"))
    assert result.code == 2
    assert "it is not empty" in result.stderr.decode()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


def test_a_damaged_recording_is_refused_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "recording.json").write_text("{")
    result = pilot(tmp_path, "probe", "--root", str(tmp_path))
    assert result.code == 2
    assert "recording.json" in result.stderr.decode()


def test_a_recorded_node_is_judged_like_this_one(tmp_path: Path) -> None:
    result = pilot(tmp_path, "check", "--json", "--root", str(NODE), "--require", "cpu.usable == 4")
    report = report_of(result)
    assert checks_of(report)["", "cpu.usable == 4"] == "pass"
    assert report["node"]["batch"]["system"]["value"] == "slurm"
    assert report["pilot"]["host"] == "the recording slurm_cgroup2"
    assert "running as root" not in result.stderr.decode()


def test_explain_shows_what_would_be_required_and_tried(tmp_path: Path) -> None:
    demanding = vo_file(tmp_path, "example", "cpu.usable >= 3")
    given = ["--set", "site.name=X", "--set", "startd.condor_tarballs=/srv/condor"]
    page = pilot(tmp_path, "explain", "--config", f"vo={demanding}", *given).text
    for part in ("Plan of run", "Requirements", "cpu.usable >= 3", "Would be tried", "Configuration", "command line"):
        assert part in page
    assert "any version, from the search path, then tarballs of /srv/condor" in " ".join(page.split())
    for part in ("container", "handoff", "path, system, condor, cvmfs, modules (containers.search)"):
        assert part in " ".join(page.split())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "slots one that is divided as jobs come"),
        (["startd.fixed_slots=3"], "startd.fixed_slots does not count without startd.slots: fixed"),
        (["startd.slots=Fixed"], "slots one fixed for each core"),
        (["startd.slots=fixed", "startd.fixed_slots=3"], "slots 3 fixed"),
        (["startd.slots=fixed", "startd.cores_per_slot=1"], "slots fixed, 1 core each"),
        (
            ["startd.slots=fixed", "startd.cores_per_slot=8", "startd.fixed_slots=3"],
            "startd.fixed_slots does not count",
        ),
        (["startd.resource_slots=io,2;b;GPUs,type=main"], "2 io (partitionable), 1 b (static), all GPUs (main)"),
        (["startd.gpus=0"], "GPUs: at most 0"),
        (["startd.condor_tarballs=http://x/index.json"], "(refused without startd.condor_index_sha256)"),
    ],
)
def test_explain_shows_how_the_node_would_be_divided_and_what_has_no_part_in_it(given: list[str], said: str) -> None:
    pages = plan_page(load_config([command_line_layer(given)]), Loaded((), ()))
    assert said in " ".join(pages.split())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "CVMFS PREFERRED: the VO says PREFERRED, the site OPTIONAL: "),
        ([], "run without it otherwise; what the node has mounted"),
        (["cvmfs.use=never"], "jobs get no CVMFS HTCondor"),
        (["cvmfs.use=required", "site.cvmfs=never"], "CVMFS FAIL: the VO says REQUIRED, the site NEVER: "),
        (["vo.containers=never"], "no job runs in a container CVMFS"),
        (["vo.containers=required", "site.containers=never"], "containers FAIL: the VO says REQUIRED"),
    ],
)
def test_explain_shows_what_vo_and_site_wish_together(given: list[str], said: str) -> None:
    pages = plan_page(load_config([command_line_layer(given)]), Loaded((), ()))
    assert said in " ".join(pages.split())


def test_explain_shows_the_plan_of_check_with_its_profile_and_for_each_vo(tmp_path: Path) -> None:
    plan = json.loads(pilot(tmp_path, "explain", "--check", "--json").stdout)
    assert plan["command"] == "check"
    tasks = {step["stage"]: step["tasks"] for step in plan["stages"]}
    assert tasks.keys() >= {"probe", "container", "validate"}
    assert "handoff" not in tasks
    assert tasks["validate"][-len(RULES) :] == [f"builtin.profile:{rule.name}" for rule in RULES]
    files = [
        word for name in ("one", "two") for word in ("--vo", vo_file(tmp_path, name, f"cpu.usable >= {len(name)}"))
    ]
    plans = json.loads(pilot(tmp_path, "explain", "--json", *files, "--require", "fuse.usable").stdout)
    assert [plan["vo"] for plan in plans] == ["one", "two"]
    assert plans[0]["config"]["requirements"]["value"] == ["cpu.usable >= 3", "fuse.usable"]


def test_colour_marks_words_and_hides_none() -> None:
    page = "Checks\n  FAIL  runtime  none\n  ok    clock    fine\n\nThis node is NOT fit: none\n"
    painted = colour.coloured(page)
    assert "\x1b[31mFAIL\x1b[0m" in painted
    assert "\x1b[32mok\x1b[0m" in painted
    plain = painted
    for code in ("1;31", "1;32", "31", "32", "0"):
        plain = plain.replace(f"\x1b[{code}m", "")
    assert plain == page


@pytest.mark.parametrize(
    ("environment", "shown"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, False)],
)
def test_colour_is_for_terminals_whose_owner_does_not_mind(environment: dict[str, str], shown: bool) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    class Pipe:
        def isatty(self) -> bool:
            return False

    assert colour.wanted(Terminal(), environment) is shown  # type: ignore[arg-type]
    assert not colour.wanted(Pipe(), environment)  # type: ignore[arg-type]


def test_what_a_configuration_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b]0;title\x07\x1b[2J\u202e\ud800"
    layer = tmp_path / "vo.json"
    layer.write_text(json.dumps({"vo": {"name": evil}, "images": {"el9": ["/images/el9"]}}))
    done = pilot(tmp_path, "explain", "--config", f"vo={layer}")
    assert done.code == 0, done.stderr
    assert b"\x1b" not in done.stdout
    assert "\u202e" not in done.stdout.decode()
    assert "/images/el9" in done.stdout.decode()


@pytest.mark.parametrize("order", [("needs", "plain"), ("plain", "needs")])
def test_one_vo_is_not_warned_of_the_repositories_of_another(tmp_path: Path, order: tuple[str, str]) -> None:
    repository = "images.not-there.example.org"
    (tmp_path / "needs.json").write_text(json.dumps({"vo": {"name": "needs"}, "cvmfs": {"repositories": [repository]}}))
    (tmp_path / "plain.json").write_text(json.dumps({"vo": {"name": "plain"}}))
    files = [word for name in order for word in ("--vo", str(tmp_path / f"{name}.json"))]
    report = report_of(pilot(tmp_path, "check", "--json", *files))
    told = {check["vo"]: check for check in report["checks"] if check["name"] == "cvmfs"}
    assert repository in told["needs"]["message"]
    assert repository not in told["plain"]["message"]
    assert [one["repository"] for one in report["node"]["cvmfs"]["refused"]["value"]] == [repository]


def test_a_recording_is_only_said_to_be_fit_as_far_as_it_tells(tmp_path: Path) -> None:
    kept = str(tmp_path / "kept")
    assert pilot(tmp_path, "probe", "--record", kept).code == 0
    page = pilot(tmp_path, "check", "--root", kept, "--profile", "none").text
    assert "This node is fit, as far as a recording can tell." in page
    live = pilot(tmp_path, "check", "--profile", "none").text
    assert "recording" not in live.rpartition("This node is")[2]


@pytest.mark.parametrize("option", ["--html", "--junit"])
def test_a_page_goes_to_a_file_and_not_to_one_called_minus(tmp_path: Path, option: str) -> None:
    result = pilot(tmp_path, "check", option, "-")
    assert result.code == 2
    assert f"{option} -: it writes to a file only" in result.stderr.decode()
    assert list(tmp_path.iterdir()) == []
