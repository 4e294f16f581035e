"""A list of scripts such as are in use, run as a pilot runs them: each in a child, one after another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pilot_gwms_scripts import glidein_config
from pilot_gwms_scripts.layout import Layout

from pilot_agent import configure, host, stages
from pilot_agent.config import Layer, load_config
from pilot_agent.configure import new_state
from pilot_agent.environment import clean_environment
from pilot_agent.events import EventLog
from pilot_agent.interpreter import interpreter_command
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.journal import Journal
from pilot_agent.lifecycle.teardown import run_commands
from pilot_agent.model import CheckResult, CheckStatus, FailureKind, Json
from pilot_agent.process import run
from pilot_agent.stages import Session
from pilot_agent.state import State, save_state
from pilot_agent.workspace import Workspace
from tests.contributed import install

SCRIPTS = Path(__file__).parent / "scripts"
ERROR_TYPES = {
    "WN_Resource": FailureKind.NODE_RESOURCE,
    "Network": FailureKind.NETWORK,
    "Config": FailureKind.CONFIG,
    "VO_Config": FailureKind.CONFIG,
    "Corruption": FailureKind.CORRUPTION,
    "VO_Proxy": FailureKind.CREDENTIAL,
    "Unknown": FailureKind.PLUGIN,
    "silently": FailureKind.PLUGIN,
    "lying": FailureKind.PLUGIN,
}


@dataclass
class World:
    """A pilot that has the plugin, as far as its stages have come."""

    session: Session
    state: State
    layout: Layout
    mark: Path

    @property
    def checks(self) -> dict[str, CheckResult]:
        return {check.name: check for check in self.state.checks}

    @property
    def values(self) -> dict[str, str]:
        return glidein_config.read(self.layout.config) or {}

    def run(self) -> None:
        """The setups, as far as one fails."""
        self.state = stages.setup_early(self.session, self.state)
        if not self.state.failures:
            self.state = stages.setup_late(self.session, self.state)

    def log(self) -> str:
        return Path(self.session.workspace.events).read_text(encoding="utf-8")

    def periodic(self, name: str) -> dict[str, Json]:
        """What the keeper would hear of one run."""
        save_state(self.state, self.session.workspace.state)
        directories = ":".join(self.session.around.directories)
        reference = "pilot_gwms_scripts.running:run_again"
        words = [*interpreter_command(), "_child", "periodic", reference, name]
        words += [self.session.workspace.state, directories]
        done = run(words, deadline_seconds=60, environment=self.session.around.environment)
        assert done.ok, done.explain()
        answer: dict[str, Json] = json.loads(done.stdout)
        return answer


def start(root: Path, scripts: list[dict[str, Json]], **options: Json) -> World:
    """A pilot with these scripts, before its first setup."""
    place = root / "scripts"
    shutil.copytree(SCRIPTS, place)
    mark = root / "mark"
    given = {"directory": str(place), "scripts": scripts, **options}
    given["attributes"] = [{"name": "EXAMPLE_Mark", "value": str(mark)}, *options.get("attributes", [])]
    document = {
        "site": {"name": "Example_T2"},
        "vo": {"name": "example"},
        "plugins": {"load": ["gwms_scripts"], "options": {"gwms_scripts": given}},
    }
    config = load_config([Layer("factory", document)])
    workspace = Workspace(str(root / "pilot-1"))
    os.mkdir(workspace.root)
    workspace.create()
    environment = clean_environment(dict(os.environ), home=workspace.temporary, temporary=workspace.temporary)
    directory = install("gwms_scripts", root / "plugins")
    around = host.Surroundings(tuple(interpreter_command()), environment, (str(directory),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "BUILTIN_PLUGINS", ())
        loaded, config = configure.load_plugins(config, around)
    state = new_state(config, {"PATH": os.environ["PATH"], "SITE_VARIABLE": "x"}, output=str(root))
    state = replace(state, workspace=workspace.root)
    log, journal = EventLog(workspace.events, state.started), Journal(workspace.journal)
    session = Session(around, loaded, log, workspace, journal=journal)
    layout = Layout.configured(config.values, f"{workspace.temporary}/gwms")
    return World(session, state, layout, mark)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The list of a VO whose scripts are all well but one, which is not required."""
    scripts: list[dict[str, Json]] = [
        {"file": "set_site_attributes.sh", "id": "main"},
        {"file": "no_interpreter_line", "id": "main"},
        {"file": "images.sh", "after_entry": False},
        {"file": "check_node.sh", "id": "client"},
        {"file": "old_style.sh", "id": "client_group", "after_group": True},
        {"file": "load_report.sh", "period": 60, "prefix": "EXAMPLE_"},
        {"file": "reads_config.py"},
        {"file": "check_cvmfs.sh", "required": False},
        {"file": "only_with_gpus.sh", "cond_attr": "GLIDEIN_Use_GPUs"},
        {"file": "fails.sh", "name": "not_now.sh", "cond_attr": "FALSE"},
        {"file": "images.sh", "name": "sites.txt", "type": "regular", "config_out": "SITES_FILE"},
        {"file": "clean_scratch.sh", "type": "cleanup"},
        {"file": "hangs.sh", "name": "hangs_at_the_end.sh", "type": "cleanup"},
        {"file": "clean_scratch.sh", "name": "another.sh", "type": "cleanup"},
    ]
    attributes: list[Json] = [
        {"name": "EXAMPLE_CVMFS_REPOSITORIES", "value": "no.such.repository"},
        {"name": "EXAMPLE_Number", "value": 7, "glidein_publish": True, "job_publish": True},
    ]
    made = start(tmp_path_factory.mktemp("gwms"), scripts, attributes=attributes, cleanup_seconds=1)
    made.run()
    assert made.state.failures == (), made.log()
    return made


