"""The plugin's options, read and judged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pilot_agent.hookspecs import Option
from pilot_agent.model import Failure, FailureKind, ImageCandidate, Json, PilotError

NAME = "triton"
PATH = f"services.{NAME}"
OPTIONS = (
    Option(
        name="repository",
        type="string",
        default="",
        help="the model repository: a directory, also on CVMFS, or signed:files/VO/NAME.zip",
    ),
    Option(name="models", type="list", default=[], help="models to load; empty: all of the repository"),
    Option(name="image", type="string", default="", help="the image that has the server"),
    Option(
        name="images",
        type="list",
        default=[],
        help="several such images, the best first: paths, or {path, cuda, gpu}, of which the first is taken that the"
        " node's driver serves",
    ),
    Option(name="platform", type="string", default=NAME, help="the platform of `images` that has the server"),
    Option(name="server", type="string", default="tritonserver", help="the program in the image"),
    Option(
        name="devices",
        type="string",
        default="all",
        help="GPUs: all, none, a number, or UUIDs of GPUs and MIG instances with commas between them",
    ),
    Option(name="allow_cpu", type="boolean", default=False, help="serve on the CPU where no GPU is usable"),
    Option(name="gpus_exclusive", type="boolean", default=False, help="jobs do not get the server's GPUs"),
    Option(name="http_port", type="integer", default=0, help="0: a free one"),
    Option(name="grpc_port", type="integer", default=0, help="0: a free one"),
    Option(name="metrics_port", type="integer", default=0, help="0: a free one"),
    Option(name="start_seconds", type="number", default=600, help="the longest that image and models may take to load"),
    Option(name="cores", type="number", default=0, help="cores that are taken from what jobs get"),
    Option(name="memory_mib", type="integer", default=0, help="memory that is taken from what jobs get; its limit"),
    Option(name="per", type="string", default="pilot", help="pilot, or node: one server for this account's pilots"),
    Option(name="required", type="boolean", default=False, help="the pilot ends where the server cannot be had"),
    Option(name="arguments", type="list", default=[], help="further arguments of tritonserver"),
)

CVMFS = "/cvmfs/"
SIGNED = "signed:"
"""Before the name of a signed archive, which the pilot fetches, verifies and unpacks."""
PORTS = ("http", "grpc", "metrics")
LAST_PORT = 65535
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_DEVICE = re.compile(r"(GPU|MIG)-[A-Za-z0-9/-]+")
_PLAIN_PATH = re.compile(r"/[^\s,:'\"$;\\]*")
_ARCHIVE = re.compile(r"files/([A-Za-z0-9][A-Za-z0-9._+-]{0,127}/)?[A-Za-z0-9][A-Za-z0-9._+-]{0,123}\.zip")
_OWN_ARGUMENT = re.compile(
    r"--(model-repository|model-control-mode|load-model|(http|grpc|metrics)-(port|address)|allow-(http|grpc|metrics))(=|$)"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says; ``repository`` is absolute, or ``signed:ARCHIVE``, and so are the paths of
    ``images``."""

    repository: str
    models: tuple[str, ...]
    images: tuple[ImageCandidate, ...]
    platform: str
    server: str
    devices: Literal["all", "none"] | int | tuple[str, ...]
    allow_cpu: bool
    gpus_exclusive: bool
    ports: Mapping[str, int]
    start_seconds: float
    cores: float
    memory_mib: int
    per: Literal["pilot", "node"]
    required: bool
    arguments: tuple[str, ...]

    @property
    def on_cvmfs(self) -> bool:
        """Whether jobs' containers see the repository without a bind of its own."""
        return self.repository.startswith(CVMFS)

    @property
    def archive(self) -> str:
        """The signed archive that holds the repository; empty where it is a directory."""
        return self.repository.removeprefix(SIGNED) if self.repository.startswith(SIGNED) else ""

    @classmethod
    def of(cls, config: Mapping[str, Json]) -> Settings | None:
        """The settings of the effective configuration; None where no repository is given. Raises ``PilotError``
        (config.invalid) that names each problem with its place."""
        given = config["plugins"]["options"][NAME]
        if not given["repository"]:
            return None
        problems = list(_problems(given, config.get("images") or {}))
        if problems:
            hint = "correct the configuration; whoever gave these options must act"
            raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", "; ".join(problems), hint))
        return cls(
            repository=given["repository"].rstrip("/"),
            models=tuple(given["models"]),
            images=tuple(_candidates(given)),
            platform=given["platform"],
            server=given["server"],
            devices=_devices(given["devices"]),
            allow_cpu=given["allow_cpu"],
            gpus_exclusive=given["gpus_exclusive"],
            ports={kind: given[f"{kind}_port"] for kind in PORTS},
            start_seconds=float(given["start_seconds"]),
            cores=float(given["cores"]),
            memory_mib=given["memory_mib"],
            per=given["per"],
            required=given["required"],
            arguments=tuple(given["arguments"]),
        )


