"""What would be done, as a page: ``explain`` and ``plugins``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from pilot_agent.collect import Declared, PluginReport
from pilot_agent.config import Config
from pilot_agent.config_slots import parse_resource_slots
from pilot_agent.configure import explained
from pilot_agent.containers.negotiation import Negotiation, negotiate
from pilot_agent.cvmfs.wishes import Outcome, settle
from pilot_agent.host import Loaded
from pilot_agent.model import Json
from pilot_agent.ordering import ordered
from pilot_agent.render import paragraph, table

RUN_STAGES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("configure", ("pilot_options",), "the layers merged, the workspace made, the plugins loaded"),
    ("probe", ("pilot_probes",), "of each resource the smallest limit is taken"),
    ("mount", ("pilot_mounts",), ""),
    ("setup early", ("pilot_setups",), ""),
    ("container", ("pilot_images", "pilot_containers"), "the runtime found, the images resolved and proven"),
    ("validate", ("pilot_checks",), "the requirements judged"),
    ("setup late", ("pilot_setups",), ""),
    ("service", ("pilot_services",), ""),
    ("benchmark", ("pilot_benchmarks",), ""),
    ("advertise", ("pilot_attributes",), "all of it becomes attributes of the slot's ad"),
    ("handoff", ("pilot_startd", "pilot_periodics"), "HTCondor configured and started, and watched to the end"),
    ("teardown", (), "what was made is undone in reverse, and the last report written"),
)
"""The stages of ``run`` (design section 3), the hooks whose declarations they run, and what the pilot does itself."""

CHECK_STAGES = ("probe", "mount", "setup early", "container", "validate")
"""Those of ``check``, without services and benchmarks, which are run when they are asked for."""


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of a plan: what the pilot does itself, and what plugins declared for it, ordered by needs."""

    stage: str
    does: str
    tasks: tuple[Declared, ...]


def steps(loaded: Loaded, *, check: bool = False) -> tuple[Step, ...]:
    """What ``run`` would do, or ``check``."""
    return tuple(
        Step(stage, does, tuple(task for hook in hooks for task in ordered(loaded.of(hook)) if _belongs(task, stage)))
        for stage, hooks, does in RUN_STAGES
        if not check or stage in CHECK_STAGES
    )


def _belongs(task: Declared, stage: str) -> bool:
    return not stage.startswith("setup ") or task.record.stage == stage.removeprefix("setup ")


def plan_page(config: Config, loaded: Loaded, *, check: bool = False, vo: str = "") -> str:
    """What would be done, stage by stage; what the node must offer; and where each configured value comes from."""
    values = [(path, json.dumps(one["value"]), " < ".join(one["from"])) for path, one in explained(config).items()]
    required = [("  ", *_required(entry)) for entry in config.get("requirements")]
    command = "check" if check else "run"
    whose = f" for the VO {vo}" if vo else ""
    parts = [
        f"Plan of {command}{whose}, in the order of the stages\n" + plan_table(loaded, check=check),
        "Plugins\n" + plugin_table(loaded),
        "Requirements\n" + (table(required) if required else "  none"),
        "Would be tried, in this order\n" + table(_would_be_tried(config)),
        "Configuration: each value, and the layers that gave it, the weakest first\n" + table(values),
    ]
    return "\n\n".join(parts) + "\n"


def _required(entry: Json) -> tuple[str, str]:
    return (entry, "required") if isinstance(entry, str) else (entry["require"], entry.get("level", "required"))


def _would_be_tried(config: Config) -> Iterator[tuple[str, str]]:
    """The choices that are made on the node."""
    yield "  workspace", ", ".join(config.get("site.scratch")) or "what the batch system and the system offer"
    named = config.get("containers.runtime")
    search = f"the first runtime that works of {', '.join(config.get('containers.search'))} (containers.search)"
    runtime = f"{named} first, then {search}" if named else search
    yield "  containers", _wished(negotiate(config.get("vo.containers"), config.get("site.containers")), runtime)
    for platform, candidates in config.get("images").items():
        yield f"  image {platform}", ", ".join(map(_path, candidates))
    repositories = ", ".join(config.get("cvmfs.repositories")) or "what the node has mounted"
    yield "  CVMFS", _wished(settle(config.get("cvmfs.use"), config.get("site.cvmfs")), repositories)
    version = config.get("startd.condor_version")
    wanted = f"{version} version" if version in ("any", "latest") else f"version {version}"
    yield "  HTCondor", f"{wanted}, from " + (", then ".join(_condor_places(config)) or "no place")
    yield "  slots", ", ".join(_slots(config))
    yield "  time", ", ".join(_ends(config))
    yield "  collectors", ", ".join(config.get("pool.collectors")) or "none: the pilot would join no pool"


def _wished(outcome: Negotiation | Outcome, tried: str) -> str:
    """What VO and site want together, and what is tried for it."""
    told = f"{outcome.decision}: {outcome.reason}"
    return told if outcome.decision in ("NEVER", "FAIL") else f"{told}; {tried}"


