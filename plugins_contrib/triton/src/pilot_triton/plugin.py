"""The hooks: the server as a service, what is checked before it starts, and what the ad says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pilot_agent.hookspecs import Check, Context, Liveness, Metrics, Option, Periodic, Readiness, Service, hookimpl
from pilot_agent.model import CheckResult, CheckStatus, FailureKind, ImageCandidate, Json
from pilot_triton.models import NO_MODEL, NoAnswerError, server_attributes
from pilot_triton.repository import RepositoryError, chosen_models
from pilot_triton.settings import CVMFS, NAME, OPTIONS, PATH, PORTS, Settings

INSIDE = "/mnt"
"""Where a repository of the node is in the image: every image has this directory."""

FILES = "models"
REPOSITORY_CHECK = "triton repository"
MODELS_PERIOD_SECONDS = 30.0
METRICS_PERIOD_SECONDS = 30.0
METRIC_NAMES = (
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_pending_request_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_gpu_utilization",
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_power_usage",
    "nv_energy_consumption",
)


@hookimpl
def pilot_options() -> Iterable[Option]:
    """Everything under ``services.triton``."""
    return OPTIONS


@hookimpl
def pilot_images(config: Mapping[str, Json]) -> Iterable[ImageCandidate]:
    """The images with the server, of which the pilot takes the first that this node's GPU driver can serve."""
    settings = Settings.of(config)
    return settings.images if settings is not None else ()


@hookimpl
def pilot_checks(config: Mapping[str, Json]) -> Iterable[Check]:
    """Judged before the server is started: are there models, and GPUs?"""
    settings = Settings.of(config)
    yield Check(
        name=REPOSITORY_CHECK,
        run=f"{__name__}:repository_is_there",
        kind=FailureKind.CONFIG,
        required=settings is None or settings.required,
    )
    if settings is not None and settings.devices != "none" and not settings.allow_cpu:
        yield Check(name="triton GPU", run=f"{__name__}:gpu_is_there", required=settings.required)


@hookimpl
def pilot_services(config: Mapping[str, Json]) -> Iterable[Service]:
    """The server."""
    settings = Settings.of(config)
    if settings is None:
        return
    yield Service(
        name=NAME,
        where="image",
        platform=settings.platform,
        script="launch.sh",
        command=("/bin/sh", "{script}", settings.server, *server_arguments(settings)),
        environment=_environment(settings),
        files={FILES: settings.archive} if settings.archive else {},
        binds=() if settings.on_cvmfs else (f"{_source(settings)}:{INSIDE}:ro",),
        ports=dict(settings.ports),
        readiness=Readiness(http="http/v2/health/ready", timeout_seconds=settings.start_seconds),
        liveness=Liveness(http="http/v2/health/live"),
        metrics=Metrics(http="metrics/metrics", names=METRIC_NAMES, period_seconds=METRICS_PERIOD_SECONDS),
        attributes={"HasTriton": True, "TritonHttpPort": "{port:http}", "TritonGrpcPort": "{port:grpc}"},
        exports={
            "SONIC_LOCAL_BALANCER_HOST": "{host}",
            "SONIC_LOCAL_BALANCER_PORT": "{port:grpc}",
            "TRITON_HTTP_URL": "{host}:{port:http}",
            "TRITON_GRPC_URL": "{host}:{port:grpc}",
        },
        gpus=settings.devices if isinstance(settings.devices, int) or settings.devices == "all" else None,
        gpus_exclusive=settings.gpus_exclusive,
        gpus_optional=settings.allow_cpu,
        cores=settings.cores,
        memory_mib=settings.memory_mib,
        per=settings.per,
        required=settings.required,
        stop_seconds=10.0,
    )


@hookimpl
def pilot_periodics(config: Mapping[str, Json]) -> Iterable[Periodic]:
    """What only the running server knows."""
    if Settings.of(config) is not None:
        yield Periodic(name="triton models", run=f"{__name__}:models", period_seconds=MODELS_PERIOD_SECONDS)


def _source(settings: Settings) -> str:
    """The repository on the node, or the place where its directory comes to stand."""
    return f"{{files:{FILES}}}" if settings.archive else settings.repository


