"""What the plugin declares follows from its options; wrong options are refused with their places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pilot_triton.plugin import (
    gpu_is_there,
    pilot_checks,
    pilot_images,
    pilot_periodics,
    pilot_services,
    repository_is_there,
)
from pilot_triton.settings import OPTIONS, Settings

from pilot_agent.hookspecs import Context, Service
from pilot_agent.model import CheckStatus, Fact, FailureKind, PilotError

GPU = {"uuid": "GPU-1", "state": "usable"}
LOST = {"uuid": "GPU-2", "state": "unusable", "reason": "fallen off the bus"}


def configuration(**given: Any) -> dict[str, Any]:
    """The effective configuration with these options beside the defaults."""
    options = {option.name: option.default for option in OPTIONS}
    options |= {"repository": "/data/models", "image": "/images/triton"} | given
    return {"images": {}, "plugins": {"options": {"triton": options}}}


def service(**given: Any) -> Service:
    """The one service with these options."""
    [found] = pilot_services(configuration(**given))
    return found


def arguments(**given: Any) -> list[str]:
    """What tritonserver is started with."""
    return list(service(**given).command[3:])


def refusal(**given: Any) -> str:
    """What is said of wrong options."""
    with pytest.raises(PilotError) as caught:
        Settings.of(configuration(**given))
    assert caught.value.failure.kind is FailureKind.CONFIG
    return caught.value.failure.message


def test_all_ports_are_free_ones_on_the_loopback() -> None:
    found = service()
    assert found.ports == {"http": 0, "grpc": 0, "metrics": 0}
    for kind in found.ports:
        assert f"--{kind}-port={{port:{kind}}}" in found.command
        assert f"--{kind}-address={{host}}" in found.command


def test_a_repository_of_the_node_is_bound_read_only_and_one_of_cvmfs_is_there_already() -> None:
    assert service().binds == ("/data/models:/mnt:ro",)
    assert "--model-repository=/mnt" in arguments()
    assert service(repository="/cvmfs/models.example.org/a/").binds == ()
    assert "--model-repository=/cvmfs/models.example.org/a" in arguments(repository="/cvmfs/models.example.org/a/")


def test_a_signed_repository_is_bound_once_the_pilot_has_verified_and_unpacked_it() -> None:
    found = service(repository="signed:files/atlas/models-3.zip")
    assert found.files == {"models": "files/atlas/models-3.zip"}
    assert found.binds == ("{files:models}:/mnt:ro",)
    assert "--model-repository=/mnt" in found.command
    verdict = repository_is_there(context({"repository": "signed:files/atlas/models-3.zip"}))
    assert (verdict.status, verdict.message.split()[0]) == (CheckStatus.PASS, "files/atlas/models-3.zip")


def test_chosen_models_and_no_others_are_loaded() -> None:
    found = arguments(models=["one", "two"])
    assert "--model-control-mode=explicit" in found
    assert [word for word in found if word.startswith("--load-model")] == ["--load-model=one", "--load-model=two"]
    assert not [word for word in arguments() if "model-control" in word or "load-model" in word]


def test_jobs_find_the_server_by_the_variables_that_clients_of_cms_read() -> None:
    exports = service().exports
    assert exports["SONIC_LOCAL_BALANCER_HOST"] == "{host}"
    assert exports["SONIC_LOCAL_BALANCER_PORT"] == "{port:grpc}"
    # tritonclient refuses an address with a scheme.
    assert exports["TRITON_HTTP_URL"] == "{host}:{port:http}"


def test_gpus_follow_from_the_devices() -> None:
    assert (service().gpus, service().environment) == ("all", {})
    assert service(devices="2", gpus_exclusive=True).gpus == 2
    assert service(devices="2", gpus_exclusive=True).gpus_exclusive
    assert [service(allow_cpu=allowed).gpus_optional for allowed in (True, False)] == [True, False]
    assert (service(devices="none").gpus, service(devices="none").environment) == (None, {"CUDA_VISIBLE_DEVICES": ""})
    instances = "MIG-0a1b2c3d-0000-1111-2222-333344445555, GPU-11112222-3333-4444-5555-666677778888"
    named = service(devices=instances)
    assert named.gpus is None
    assert named.environment == {"CUDA_VISIBLE_DEVICES": instances.replace(" ", "")}


def test_images_are_candidates_that_the_nodes_driver_decides_between() -> None:
    images = [{"path": "/cvmfs/images.example.org/triton-25", "cuda": "12.8", "gpu": 1}, "/images/older"]
    found = list(pilot_images(configuration(image="", images=images)))
    assert [(one.platform, one.path, one.requires) for one in found] == [
        ("triton", "/cvmfs/images.example.org/triton-25", {"cuda": "12.8", "gpu": 1}),
        ("triton", "/images/older", {}),
    ]


def test_the_image_may_stand_in_the_dictionary() -> None:
    config = configuration(image="")
    assert "services.triton.image: which image" in refusal(image="")
    config["images"] = {"triton": [{"path": "/images/triton"}]}
    settings = Settings.of(config)
    assert settings is not None
    assert settings.images == ()


@pytest.mark.parametrize(
    ("given", "place", "found"),
    [
        ({"repository": "models"}, "repository", "an absolute path"),
        ({"repository": "/data/../etc"}, "repository", "an absolute path"),
        ({"repository": "/data/a b"}, "repository", "without spaces"),
        ({"repository": "signed:"}, "repository", "names no signed archive"),
        ({"repository": "signed:files/../models.zip"}, "repository", "names no signed archive"),
        ({"repository": "signed:files/models.tar"}, "repository", "names no signed archive"),
        ({"models": ["a", "../b"]}, "models[1]", "'../b' is no name"),
        ({"models": [3]}, "models[0]", "3 is no name"),
        ({"devices": "0"}, "devices", "'0' is not understood"),
        ({"devices": "GPU-1;rm"}, "devices", "is not understood"),
        ({"http_port": 70000}, "http_port", "70000 is no port"),
        ({"memory_mib": -1}, "memory_mib", "less than 0"),
        ({"start_seconds": 0}, "start_seconds", "not more than 0"),
        ({"per": "site"}, "per", "'site' is neither"),
        ({"arguments": ["--http-port=1"]}, "arguments[0]", "set from the other options"),
        ({"arguments": [1]}, "arguments[0]", "no text"),
        ({"images": [{"cuda": "12.4"}]}, "images[0]", "neither a path nor"),
        ({"images": [{"path": "/a", "cuda": 12.4}]}, "images[0].cuda", "quote the version"),
        ({"images": [{"path": "/a", "cudaa": "12"}]}, "images[0].cudaa", "is unknown"),
    ],
)
def test_a_wrong_option_is_refused_with_its_place(given: dict[str, Any], place: str, found: str) -> None:
    message = refusal(**given)
    assert f"services.triton.{place}: " in message
    assert found in message


def test_all_wrong_options_are_told_at_once() -> None:
    assert refusal(repository="x", devices="some", per="").count("services.triton.") == 3


def context(options: dict[str, Any], root: Path | str = "/", **facts: Any) -> Context:
    """What a check is given."""
    found = {name.replace("__", "."): Fact(name.replace("__", "."), value) for name, value in facts.items()}
    return Context(config=configuration(**options), facts=found, root=str(root))


def test_a_repository_on_cvmfs_is_looked_for_where_the_pilot_mounted_it(tmp_path: Path) -> None:
    options = {"repository": "/cvmfs/models.example.org/all"}
    model = tmp_path / "mounts/models.example.org/all/scale"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text("")
    verdict = repository_is_there(context(options, tmp_path, cvmfs__mount_point="/mounts"))
    assert (verdict.status, verdict.message) == (CheckStatus.PASS, "1 models in /cvmfs/models.example.org/all: scale")
    verdict = repository_is_there(context(options, tmp_path))
    assert (verdict.status, verdict.kind, verdict.code) == (CheckStatus.FAIL, FailureKind.CONFIG, "triton.repository")
    assert "services.triton.repository" in verdict.hint


def test_without_a_repository_there_is_no_server_and_the_check_says_what_to_give() -> None:
    config = configuration(repository="")
    assert (list(pilot_services(config)), list(pilot_images(config)), list(pilot_periodics(config))) == ([], [], [])
    [check] = pilot_checks(config)
    assert check.required
    verdict = repository_is_there(context({"repository": ""}))
    assert (verdict.status, verdict.kind) == (CheckStatus.FAIL, FailureKind.CONFIG)
    assert verdict.message.startswith("services.triton.repository is not given")


def test_a_node_without_a_usable_gpu_is_told_with_the_reason() -> None:
    verdict = gpu_is_there(context({}, gpu__devices=[LOST]))
    assert (verdict.status, verdict.code) == (CheckStatus.FAIL, "triton.gpu")
    assert verdict.message == "0 usable GPUs, all wanted (GPU-2: fallen off the bus)"
    assert "allow_cpu" in verdict.hint
    assert gpu_is_there(context({})).status is CheckStatus.FAIL
    assert gpu_is_there(context({}, gpu__devices=[GPU, LOST])).status is CheckStatus.PASS
    assert gpu_is_there(context({"devices": "2"}, gpu__devices=[GPU, LOST])).status is CheckStatus.FAIL


def test_named_devices_must_be_there() -> None:
    verdict = gpu_is_there(context({"devices": "GPU-1,MIG-7"}, gpu__devices=[GPU, LOST]))
    assert verdict.message == "the node has no usable MIG-7; it has GPU-1"
    assert gpu_is_there(context({"devices": "GPU-1"}, gpu__devices=[GPU])).status is CheckStatus.PASS


@pytest.mark.parametrize(("options", "asked"), [({"devices": "none"}, False), ({"allow_cpu": True}, False), ({}, True)])
def test_gpus_are_only_asked_for_where_the_server_needs_one(options: dict[str, Any], asked: bool) -> None:
    names = [check.name for check in pilot_checks(configuration(**options))]
    assert ("triton GPU" in names) is asked
