"""From the plan to HTCondor's configuration: complete, private, and checked before anything is started.

Nothing of the node's own configuration is read: CONDOR_CONFIG points to this text, and it names no other file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.startd import plan as words
from pilot_agent.startd.classad import (
    LiteralError,
    attribute_name,
    config_literal,
    config_text,
    environment_string,
    literal,
)
from pilot_agent.startd.container_ad import container_attributes
from pilot_agent.startd.containers import container_knobs, runtime_environment
from pilot_agent.startd.fragments import SECURITY_KNOBS, fragment_lines
from pilot_agent.startd.health_expressions import HEALTH_ATTRIBUTES
from pilot_agent.startd.history import HISTORY
from pilot_agent.startd.life import life_knobs
from pilot_agent.startd.logins import SSHD
from pilot_agent.startd.network import split_address
from pilot_agent.startd.policy import cgroup_knobs, final_lines, policy_knobs
from pilot_agent.startd.service_environment import SERVICE_ENVIRONMENT, SERVICES_FILE
from pilot_agent.startd.slots import slot_knobs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilot_agent.model import Json
    from pilot_agent.startd.plan import StartdPlan

CHANNEL_JOB = "PILOT"
GPU_INVENTORY = "gpus.ad"
# Beginnings of names that no knob of HTCondor has, whatever they end in (GLIDEIN_CredentialIdentifier).
NO_KNOBS = ("GLIDEIN_", "GLIDECLIENT_")
# Attributes that the master's ad carries too, so that a pool's operators see whose pilot it is.
MASTER_ATTRIBUTES = (
    *("IS_GLIDEIN", "GLIDEIN_Site", "GLIDEIN_ResourceName", "GLIDEIN_Entry_Name", "GLIDEIN_Factory", "GLIDEIN_Name"),
    *("GLIDEIN_ClusterId", "GLIDEIN_ProcId", "GLIDEIN_Schedd", "GLIDECLIENT_Name", "GLIDECLIENT_Group", "PilotId"),
)
# Attributes of a running job that its slot's ad shows too.
JOB_ATTRIBUTES = (
    *("x509userproxysubject", "x509UserProxyFQAN", "x509UserProxyVOName", "x509UserProxyEmail"),
    "x509UserProxyExpiration",
)

SLOT_ATTRIBUTES = frozenset(
    (
        *("activity", "cpus", "disk", "gpus", "machine", "memory", "myaddress", "mycurrenttime", "mytype", "name"),
        *("requirements", "slotid", "slottype", "start", "startdipaddr", "state", "targettype", "partitionableslot"),
        *("dynamicslot", "lastheardfrom", "daemonstarttime", "machineresources", "assignedgpus", "availablegpus"),
        *(name.lower() for name in HEALTH_ATTRIBUTES),
        *(words.AD_TIME_ATTRIBUTE.lower(), words.ACCEPTING_ATTRIBUTE.lower(), words.FAILING_IMAGES_ATTRIBUTE.lower()),
    )
)


def render(plan: StartdPlan) -> str:
    """The configuration's text. Raises ``PilotError`` (kind config) for a value, name or fragment it cannot carry."""
    try:
        knobs = _places(plan) | _identity(plan) | _security(plan) | _resources(plan) | policy_knobs(plan)
        knobs |= (
            container_knobs(plan.container, len(plan.slot_groups)) | life_knobs(plan) | _channel(plan) | _features(plan)
        )
        attributes = _attributes(plan, knobs)
    except LiteralError as error:
        hint = "the configuration or plugin that gave this value must change it"
        failure = Failure(FailureKind.CONFIG, "startd.value", str(error), hint=hint, stage="handoff")
        raise PilotError(failure) from None
    lines = [f"{name} = {value}".rstrip() for name, value in (knobs | attributes).items()]
    lines += fragment_lines(plan.fragments)
    # A fragment may narrow START; what keeps an unattended pilot from taking jobs is added after it.
    lines += final_lines()
    return "\n".join(lines) + "\n"