def server_arguments(settings: Settings) -> tuple[str, ...]:
    """The arguments of tritonserver: everything on the loopback only, and no port that would be left at its default."""
    chosen = [f"--load-model={model}" for model in settings.models]
    return (
        f"--model-repository={settings.repository if settings.on_cvmfs else INSIDE}",
        *(("--model-control-mode=explicit", *chosen) if chosen else ()),
        *(f"--{kind}-address={{host}}" for kind in PORTS),
        *(f"--{kind}-port={{port:{kind}}}" for kind in PORTS),
        *settings.arguments,
    )


def _environment(settings: Settings) -> dict[str, str]:
    """What CUDA reads, where the devices are not the pilot's to choose."""
    if settings.devices == "none":
        return {"CUDA_VISIBLE_DEVICES": ""}
    return {"CUDA_VISIBLE_DEVICES": ",".join(settings.devices)} if isinstance(settings.devices, tuple) else {}


def repository_is_there(context: Context) -> CheckResult:
    """Whether the server would find its models."""
    settings, name, kind = Settings.of(context.config), REPOSITORY_CHECK, FailureKind.CONFIG
    if settings is None:
        message = f"{PATH}.repository is not given: the directory of the model repository is needed"
        hint = "give it, or take triton out of services and plugins.load; whoever configures the pilot must act"
        return CheckResult(name, CheckStatus.FAIL, message, hint, kind=kind, code="triton.repository")
    if settings.archive:
        message = f"{settings.archive} is fetched and verified before the server starts, which then says what it lacks"
        return CheckResult(name, CheckStatus.PASS, message)
    try:
        models = chosen_models(_on_this_node(context, settings), settings.models)
    except RepositoryError as error:
        hint = f"publish the models, or correct {PATH}.repository and {PATH}.models; the VO must act"
        return CheckResult(name, CheckStatus.FAIL, str(error), hint, kind=kind, code="triton.repository")
    named = ", ".join(model.name for model in models[:10]) + (" ..." if len(models) > 10 else "")
    return CheckResult(name, CheckStatus.PASS, f"{len(models)} models in {settings.repository}: {named}")


def _on_this_node(context: Context, settings: Settings) -> str:
    """Where this process finds the repository: the pilot may have mounted CVMFS elsewhere for containers."""
    path = settings.repository
    mount_point = context.value("cvmfs.mount_point")
    if settings.on_cvmfs and isinstance(mount_point, str):
        path = f"{mount_point}/{path.removeprefix(CVMFS)}"
    return context.root.rstrip("/") + path


def gpu_is_there(context: Context) -> CheckResult:
    """Whether the node has the GPUs that the server is to use."""
    settings, name, code = Settings.of(context.config), "triton GPU", "triton.gpu"
    if settings is None:
        return CheckResult(name, CheckStatus.SKIP, "there is no server")
    devices: list[dict[str, Any]] = context.value("gpu.devices") or []
    usable = [device for device in devices if device.get("state") == "usable"]
    there = {str(device.get("uuid")) for device in usable}
    hint = f"repair the GPU or its driver (the site), or allow {PATH}.allow_cpu, or set {PATH}.devices to none"
    if isinstance(settings.devices, tuple):
        missing = [uuid for uuid in settings.devices if uuid not in there]
        if missing:
            message = f"the node has no usable {', '.join(missing)}; it has {', '.join(sorted(there)) or 'no GPU'}"
            return CheckResult(name, CheckStatus.FAIL, message, hint, code=code)
    elif len(usable) < (settings.devices if isinstance(settings.devices, int) else 1):
        wrong = "; ".join(f"{device.get('uuid')}: {device.get('reason')}" for device in devices if device not in usable)
        message = f"{len(usable)} usable GPUs, {settings.devices} wanted{f' ({wrong})' if wrong else ''}"
        return CheckResult(name, CheckStatus.FAIL, message, hint, code=code)
    return CheckResult(name, CheckStatus.PASS, f"{len(usable)} usable GPUs")


def models(context: Context) -> dict[str, Json]:
    """Version and models of the server, whichever pilot of the node runs it; no models while there is none, as the
    service's own attributes tell that."""
    port = context.services.get(NAME, {}).get("http")
    if port is None:
        return NO_MODEL
    try:
        return server_attributes(port)
    except NoAnswerError:
        return NO_MODEL
