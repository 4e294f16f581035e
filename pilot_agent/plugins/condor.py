"""From what the pilot found to a started-ready HTCondor: files written, checked, and the commands to run."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pilot_agent.config_collectors import drawn
from pilot_agent.config_slots import parse_resource_slots
from pilot_agent.environment import clean_environment
from pilot_agent.files import write_atomically
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.plugins import machine_ad
from pilot_agent.plugins.condor_source import condor_request
from pilot_agent.plugins.confining import plan_confinement
from pilot_agent.plugins.job_cgroups import plan_job_cgroups
from pilot_agent.plugins.job_containers import install_image_hook, plan_containers
from pilot_agent.services.taken import usable_devices
from pilot_agent.startd.configuration import (
    GPU_INVENTORY,
    gpu_inventory,
    history_path,
    libexec_directory,
    private_directory,
    render,
)
from pilot_agent.startd.confinement import GROUPS, RUNTIME, STARTER, establish, runtime_text, starter_text
from pilot_agent.startd.guard import GUARD, guard_text
from pilot_agent.startd.join import clock_commands, join_commands
from pilot_agent.startd.libexec import make_libexec, plugin_programs, sif_test
from pilot_agent.startd.links import LINKS, LINKS_TEXT
from pilot_agent.startd.logins import groups_of_logins
from pilot_agent.startd.network import plan_network
from pilot_agent.startd.plan import MASTER_ARGUMENTS, ContainerPlan, GpuDevice, HoldPolicy, StartdPlan
from pilot_agent.startd.policy import layer_expressions
from pilot_agent.startd.service_environment import write_service_environment
from pilot_agent.startd.slots import SlotWish, usable_gpus
from pilot_agent.startd.sources import obtain_condor
from pilot_agent.startd.telling import told
from pilot_agent.startd.token import install_token
from pilot_agent.startd.transfer_plugins import ask_plugins, plugin_paths
from pilot_agent.startd.usage import USAGE, usage_text
from pilot_agent.startd.verify import (
    configuration_question,
    expression_questions,
    fetcher_questions,
    hook_questions,
    start_question,
    verify,
)
from pilot_agent.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilot_agent.containers.command import Bind
    from pilot_agent.model import BenchmarkScore, ContainerDecision, Fact, Json
    from pilot_agent.process import WakeUp
    from pilot_agent.startd.choice import CondorChoice
    from pilot_agent.startd.confinement import Confinement
    from pilot_agent.startd.plan import CondorPaths, JobCgroups, NetworkPlan, PluginFragment

# Copies its standard input to the startd and holds nothing back.
CHANNEL_PROGRAMS = ("/usr/bin/cat", "/bin/cat")


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffInputs:
    """What the pipeline knows when it hands over.

    ``workspace`` is the root of the pilot's workspace, made before; ``site_environment`` the environment the pilot
    was started with; ``job_binds`` and ``container_options`` what was asked for and allowed, ``gpu_options`` what of it
    only jobs with GPUs get (``--nv`` from HTCondor itself); ``service_environment`` are the variables that jobs get of
    services now, None where no service gives any, ``sent_attributes`` the services by the attributes that they give;
    ``started`` epoch seconds; ``parent`` the process that the batch system sees.
    """

    pilot_id: str
    workspace: str
    started: float
    config: Mapping[str, Json]
    facts: Mapping[str, Fact]
    decision: ContainerDecision
    site_environment: Mapping[str, str]
    attributes: Mapping[str, Json] = field(default_factory=dict)
    expressions: Mapping[str, str] = field(default_factory=dict)
    benchmarks: tuple[BenchmarkScore, ...] = ()
    job_environment: Mapping[str, str] = field(default_factory=dict)
    service_environment: Mapping[str, str] | None = None
    sent_attributes: Mapping[str, str] = field(default_factory=dict)
    job_binds: tuple[Bind, ...] = ()
    container_options: tuple[str, ...] = ()
    gpu_options: tuple[str, ...] = ()
    fragments: tuple[PluginFragment, ...] = ()
    parent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Handoff:
    """What the keeper needs. ``environment`` is for ``master_argv`` and for each of ``join_commands`` and of
    ``clock_commands``, whose n-th asks the n-th of ``collectors``. ``condor`` says which HTCondor was taken,
    ``told`` is what the report says of the startd.
    """

    plan: StartdPlan
    condor: CondorChoice
    master_argv: tuple[str, ...]
    environment: Mapping[str, str]
    join_commands: tuple[tuple[str, ...], ...]
    clock_commands: tuple[tuple[str, ...], ...]
    collectors: tuple[str, ...]
    join_seconds: int
    channel_path: str
    channel_period_seconds: int
    log_directory: str
    history: str
    told: Json = None


def prepare(inputs: HandoffInputs, *, wake: WakeUp | None = None) -> Handoff:
    """Find HTCondor, take the token, write the configuration and have HTCondor read it back. Starts nothing.

    Raises ``NoCondorError`` (``condor.*``, ``artifact.*``, ``disk.full``); ``PilotError``: ``condor.transfer_plugins``
    (node), ``token.*`` (credential), ``pool.missing``, ``slots.*``, ``startd.value``, ``startd.expression``,
    ``fragment.*``, ``startd.configuration`` (config), ``workspace.write``, ``startd.hook``,
    ``cgroups.unusable`` (node); ``Interrupted`` when ``wake`` becomes readable.
    """
    config, workspace = inputs.config, Workspace(inputs.workspace)
    _require_pool(config["pool"])
    condor, choice = obtain_condor(condor_request(inputs), wake=wake)
    drawn_ones = drawn(config["pool"]["collectors"], inputs.pilot_id)
    network, addresses = plan_network(
        config["startd"]["no_dns"],
        config["startd"]["domain"],
        (*drawn_ones, *drawn(config["pool"]["ccb_brokers"], inputs.pilot_id)),
        ccb=config["pool"]["ccb"],
        wake=wake,
    )
    collectors, brokers = addresses[: len(drawn_ones)], addresses[len(drawn_ones) :]
    try:
        install_token(config["pool"]["token"], workspace.tokens)
        environment = master_environment(inputs.site_environment, workspace)
        paths = plugin_paths(condor.plugins, config["startd"]["transfer_plugins"], condor.libexec)
        transfers = ask_plugins(paths, environment, wake=wake)
        condor = replace(condor, plugins=tuple(plugin.path for plugin in transfers if plugin.schemes))
        plan = replace(build_plan(inputs, condor, network, collectors), ccb_brokers=brokers)
        plan = _with_cgroups(plan, plan_job_cgroups(inputs, plan, wake))
        plan = _confined(plan, inputs, environment, wake)
        if plan.container is not None and (plan.container.fetcher or plan.container.forbidden_fifo):
            install_image_hook(inputs, plan.container)
        _write(plan, workspace)
        _verify(plan, workspace, environment, wake)
    except OSError as error:
        raise _error(
            FailureKind.NODE_RESOURCE,
            "workspace.write",
            f"HTCondor's configuration cannot be written to {workspace.private}: {error.strerror}",
            "the site gives the pilot a scratch directory with space left",
        ) from error
    return Handoff(
        plan=plan,
        condor=choice,
        master_argv=(condor.master, *MASTER_ARGUMENTS),
        environment=environment,
        join_commands=join_commands(plan),
        clock_commands=clock_commands(plan, inputs.pilot_id),
        collectors=plan.collectors,
        join_seconds=config["pool"]["join_seconds"],
        channel_path=workspace.ad_channel,
        channel_period_seconds=plan.channel_period_seconds,
        log_directory=workspace.condor_log,
        history=history_path(plan),
        told=told(plan, transfers),
    )


def _require_pool(pool: Mapping[str, Json]) -> None:
    if not pool["collectors"] or not pool["token"]:
        raise _error(
            FailureKind.CONFIG,
            "pool.missing",
            "the configuration names no pool: pool.collectors and pool.token are both needed to run jobs",
            "the factory or the VO sets both keys",
        )


def build_plan(
    inputs: HandoffInputs,
    condor: CondorPaths,
    network: NetworkPlan,
    collectors: tuple[str, ...],
) -> StartdPlan:
    """The plan, a pure function of what is known.

    Raises ``PilotError`` when cores, memory or disk are not known: HTCondor would take the whole node.
    """
    config, workspace = inputs.config, Workspace(inputs.workspace)
    startd = config["startd"]
    cores, memory_mib = (
        max(1, int(_needed(inputs.facts, "cpu.usable"))),
        int(_needed(inputs.facts, "memory.usable_mib")),
    )
    container = plan_containers(inputs, condor)
    wish = SlotWish(
        layout="fixed" if startd["slots"].lower() == "fixed" else "partitionable",
        count=startd["fixed_slots"],
        cores_each=startd["cores_per_slot"],
        resources=parse_resource_slots(startd["resource_slots"] or ""),
    )
    gpus = _gpus(inputs.facts)
    return StartdPlan(
        name=f"pilot-{inputs.pilot_id}",
        workspace=inputs.workspace,
        execute_directory=os.path.join(workspace.condor, "execute"),
        collectors=collectors,
        token_directory=workspace.tokens,
        condor=condor,
        network=network,
        cores=cores,
        memory_mib=memory_mib,
        disk_mib=int(_needed(inputs.facts, "disk.workspace_free_mib")),
        channel_command=(_channel_program(), workspace.ad_channel),
        gpus=gpus[: usable_gpus(wish, len(gpus), startd["gpus"])],
        wish=wish,
        expressions=layer_expressions(startd),
        hold=HoldPolicy(startd["memory_policy"].lower() == "hold", startd["disk_policy"].lower() == "hold"),
        claim_worklife_seconds=startd["claim_worklife_seconds"],
        idle_shutdown_seconds=startd["idle_shutdown_seconds"],
        tail_shutdown_seconds=startd["tail_shutdown_seconds"],
        shared_port=bool(config["startd"]["shared_port"]),
        vacate_seconds=int(config["time"]["vacate_seconds"]),
        channel_period_seconds=config["startd"]["channel_period_seconds"],
        ssh_to_job=bool(config["startd"]["ssh_to_job"]),
        container=container,
        decision=inputs.decision,
        job_environment=dict(inputs.job_environment),
        service_environment=inputs.service_environment,
        sent_attributes=inputs.sent_attributes,
        attributes=_attributes(inputs, container, (cores, memory_mib), collectors),
        ad_expressions=machine_ad.EXPRESSIONS,
        setup_expressions=inputs.expressions,
        fragments=inputs.fragments,
        job_length=dict(config["time"]["job_length"]),
        services_attribute=config["startd"]["services_attribute"],
        cvmfs_attribute=config["startd"]["cvmfs_attribute"],
    )


def master_environment(site_environment: Mapping[str, str], workspace: Workspace) -> dict[str, str]:
    """The whole environment of HTCondor's daemons and tools: nothing that the site set for its own HTCondor."""
    environment = clean_environment(site_environment, home=workspace.root, temporary=workspace.temporary)
    return environment | {"CONDOR_CONFIG": workspace.condor_config}