def gpu_inventory(plan: StartdPlan) -> str:
    """What HTCondor is told instead of looking for GPUs itself: exactly those that jobs may use.

    The form is that of condor_gpu_discovery with -extra: a list of identifiers, then a nested ad for each.
    """
    lines = [f"DetectedGPUs={literal(', '.join(gpu.uuid for gpu in plan.gpus))}"]
    for gpu in plan.gpus:
        properties = {"id": gpu.uuid, **{name: value for name, value in gpu.properties.items() if value is not None}}
        lines.append(f"{gpu.uuid.replace('-', '_')}={literal(properties)}")
    return "\n".join(lines) + "\n"


def daemon_list(plan: StartdPlan) -> str:
    """What condor_master starts. Without a shared port one daemon less: the pool reaches the others through CCB."""
    return "MASTER, SHARED_PORT, STARTD" if plan.shared_port else "MASTER, STARTD"


def history_path(plan: StartdPlan) -> str:
    """The file with one ad for each job that ended here."""
    return os.path.join(plan.workspace, "condor", "log", HISTORY)


def private_directory(plan: StartdPlan) -> str:
    """Where the configuration lies: outside every directory that a job's container sees."""
    return os.path.join(plan.workspace, "private", "condor")


def libexec_directory(plan: StartdPlan) -> str:
    """HTCondor's LIBEXEC: the node's own, or links to it with the pilot's scripts (see ``libexec``)."""
    return os.path.join(private_directory(plan), "libexec") if plan.container is not None else plan.condor.libexec


def _places(plan: StartdPlan) -> dict[str, str]:
    local = config_text(os.path.join(plan.workspace, "condor"))
    condor = plan.condor
    return {
        # Each starter reads it anew: the keeper writes it when the port of a service changes.
        "LOCAL_CONFIG_FILE": "" if plan.service_environment is None else f"$(ETC)/{SERVICES_FILE}",
        "LOCAL_CONFIG_DIR": "",
        "USER_CONFIG_FILE": "",
        "REQUIRE_LOCAL_CONFIG_FILE": "False",
        "ENABLE_RUNTIME_CONFIG": "False",
        "ENABLE_PERSISTENT_CONFIG": "False",
        "RELEASE_DIR": config_text(condor.release),
        "BIN": config_text(condor.bin),
        "SBIN": config_text(condor.sbin),
        "LIB": config_text(condor.lib),
        "LIBEXEC": config_text(libexec_directory(plan)),
        "LOCAL_DIR": local,
        "LOG": "$(LOCAL_DIR)/log",
        "SPOOL": "$(LOCAL_DIR)/spool",
        "LOCK": "$(LOCAL_DIR)/lock",
        "RUN": "$(LOCK)",
        "EXECUTE": config_text(plan.execute_directory),
        "ETC": config_text(private_directory(plan)),
        "TMP_DIR": config_text(os.path.join(plan.workspace, "tmp")),
        "STARTD_HISTORY": f"$(LOG)/{HISTORY}",
        "MAX_DEFAULT_LOG": "4 Mb",
        "MAIL": "/bin/true",
    }


def _identity(plan: StartdPlan) -> dict[str, str]:
    collectors = ", ".join(_collector(address) for address in plan.collectors)
    network = plan.network
    knobs = {
        "DAEMON_LIST": daemon_list(plan),
        "MASTER_NAME": config_text(plan.name),
        "STARTD_NAME": config_text(plan.name),
        "COLLECTOR_HOST": collectors,
        "CONDOR_HOST": config_text(split_address(plan.collectors[0])[0]),
        "CCB_ADDRESS": _brokers(plan),
        "USE_SHARED_PORT": str(plan.shared_port).lower(),
        # Any free one: other pilots of the node have theirs.
        "SHARED_PORT_PORT": "0",
        # Unlike any other host's: no job may take this node's files or users for its own.
        "UID_DOMAIN": config_text(plan.name),
        "FILESYSTEM_DOMAIN": config_text(plan.name),
        "DEFAULT_DOMAIN_NAME": config_text(network.domain),
        "NO_DNS": str(network.no_dns),
    }
    if network.no_dns:
        # Without names an address of each family makes two names for one host.
        knobs["ENABLE_IPV6"] = "False"
    return knobs