def test_scripts_run_in_the_order_of_the_list_before_and_after_images_are_chosen(world: World) -> None:
    ran = [(line.stage, line.what) for line in world.state.timeline]
    early = [what for stage, what in ran if stage == "setup early"]
    assert early == [
        "gwms_scripts/prepare",
        "main/set_site_attributes.sh",
        "main/no_interpreter_line",
        "client/images.sh",
    ]
    late = [what for stage, what in ran if stage == "setup late"]
    assert late[:3] == ["client/check_node.sh", "client/load_report.sh", "client/reads_config.py"]
    assert late[-2:] == ["client_group/old_style.sh", "gwms_scripts/conclude"]


def test_exported_values_reach_the_machine_ad_and_jobs_under_their_names(world: World) -> None:
    assert world.state.setup_attributes == {
        "EXAMPLE_Region": "Upper Lake & 'Hills'",
        "GLIDEIN_HasFastScratch": True,
        "EXAMPLE_Cores_Seen": world.state.setup_attributes["EXAMPLE_Cores_Seen"],
        "OLD_STYLE_ID": "client_group",
        "EXAMPLE_Number": 7,
    }
    assert isinstance(world.state.setup_attributes["EXAMPLE_Cores_Seen"], int)
    fits = 'ifThenElse(MY.Memory > 1, "yes $(MEMORY)", "no")'
    assert world.state.setup_expressions == {"EXAMPLE_Fits": fits}
    jobs = world.state.job_environment
    assert jobs["EXAMPLE_Region"] == "Upper Lake & 'Hills'"
    assert jobs["EXAMPLE_CACHE_DIR"] == "/var/tmp/cache"
    assert (jobs["OLD_STYLE_ID"], jobs["EXAMPLE_Number"]) == ("client_group", "7")
    assert "EXAMPLE_Internal" not in jobs


def test_a_script_that_passes_has_its_metrics_in_the_report_and_one_that_fails_its_detail(world: World) -> None:
    node = world.checks["client/check_node.sh"]
    assert (node.status, sorted(node.metrics)) == (CheckStatus.PASS, ["free_mib", "memory_mib"])
    cvmfs = world.checks["client/check_cvmfs.sh"]
    assert (cvmfs.status, cvmfs.kind, cvmfs.code) == (CheckStatus.WARN, FailureKind.NODE_RESOURCE, "script.wn_resource")
    assert "CVMFS repository <no.such.repository> & its mount not available" in cvmfs.message
    assert cvmfs.metrics["repository"] == "no.such.repository"


