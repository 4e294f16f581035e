"""What jobs' starters must see of the node: everything that HTCondor, the runtime, the binds and the image hook use."""

from __future__ import annotations

import os
import pwd
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from pilot_agent.plugins.job_containers import AUTHORITIES
from pilot_agent.startd.confinement import Confinement
from pilot_agent.startd.covers import plan_covers, token_directories
from pilot_agent.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pilot_agent.plugins.condor import HandoffInputs
    from pilot_agent.startd.plan import ContainerPlan, StartdPlan


def plan_confinement(inputs: HandoffInputs, plan: StartdPlan, container: ContainerPlan) -> Confinement:
    """What the pilot wants jobs' starters kept from; ``confinement.establish`` finds out what the node allows."""
    workspace = Workspace(inputs.workspace)
    store = inputs.config["containers"]["store_directory"] or workspace.images
    # What is not there when starters begin could not be shown to them. A store that cannot be made is told of later.
    with suppress(OSError):
        os.mkdir(store, 0o700)
    needed = {*_of_the_pilot(workspace), *_of_condor(plan), *_of_containers(container), *_of_the_hook(inputs, store)}
    whole = inputs.config["startd"]["starter_isolation"] == "job"
    source = os.path.abspath(inputs.config["pool"]["token"])
    return Confinement(
        source=source,
        private=workspace.private,
        execute=plan.execute_directory,
        temporary=workspace.temporary,
        sources=token_directories(source, needed),
        covers=plan_covers(_hidden(inputs), needed) if whole else (),
        processes=whole,
        locks=os.path.join(store, "locks") if whole and container.fetcher else "",
    )


def _hidden(inputs: HandoffInputs) -> Iterator[str]:
    """The account's home, where the pilot was started, and where workspaces lie."""
    with suppress(KeyError):
        yield pwd.getpwuid(os.getuid()).pw_dir
    yield inputs.site_environment.get("HOME", "")
    yield os.getcwd()
    yield os.path.dirname(inputs.workspace)


def _of_the_pilot(workspace: Workspace) -> Iterator[str]:
    yield from (workspace.private, workspace.condor, workspace.temporary, workspace.images)


def _of_condor(plan: StartdPlan) -> Iterator[str]:
    condor = plan.condor
    yield from (condor.bin, condor.sbin, condor.libexec, condor.lib, *condor.plugins)
    if condor.release not in ("", "/"):
        yield condor.release


def _of_containers(container: ContainerPlan) -> Iterator[str]:
    # The runtime's helpers, configuration and libraries lie beside its bin directory.
    yield os.path.dirname(os.path.dirname(os.path.realpath(container.runtime)))
    yield container.runtime
    yield from (image for image in container.images.values() if image.startswith("/"))
    yield from container.allowed_paths
    yield from (bind.split(":", 1)[0] for bind in container.binds)
    for option in container.extra_arguments:
        yield from option.partition("=")[2].split(":")


def _of_the_hook(inputs: HandoffInputs, store: str) -> Iterator[str]:
    """The image store, the pilot's own program and its Python, and the site's certificate authorities."""
    from pilot_agent.interpreter import interpreter_command

    yield store
    for word in interpreter_command():
        yield from word.split(":")
    yield from (sys.prefix, sys.base_prefix, sys.exec_prefix)
    yield from (path for path in map(inputs.site_environment.get, AUTHORITIES) if path)
