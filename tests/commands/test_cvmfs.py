"""``cvmfs plan`` as people and programs use it, on this node and on recorded ones."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pilot_agent.cvmfs.supply import considered
from pilot_agent.environment import clean_environment
from pilot_agent.interpreter import interpreter_command
from pilot_agent.process import Result, run
from pilot_agent.report import report_schema
from tests.cvmfs.grounds import configured, known
from tests.cvmfs.shop import MISSING, offer
from tests.cvmfs.shop import index as published
from tests.probes.trees import NODES

MACHINE = os.uname().machine

UBUNTU = "ubuntu2404_apparmor"
GRID = 'cvmfs.repositories=["grid.example.org"]'


def pilot(directory: Path, *arguments: str, node: str | None = None) -> Result:
    """Run the real command in a process of its own, in this directory."""
    recorded = ["--root", str(NODES / node)] if node else []
    environment = clean_environment({}, home=str(directory), temporary=str(directory)) | {"COLUMNS": "80"}
    command = [*interpreter_command(), *arguments, *recorded]
    return run(command, deadline_seconds=120, environment=environment, directory=str(directory))


def plan(directory: Path, *arguments: str, node: str | None = None) -> tuple[int | None, dict[str, Any]]:
    """The exit code of ``cvmfs plan --json``, and what it prints."""
    result = pilot(directory, "cvmfs", "plan", "--json", *arguments, node=node)
    assert result.stdout, result.explain()
    return result.code, json.loads(result.stdout)


def states(answer: dict[str, Any]) -> dict[str, str]:
    return {rung["name"]: rung["state"] for rung in answer["rungs"]}


def test_a_recorded_node_is_decided_as_the_schema_of_the_report_says(tmp_path: Path) -> None:
    code, answer = plan(tmp_path, "--set", GRID, node="cvmfs_worker")
    assert code == 0
    jsonschema.validate(answer, {"$ref": "#/$defs/cvmfs", "$defs": report_schema()["$defs"]})
    assert states(answer)["native"] == "taken"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("node", "namespace", "fusermount", "said"),
    [
        ("ubuntu2404_apparmor", "refused", "taken", "kernel.apparmor_restrict_unprivileged_userns=0"),
        ("el8_no_user_namespaces", "refused", "taken", "sysctl -w user.max_user_namespaces=15000"),
        ("userns_limit_reached", "refused", "refused", "this account has used it up"),
        ("el7_cgroup1", "refused", "refused", "user.max_user_namespaces is 0"),
        ("recorded_virtual_machine", "unknown", "refused", "not recorded"),
    ],
)
def test_what_a_recorded_node_refuses_is_told_with_the_change(
    tmp_path: Path, node: str, namespace: str, fusermount: str, said: str
) -> None:
    _, answer = plan(tmp_path, "--set", GRID, "--set", "cvmfs.distribution=/opt/cvmfsexec", node=node)
    found = states(answer)
    assert (found["namespace"], found["fusermount"]) == (namespace, fusermount)
    assert said in next(rung["reason"] for rung in answer["rungs"] if rung["name"] == "namespace")


def test_this_node_has_a_page_that_fits_a_terminal(tmp_path: Path) -> None:
    result = pilot(tmp_path, "cvmfs", "plan", "--set", 'cvmfs.repositories=["missing.example.org"]')
    assert result.code == 0, result.explain()
    lines = result.text.splitlines()
    assert max(map(len, lines)) <= 80
    for word in ("PREFERRED x OPTIONAL", "missing.example.org", "native", "namespace (3)", "fusermount (1)", "none"):
        assert word in result.text


def test_what_is_required_and_cannot_be_had_is_a_failure_after_the_page(tmp_path: Path) -> None:
    wishes = ["--set", 'cvmfs.repositories=["missing.example.org"]', "--set", "site.cvmfs=required"]
    result = pilot(tmp_path, "cvmfs", "plan", *wishes)
    assert result.code == 64
    assert "REQUIRED (PREFERRED x REQUIRED)" in result.text
    assert "cvmfs.broken" in result.stderr.decode()
    code, answer = plan(tmp_path, *wishes)
    assert (code, answer["decision"], states(answer)["none"]) == (64, "REQUIRED", "refused")


def test_no_way_is_promised_whose_client_could_not_be_configured(tmp_path: Path) -> None:
    client = tmp_path / "client"
    client.mkdir()
    wishes = ("--set", GRID, "--set", f"cvmfs.distribution={client}", "--set", 'cvmfs.rungs=["fusermount"]')
    code, answer = plan(tmp_path, *wishes, "--set", "cvmfs.cache=shared", node=UBUNTU)
    assert (code, states(answer)["fusermount"], states(answer)["none"]) == (0, "refused", "taken")
    said = next(rung["reason"] for rung in answer["rungs"] if rung["name"] == "fusermount")
    assert "no cvmfs.cache_directory says where it lies" in said
    needed = ("--set", "cvmfs.cache=shared", "--set", "cvmfs.use=required")
    assert plan(tmp_path, *wishes, *needed, node=UBUNTU)[0] == 66


def test_contradicting_wishes_are_a_failure_of_the_configuration(tmp_path: Path) -> None:
    code, answer = plan(tmp_path, "--set", "cvmfs.use=required", "--set", "site.cvmfs=never", node="cvmfs_worker")
    assert (code, answer["decision"]) == (66, "FAIL")


def test_a_rung_that_does_not_exist_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    result = pilot(tmp_path, "cvmfs", "plan", "--set", 'cvmfs.rungs=["fusermuont"]')
    assert result.code == 66
    assert "did you mean fusermount?" in result.stderr.decode()


def test_check_puts_the_ladder_into_its_report_where_cvmfs_is_asked_for(tmp_path: Path) -> None:
    asked = pilot(tmp_path, "check", "--json", "--set", GRID, node="cvmfs_worker")
    report = json.loads(asked.stdout)
    jsonschema.Draft202012Validator(report_schema()).validate(report)
    assert states(report["cvmfs"])["native"] == "taken"
    plain = json.loads(pilot(tmp_path, "check", "--json", node="cvmfs_worker").stdout)
    assert plain["cvmfs"] is None


def test_each_vo_is_told_its_own_ways_and_the_page_shows_them(tmp_path: Path) -> None:
    for name, use in (("needs", "required"), ("none", "never")):
        document = {"vo": {"name": name}, "cvmfs": {"repositories": ["grid.example.org"], "use": use}}
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    vos = ["--vo", str(tmp_path / "needs.json"), "--vo", str(tmp_path / "none.json")]
    report = json.loads(pilot(tmp_path, "check", "--json", *vos, node="cvmfs_worker").stdout)
    jsonschema.Draft202012Validator(report_schema()).validate(report)
    taken = [[rung["name"] for rung in one["cvmfs"]["rungs"] if rung["state"] == "taken"] for one in report["verdicts"]]
    assert taken == [["native"], ["none"]]
    page = pilot(tmp_path, "check", *vos, node="cvmfs_worker").text
    assert page.index("CVMFS: REQUIRED") < page.index("For the VO none") < page.index("CVMFS: NEVER")


def test_check_ends_where_the_wishes_contradict_each_other(tmp_path: Path) -> None:
    result = pilot(
        tmp_path, "check", "--json", "--set", "cvmfs.use=never", "--set", "site.cvmfs=required", node="cvmfs_worker"
    )
    report = json.loads(result.stdout)
    assert result.code == 66
    assert (report["outcome"]["failure"]["code"], report["outcome"]["failure"]["stage"]) == ("cvmfs.conflict", "mount")


def test_the_command_without_its_second_word_is_told_the_whole(tmp_path: Path) -> None:
    result = pilot(tmp_path, "cvmfs")
    assert result.code == 2
    assert "plan|config" in result.stderr.decode()
    shown = pilot(tmp_path, "cvmfs", "--help")
    assert shown.code == 0
    assert "pilot-agent cvmfs plan --config vo=vo.yaml" in shown.text


def test_what_ends_the_command_is_folded_on_a_terminal_and_one_line_for_programs(tmp_path: Path) -> None:
    words = ("cvmfs", "plan", "--set", "cvmfs.use=required", "--set", "site.cvmfs=never", "--set", GRID)
    assert len(pilot(tmp_path, *words, node="cvmfs_worker").stderr.decode().splitlines()) == 2
    ours, theirs = os.openpty()
    environment = clean_environment({}, home=str(tmp_path), temporary=str(tmp_path)) | {"COLUMNS": "40"}
    command = [*interpreter_command(), *words, "--root", str(NODES / "cvmfs_worker")]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs, env=environment):
        os.close(theirs)
        said = b""
        with suppress(OSError):  # the kernel's word for a terminal that nobody has any more
            while chunk := os.read(ours, 65536):
                said += chunk
    os.close(ours)
    lines = said.decode().splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 40
    assert " ".join(" ".join(lines).split()).startswith(
        "pilot-agent: cvmfs.conflict: VO and site contradict each other"
    )


def test_options_may_stand_between_its_two_words(tmp_path: Path) -> None:
    result = pilot(tmp_path, "cvmfs", "--json", "plan", "--set", GRID, node="cvmfs_worker")
    assert (result.code, states(json.loads(result.stdout))["native"]) == (0, "taken")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Published clients: one that does not load here, one for another machine, and one that loads."""
    directory = tmp_path / "shop"
    lacking, foreign = offer(directory, f"rhel9-{MACHINE}", needs=MISSING), offer(directory, "rhel9-s390x")
    published(directory, lacking, foreign, *(offer(directory, f"rhel8-{one}") for one in {MACHINE, "x86_64"}))
    return directory


