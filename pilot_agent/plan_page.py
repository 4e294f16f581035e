"""What would be done, as a page: ``explain`` and ``plugins``."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pilot_agent.config import Config
from pilot_agent.hookspecs import DECLARATIONS
from pilot_agent.host import Loaded, ordered
from pilot_agent.model import Json
from pilot_agent.render import table


def plan_page(config: Config, loaded: Loaded) -> str:
    """What would be done, stage by stage; what the node must offer; and where each configured value comes from."""
    values = [(path, json.dumps(config.get(path)), " < ".join(config.origins[path])) for path in config.origins]
    required = [("  ", *_required(entry)) for entry in config.get("requirements")]
    parts = [
        "Plan, in the order of the stages\n" + plan_table(loaded),
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
    runtime = config.get("containers.runtime") or "apptainer, then singularity, on the search path"
    wishes = f"VO {config.get('vo.containers')}, site {config.get('site.containers')}"
    yield "  containers", f"{wishes}; {runtime}"
    for platform, candidates in config.get("images").items():
        yield f"  image {platform}", ", ".join(map(_path, candidates))
    repositories = ", ".join(config.get("cvmfs.repositories")) or "what the node has mounted"
    yield "  CVMFS", f"{config.get('cvmfs.use')}: {repositories}"
    yield "  time", ", ".join(_ends(config))
    yield "  collectors", ", ".join(config.get("pool.collectors")) or "none: the pilot would join no pool"


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
    """Plugins with their source, hooks and number of declarations."""
    rows = [("plugin", "declared", "hooks", "from")]
    rows += [(p.name, str(p.declared), " ".join(p.hooks), p.source) for p in loaded.plugins]
    return table(rows)


def plan_table(loaded: Loaded) -> str:
    """What would run, stage by stage, in the order that needs dictate: what it is, its name, its deadline, whose."""
    rows = []
    for hook in DECLARATIONS:
        for declared in ordered(loaded.of(hook)):
            record = declared.record
            name = getattr(record, "name", None) or getattr(record, "platform", "")
            seconds = getattr(record, "timeout_seconds", None)
            limit = f"at most {seconds:g} s" if seconds is not None else ""
            rows.append((f"  {hook.removeprefix('pilot_')}", str(name), limit, declared.plugin))
    return table(rows)


def _path(candidate: Json) -> str:
    return candidate if isinstance(candidate, str) else str(candidate["path"])