def _brokers(plan: StartdPlan) -> str:
    if not plan.network.ccb:
        return ""
    return ", ".join(map(_collector, plan.ccb_brokers)) or "$(COLLECTOR_HOST)"


def _security(plan: StartdPlan) -> dict[str, str]:
    knobs = {}
    for level in ("DEFAULT", "CLIENT", "READ"):
        for feature in ("AUTHENTICATION", "ENCRYPTION", "INTEGRITY", "NEGOTIATION"):
            knobs[f"SEC_{level}_{feature}"] = "REQUIRED"
        # No FS: jobs run with the pilot's uid and would pass for the pilot.
        knobs[f"SEC_{level}_AUTHENTICATION_METHODS"] = "IDTOKENS"
    tokens = config_text(plan.token_directory)
    return knobs | {
        "SEC_TOKEN_DIRECTORY": tokens,
        "SEC_TOKEN_SYSTEM_DIRECTORY": tokens,
        "SEC_PASSWORD_DIRECTORY": "$(ETC)/passwords.d",
        "SEC_ENABLE_TOKEN_REQUEST": "False",
        "SEC_ENABLE_TOKEN_FETCH": "False",
        # The claim's own secret, made for one match, lets that match's schedd and starter talk to each other.
        "SEC_ENABLE_MATCH_PASSWORD_AUTHENTICATION": "True",
        "SEC_USE_FAMILY_SESSION": "True",
        "ALLOW_CLIENT": "*",
        "ALLOW_READ": "condor@family",
        "ALLOW_WRITE": "condor@family",
        "ALLOW_DAEMON": "condor@family",
        "ALLOW_ADMINISTRATOR": "condor@family",
        "ALLOW_CONFIG": "",
        "ALLOW_OWNER": "",
        "ALLOW_NEGOTIATOR": "",
        "ALLOW_ADVERTISE_MASTER": "",
        "ALLOW_ADVERTISE_STARTD": "",
        "ALLOW_ADVERTISE_SCHEDD": "",
    }


def _resources(plan: StartdPlan) -> dict[str, str]:
    knobs = {**slot_knobs(plan.slot_groups, plan.memory_mib, plan.disk_mib), "STARTD_DETECT_GPUS": ""}
    if not plan.gpus:
        return knobs | {"MACHINE_RESOURCE_GPUs": "0"}
    inventory = os.path.join(private_directory(plan), GPU_INVENTORY)
    return knobs | {"MACHINE_RESOURCE_INVENTORY_GPUs": f"/bin/cat {config_text(inventory)}"}


def _channel(plan: StartdPlan) -> dict[str, str]:
    program, *arguments = plan.channel_command
    for argument in arguments:
        if any(character in argument for character in " '\"\t"):
            raise LiteralError(f"argument {argument!r} of the ad channel holds a space or a quote")
    prefix = f"STARTD_CRON_{CHANNEL_JOB}"
    return {
        "STARTD_CRON_JOBLIST": CHANNEL_JOB,
        f"{prefix}_MODE": "WaitForExit",
        f"{prefix}_PERIOD": "1s",
        f"{prefix}_EXECUTABLE": config_text(program),
        f"{prefix}_ARGS": config_text(" ".join(arguments)),
        f"{prefix}_JOB_LOAD": "0.0",
        f"{prefix}_KILL": "True",
        "STARTD_CRON_MAX_JOB_LOAD": "1.0",
    }