def _with_cgroups(plan: StartdPlan, cgroups: JobCgroups) -> StartdPlan:
    attributes = {**plan.attributes, "PilotJobCgroups": cgroups.used}
    return replace(plan, job_cgroups=cgroups, attributes=attributes)


def _confined(
    plan: StartdPlan, inputs: HandoffInputs, environment: Mapping[str, str], wake: WakeUp | None
) -> StartdPlan:
    """The plan, with starters that see their own job only where the node allows it. A runtime that is setuid would have
    no rights in a user namespace."""
    runtime = inputs.decision.runtime
    if plan.container is None or runtime is None or runtime.mode != "userns":
        return plan
    confinement = establish(plan_confinement(inputs, plan, plan.container), environment, wake=wake)
    return replace(plan, container=replace(plan.container, confinement=confinement))


def _verify(plan: StartdPlan, workspace: Workspace, environment: Mapping[str, str], wake: WakeUp | None) -> None:
    """Have HTCondor read its configuration, and start all hooks once."""
    questions = [*expression_questions(plan), configuration_question(plan), start_question(plan)]
    empty = os.path.join(workspace.temporary, "hooks")
    os.mkdir(empty, 0o700)
    if plan.container is not None:
        questions += hook_questions(libexec_directory(plan), empty)
        questions += fetcher_questions(plan.container.fetcher)
    verify(questions, environment, wake=wake)
    with suppress(OSError):
        os.rmdir(empty)