def verdicts(answer: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["machine_type"]: (one["state"], one["reason"]) for one in answer["distributions"]}


def test_every_published_client_has_its_reason(tmp_path: Path, shop: Path) -> None:
    words = ["--set", GRID, "--set", f"cvmfs.distributions={shop}"]
    code, answer = plan(tmp_path, *words, node="recorded_virtual_machine")
    assert code == 0
    assert states(answer)["namespace"] == "unknown"
    found = verdicts(answer)
    assert found["rhel9-s390x"] == ("refused", "it is for s390x, and this node is x86_64")
    assert found["rhel8-x86_64"][0] == "possible"
    page = " ".join(pilot(tmp_path, "cvmfs", "plan", *words, node="recorded_virtual_machine").text.split())
    assert f"Clients in {shop}" in page
    assert "it is for s390x" in page


def test_where_no_client_fits_the_ways_that_need_one_are_refused(tmp_path: Path, shop: Path) -> None:
    published(shop, offer(shop, "rhel9-s390x"))
    _, answer = plan(tmp_path, "--set", GRID, "--set", f"cvmfs.distributions={shop}", node="recorded_virtual_machine")
    assert states(answer)["namespace"] == "refused"
    assert "it is for s390x" in next(rung["reason"] for rung in answer["rungs"] if rung["name"] == "namespace")


