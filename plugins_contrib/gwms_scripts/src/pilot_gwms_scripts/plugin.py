"""The hooks of the plugin ``gwms_scripts``: every script of the list as a setup, some again as periodic tasks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise

from pilot_agent.hookspecs import Option, Periodic, Setup, StartdFragment, hookimpl
from pilot_agent.model import Json
from pilot_gwms_scripts import running
from pilot_gwms_scripts.layout import DIRECTORY, Layout, read_text, shell_file
from pilot_gwms_scripts.settings import CONDOR_FILE, NAME, PATH, Script, in_order, settings_of

MARGIN_SECONDS = 60.0
"""What the adapter may take beside a script, on the slowest of nodes."""
RUNNING = running.__name__


@hookimpl
def pilot_options() -> Iterator[Option]:
    """What a configuration may say of it, below ``plugins.options.gwms_scripts``."""
    yield Option(name="scripts", type="list", default=[], help="what runs, in this order: a mapping for each file")
    yield Option(name="attributes", type="list", default=[], help="values of glidein_config: name, value, type, ...")
    yield Option(
        name="directory", type="string", default="", help="where files of scripts are that have relative paths"
    )
    yield Option(name="package", type="string", default="", help="the same: a package that a (signed) plugin brings")
    yield Option(name="cleanup_seconds", type="number", default=5, help="time of each cleanup script at the end")


@hookimpl
def pilot_setups(config: Mapping[str, Json]) -> Iterator[Setup]:
    """First the directory, then the scripts one after another, early and late, at last a look at what is missing."""
    settings = settings_of(config)
    if not settings.scripts and not settings.attributes:
        return
    count = 1 + sum(script.type == "cleanup" for script in settings.scripts)
    teardown = ("/bin/sh", "-c", shell_file("cleanup.sh"), "cleanup.sh", f"{settings.cleanup_seconds:g}")
    first = Setup(
        name=f"{NAME}/prepare",
        run=f"{RUNNING}:{running.prepare.__name__}",
        teardown=teardown,
        teardown_seconds=settings.cleanup_seconds * count + 1,
        directory=DIRECTORY,
        timeout_seconds=MARGIN_SECONDS,
    )
    layout = Layout.configured(config)
    early = [record for script in in_order(settings.scripts, early=True) for record in _records(script, layout)]
    late = [record for script in in_order(settings.scripts, early=False) for record in _records(script, layout)]
    last = Setup(name=f"{NAME}/conclude", run=f"{RUNNING}:{running.conclude.__name__}", timeout_seconds=MARGIN_SECONDS)
    yield from _chain([replace(record, stage="early") for record in (first, *early)])
    yield from _chain([*late, last])


@hookimpl
def pilot_periodics(config: Mapping[str, Json]) -> Iterator[Periodic]:
    """Scripts with a period, under their own names: the ad lists those that fail by them."""
    for script in settings_of(config).scripts:
        if script.period_seconds:
            yield Periodic(
                name=script.name,
                run=f"{RUNNING}:{running.run_again.__name__}",
                period_seconds=script.period_seconds,
                timeout_seconds=script.timeout_seconds + MARGIN_SECONDS,
                on_failure=script.on_failure,  # type: ignore[arg-type]
            )


@hookimpl
def pilot_startd(config: Mapping[str, Json]) -> Iterator[StartdFragment]:
    """Files that are HTCondor configuration. They are read now: one that a script writes later is not seen."""
    settings = settings_of(config)
    for script in settings.scripts:
        if script.type == CONDOR_FILE:
            path = settings.path_of(script)
            if not os.path.isfile(path):
                index = settings.scripts.index(script)
                raise ValueError(f"{PATH}.scripts[{index}].file: there is no file {path}")
            yield StartdFragment(name=script.name, text=read_text(path))


def _records(script: Script, layout: Layout) -> list[Setup]:
    """The setups of one entry, of which the last has its name and its verdict."""
    seconds = script.timeout_seconds + MARGIN_SECONDS
    alone = Setup(
        name=script.record,
        run=f"{RUNNING}:{running.run_script.__name__}",
        required=script.required,
        timeout_seconds=seconds,
    )
    if script.type == CONDOR_FILE:
        return []
    if not script.inside:
        return [alone]
    before = Setup(
        name=f"{script.record} (files)",
        run=f"{RUNNING}:{running.install_for_image.__name__}",
        required=script.required,
        timeout_seconds=MARGIN_SECONDS,
    )
    within = Setup(
        name=f"{script.record} (image)",
        where="image",
        script="shell/inside.sh",
        command=("/bin/sh", "{script}", f"{layout.name_of(script.id)}/{script.name}", script.id),
        directory=DIRECTORY,
        required=False,
        timeout_seconds=script.timeout_seconds,
    )
    return [before, within, replace(alone, run=f"{RUNNING}:{running.read_image_result.__name__}")]


def _chain(records: list[Setup]) -> Iterator[Setup]:
    """Each after the one before it."""
    yield from records[:1]
    for before, record in pairwise(records):
        yield replace(record, after=(before.name,))