def test_a_script_whose_condition_is_not_met_does_not_run(world: World) -> None:
    gpus, never = world.checks["client/only_with_gpus.sh"], world.checks["client/not_now.sh"]
    assert (gpus.status, never.status) == (CheckStatus.SKIP, CheckStatus.SKIP)
    assert "GLIDEIN_Use_GPUs" in gpus.message


def test_what_scripts_say_of_images_is_a_candidate_and_a_bind(world: World) -> None:
    assert [(one.platform, one.path) for one in world.state.images] == [
        ("example9", "/cvmfs/images.example.org/el9:latest")
    ]
    binds = [bind for request in world.state.contributed for bind in request.binds]
    assert binds == ["/etc/hosts", "/usr/share:/site/share:ro"]


def test_a_regular_file_is_found_by_its_key(world: World) -> None:
    path = world.values["GLIDECLIENT_SITES_FILE"]
    assert path == f"{world.layout.root}/client/sites.txt"
    assert Path(path).read_text() == (SCRIPTS / "images.sh").read_text()


def test_a_script_may_be_of_any_language_and_write_the_file_itself(world: World) -> None:
    assert world.checks["client/reads_config.py"].status is CheckStatus.PASS
    assert world.values["EXAMPLE_FromPython"] == "42"


def test_what_a_script_says_is_in_the_events(world: World) -> None:
    assert f"called with client in {world.layout.root}" in world.log()


def test_a_periodic_script_tells_attributes_under_its_prefix(world: World) -> None:
    told = world.periodic("load_report.sh")
    assert told.keys() == {"EXAMPLE_Load", "EXAMPLE_Site", "EXAMPLE_IsBusy"}
    assert isinstance(told["EXAMPLE_Load"], float)
    assert (told["EXAMPLE_Site"], told["EXAMPLE_IsBusy"]) == ('the "lake"', False)


def test_cleanup_scripts_run_at_the_end_in_order_and_one_that_hangs_costs_its_own_time(world: World) -> None:
    assert not world.mark.exists()
    assert run_commands(world.session.workspace, Budget(60))
    assert world.mark.read_text().split() == ["cleaned", "000_clean_scratch.sh", "cleaned", "002_another.sh"]


Run = Callable[..., World]


@pytest.fixture
def bare(tmp_path: Path) -> Run:
    """A pilot with these scripts, after its setups."""

    def make(*scripts: dict[str, Json], **options: Json) -> World:
        made = start(tmp_path, list(scripts), **options)
        made.run()
        return made

    return make


def test_a_script_that_another_one_names_is_run_at_the_end_byte_by_byte(bare: Run) -> None:
    made = bare({"file": "names_its_end.sh"})
    assert run_commands(made.session.workspace, Budget(60))
    assert made.mark.read_bytes() == b"named \xe9"


def test_each_type_of_error_is_a_failure_of_who_must_act(bare: Run) -> None:
    entries = [{"file": "fails.sh", "name": f"fails_{one}.sh", "required": False} for one in ERROR_TYPES]
    made = bare(*entries)
    kinds = {name: made.checks[f"client/fails_{name}.sh"].kind for name in ERROR_TYPES}
    assert kinds == ERROR_TYPES
    told = made.checks["client/fails_VO_Proxy.sh"]
    assert told.message == "client/fails_VO_Proxy.sh: VO_Proxy was found & <told>"
    assert told.metrics == {"failure": "VO_Proxy", "seen": "VO_Proxy"}
    assert "exited 3" in made.checks["client/fails_silently.sh"].message
    assert "last words of lying" in made.checks["client/fails_lying.sh"].message


def test_a_required_script_that_fails_is_the_last_and_ends_the_pilot(bare: Run) -> None:
    made = bare({"file": "fails.sh", "name": "fails_Network.sh"}, {"file": "check_node.sh"})
    [failure] = made.state.failures
    assert (failure.kind, failure.code, failure.stage) == (FailureKind.NETWORK, "script.network", "setup late")
    assert failure.plugin == "gwms_scripts"
    assert "client/check_node.sh" not in made.checks


def sleepers() -> list[str]:
    """Processes of the vandal that live."""
    found = subprocess.run(["pgrep", "-f", "^sleep 617$"], check=False, capture_output=True, text=True)
    return found.stdout.split()