def _programs(plan: StartdPlan, container: ContainerPlan) -> dict[str, str | bytes]:
    """What HTCondor runs around a job, by its name in LIBEXEC."""
    starter = os.path.join(plan.condor.sbin, "condor_starter")
    return {
        **plugin_programs(plan.condor.plugins),
        **sif_test(plan.condor.libexec),
        GUARD: guard_text(container),
        LINKS: LINKS_TEXT,
        RUNTIME: runtime_text(
            container.runtime,
            container.full_version,
            gpu_libraries=container.gpu_libraries,
            opencl=container.opencl,
        ),
        **({USAGE: usage_text(memory=plan.hold.memory, disk=plan.hold.disk)} if plan.holds_at_next_start else {}),
        **(_confined_programs(starter, container.confinement) if container.confinement is not None else {}),
    }


def _confined_programs(starter: str, confinement: Confinement) -> dict[str, str | bytes]:
    groups = groups_of_logins().encode(errors="surrogateescape")
    return {STARTER: starter_text(starter, confinement), GROUPS: groups}


def _write(plan: StartdPlan, workspace: Workspace) -> None:
    text = render(plan)
    if plan.container is not None:
        programs = _programs(plan, plan.container)
        make_libexec(plan.condor.libexec, libexec_directory(plan), programs)
    if plan.gpus:
        inventory = os.path.join(private_directory(plan), GPU_INVENTORY)
        write_atomically(inventory, gpu_inventory(plan).encode())
    if not os.path.lexists(workspace.ad_channel):
        os.mkfifo(workspace.ad_channel, 0o600)
    if plan.service_environment is not None:
        write_service_environment(private_directory(plan), plan.service_environment)
    write_atomically(workspace.condor_config, text.encode())