def _features(plan: StartdPlan) -> dict[str, str]:
    """What a pilot has no use for costs processes and tenths of a second at every start."""
    return {
        "FILETRANSFER_PLUGINS": ", ".join(map(config_text, _transfer_plugins(plan))),
        "RUNBENCHMARKS": "False",
        "HIBERNATE": '"NONE"',
        "HIBERNATION_PLUGIN": "/bin/true",
        "DOCKER": "",
        "JAVA": "",
        "VM_TYPE": "",
        "PREEN": "",
        "ENABLE_KERNEL_TUNING": "False",
        "CREDMON_OAUTH": "",
        "JOB_INHERITS_STARTER_ENVIRONMENT": "False",
        "STARTER_JOB_ENVIRONMENT": environment_string(
            {**plan.job_environment, **runtime_environment(plan.container, plan.workspace)},
            more=SERVICE_ENVIRONMENT if plan.service_environment is not None else "",
        ),
        "USE_PROCD": "True",
        **cgroup_knobs(plan),
        "ENABLE_SSH_TO_JOB": str(plan.ssh_to_job),
        **(_logins(plan) if plan.container is not None else {}),
    }


def _transfer_plugins(plan: StartdPlan) -> list[str]:
    """The node's own, or those of the pilot's LIBEXEC in their place (see ``libexec``)."""
    if plan.container is None:
        return list(plan.condor.plugins)
    return [os.path.join(libexec_directory(plan), os.path.basename(plugin)) for plugin in plan.condor.plugins]


def _logins(plan: StartdPlan) -> dict[str, str]:
    """How the owners of contained jobs log in: HTCondor's own scripts let them choose what runs on the node."""
    return {
        "SSH_TO_JOB_SSHD": config_text(os.path.join(libexec_directory(plan), SSHD)),
        "SSH_TO_JOB_SSHD_ARGS": '"%f"',
        # The pilot's script writes the whole configuration. Should HTCondor's run, sshd does not start with this.
        "SSH_TO_JOB_SSHD_CONFIG_TEMPLATE": "/dev/null",
    }


def _attributes(plan: StartdPlan, knobs: Mapping[str, str]) -> dict[str, str]:
    """Constant attributes of the machine ad. Their names are configuration names too, so none may be a knob."""
    taken = {name.lower() for name in knobs}
    wanted: dict[str, Json] = {**plan.attributes, **container_attributes(plan.container, plan.decision)}
    own = {name.lower() for name in (*words.SENT_ATTRIBUTES, *plan.ad_expressions)}
    expressions = {name: text for name, text in plan.setup_expressions.items() if name.lower() not in own}
    sent = own | {name.lower() for name in expressions}
    wanted = {name: value for name, value in wanted.items() if name.lower() not in sent}
    of_services = {name.lower(): service for name, service in plan.sent_attributes.items()}
    texts = {name: config_text(text.strip()) for name, text in expressions.items()}
    texts |= {name: config_literal(value) for name, value in wanted.items()}
    lines = dict(plan.ad_expressions)
    for name, text in texts.items():
        attribute_name(name)
        if name.lower() in SLOT_ATTRIBUTES:
            raise LiteralError(f"attribute {name} cannot be advertised: HTCondor itself gives it a value")
        if name.lower() in of_services:
            service = of_services[name.lower()]
            raise LiteralError(f"attribute {name} cannot be advertised: the service {service} gives it a value")
        known = name.upper().startswith(NO_KNOBS)
        if name.lower() in taken or (SECURITY_KNOBS.match(name) and not known):
            raise LiteralError(f"attribute {name} cannot be advertised: HTCondor has a configuration knob of that name")
        lines[name] = text
    lines["STARTD_ATTRS"] = ", ".join((*wanted, *expressions, *plan.ad_expressions))
    lines["MASTER_ATTRS"] = ", ".join(name for name in MASTER_ATTRIBUTES if name in wanted)
    lines["STARTD_JOB_ATTRS"] = ", ".join(JOB_ATTRIBUTES)
    return lines


def _collector(address: str) -> str:
    if not address or any(character in address for character in " ,\t;"):
        raise LiteralError(f"collector {address!r}: host:port without space or comma is needed")
    return config_text(address)