def _condor_places(config: Config) -> Iterator[str]:
    """Where HTCondor is looked for; what is in the order and names no place is left out."""
    for source in config.get("startd.condor_source"):
        match source.lower():
            case "directory" if config.get("startd.condor_directory"):
                yield config.get("startd.condor_directory")
            case "path":
                yield "the search path"
            case "cvmfs":
                yield from config.get("startd.condor_cvmfs")
            case "tarball" if place := config.get("startd.condor_tarballs"):
                unpinned = "://" in place and not config.get("startd.condor_index_sha256")
                yield f"tarballs of {place}" + " (refused without startd.condor_index_sha256)" * unpinned


def _slots(config: Config) -> Iterator[str]:
    """How the node would be divided, its size not being known yet, and which keys have no part in it."""
    count, cores = config.get("startd.fixed_slots"), config.get("startd.cores_per_slot")
    if config.get("startd.slots").lower() == "partitionable":
        yield "one that is divided as jobs come"
        for name in ("fixed_slots", "cores_per_slot"):
            if config.get(f"startd.{name}") is not None:
                yield f"startd.{name} does not count without startd.slots: fixed"
    elif cores is not None:
        yield f"fixed, {cores} core{'s' * (cores != 1)} each, as many as there are cores for"
        if count is not None:
            yield "startd.fixed_slots does not count beside startd.cores_per_slot"
    else:
        yield "one fixed for each core" if count is None else f"{count} fixed"
    for slot in parse_resource_slots(config.get("startd.resource_slots") or ""):
        number = "all" if slot.number is None else slot.number
        kind = slot.kind or ("static" if slot.number == 1 else "partitionable")
        yield f"{number} {slot.name} ({kind})"
    if config.get("startd.gpus") is not None:
        yield f"GPUs: at most {config.get('startd.gpus')}"


def _ends(config: Config) -> Iterator[str]:
    """What may end the pilot, and what is kept free before it."""
    walltime = config.get("time.walltime_seconds")
    yield "the first of the batch system's end"
    if walltime is not None:
        yield f"{walltime} s after the batch job's start"
    if config.get("pool.token") and config.get("time.until_token_expires"):
        yield "the token's expiry"
    free = config.get("time.margin_seconds") + config.get("time.teardown_seconds")
    yield f"without {free:g} s for the end; at least {config.get('time.minimum_seconds'):g} s for jobs to begin in"


def plugin_table(loaded: Loaded) -> str:
    """Plugins with version, origin, number of declarations, the time that took, and hooks."""
    rows = [("plugin", "version", "origin", "declared", "time", "hooks", "from")]
    rows += [
        (p.name, p.version or "-", p.origin, str(p.declared), f"{p.seconds:.3f} s", " ".join(p.hooks), _from(p))
        for p in loaded.plugins
    ]
    return table(rows)


def _from(plugin: PluginReport) -> str:
    return plugin.artifact or plugin.source


def plugin_page(loaded: Loaded) -> str:
    """Plugins, and the kind and names of what each of them declares."""
    rows = []
    for plugin in loaded.plugins:
        kinds: dict[str, list[str]] = {}
        for record in records_of(loaded, plugin.name):
            kinds.setdefault(record["kind"], []).append(record["name"])
        rows += [(f"  {plugin.name}", kind, ", ".join(names)) for kind, names in kinds.items()]
    return plugin_table(loaded) + ("\n\nDeclared\n" + table(rows) if rows else "") + "\n"


def records_of(loaded: Loaded, plugin: str) -> list[dict[str, str]]:
    """``{"hook", "kind", "name"}`` of everything that one plugin declares."""
    return [
        {"hook": task.hook, "kind": type(task.record).__name__, "name": name_of(task)}
        for task in loaded.declared
        if task.plugin == plugin
    ]


def name_of(task: Declared) -> str:
    """What a declaration is called; an image by its platform."""
    return str(getattr(task.record, "name", None) or getattr(task.record, "platform", ""))


def plan_table(loaded: Loaded, *, check: bool = False) -> str:
    """What would run, stage by stage, in the order that needs dictate: what it is, its name, its deadline, whose."""
    parts = []
    for step in steps(loaded, check=check):
        parts.append(paragraph(f"{step.stage}: {step.does}" if step.does else step.stage, indent="  "))
        if step.tasks:
            parts.append(table(_task_row(task) for task in step.tasks))
    return "\n".join(parts)


def _task_row(task: Declared) -> tuple[str, str, str, str]:
    seconds = getattr(task.record, "timeout_seconds", None)
    limit = f"at most {seconds:g} s" if seconds is not None else ""
    return f"      {type(task.record).__name__}", name_of(task), limit, task.plugin


def _path(candidate: Json) -> str:
    return candidate if isinstance(candidate, str) else str(candidate["path"])