def _gpus(facts: Mapping[str, Fact]) -> tuple[GpuDevice, ...]:
    """The GPUs that a probe found usable; what is unknown is not offered, nor what HTCondor gives jobs no way to, nor
    what a service has alone."""
    return tuple(
        GpuDevice(
            uuid=device["uuid"],
            properties={
                "DeviceUuid": device["uuid"],
                "DeviceName": device.get("name"),
                "GlobalMemoryMb": device.get("memory_mib"),
                "Capability": _capability(device.get("capability")),
            },
        )
        for device in usable_devices(facts)
    )


def _capability(text: Json) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _attributes(
    inputs: HandoffInputs, container: ContainerPlan | None, sizes: tuple[int, int], collectors: tuple[str, ...]
) -> dict[str, Json]:
    """The names that users' and frontends' expressions rely on, then what stages and plugins gave."""
    config = inputs.config
    attributes: dict[str, Json] = {
        **machine_ad.identity_attributes(config, inputs.pilot_id, inputs.started, inputs.parent),
        **machine_ad.life_attributes(config["startd"], config["time"]),
        **machine_ad.size_attributes(*sizes),
        **machine_ad.pool_attributes(collectors),
        **machine_ad.provided_attributes(container),
        "PilotContainerDecision": inputs.decision.decision,
    }
    for score in inputs.benchmarks:
        attributes |= score.attributes
    attributes |= dict(inputs.attributes)
    # Facts in the words that users' expressions compare them with.
    return attributes | machine_ad.node_attributes(inputs.facts, inputs.site_environment)


def _needed(facts: Mapping[str, Fact], name: str) -> float:
    fact = facts.get(name)
    if fact is None or not fact.known:
        why = fact.detail if fact is not None else "no probe gave it"
        raise _error(
            FailureKind.NODE_RESOURCE,
            "resource.unknown",
            f"{name} is not known ({why}), and HTCondor would take the whole node for the pilot's own",
            "the site makes it readable, or its file sets the limit",
        )
    return float(fact.value)


def _channel_program() -> str:
    found = next((path for path in CHANNEL_PROGRAMS if os.access(path, os.X_OK)), None)
    if found is None:
        raise _error(
            FailureKind.NODE_RESOURCE,
            "node.cat_missing",
            f"none of {', '.join(CHANNEL_PROGRAMS)} can be run, and the ad channel needs one",
            "the site installs the usual core utilities",
        )
    return found


def _error(kind: FailureKind, code: str, message: str, hint: str) -> PilotError:
    return PilotError(Failure(kind, code, message, hint=hint, stage="handoff"))