def test_an_index_that_cannot_be_believed_is_a_reason_and_no_end(tmp_path: Path) -> None:
    address = "cvmfs.distributions=https://127.0.0.1:1/index.json"
    code, answer = plan(tmp_path, "--set", GRID, "--set", address, node="ubuntu2404_apparmor")
    assert code == 0
    assert "nothing says what it must be" in answer["distributions"][0]["reason"]
    assert states(answer)["fusermount"] == "refused"


def test_the_file_of_a_published_client_stands_in_one_piece_on_a_narrow_page(tmp_path: Path, shop: Path) -> None:
    """It is what the line of the index is found again with."""
    name = "cvmfs-2.12.0-default-rhel9-x86_64-b3b34f3b068c.tar.gz"
    published(shop, offer(shop, "rhel9-x86_64", file=name))
    page = pilot(tmp_path, "cvmfs", "plan", "--set", GRID, "--set", f"cvmfs.distributions={shop}", node=UBUNTU).text
    assert name in page
    assert max(map(len, page.splitlines())) <= 80


def test_published_clients_are_tried_when_asked(tmp_path: Path, shop: Path) -> None:
    config = configured(cvmfs={"distribution": None, "distributions": str(shop)})
    found = considered(config, known(os_arch=MACHINE), {}, str(tmp_path), fetch=True)
    told = {one.machine_type: (one.state, one.reason) for one in found.why}
    assert "needs libpcre2-8.so.9" in told[f"rhel9-{MACHINE}"][1]
    assert told[f"rhel8-{MACHINE}"][0] == "taken"
    assert found.failure is None