def test_a_vandal_is_contained(bare: Run) -> None:
    before = set(sleepers())
    made = bare({"file": "vandal.sh"}, {"file": "old_style.sh"}, {"file": "check_node.sh"})
    assert made.state.failures == (), made.log()
    assert "processes that it left were ended" in made.checks["client/vandal.sh"].message
    until = time.monotonic() + 30
    while set(sleepers()) - before and time.monotonic() < until:
        time.sleep(0.05)
    assert set(sleepers()) - before == set()
    values = made.values
    assert values["EXAMPLE_Vandal"] == "was here"
    assert {values[f"TOGETHER_{number}"] for number in range(1, 21)} == {str(number) for number in range(1, 21)}
    assert (values["WITH_CONTROL"], values["NO_LINE_END"]) == ("a b c", "yes")
    assert values["ERROR_GEN_PATH"] == f"{made.layout.root}/main/error_gen.sh"
    assert len(values["LONG"]) <= glidein_config.LINE_CHARACTERS
    assert made.checks["client/check_node.sh"].metrics
    assert made.state.setup_attributes["OLD_STYLE_ID"] == "client"
    text = Path(made.layout.config).read_text(encoding="utf-8")
    assert all(line.partition(" ")[2] == glidein_config.clean(line.partition(" ")[2]) for line in text.splitlines())


def test_a_script_for_the_image_runs_on_the_node_where_jobs_get_no_container(bare: Run) -> None:
    made = bare(
        {"file": "inside_image.sh", "type": "run:singularity"},
        {"file": "inside_image.sh", "name": "never.sh", "type": "run:singularity", "cond_attr": "FALSE"},
        {"file": "old_style.sh"},
    )
    assert made.state.failures == (), made.log()
    check = made.checks["client/inside_image.sh"]
    assert (check.status, check.where, check.metrics) == (CheckStatus.PASS, "host", {"place": made.layout.root})
    assert made.checks["client/never.sh"].status is CheckStatus.SKIP
    assert made.state.setup_attributes["EXAMPLE_ImageSystem"]
    assert made.values["OLD_STYLE_ID"] == "client"


def test_a_script_that_destroys_glidein_config_costs_only_what_it_wrote(bare: Run) -> None:
    made = bare({"file": "old_style.sh"}, {"file": "destroyer.sh"}, {"file": "check_node.sh"})
    assert made.state.failures == (), made.log()
    assert made.values["OLD_STYLE_ID"] == "client"
    assert made.checks["client/check_node.sh"].metrics
    assert not os.path.islink(made.layout.config)
    assert "it is as before" in made.log()


def test_a_script_that_hangs_is_killed_at_its_time(bare: Run) -> None:
    made = bare({"file": "hangs.sh", "timeout_seconds": 1})
    [failure] = made.state.failures
    assert (failure.kind, failure.code) == (FailureKind.PLUGIN, "plugin.timeout")
    assert "did not end within 1.0 s" in failure.message


def test_a_file_that_is_not_there_or_for_others_to_change_is_not_run(bare: Run) -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)  # everybody comes so far
        other = Path(directory) / "other.sh"
        other.write_text("#!/bin/sh\n")
        other.chmod(0o777)
        made = bare({"file": str(other), "required": False}, {"file": "no_such_script.sh"})
    [failure] = made.state.failures
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "script.file")
    assert "no_such_script.sh" in failure.message
    refused = made.checks["client/other.sh"]
    assert (refused.code, refused.metrics) == ("script.file", {})
    assert "may be written by everybody" in refused.message


def test_a_value_that_is_required_and_that_nobody_gave_ends_the_pilot(bare: Run, tmp_path: Path) -> None:
    script = tmp_path / "asks.sh"
    script.write_text('#!/bin/sh\necho "EXAMPLE_Needed S - + Y Y -" >>"$(grep ^CONDOR_VARS_FILE $1 | cut -d\\  -f2)"\n')
    script.chmod(0o755)
    [failure] = bare({"file": str(script)}).state.failures
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "script.value_missing")
    assert "EXAMPLE_Needed" in failure.message
