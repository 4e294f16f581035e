"""What jobs get beside their image: everybody may ask, the restrictions hold for all, and each wish has its answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.config import Layer, load_config
from pilot_agent.containers.surroundings import HARMLESS, OF_THE_PILOT, judge_options, settle, uncontained
from pilot_agent.hookspecs import ContainerRequest, Context
from pilot_agent.model import Fact, JobSurroundings, Json, PilotError

NVIDIA = {"vendor": "nvidia", "uuid": "GPU-1", "state": "usable"}
AMD = {"vendor": "amd", "uuid": "GPU-2", "state": "usable"}


def settled(
    *layers: tuple[str, dict[str, Json]],
    requests: Sequence[ContainerRequest] = (),
    facts: dict[str, Json] | None = None,
    environment: dict[str, str] | None = None,
    contained: bool = True,
    root: str = "/",
) -> JobSurroundings:
    context = Context(
        facts={name: Fact(name, value) for name, value in (facts or {}).items()},
        config=load_config([Layer(name, document) for name, document in layers]).values,
        environment=environment or {},
        root=root,
    )
    return settle(context, requests, contained=contained)


def options(found: JobSurroundings) -> dict[str, tuple[str, bool]]:
    return {one.option: (one.asked_by, one.given) for one in found.options}


def variables(found: JobSurroundings) -> dict[str, str]:
    return {one.name: one.value for one in found.environment if one.given}


def sources(found: JobSurroundings) -> list[str]:
    return [one.source for one in found.binds]


def test_without_any_wish_jobs_get_what_is_built_in() -> None:
    found = settled()
    assert sources(found) == ["/etc/hosts", "/etc/localtime"]
    assert {one.asked_by for one in found.binds} == {"the pilot"}
    assert (found.options, found.environment) == ((), ())


def test_each_built_in_bind_has_a_switch() -> None:
    switches = dict.fromkeys(("bind_hosts", "bind_localtime", "bind_cvmfs", "bind_opencl", "gpu_libraries"), False)
    facts = {"cvmfs.repositories": ["a.example.org"], "gpu.devices": [NVIDIA, AMD]}
    assert settled(("site", {"containers": switches}), facts=facts) == JobSurroundings()


def test_cvmfs_is_at_its_usual_place_wherever_it_is_mounted(tmp_path: Path) -> None:
    facts = {"cvmfs.repositories": ["a.example.org"], "cvmfs.mount_point": str(tmp_path)}
    (bind,) = [one for one in settled(facts=facts).binds if one.destination == "/cvmfs"]
    assert (bind.source, bind.read_only, bind.given) == (str(tmp_path), True, True)
    assert "/cvmfs" not in sources(settled(facts={"cvmfs.repositories": []}))


def test_where_jobs_can_get_gpus_they_get_what_belongs_to_them() -> None:
    found = settled(facts={"gpu.devices": [NVIDIA]})
    assert sources(found)[-1] == "/etc/OpenCL/vendors"
    assert [(one.option, one.with_gpus) for one in found.options] == [("--nv", True)]
    found = settled(facts={"gpu.devices": [AMD]})
    assert [(one.option, one.with_gpus) for one in found.options] == [("--rocm", False)]
    for devices in ([], [{**NVIDIA, "state": "unusable"}]):
        found = settled(facts={"gpu.devices": devices})
        assert (len(found.binds), found.options) == (2, ())


def test_all_ask_in_order_and_the_answers_name_them(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    found = settled(
        ("vo", {"containers": {"binds": [f"{tmp_path}/a:/vo"], "options": ["--uts"]}}),
        ("site", {"containers": {"binds": [{"source": f"{tmp_path}/gone"}]}}),
        requests=[ContainerRequest(name="plugin p (r)", binds=(f"{tmp_path}:/p:ro",), options=("--writable", "--uts"))],
    )
    assert [(one.asked_by, one.destination, one.given) for one in found.binds[2:]] == [
        ("configuration (vo)", "/vo", True),
        ("configuration (site)", f"{tmp_path}/gone", False),
        ("plugin p (r)", "/p", True),
    ]
    assert [(one.asked_by, one.option, one.given) for one in found.options] == [
        ("configuration (vo)", "--uts", True),
        ("plugin p (r)", "--writable", False),
        ("plugin p (r)", "--uts", False),
    ]


@pytest.mark.parametrize(
    "option", ["--writable", "--security=seccomp:/x", "--add-caps=all", "--keep-privs", "--allow-setuid", "--fakeroot"]
)
def test_what_gives_rights_is_refused_unless_the_site_itself_allows_it(option: str) -> None:
    name = option.partition("=")[0]
    asks = ("vo", {"containers": {"options": [option]}})
    (verdict,) = settled(asks).options
    assert not verdict.given
    assert "a site allows it in containers.allowed_options" in verdict.reason
    allows = {"containers": {"allowed_options": [name]}}
    assert options(settled(asks, ("site", allows))) == {option: ("configuration (vo)", True)}
    both = {"containers": {"options": [option], "allowed_options": [name]}}
    assert options(settled(("vo", both))) == {option: ("configuration (vo)", False)}, "no VO allows itself more"
    (verdict,) = settled(("vo", {"containers": {"options": [option], "allowed_options": []}}), ("site", allows)).options
    assert verdict.reason == "containers.allowed_options does not allow it: nothing (vo layer)"


@pytest.mark.parametrize("option", ["-e", "--bind /x", "--net=a b", "--", "exec", "--Nv", "", '--env=a"b'])
def test_an_option_is_one_word_in_its_long_form(option: str) -> None:
    (verdict,) = settled(requests=[ContainerRequest(name="p", options=(option,))]).options
    assert not verdict.given
    assert "one word" in verdict.reason


@pytest.mark.parametrize("name", sorted(OF_THE_PILOT))
def test_what_the_pilot_sets_itself_nobody_sets(name: str) -> None:
    site = ("site", {"containers": {"allowed_options": [name], "options": [f"{name}=/x"]}})
    (verdict,) = settled(site).options
    assert "themselves" in verdict.reason
    assert name not in HARMLESS


def test_an_allowed_value_is_no_other_value() -> None:
    asked = [("x", "--network=none"), ("x", "--network=bridge"), ("x", "--network")]
    assert [one.given for one in judge_options(asked, [])] == [True, False, False]


def test_without_gpu_libraries_nobody_brings_them() -> None:
    layer = ("site", {"containers": {"gpu_libraries": False, "options": ["--nv"]}})
    (verdict,) = settled(layer, facts={"gpu.devices": [NVIDIA]}).options
    assert (verdict.given, verdict.reason) == (False, "containers.gpu_libraries is false")


def test_jobs_see_only_those_variables_of_the_node_that_are_passed_on() -> None:
    node = {"OSG_SITE": "T2", "OSG_SQUID": "s", "http_proxy": "http://p", "SECRET": "x", "HOME": "/h", "ODD": "a\nb"}
    assert variables(settled(environment=node)) == {}
    asked = ("site", {"startd": {"pass_environment": ["OSG_*", "http_proxy", "NOT_SET", "HOME", "ODD"]}})
    found = settled(asked, environment=node)
    assert variables(found) == {"OSG_SITE": "T2", "OSG_SQUID": "s", "http_proxy": "http://p"}
    refused = {one.name: one.reason for one in found.environment if not one.given}
    assert refused["NOT_SET"] == "the node does not set it"
    assert "outside the container" in refused["HOME"]
    assert "control character" in refused["ODD"]


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "APPTAINER_BIND", "APPTAINERENV_X", "SINGULARITY_X", "_CONDOR_SLOT", "BASH_ENV", "SHELLOPTS"]
)
def test_variables_that_act_on_the_node_reach_no_job(name: str) -> None:
    request = ContainerRequest(name="p", environment={name: "x", "OK": "1"})
    assert variables(settled(requests=[request])) == {"OK": "1"}


def test_the_last_value_that_may_be_given_counts_and_the_others_are_told() -> None:
    found = settled(
        ("vo", {"startd": {"job_environment": {"A": "vo", "B": "vo"}}}),
        ("site", {"startd": {"job_environment": {"A": "site"}, "allowed_environment": ["A", "B*"]}}),
        requests=[ContainerRequest(name="p", environment={"B": "p", "C": "p"})],
    )
    assert variables(found) == {"A": "site", "B": "p"}
    assert [(one.name, one.asked_by, one.reason) for one in found.environment if not one.given] == [
        ("A", "configuration (vo)", "configuration (site) gives it a value after this"),
        ("B", "configuration (vo)", "p gives it a value after this"),
        ("C", "p", "startd.allowed_environment allows A, B* (site layer)"),
    ]


def test_without_a_container_there_are_only_variables() -> None:
    layers = ("vo", {"startd": {"job_environment": {"A": "1"}}, "containers": {"options": ["--uts", "--writable"]}})
    found = settled(layers, contained=False)
    assert (found.binds, found.options, variables(found)) == ((), (), {"A": "1"})
    left = uncontained(settled(layers))
    assert not any(one.given for one in left.binds)
    assert not any(one.given for one in left.options)
    assert {one.reason for one in left.binds} == {"jobs run without a container here"}
    assert variables(left) == {"A": "1"}


def test_of_a_recording_no_path_is_looked_at(tmp_path: Path) -> None:
    assert settled(("vo", {"containers": {"binds": ["/etc"]}}), root=str(tmp_path)).binds == ()


def test_a_required_bind_that_is_missing_ends_the_pilot(tmp_path: Path) -> None:
    entry = {"source": str(tmp_path / "gone"), "required": True}
    with pytest.raises(PilotError, match=r"configuration \(vo\) requires"):
        settled(("vo", {"containers": {"binds": [entry]}}))


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"binds": ["data"]}, r"containers.binds\[0\]"),
        ({"binds": [{"source": "/a", "read-only": True}]}, r"containers.binds\[0\].read-only"),
        ({"binds": [{"destination": "/a"}]}, r"containers.binds\[0\].source"),
        ({"binds": [{"source": "a"}]}, r"containers.binds\[0\].source"),
        ({"binds": [{"source": "/a", "required": "yes"}]}, r"containers.binds\[0\].required"),
        ({"binds": ["/a b"]}, r"containers.binds\[0\]"),
        ({"options": ["--bind /x"]}, r"containers.options\[0\]"),
        ({"allowed_options": ["nv"]}, r"containers.allowed_options\[0\]"),
        ({"allowed_binds": ["data"]}, r"containers.allowed_binds\[0\]"),
        ({"scratch": "/tmp/x"}, "containers.scratch"),
        ({"scratch": "/usr"}, "containers.scratch"),
        ({"scratch": "srv"}, "containers.scratch"),
        ({"scratch": "/a/../etc"}, "containers.scratch"),
        ({"scratch": "/a b"}, "containers.scratch"),
        ({"bind_hosts": "yes"}, "containers.bind_hosts"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(keys: dict[str, Any], path: str) -> None:
    with pytest.raises(PilotError, match=path) as caught:
        load_config([Layer("site", {"containers": keys})])
    assert caught.value.failure.code == "config.invalid"