SECRET = "hunter2"
PROXIES = f'cvmfs.proxies=["http://pilot:{SECRET}@127.0.0.1:9"]'


def test_the_settings_of_the_client_are_shown_with_their_origins_and_without_passwords(tmp_path: Path) -> None:
    parameters = f'cvmfs.parameters={{"CVMFS_TIMEOUT": "7", "CVMFS_AUTH_TOKEN": "{SECRET}"}}'
    endpoint = 'probes.endpoints=["http://127.0.0.1:9/"]'
    never = ["--set", "cvmfs.direct=never", "--set", PROXIES, "--set", parameters, "--set", endpoint]
    result = pilot(tmp_path, "cvmfs", "config", "--json", *never)
    assert result.code == 0, result.explain()
    answer = json.loads(result.stdout)
    told = {setting["name"]: (setting["value"], setting["origin"]) for setting in answer["settings"]}
    assert told["CVMFS_HTTP_PROXY"] == ("http://(removed)@127.0.0.1:9", "cvmfs.proxies")
    assert told["CVMFS_TIMEOUT"] == ("7", "cvmfs.parameters")
    assert told["CVMFS_SHARED_CACHE"][0] == "yes"
    assert int(told["CVMFS_QUOTA_LIMIT"][0]) > 0
    assert "http://127.0.0.1:9 (" in answer["notes"][0], "the probe tried it: nobody listens there"
    shown = pilot(tmp_path, "cvmfs", "config", *never)
    assert '# cvmfs.parameters\nCVMFS_TIMEOUT="7"\n' in shown.stdout.decode()
    assert SECRET.encode() not in result.stdout + shown.stdout + result.stderr + shown.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_client_that_may_not_go_straight_and_knows_no_proxy_is_refused(tmp_path: Path) -> None:
    result = pilot(tmp_path, "cvmfs", "config", "--set", "cvmfs.direct=never", node="bare_metal_el9")
    assert result.code == 65, result.explain()
    assert b"cvmfs.no_proxy" in result.stderr
    assert b"cvmfs.direct: never (command line)" in result.stderr


def test_a_cache_without_its_directory_is_refused(tmp_path: Path) -> None:
    result = pilot(tmp_path, "cvmfs", "config", "--set", "cvmfs.cache=alien")
    assert (result.code, b"no cvmfs.cache_directory" in result.stderr) == (66, True)


def test_a_key_that_a_pilot_would_refuse_is_refused_on_the_node_and_not_on_a_recording(tmp_path: Path) -> None:
    missing = ["--set", f'cvmfs.keys=["{tmp_path}/grid.example.org.pub"]']
    result = pilot(tmp_path, "cvmfs", "config", *missing)
    assert (result.code, result.stdout) == (66, b""), result.explain()
    assert b"grid.example.org.pub cannot be read: No such file" in result.stderr
    assert b"whoever set cvmfs.keys: correct its path" in result.stderr
    assert pilot(tmp_path, "cvmfs", "config", *missing, node="bare_metal_el9").code == 0