def _problems(given: Mapping[str, Json], dictionary: Mapping[str, Json]) -> Iterable[str]:
    yield from _repository_problems(given)
    if not given["image"] and not given["images"] and given["platform"] not in dictionary:
        yield (
            f"{PATH}.image: which image has the server? Give it here, or as images.{given['platform']}, or name another"
            f" platform with {PATH}.platform"
        )
    for index, image in enumerate(given["images"]):
        yield from _image_problems(f"{PATH}.images[{index}]", image)
    if _devices(given["devices"]) == ():
        yield (
            f"{PATH}.devices: {given['devices']!r} is not understood: all, none, a number above 0, or UUIDs such as"
            " GPU-... and MIG-... with commas between them"
        )
    if given["per"] not in ("pilot", "node"):
        yield f"{PATH}.per: {given['per']!r} is neither pilot nor node"
    yield from _number_problems(given)
    for index, argument in enumerate(given["arguments"]):
        if not isinstance(argument, str):
            yield f"{PATH}.arguments[{index}]: {argument!r} is no text"
        elif _OWN_ARGUMENT.match(argument):
            yield f"{PATH}.arguments[{index}]: {argument} is set from the other options of the plugin"


def _repository_problems(given: Mapping[str, Json]) -> Iterable[str]:
    repository = given["repository"]
    if repository.startswith(SIGNED):
        if not _ARCHIVE.fullmatch(repository.removeprefix(SIGNED)):
            yield (
                f"{PATH}.repository: {repository!r} names no signed archive: signed:files/VO/NAME.zip, or"
                " signed:files/NAME.zip of the factory, is needed"
            )
    elif not _PLAIN_PATH.fullmatch(repository) or ".." in repository.split("/") or not repository.strip("/"):
        yield (
            f"{PATH}.repository: {repository!r} is no directory that can be given to a container: an absolute path"
            " without spaces, commas, colons, quotes, $, ; and backslashes is needed"
        )
    for index, model in enumerate(given["models"]):
        if not isinstance(model, str) or not _MODEL.fullmatch(model):
            yield f"{PATH}.models[{index}]: {model!r} is no name of a model"


def _number_problems(given: Mapping[str, Json]) -> Iterable[str]:
    for kind in PORTS:
        if not 0 <= given[f"{kind}_port"] <= LAST_PORT:
            yield f"{PATH}.{kind}_port: {given[f'{kind}_port']} is no port: 0 (a free one) to {LAST_PORT}"
    for key in ("cores", "memory_mib"):
        if given[key] < 0:
            yield f"{PATH}.{key}: {given[key]} is less than 0"
    if given["start_seconds"] <= 0:
        yield f"{PATH}.start_seconds: {given['start_seconds']} is not more than 0"


def _image_problems(place: str, image: Json) -> Iterable[str]:
    if isinstance(image, str) and image:
        return
    if not isinstance(image, dict) or not isinstance(image.get("path"), str):
        yield f"{place}: {image!r} is neither a path nor a mapping with one"
        return
    for key in sorted(set(image) - {"path", "cuda", "gpu", "arch", "digest"}):
        yield f"{place}.{key}: is unknown; there are path, cuda, gpu, arch and digest"
    if not isinstance(image.get("cuda", ""), str):
        yield f"{place}.cuda: quote the version: {image['cuda']!r} is a number"


def _candidates(given: Mapping[str, Json]) -> Iterable[ImageCandidate]:
    for image in ([given["image"]] if given["image"] else []) + list(given["images"]):
        entry = {"path": image} if isinstance(image, str) else image
        yield ImageCandidate(
            platform=given["platform"],
            path=entry["path"],
            architecture=entry.get("arch", ""),
            requires={key: entry[key] for key in ("cuda", "gpu") if key in entry},
            origin=NAME,
            digest=entry.get("digest", ""),
        )


def _devices(text: str) -> Literal["all", "none"] | int | tuple[str, ...]:
    """What is understood of it; an empty tuple: nothing."""
    match text.strip().lower():
        case "all":
            return "all"
        case "none":
            return "none"
        case number if number.isascii() and number.isdigit() and int(number) > 0:
            return int(number)
    named = tuple(word.strip() for word in text.split(","))
    return named if all(_DEVICE.fullmatch(word) for word in named) else ()
